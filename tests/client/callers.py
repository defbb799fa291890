"""Programs that queue commands: one for each driver, each with a transaction of its own."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
import pytest
import sqlalchemy
from attrs import frozen
from sqlalchemy import orm

from recorder.client import AlreadyQueued, CancelOrder, PlaceLimitOrder, Queued, enqueue

ORDER = PlaceLimitOrder(side="BUY", pair="BTCZAR", quantity="0.0010", price=1_000_000)
OTHER = CancelOrder(pair="BTCZAR", order_id="o-1")


class Unruled(CancelOrder):
    """A command that goes around the rules, as one of a newer version might."""

    def payload_text(self) -> str:
        return '{"pair":"BTCZAR","orderId":"o","customerOrderId":"mine"}'

    def __attrs_post_init__(self) -> None:
        """Check nothing."""


UNRULED = Unruled(pair="BTCZAR", order_id="o")


@frozen
class Caller:
    """A connection of some kind, and how its program speaks with it."""

    dialect: str
    #: What is given to `enqueue`.
    connection: Any
    #: Runs plain SQL in the same transaction and returns its rows, if it has any.
    sql: Callable[[str], list[Any]]
    commit: Callable[[], None]
    rollback: Callable[[], None]

    def enqueue(self, command: Any = ORDER, **options: Any) -> Queued:
        return enqueue(self.connection, "main", command, **options)

    def repeats(self, **options: Any) -> AlreadyQueued:
        """Return what the caller is reported who queues again."""
        with pytest.raises(AlreadyQueued) as reported:
            self.enqueue(**options)
        return reported.value


def rows_of(cursor: Any) -> list[Any]:
    """Return what a statement of a driver's own answered."""
    return [tuple(row) for row in cursor.fetchall()] if cursor.description else []


@contextmanager
def by_sqlite3(url: str, *, cursor: bool = False) -> Iterator[Caller]:
    connection = sqlite3.connect(url.removeprefix("sqlite:///"))
    try:
        yield Caller(
            "sqlite",
            connection.cursor() if cursor else connection,
            lambda sql: rows_of(connection.execute(sql)),
            connection.commit,
            connection.rollback,
        )
    finally:
        connection.close()


@contextmanager
def by_psycopg(url: str, *, cursor: bool = False) -> Iterator[Caller]:
    connection = psycopg.connect(url)
    try:
        yield Caller(
            "postgresql",
            connection.cursor() if cursor else connection,
            lambda sql: rows_of(connection.execute(sql.encode())),
            connection.commit,
            connection.rollback,
        )
    finally:
        connection.close()


def engine_of(url: str) -> sqlalchemy.Engine:
    driver = url.replace("postgresql://", "postgresql+psycopg://")
    return sqlalchemy.create_engine(driver, poolclass=sqlalchemy.NullPool)


def rows_of_result(result: Any) -> list[Any]:
    return [tuple(row) for row in result] if result.returns_rows else []


@contextmanager
def by_sqlalchemy(url: str) -> Iterator[Caller]:
    with engine_of(url).connect() as connection:
        yield Caller(
            connection.dialect.name,
            connection,
            lambda sql: rows_of_result(connection.execute(sqlalchemy.text(sql))),
            connection.commit,
            connection.rollback,
        )


@contextmanager
def by_session(url: str, *, scoped: bool = False) -> Iterator[Caller]:
    engine = engine_of(url)
    makes = orm.sessionmaker(engine)
    session: Any = orm.scoped_session(makes) if scoped else makes()
    try:
        yield Caller(
            engine.dialect.name,
            session,
            lambda sql: rows_of_result(session.execute(sqlalchemy.text(sql))),
            session.commit,
            session.rollback,
        )
    finally:
        session.close()


def by_scoped_session(url: str) -> Any:
    return by_session(url, scoped=True)


def by_sqlite3_cursor(url: str) -> Any:
    return by_sqlite3(url, cursor=True)


def by_psycopg_cursor(url: str) -> Any:
    return by_psycopg(url, cursor=True)


OPENED: dict[str, Callable[[str], Any]] = {
    "sqlite3": by_sqlite3,
    "sqlite3 cursor": by_sqlite3_cursor,
    "psycopg": by_psycopg,
    "psycopg cursor": by_psycopg_cursor,
    "sqlalchemy on sqlite": by_sqlalchemy,
    "sqlalchemy on postgresql": by_sqlalchemy,
    "session on sqlite": by_session,
    "session on postgresql": by_session,
    "scoped session on sqlite": by_scoped_session,
}
