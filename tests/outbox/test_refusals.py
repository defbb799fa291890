"""What the database refuses ends the caller's transaction, so a forgotten one holds no lock."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator

import psycopg
import pytest
import sqlalchemy
from sqlalchemy import exc, orm

from recorder.client import enqueue
from recorder.database.engine import Database
from recorder.errors import Refused
from tests.client.callers import ORDER, UNRULED, engine_of
from tests.log.drafts import frame, write

PAYLOAD = '{"side":"BUY","pair":"BTCZAR","quantity":"0.001","price":"1000000"}'
GOOD = {"account": "main", "command": "PLACE_LIMIT_ORDER", "payload": PAYLOAD}
#: Each is refused: by a trigger, a CHECK, a key, NOT NULL, or the type of a column.
REFUSED: dict[str, dict[str, object]] = {
    "a payload that is no object": {"payload": "[]"},
    "a payload that is no JSON": {"payload": "{"},
    "no payload": {"payload": None},
    "no account": {"account": None},
    "an empty account": {"account": ""},
    "no command": {"command": None},
    "an unknown command": {"command": "PLACE_A_BET"},
    "an id that exists": {"client_msg_id": "first"},
    "an empty id": {"client_msg_id": ""},
    "a long id": {"client_msg_id": "x" * 101},
    "no id": {"client_msg_id": None},
    "a number that exists": {"outbox_id": 1},
    "no priority": {"priority": None},
    "no creator": {"created_by": None},
    "a time in words": {"expires_at": "tomorrow"},
    "a time of creation in words": {"created_at": "today"},
    "no time of creation": {"created_at": None},
    "an order that is neither strict nor free": {"in_order": 2},
    "no order": {"in_order": None},
    "a status": {"status": "sent"},
    "no status": {"status": None},
    "attempts": {"attempts": 1},
    "no attempts": {"attempts": None},
    "a resend of nothing": {"requeue_of": 99},
    "a column of the recorder's": {"epoch": 1},
}


@pytest.fixture
def bot(sqlite_url: str) -> Iterator[sqlite3.Connection]:
    """A program's own connection, as Python opens it."""
    with contextlib.closing(sqlite3.connect(sqlite_url.removeprefix("sqlite:///"))) as connection:
        insert(connection, client_msg_id="first")
        connection.commit()
        yield connection


def insert(connection: sqlite3.Connection, **values: object) -> None:
    row = GOOD | values
    names, places = ", ".join(row), ", ".join(f":{name}" for name in row)
    connection.execute(f"INSERT INTO outbox ({names}) VALUES ({places})", row)


@pytest.mark.parametrize("what", REFUSED)
def test_a_program_that_forgets_to_roll_back_holds_no_lock(
    bot: sqlite3.Connection, sqlite: Database, what: str
) -> None:
    insert(bot, client_msg_id="gone with the transaction")
    with pytest.raises(sqlite3.DatabaseError):
        insert(bot, **REFUSED[what])
    assert not bot.in_transaction
    assert len(write(sqlite, frame())) == 1
    assert bot.execute("SELECT client_msg_id FROM outbox").fetchall() == [("first",)]


@pytest.mark.parametrize(
    "wrong", [{"payload": b"\xff"}, {"priority": "high"}, {"in_order": "yes"}, {"epoch": "one"}]
)
def test_a_value_of_the_wrong_type_ends_the_statement_alone(
    bot: sqlite3.Connection, wrong: dict[str, object]
) -> None:
    # SQLite checks the types of a row before any trigger, and takes no other action for them.
    with pytest.raises(sqlite3.IntegrityError, match="cannot store"):
        insert(bot, **wrong)
    assert bot.in_transaction


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE outbox SET payload = '{}'",
        "UPDATE outbox SET status = 'accepted'",
        "UPDATE outbox SET expires_at = 'tomorrow'",
        "DELETE FROM outbox",
        "UPDATE events SET payload = ''",
        "DELETE FROM events",
        "DELETE FROM outbox_transitions",
        "DELETE FROM controls",
    ],
)
def test_a_change_that_is_refused_ends_the_transaction_too(
    bot: sqlite3.Connection, sqlite: Database, statement: str
) -> None:
    write(sqlite, frame())
    bot.execute("INSERT INTO controls (account, trading) VALUES ('main', 'off')")
    bot.commit()
    with pytest.raises(sqlite3.DatabaseError):
        bot.execute(statement)
    assert not bot.in_transaction
    assert len(write(sqlite, frame())) == 1


def test_repeats_that_the_caller_allows_for_leave_the_transaction_alone(
    bot: sqlite3.Connection,
) -> None:
    insert(bot, client_msg_id="second")
    again = f"('main', 'PLACE_LIMIT_ORDER', '{PAYLOAD}', 'first')"
    columns = "(account, command, payload, client_msg_id)"
    bot.execute(f"INSERT OR IGNORE INTO outbox {columns} VALUES {again}")
    bot.execute(f"INSERT INTO outbox {columns} VALUES {again} ON CONFLICT DO NOTHING")
    assert bot.in_transaction
    bot.commit()
    assert bot.execute("SELECT count(*) FROM outbox").fetchone() == (2,)


def test_a_transaction_begun_by_hand_is_ended_as_well(sqlite_url: str) -> None:
    path = sqlite_url.removeprefix("sqlite:///")
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as bot:
        bot.execute("BEGIN")
        insert(bot)
        with pytest.raises(sqlite3.DatabaseError, match="payload must be a JSON object"):
            insert(bot, payload="[]")
        assert not bot.in_transaction
        with pytest.raises(sqlite3.OperationalError, match="no transaction is active"):
            bot.execute("COMMIT")


@pytest.mark.parametrize("kind", ["core", "orm"])
def test_nothing_of_a_refused_transaction_is_committed_by_sqlalchemy(
    database_url: str, kind: str
) -> None:
    engine = engine_of(database_url)
    opened = engine.connect() if kind == "core" else orm.Session(engine)
    with opened as connection:
        enqueue(connection, "main", ORDER, client_msg_id="gone with the transaction")
        with pytest.raises(Refused):
            enqueue(connection, "main", UNRULED)
        connection.rollback()
        enqueue(connection, "main", ORDER, client_msg_id="after it")
        connection.commit()
        ids = connection.execute(sqlalchemy.text("SELECT client_msg_id FROM outbox"))
        assert ids.scalars().all() == ["after it"]
    engine.dispose()


def test_on_sqlite_a_savepoint_does_not_outlive_a_refusal(sqlite_url: str) -> None:
    engine = engine_of(sqlite_url)
    with orm.Session(engine) as session:
        enqueue(session, "main", ORDER)
        with pytest.raises((Refused, exc.OperationalError)), session.begin_nested():
            enqueue(session, "main", UNRULED)
        session.rollback()
        assert session.execute(sqlalchemy.text("SELECT count(*) FROM outbox")).scalar() == 0
    engine.dispose()


def test_postgresql_ends_the_transaction_the_same_way(postgres_url: str) -> None:
    with psycopg.connect(postgres_url) as bot:
        enqueue(bot, "main", ORDER)
        with pytest.raises(Refused):
            enqueue(bot, "main", UNRULED)
        with pytest.raises(psycopg.errors.InFailedSqlTransaction):
            bot.execute("SELECT 1")
        bot.rollback()
        assert bot.execute("SELECT count(*) FROM outbox").fetchone() == (0,)
