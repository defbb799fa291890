"""Makes any value a text that is safe to show.

What the exchange or a stranger's INSERT wrote may hold escape sequences that move a cursor, or
characters that turn the direction of writing: on a terminal they would forge what a person reads.
Everything unprintable is shown as its escape instead.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from recorder.exchange.amounts import canonical_amount

#: What stands where a value is null. A word would look like a value.
NOTHING = "–"


def plain(text: str) -> str:
    """Return ``text`` with every unprintable character as its escape, on one line."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else _escaped(c) for c in text)


def plain_lines(text: str) -> str:
    """Return ``text`` made plain line by line: our own messages have several."""
    return "\n".join(map(plain, text.split("\n")))


def shown(value: object) -> str:
    """Return a value as tables show it: amounts exact, times in UTC, null as `NOTHING`."""
    match value:
        case None:
            return NOTHING
        case bool():
            return "yes" if value else "no"
        case Decimal():
            return canonical_amount(value)
        case datetime():
            return short_time(value)
        case bytes():
            return value.hex()
        case _:
            return plain(str(value))


def short_time(moment: datetime) -> str:
    """Return ``YYYY-MM-DD HH:MM:SS.ffffff``, in UTC."""
    return moment.astimezone(UTC).replace(tzinfo=None).isoformat(sep=" ", timespec="microseconds")


def iso_time(moment: datetime) -> str:
    """Return ``YYYY-MM-DDTHH:MM:SS.ffffffZ``, the form in which programs get times."""
    return moment.astimezone(UTC).replace(tzinfo=None).isoformat(timespec="microseconds") + "Z"


def json_value(value: object) -> Any:
    """Return what stands for a value in JSON: amounts are strings, digests hexadecimal."""
    match value:
        case Decimal():
            return canonical_amount(value)
        case datetime():
            return iso_time(value)
        case bytes():
            return value.hex()
        case Mapping():
            return {str(key): json_value(item) for key, item in value.items()}
        case list() | tuple():
            return [json_value(item) for item in value]
        case _:
            return value


def ago(seconds: float) -> str:
    """Return a stretch of time for a person, in its largest fitting unit."""
    for unit, length in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{max(seconds, 0):.1f} s"


def _escaped(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")
