"""Column types that are exact on both databases.

`Amount` is NUMERIC without scale on PostgreSQL and canonical decimal TEXT on SQLite (whose NUMERIC
is a float). `UtcTime` is timestamptz on PostgreSQL and ``YYYY-MM-DD HH:MM:SS.ffffff`` on SQLite.
`Flag` is BOOLEAN on PostgreSQL, and 0 or 1 on SQLite, whose STRICT tables have none.
"""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from sqlalchemy import Boolean, DateTime, Dialect, Integer, Numeric, Text
from sqlalchemy.types import TypeDecorator, TypeEngine

from recorder.exchange.amounts import canonical_amount


class Amount(TypeDecorator[Decimal]):
    """An exact Decimal."""

    impl = Numeric
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        return dialect.type_descriptor(Text() if dialect.name == "sqlite" else Numeric())

    def process_bind_param(self, value: Decimal | None, dialect: Dialect) -> Any:
        if value is None:
            return None
        text = amount_text(value)
        return text if dialect.name == "sqlite" else value

    def process_result_value(self, value: Any, dialect: Dialect) -> Decimal | None:
        return Decimal(value) if isinstance(value, str) else value


class UtcTime(TypeDecorator[datetime]):
    """An aware time in UTC, with microseconds."""

    impl = DateTime
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        return dialect.type_descriptor(Text() if dialect.name == "sqlite" else DateTime(True))

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> Any:
        if value is None:
            return None
        return sqlite_time(value) if dialect.name == "sqlite" else utc_time(value)

    def process_result_value(self, value: Any, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        if isinstance(value, str):
            return datetime.fromisoformat(value).replace(tzinfo=UTC)
        return value.astimezone(UTC)  # type: ignore[no-any-return]


class Flag(TypeDecorator[bool]):
    """True or False."""

    impl = Boolean
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        return dialect.type_descriptor(Integer() if dialect.name == "sqlite" else Boolean())

    def process_result_value(self, value: Any, dialect: Dialect) -> bool | None:
        return None if value is None else bool(value)


def amount_text(amount: Decimal) -> str:
    """Return the text that SQLite holds for an amount."""
    if not isinstance(amount, Decimal):
        raise TypeError(f"an amount is a Decimal, not {type(amount).__name__}")
    return canonical_amount(amount)


def sqlite_time(time: datetime) -> str:
    """Return the text that SQLite holds for an aware time: in UTC, without a zone."""
    return utc_time(time).isoformat(" ", "microseconds")[:26]


def utc_time(time: datetime) -> datetime:
    """Return an aware time in UTC."""
    if time.tzinfo is UTC:
        return time
    if time.tzinfo is None:
        raise TypeError("a time without a zone can't be stored; give it UTC")
    return time.astimezone(UTC)
