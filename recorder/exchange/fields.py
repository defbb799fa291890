"""Reads the members of a decoded frame, tolerantly in shape and exactly in value.

`Fields` wraps one JSON object and knows where in the frame it stands, so that whatever can't be
read is named. Each member may have had several names over the years; the first one present is
taken. Null, and for ids and reasons the empty string, count as absent. Numbers arrive as `Number`
(the digits as they were on the wire), never as a float.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Decimal
from typing import NoReturn

from attrs import frozen

from recorder.exchange.amounts import AmountError, parse_amount

#: A text member longer than this is nobody's id, pair, or reason.
TEXT_CHARS_MAX = 10_000


class FieldError(ValueError):
    """A member is missing or can't be read; the text names it."""


@frozen
class Number:
    """A JSON number, by its digits on the wire."""

    text: str


def decode_object(text: str) -> Mapping[str, object]:
    """Return the JSON object that ``text`` is. Raises FieldError."""
    try:
        decoded = json.loads(text, parse_int=Number, parse_float=Number, parse_constant=_refuse)
    except RecursionError:
        raise FieldError("the JSON is nested too deeply") from None
    except ValueError as error:
        raise FieldError(f"no valid JSON: {error}") from None
    if not isinstance(decoded, dict):
        raise FieldError("no JSON object")
    return decoded


def encode_value(value: object) -> str:
    """Return the JSON text of a decoded value, with numbers in the digits of the wire."""
    match value:
        case Number(text):
            return text
        case dict():
            members = (f"{json.dumps(name)}:{encode_value(each)}" for name, each in value.items())
            return "{" + ",".join(members) + "}"
        case list():
            return "[" + ",".join(map(encode_value, value)) + "]"
        case _:
            return json.dumps(value)


def _refuse(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON number")


@frozen
class Fields:
    """The members of one JSON object. ``path`` says where it stands, such as ``data.currency``."""

    members: Mapping[str, object]
    path: str = ""

    def find(self, *names: str) -> object:
        """Return the first member present under one of the names, or None."""
        for name in names:
            value = self.members.get(name)
            if value is not None:
                return value
        return None

    def inner(self, *names: str) -> Fields:
        """Return the object under one of the names. Raises FieldError."""
        value = self.find(*names)
        if not isinstance(value, dict):
            raise self._wrong(names, "a JSON object", value)
        return Fields(value, f"{self.path}{names[0]}.")

    def text(self, *names: str) -> str | None:
        """Return a text; None where it is absent or empty. A number counts by its digits."""
        value = self.find(*names)
        if value is None or value == "":
            return None
        if isinstance(value, Number):
            value = value.text
        if not isinstance(value, str):
            raise self._wrong(names, "a text", value)
        if len(value) > TEXT_CHARS_MAX or "\x00" in value or not _is_encodable(value):
            raise self._wrong(names, "a text that a database can hold", None)
        return value

    def required_text(self, *names: str) -> str:
        """Return a text that must be there."""
        value = self.text(*names)
        if value is None:
            raise self._wrong(names, "a text", None)
        return value

    def reason(self, *names: str) -> str | None:
        """Return a text that explains; "None" and "null", seen in captures, explain nothing."""
        value = self.text(*names)
        return None if value in ("None", "null") else value

    def amount(self, *names: str) -> Decimal | None:
        """Return an exact amount; None where it is absent or empty."""
        value = self.find(*names)
        if value is None or value == "":
            return None
        try:
            return parse_amount(value.text if isinstance(value, Number) else value)
        except AmountError as error:
            raise FieldError(f"{self.path}{names[0]}: {error}") from None

    def required_amount(self, *names: str) -> Decimal:
        """Return an amount that must be there."""
        value = self.amount(*names)
        if value is None:
            raise self._wrong(names, "an amount", None)
        return value

    def whole(self, *names: str) -> int | None:
        """Return a whole number of at most 18 digits; None where it is absent."""
        value = self.amount(*names)
        if value is None:
            return None
        if value != value.to_integral_value() or abs(value) >= 10**18:
            raise self._wrong(names, "a whole number", None)
        return int(value)

    def flag(self, *names: str) -> bool | None:
        """Return true or false, also where it is told in a text; None where it is absent."""
        value = self.find(*names)
        if isinstance(value, str) and value.lower() in ("true", "false"):
            return value.lower() == "true"
        if value is not None and not isinstance(value, bool):
            raise self._wrong(names, "true or false", value)
        return value

    def side(self, *names: str) -> str | None:
        """Return ``buy`` or ``sell``, whatever its case; None where it is absent."""
        value = self.text(*names)
        return None if value is None else value.lower()

    def currency(self, *names: str) -> str | None:
        """Return a currency's code: of an object its ``shortName``, for the rand's symbol is R."""
        value = self.find(*names)
        if not isinstance(value, dict):
            return self.text(*names)
        inner = Fields(value, f"{self.path}{names[0]}.")
        return inner.text("shortName", "symbol", "code")

    def pair(self, *names: str) -> str | None:
        """Return a pair's name: of an object its ``symbol``."""
        value = self.find(*names)
        if not isinstance(value, dict):
            return self.text(*names)
        return Fields(value, f"{self.path}{names[0]}.").text("symbol", "shortName")

    def time(self, *names: str) -> datetime | None:
        """Return an aware UTC time; None where it is absent.

        A text without a zone is taken as UTC; what is finer than a microsecond is cut off.
        """
        text = self.text(*names)
        if text is None:
            return None
        try:
            moment = datetime.fromisoformat(_cut_to_microseconds(text))
            return _as_utc(moment)
        except (ValueError, OverflowError):
            raise self._wrong(names, "an ISO-8601 time", text) from None

    def _wrong(self, names: tuple[str, ...], wanted: str, value: object) -> FieldError:
        found = "missing" if self.find(*names) is None else f"not {wanted}"
        shown = f" but {value!r}"[:80] if isinstance(value, (str, bool)) else ""
        return FieldError(f"{self.path}{names[0]} is {found}{shown}")


def _as_utc(moment: datetime) -> datetime:
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


def _cut_to_microseconds(text: str) -> str:
    head, point, rest = text.partition(".")
    if not point:
        return text
    digits = len(rest) - len(rest.lstrip("0123456789"))
    return f"{head}.{rest[: min(digits, 6)]:0<6}{rest[digits:]}"


def _is_encodable(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
