"""Conversions of time: aware UTC datetimes, microseconds since 1970, and the text SQLite stores.

Text conversion caches the seconds part, because most events of a batch share their second.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import lru_cache

MICROSECONDS = 1_000_000
#: "YYYY-MM-DD HH:MM:SS" and the whole text with its point and six digits.
_SECOND_WIDTH = 19
_TIME_WIDTH = 26
#: Seconds remembered: a batch spans a few, a reading of a long log moves on steadily.
_SECONDS_REMEMBERED = 256

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


def from_us(received_us: int) -> datetime:
    """Return the aware UTC time of whole microseconds since 1970."""
    return _EPOCH + timedelta(microseconds=received_us)


def to_us(moment: datetime) -> int:
    """Return whole microseconds since 1970 of an aware time."""
    if moment.tzinfo is None:
        raise ValueError("a time without a zone can't be placed; give it UTC")
    return (moment - _EPOCH) // _MICROSECOND


def time_text(time_us: int) -> str:
    """Return ``YYYY-MM-DD HH:MM:SS.ffffff`` of whole microseconds since 1970 in UTC."""
    second, fraction = divmod(time_us, MICROSECONDS)
    return f"{_second_text(second)}.{fraction:06d}"


def time_us(text: str) -> int:
    """Return whole microseconds since 1970 of such a text. Raises ValueError for any other."""
    fraction = text[_SECOND_WIDTH + 1 :]
    is_plain = fraction.isascii() and fraction.isdigit()
    if len(text) != _TIME_WIDTH or text[_SECOND_WIDTH] != "." or not is_plain:
        raise ValueError("not a time as YYYY-MM-DD HH:MM:SS.ffffff")
    return _second(text[:_SECOND_WIDTH]) * MICROSECONDS + int(fraction)


@lru_cache(_SECONDS_REMEMBERED)
def _second_text(second: int) -> str:
    return from_us(second * MICROSECONDS).isoformat(sep=" ", timespec="seconds")[:_SECOND_WIDTH]


@lru_cache(_SECONDS_REMEMBERED)
def _second(text: str) -> int:
    moment = datetime.fromisoformat(text).replace(tzinfo=UTC)
    if moment.isoformat(sep=" ", timespec="seconds")[:_SECOND_WIDTH] != text:
        raise ValueError("not a time as YYYY-MM-DD HH:MM:SS.ffffff")
    return int(moment.timestamp())
