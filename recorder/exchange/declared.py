"""Declarations of fields: how a member of a JSON object is read, and its names on the wire.

The first name that is present counts, so that a frame and a REST row for the same thing share one
class (`recorder.exchange.messages`). `read_as` makes the value from the members of an object.

A member that can't be read costs the whole value only where the value means nothing, or something
else, without it: an id, an amount. Without a `detail` (a time, a reason, a derived figure) the rest
still counts; the member is None then, and ``unreadable`` names it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from decimal import Decimal
from functools import cache
from typing import Any, TypeVar, cast

import attrs

from recorder.exchange.amounts import is_plain_amount
from recorder.exchange.fields import TEXT_CHARS_MAX, FieldError, Fields, encode_value

T = TypeVar("T", bound="Declared")
Reader = Callable[..., object]
_READ, _IS_DETAIL = "read", "is_detail"


@attrs.frozen
class Declared:
    """What has declared fields. ``unreadable`` are the errors of the details that it lacks."""

    unreadable: tuple[str, ...] = attrs.field(default=(), kw_only=True)


def _declared(read: Callable[[Fields], object], *, is_detail: bool = False) -> Any:
    return attrs.field(metadata={_READ: read, _IS_DETAIL: is_detail})


def _declare(reader: Reader, *, is_detail: bool = False) -> Callable[..., Any]:
    """Return a declaration of members that ``reader`` reads by their names."""

    def declaration(*names: str) -> Any:
        if len(names) > 1:
            return _declared(lambda fields: reader(fields, *names), is_detail=is_detail)
        (name,) = names
        return _declared(lambda fields: reader(fields, name), is_detail=is_detail)

    return declaration


def detail(declaration: Any) -> Any:
    """Declare the same member as one without which the rest still counts."""
    return _declared(declaration.metadata[_READ], is_detail=True)


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
required_flag = _declare(Fields.required_flag)
whole, side = _declare(Fields.whole), _declare(Fields.side)
currency, pair = _declare(Fields.currency), _declare(Fields.pair)
flag, time = _declare(Fields.flag, is_detail=True), _declare(Fields.time, is_detail=True)
reason = _declare(Fields.reason, is_detail=True)


def read_as(kind: type[T], fields: Fields, *given: object, **more: object) -> T:
    """Return a ``kind`` read from its declared fields, with other fields given by the caller.

    Raises FieldError, naming the member, for one that is missing or unreadable, but for a detail.
    """
    make = cast("Callable[..., T]", kind)
    try:
        return make(*given, *[read(fields) for read in _readers(cast("Any", kind))], **more)
    except FieldError:
        values, unreadable = _without_details(kind, fields)
        more["unreadable"] = unreadable
        return make(*given, *values, **more)


def unreadable_of(parts: Iterable[Declared]) -> tuple[str, ...]:
    """Return the errors of the unreadable details of all parts."""
    return tuple(error for part in parts for error in part.unreadable)


@cache
def _readers(kind: type[Any]) -> tuple[Callable[[Fields], object], ...]:
    return tuple(each.metadata[_READ] for each in attrs.fields(kind) if _READ in each.metadata)


def _without_details(kind: type[Any], fields: Fields) -> tuple[list[object], tuple[str, ...]]:
    """Return the values, and the errors of unreadable details. Raises the error of another."""
    values: list[object] = []
    unreadable: list[str] = []
    for each in attrs.fields(kind):
        if _READ not in each.metadata:
            continue
        try:
            values.append(each.metadata[_READ](fields))
        except FieldError as error:
            if not each.metadata[_IS_DETAIL]:
                raise
            values.append(None)
            unreadable.append(str(error))
    return values, tuple(unreadable)


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


def within(name: str, reader: Reader, *names: str) -> Any:
    """Declare a member of the object ``name``, which may be absent."""
    return _declared(lambda fields: reader(_object(fields, name), *names))


def of_additional(reader: Reader, *names: str) -> Any:
    """Declare a detail of ``additionalInfo``, whose members vary."""
    return detail(within("additionalInfo", reader, *names))


def _object(fields: Fields, name: str) -> Fields:
    found = fields.find(name)
    return Fields(found if isinstance(found, dict) else {}, f"{fields.path}{name}.")


def _json_of(fields: Fields, name: str) -> str | None:
    value = fields.find(name)
    return None if value is None else encode_value(value)


json_text = _declare(_json_of)
