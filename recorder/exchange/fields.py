"""Read the members of a decoded frame, tolerantly in shape and exactly in value.

`Fields` wraps one JSON object and knows its path in the frame, so that errors name the member. A
member may have several names; the first one present counts. Null, and for ids and reasons the empty
string, count as absent. A number arrives as an int or as `Number` (its digits on the wire), never
as a float.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from json.encoder import encode_basestring_ascii
from typing import Any, NoReturn

import msgspec
from attrs import frozen

from recorder.exchange.amounts import AmountError, parse_amount
from recorder.exchange.frames import DEEP

#: No id, pair or reason is longer.
TEXT_CHARS_MAX = 10_000


class FieldError(ValueError):
    """A member is missing or unreadable; the text names it."""


@frozen
class Number:
    """A JSON number, by its digits on the wire."""

    text: str


_DECODER = msgspec.json.Decoder(float_hook=Number)

#: The one whole number whose digits an int does not keep, where JSON text allows it.
_has_minus_zero = re.compile(r"-0(?=[\s,\]}])").search

#: The usual form of a time on the wire; `datetime` reads it directly.
_is_usual_time = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(?:\.[0-9]{3})?Z"
).fullmatch


def decode_object(text: str) -> Mapping[str, object]:
    """Return the JSON object in ``text``. Raises FieldError."""
    decoded = _decode(text)
    # A fixed limit, because a rebuild runs at another depth of the stack and must agree.
    if text.count("[") + text.count("{") > DEEP and _nests_deeply(decoded):
        raise FieldError("the JSON is nested too deeply")
    return decoded


def _nests_deeply(decoded: object) -> bool:
    level: list[Any] = [decoded]
    for _ in range(DEEP):
        within = [each.values() if type(each) is dict else each for each in level]
        level = [each for members in within for each in members if type(each) in (dict, list)]
        if not level:
            return False
    return True


def _decode(text: str) -> Mapping[str, object]:
    try:
        decoded = _DECODER.decode(text)
    except (msgspec.MsgspecError, RecursionError, UnicodeEncodeError):
        return _decode_slowly(text)
    if type(decoded) is not dict or _has_minus_zero(text):
        return _decode_slowly(text)
    return decoded


def _decode_slowly(text: str) -> Mapping[str, object]:
    """Read an object that the fast decoder refuses although it is JSON. Raises FieldError."""
    decoded = decode_json(text)
    if not isinstance(decoded, dict):
        raise FieldError("no JSON object")
    return decoded


def decode_json(text: str) -> object:
    """Return any JSON value, with every number by its digits. Raises FieldError."""
    try:
        return json.loads(text, parse_int=Number, parse_float=Number, parse_constant=_refuse)
    except RecursionError:
        raise FieldError("the JSON is nested too deeply") from None
    except ValueError as error:
        raise FieldError(f"no valid JSON: {error}") from None


def decode_rows(text: str) -> list[object]:
    """Return the elements of a JSON array, whatever they are. Raises FieldError."""
    rows = decode_json(text)
    if not isinstance(rows, list):
        raise FieldError("no JSON array")
    return rows


def encode_value(value: object) -> str:
    """Return the JSON text of a decoded value, with numbers in the digits of the wire."""
    match value:
        case str():
            return encode_basestring_ascii(value)
        case Number(text):
            return text
        case dict():
            members = (
                f"{encode_basestring_ascii(name)}:{encode_value(each)}"
                for name, each in value.items()
            )
            return "{" + ",".join(members) + "}"
        case list():
            return "[" + ",".join(map(encode_value, value)) + "]"
        case _:
            return json.dumps(value)


def _refuse(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON number")


class Fields(msgspec.Struct, frozen=True):
    """The members of one JSON object. ``path`` is its place in the frame, such as ``data.``.

    A msgspec Struct, because it is made in a sixth of the time of an attrs class.
    """

    members: Mapping[str, object]
    path: str = ""

    def find(self, name: str, *others: str) -> object:
        """Return the first member present under one of the names, or None."""
        value = self.members.get(name)
        if value is None:
            for other in others:
                value = self.members.get(other)
                if value is not None:
                    break
        return value

    def inner(self, name: str, *others: str) -> Fields:
        """Return the object under one of the names. Raises FieldError."""
        value = self.find(name, *others)
        if not isinstance(value, dict):
            raise self._wrong("a JSON object", value, name, *others)
        return Fields(value, f"{self.path}{name}.")

    def text(self, name: str, *others: str) -> str | None:
        """Return a text; None where it is absent or empty. A number counts by its digits."""
        value = self.members.get(name)
        if value is None and others:
            value = self.find(*others)
        if not isinstance(value, str):
            if value is None:
                return None
            digits = _digits(value)
            if digits is None:
                raise self._wrong("a text", value, name, *others)
            value = digits
        if len(value) > TEXT_CHARS_MAX or "\x00" in value or not _is_encodable(value):
            raise self._wrong("a text that a database can hold", None, name, *others)
        return value or None

    def required_text(self, name: str, *others: str) -> str:
        """Return a text that is required."""
        value = self.text(name, *others)
        if value is None:
            raise self._wrong("a text", None, name, *others)
        return value

    def reason(self, name: str, *others: str) -> str | None:
        """Return a text that explains; "None" and "null", seen in captures, explain nothing."""
        value = self.text(name, *others)
        return None if value in ("None", "null") else value

    def words(self, name: str, *others: str) -> str | None:
        """Return a text for display, without characters that a database refuses."""
        value = self.find(name, *others)
        return plain_words(value) or None if isinstance(value, str) else None

    def amount(self, name: str, *others: str) -> Decimal | None:
        """Return an exact amount; None where it is absent or empty."""
        value = self.members.get(name)
        if value is None and others:
            value = self.find(*others)
        try:
            if isinstance(value, str):
                return parse_amount(value) if value else None
            if value is None:
                return None
            return parse_amount(value.text if isinstance(value, Number) else value)
        except AmountError as error:
            raise FieldError(f"{self.path}{name}: {error}") from None

    def required_amount(self, name: str, *others: str) -> Decimal:
        """Return an amount that is required."""
        value = self.amount(name, *others)
        if value is None:
            raise self._wrong("an amount", None, name, *others)
        return value

    def whole(self, *names: str) -> int | None:
        """Return a whole number of at most 18 digits; None where it is absent."""
        value = self.amount(*names)
        if value is None:
            return None
        if value != value.to_integral_value() or abs(value) >= 10**18:
            raise self._wrong("a whole number", None, *names)
        return int(value)

    def flag(self, *names: str) -> bool | None:
        """Return true or false, also from a text; None where it is absent."""
        value = self.find(*names)
        if isinstance(value, str) and value.lower() in ("true", "false"):
            return value.lower() == "true"
        if value is not None and not isinstance(value, bool):
            raise self._wrong("true or false", value, *names)
        return value

    def required_flag(self, *names: str) -> bool:
        """Return true or false; one of them is required."""
        value = self.flag(*names)
        if value is None:
            raise self._wrong("true or false", None, *names)
        return value

    def side(self, name: str, *others: str) -> str | None:
        """Return ``buy`` or ``sell``, whatever its case; None where it is absent."""
        value = self.text(name, *others)
        return None if value is None else value.lower()

    def currency(self, name: str, *others: str) -> str | None:
        """Return a currency's code: of an object its ``shortName``, for the rand's symbol is R."""
        value = self.members.get(name) or self.find(name, *others)
        if isinstance(value, dict):
            return Fields(value, f"{self.path}{name}.").text("shortName", "symbol", "code")
        return self.text(name, *others)

    def pair(self, name: str, *others: str) -> str | None:
        """Return a pair's name: of an object its ``symbol``."""
        value = self.members.get(name) or self.find(name, *others)
        if isinstance(value, dict):
            return Fields(value, f"{self.path}{name}.").text("symbol", "shortName")
        return self.text(name, *others)

    def time(self, name: str, *others: str) -> datetime | None:
        """Return an aware UTC time; None where it is absent.

        A text without a zone is UTC; digits below a microsecond are cut off. A leap second counts
        as the second after it, as in POSIX.
        """
        value = self.members.get(name) or self.find(name, *others)
        usual = isinstance(value, str) and _is_usual_time(value)
        text = usual.string if usual else self.text(name, *others)
        if text is None:
            return None
        try:
            if usual and text[17:19] != "60":
                return datetime.fromisoformat(text)
            return _read_time(text)
        except (ValueError, OverflowError):
            raise self._wrong("an ISO-8601 time", text, name, *others) from None

    def _wrong(self, expected: str, value: object, *names: str) -> FieldError:
        found = "missing" if self.find(*names) is None else f"not {expected}"
        shown = f" but {value!r}"[:80] if isinstance(value, (str, bool)) else ""
        return FieldError(f"{self.path}{names[0]} is {found}{shown}")


def _digits(value: object) -> str | None:
    if isinstance(value, Number):
        return value.text
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else None


def _read_time(text: str) -> datetime:
    """Return the time of a text in any ISO form. Raises ValueError or OverflowError."""
    if text.endswith("z"):
        text = f"{text[:-1]}Z"
    is_leap = text[16:19] == ":60"
    if is_leap:
        text = f"{text[:16]}:59{text[19:]}"
    moment = _as_utc(datetime.fromisoformat(_cut_to_microseconds(text)))
    if not is_leap:
        return moment
    if (moment.hour, moment.minute) != (23, 59):
        raise ValueError("a leap second is the last second of a day")
    return moment + timedelta(seconds=1)


def _as_utc(moment: datetime) -> datetime:
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


def _cut_to_microseconds(text: str) -> str:
    head, point, rest = text.partition(".")
    if not point:
        return text
    digits = len(rest) - len(rest.lstrip("0123456789"))
    return f"{head}.{rest[: min(digits, 6)]:0<6}{rest[digits:]}"


def plain_words(text: str) -> str:
    """Return a text without characters that a database refuses, and of limited length."""
    return text[:TEXT_CHARS_MAX].replace("\x00", "\ufffd").encode(errors="replace").decode()


def _is_encodable(text: str) -> bool:
    if text.isascii():
        return True
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
