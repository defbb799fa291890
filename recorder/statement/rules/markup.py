"""Elements of a page. Every text that isn't made here is escaped: none gets in as it came."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from html import escape

from recorder.exchange.amounts import canonical_amount

#: Elements that hold nothing and have no end.
_VOID = frozenset({"meta", "wbr"})
#: What stands for a value that isn't known.
NOTHING = "–"


class Markup(str):
    """A text that may stand in a page as it is: elements, made by `element`."""

    __slots__ = ()


def element(tag: str, *children: str, **attributes: object) -> Markup:
    """Return an element. Children that are `Markup` stand as they are, others are escaped.

    An underscore in an attribute's name is a hyphen, a last one is left out. An attribute that is
    None isn't written.
    """
    named = "".join(
        f' {name.removesuffix("_").replace("_", "-")}="{text(str(value))}"'
        for name, value in attributes.items()
        if value is not None
    )
    if tag in _VOID:
        return Markup(f"<{tag}{named}>")
    return Markup(f"<{tag}{named}>{joined(children)}</{tag}>")


def joined(children: tuple[str, ...] | list[str]) -> Markup:
    """Return children one behind the other, those escaped that are no `Markup`."""
    return Markup("".join(each if isinstance(each, Markup) else text(each) for each in children))


def text(answer: str) -> Markup:
    """Return a text escaped, with what can't be printed (or turns what is) as its escape."""
    if not answer.isprintable():
        answer = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in answer)
    return Markup(escape(answer))


def shown(value: object) -> str:
    """Return a value as a person reads it: amounts exact, times in UTC, null as `NOTHING`."""
    match value:
        case None:
            return NOTHING
        case bool():
            return "yes" if value else "no"
        case int():
            return f"{value:,}"
        case Decimal():
            return canonical_amount(value)
        case datetime():
            return value.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S")
        case bytes():
            return value.hex()
        case _:
            return str(value)


def count_of(number: int, one: str, many: str) -> str:
    """Return ``1 order is`` or ``2 orders are``."""
    return f"{number:,} {one if number == 1 else many}"
