"""Declarations of fields: how a member of a JSON object is read, and its names on the wire.

The first name that is present counts, so that a frame and a REST row for the same thing share one
class (`recorder.exchange.messages`). `read_as` makes the value from the members of an object.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any, TypeVar, cast

import attrs

from recorder.exchange.fields import FieldError, Fields, encode_value

T = TypeVar("T")
Reader = Callable[..., object]
_READER = "reader"


def _declared(reader: Reader, *names: str) -> Any:
    return attrs.field(metadata={_READER: (reader, names)})


def _declare(reader: Reader) -> Callable[..., Any]:
    return lambda *names: _declared(reader, *names)


text, required_text = _declare(Fields.text), _declare(Fields.required_text)
amount, required_amount = _declare(Fields.amount), _declare(Fields.required_amount)
flag, required_flag = _declare(Fields.flag), _declare(Fields.required_flag)
whole, side, time = _declare(Fields.whole), _declare(Fields.side), _declare(Fields.time)
currency, pair, reason = _declare(Fields.currency), _declare(Fields.pair), _declare(Fields.reason)


def read_as(kind: type[T], fields: Fields, *given: object, **more: object) -> T:
    """Return a ``kind`` read from its declared fields, with other fields given by the caller.

    Raises FieldError, naming the member, for one that is missing or unreadable.
    """
    # A call with one name and no unpacking: it is twice as fast, and nearly all fields have one.
    values = [
        reader(fields, *names) if others else reader(fields, names[0])
        for reader, names, others in _readers(cast("Any", kind))
    ]
    return kind(*given, *values, **more)


@cache
def _readers(kind: type[Any]) -> tuple[tuple[Reader, tuple[str, ...], bool], ...]:
    declared = (each.metadata[_READER] for each in attrs.fields(kind) if _READER in each.metadata)
    return tuple((reader, names, len(names) != 1) for reader, names in declared)


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
