"""Declarations of fields: how a member of a JSON object is read, and its names on the wire.

The first name that is present counts, so that a frame and a REST row for the same thing share one
class (`recorder.exchange.messages`). `read_as` makes the value from the members of an object.
"""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from functools import cache
from typing import Any, TypeVar, cast

import attrs

from recorder.exchange.amounts import is_plain_amount
from recorder.exchange.fields import TEXT_CHARS_MAX, FieldError, Fields, encode_value

T = TypeVar("T")
Reader = Callable[..., object]
_READ = "read"


def _declared(read: Callable[[Fields], object]) -> Any:
    return attrs.field(metadata={_READ: read})


def _declare(reader: Reader) -> Callable[..., Any]:
    """Return a declaration of members that ``reader`` reads by their names."""

    def declaration(*names: str) -> Any:
        if len(names) > 1:
            return _declared(lambda fields: reader(fields, *names))
        (name,) = names
        return _declared(lambda fields: reader(fields, name))

    return declaration


def text(*names: str) -> Any:
    """Declare a text. A plain one is taken on the spot; all others are read by `Fields.text`."""
    name, others = names[0], names[1:]

    def read(fields: Fields) -> str | None:
        value = fields.members.get(name)
        if value is None and not others:
            return None
        if type(value) is not str or not value.isascii() or "\x00" in value:
            return fields.text(*names)
        return value if 0 < len(value) <= TEXT_CHARS_MAX else fields.text(*names)

    return _declared(read)


def amount(*names: str) -> Any:
    """Declare an amount. One that is a text is read on the spot, others by `Fields.amount`."""
    name, others = names[0], names[1:]

    def read(fields: Fields) -> Decimal | None:
        value = fields.members.get(name)
        if value is None and not others:
            return None
        if type(value) is str and is_plain_amount(value):
            return Decimal(value)
        return fields.amount(*names)

    return _declared(read)


required_text, required_amount = _declare(Fields.required_text), _declare(Fields.required_amount)
flag, required_flag = _declare(Fields.flag), _declare(Fields.required_flag)
whole, side, time = _declare(Fields.whole), _declare(Fields.side), _declare(Fields.time)
currency, pair, reason = _declare(Fields.currency), _declare(Fields.pair), _declare(Fields.reason)


def read_as(kind: type[T], fields: Fields, *given: object, **more: object) -> T:
    """Return a ``kind`` read from its declared fields, with other fields given by the caller.

    Raises FieldError, naming the member, for one that is missing or unreadable.
    """
    return kind(*given, *[read(fields) for read in _readers(cast("Any", kind))], **more)


@cache
def _readers(kind: type[Any]) -> tuple[Callable[[Fields], object], ...]:
    return tuple(each.metadata[_READ] for each in attrs.fields(kind) if _READ in each.metadata)


def _required(reader: Reader, complaint: str) -> Callable[..., Any]:
    def read(fields: Fields, *names: str) -> object:
        value = reader(fields, *names)
        if value is None:
            raise FieldError(f"{fields.path}{names[0]} {complaint}")
        return value

    return _declare(read)


required_pair = _required(Fields.pair, "is missing")
required_currency = _required(Fields.currency, "names no currency")


def of_type(reader: Reader, *names: str) -> Any:
    """Declare a member of ``transactionType``."""
    return _declared(lambda fields: reader(fields.inner("transactionType"), *names))


def of_additional(reader: Reader, *names: str) -> Any:
    """Declare a member of ``additionalInfo``, which varies and may be absent."""

    def read(fields: Fields) -> object:
        found = fields.find("additionalInfo")
        members = found if isinstance(found, dict) else {}
        return reader(Fields(members, f"{fields.path}additionalInfo."), *names)

    return _declared(read)


def _json_of(fields: Fields, name: str) -> str | None:
    value = fields.find(name)
    return None if value is None else encode_value(value)


json_text = _declare(_json_of)
