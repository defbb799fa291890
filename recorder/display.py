"""Makes any value a text that is safe to show.

What the exchange or a stranger's INSERT wrote may hold escape sequences that move a cursor, or
characters that turn the direction of writing: on a terminal they would forge what a person reads.
Everything unprintable is shown as its escape instead.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Decimal
from itertools import pairwise
from typing import Any

from recorder.exchange.amounts import canonical_amount

#: What stands where a value is null. A word would look like a value.
NOTHING = "–"


def plain(text: str) -> str:
    """Return ``text`` with every unprintable character as its escape, on one line."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


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


def printed(value: object) -> str:
    """Return a value as a report prints it: as `shown`, times to the second, counts grouped."""
    if isinstance(value, datetime):
        return value.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S")
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    return shown(value)


def counted(number: int, one: str, many: str) -> str:
    """Return ``1 order is`` or ``2 orders are``."""
    return f"{number:,} {one if number == 1 else many}"


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


_UNITS = ((86_400, "day", "days"), (3_600, "h", "h"), (60, "min", "min"), (1, "s", "s"))


def duration_text(seconds: float | Decimal) -> str:
    """Return a duration in its two largest units, cut off: ``22 h 11 min``, ``1.5 s``."""
    if 0 < seconds < 0.001:
        return "under 1 ms"
    for (length, one, many), (minor, _, minors) in pairwise(_UNITS):
        if seconds >= length:
            number, rest = divmod(int(seconds), length)
            text = f"{number} {one if number == 1 else many}"
            return f"{text} {rest // minor} {minors}" if rest >= minor else text
    parts = 1_000 if seconds < 1 else 10
    return f"{int(max(seconds, 0) * parts) / parts:g} s"


def size_text(number: int) -> str:
    """Return a number of bytes for a person: ``64 MiB``, ``1.5 GiB``, ``512 bytes``."""
    for unit, name in ((2**30, "GiB"), (2**20, "MiB"), (2**10, "KiB")):
        if number >= unit:
            return f"{round(number / unit, 1):g} {name}"
    return f"{number} bytes"
