"""Runs a statement on the connection that the caller has, and changes nothing else of it.

A driver that isn't imported can't have made the connection: classes are looked up among the modules
that are loaded already, so that no program loads a driver it does not use. Statements run on
cursors of our own, in the caller's transaction. So results that the caller has yet to fetch, and
the shape of its rows, stay as they are.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

from attrs import frozen

if TYPE_CHECKING:
    import sqlite3

    import psycopg
    import sqlalchemy
    import sqlalchemy.orm

    AnyConnection: TypeAlias = (
        sqlalchemy.Connection
        | sqlalchemy.orm.Session
        | sqlalchemy.orm.scoped_session[Any]
        | psycopg.Connection[Any]
        | psycopg.Cursor[Any]
        | sqlite3.Connection
        | sqlite3.Cursor
    )
    AnyAsyncConnection: TypeAlias = psycopg.AsyncConnection[Any] | psycopg.AsyncCursor[Any]

Rows: TypeAlias = Sequence[Sequence[object]]

_PARAMETER = re.compile(r":([a-z_]+)")


@frozen
class Driver:
    """How one connection runs statements. ``run`` of a synchronous one never waits."""

    #: "sqlite" or "postgresql".
    dialect: str
    run: Callable[[str, Mapping[str, object]], Awaitable[Rows]]
    #: Its error that may be the schema's refusal.
    refuses_with: type[Exception]


def driver_of(connection: object) -> Driver:
    """Return the driver of a synchronous connection. Raises TypeError for any other object."""
    for module, names, make in _SYNC:
        if isinstance(connection, _loaded(module, names)):
            return make(connection)
    raise TypeError(f"{_shown(connection)} is no connection for enqueue: {_hint(connection)}")


def async_driver_of(connection: object) -> Driver:
    """Return the driver of an asynchronous connection of psycopg. Raises TypeError."""
    if isinstance(connection, _loaded("psycopg", ("AsyncConnection", "AsyncCursor"))):
        return _async_psycopg(connection)
    raise TypeError(
        f"{_shown(connection)} is no connection for enqueue_async:"
        " give a psycopg.AsyncConnection or AsyncCursor"
    )


def _loaded(module: str, names: tuple[str, ...]) -> tuple[type, ...]:
    # Another thread may be half-way through importing it: then it made no connection yet.
    members = vars(sys.modules[module]) if module in sys.modules else {}
    return tuple(members[name] for name in names if name in members)


def _sqlite(given: Any) -> Driver:
    sqlite3: Any = sys.modules["sqlite3"]
    connection = given.connection if isinstance(given, sqlite3.Cursor) else given

    async def run(sql: str, values: Mapping[str, object]) -> Rows:
        # Connection.cursor() would apply the caller's row_factory.
        cursor = sqlite3.Cursor(connection)
        try:
            rows: Rows = cursor.execute(sql, values).fetchall()
        finally:
            cursor.close()
        return rows

    return Driver("sqlite", run, sqlite3.IntegrityError)


def _psycopg(given: Any) -> Driver:
    psycopg: Any = sys.modules["psycopg"]
    connection = given.connection if isinstance(given, psycopg.Cursor) else given

    async def run(sql: str, values: Mapping[str, object]) -> Rows:
        with psycopg.Cursor(connection, row_factory=psycopg.rows.tuple_row) as cursor:
            rows: Rows = cursor.execute(_in_percents(sql), values).fetchall()
        return rows

    return Driver("postgresql", run, psycopg.IntegrityError)


def _async_psycopg(given: Any) -> Driver:
    psycopg: Any = sys.modules["psycopg"]
    connection = given.connection if isinstance(given, psycopg.AsyncCursor) else given

    async def run(sql: str, values: Mapping[str, object]) -> Rows:
        async with psycopg.AsyncCursor(connection, row_factory=psycopg.rows.tuple_row) as cursor:
            await cursor.execute(_in_percents(sql), values)
            rows: Rows = await cursor.fetchall()
        return rows

    return Driver("postgresql", run, psycopg.IntegrityError)


def _sqlalchemy(given: Any) -> Driver:
    sqlalchemy: Any = sys.modules["sqlalchemy"]
    connection = given if isinstance(given, sqlalchemy.Connection) else given.connection()
    dialect = connection.dialect.name
    if dialect not in ("sqlite", "postgresql"):
        raise TypeError(f"the outbox is in SQLite or PostgreSQL, not in {dialect}")

    async def run(sql: str, values: Mapping[str, object]) -> Rows:
        rows: Rows = connection.execute(sqlalchemy.text(sql), values).all()
        return rows

    return Driver(dialect, run, sqlalchemy.exc.IntegrityError)


_SYNC: tuple[tuple[str, tuple[str, ...], Callable[[Any], Driver]], ...] = (
    ("sqlite3", ("Connection", "Cursor"), _sqlite),
    ("psycopg", ("Connection", "Cursor"), _psycopg),
    ("sqlalchemy", ("Connection",), _sqlalchemy),
    ("sqlalchemy.orm", ("Session", "scoped_session"), _sqlalchemy),
)


def _in_percents(sql: str) -> str:
    return _PARAMETER.sub(r"%(\1)s", sql)


def _shown(connection: object) -> str:
    kind = type(connection)
    return f"{kind.__module__}.{kind.__qualname__}"


def _hint(connection: object) -> str:
    if isinstance(connection, _loaded("psycopg", ("AsyncConnection", "AsyncCursor"))):
        return "await enqueue_async(…) instead"
    if type(connection).__module__.startswith("sqlalchemy.ext.asyncio"):
        return "await connection.run_sync(enqueue, …) instead"
    return (
        "give a Connection or Cursor of sqlite3 or psycopg,"
        " or a Connection or Session of SQLAlchemy"
    )
