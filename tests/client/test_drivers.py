"""Each driver's connection is used and left as it was; no program pays for the others."""

from __future__ import annotations

import asyncio
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
import sqlalchemy
from psycopg.rows import dict_row
from sqlalchemy import orm

from recorder.client import AlreadyQueued, Queued, Refused, enqueue, enqueue_async
from tests.client.callers import ORDER, OTHER, UNRULED, Caller, by_psycopg, engine_of

COUNT = "SELECT COUNT(*) FROM outbox"


@pytest.fixture
def plain(sqlite_url: str) -> Iterator[sqlite3.Connection]:
    connection = sqlite3.connect(sqlite_url.removeprefix("sqlite:///"))
    yield connection
    connection.close()


def test_a_sqlite3_connection_keeps_its_shape_of_rows(plain: sqlite3.Connection) -> None:
    plain.row_factory = sqlite3.Row
    plain.text_factory = bytes
    queued = enqueue(plain, "main", ORDER, client_msg_id="mine")
    assert queued == Queued(1, "mine")
    assert enqueue(plain, "main", ORDER, client_msg_id="mine", on_repeat="return") == queued
    [row] = plain.execute("SELECT client_msg_id FROM outbox")
    assert row["client_msg_id"] == b"mine"


def test_a_sqlite3_cursor_keeps_its_unread_rows(plain: sqlite3.Connection) -> None:
    cursor = plain.execute("SELECT 1 UNION SELECT 2 UNION SELECT 3")
    assert cursor.fetchone() == (1,)
    enqueue(cursor, "main", ORDER)
    assert cursor.fetchall() == [(2,), (3,)]
    assert plain.in_transaction


def test_sqlite3_without_transactions_of_its_own_is_durable_at_once(sqlite_url: str) -> None:
    path = sqlite_url.removeprefix("sqlite:///")
    connection = sqlite3.connect(path, isolation_level=None)
    enqueue(connection, "main", ORDER)
    assert not connection.in_transaction
    other = sqlite3.connect(path)
    assert other.execute(COUNT).fetchone() == (1,)
    connection.execute("BEGIN IMMEDIATE")
    enqueue(connection, "main", ORDER)
    connection.execute("ROLLBACK")
    assert other.execute(COUNT).fetchone() == (1,)
    connection.close()
    other.close()


def test_a_psycopg_cursor_keeps_its_unread_rows_and_their_shape(postgres_url: str) -> None:
    with psycopg.connect(postgres_url, row_factory=dict_row) as connection:
        cursor = connection.execute("SELECT n FROM generate_series(1, 3) AS n")
        assert cursor.fetchone() == {"n": 1}
        enqueue(cursor, "main", ORDER, client_msg_id="mine")
        enqueue(connection, "main", ORDER, client_msg_id="mine", on_repeat="return")
        assert cursor.fetchall() == [{"n": 2}, {"n": 3}]
        with connection.cursor("on_the_server") as named:
            named.execute("SELECT n FROM generate_series(1, 3) AS n")
            enqueue(named, "main", ORDER)
            assert len(named.fetchall()) == 3


def test_psycopg_in_autocommit_is_durable_at_once(postgres_url: str) -> None:
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        first = enqueue(connection, "main", ORDER, client_msg_id="mine")
        with by_psycopg(postgres_url) as other:
            assert other.sql(COUNT) == [(1,)]
            assert other.repeats(client_msg_id="mine").outbox_id == first.outbox_id
        with connection.transaction(force_rollback=True):
            enqueue(connection, "main", ORDER)
    with by_psycopg(postgres_url) as other:
        assert other.sql(COUNT) == [(1,)]


def test_queueing_in_a_pipeline_of_psycopgs_works(postgres_url: str) -> None:
    with psycopg.connect(postgres_url) as connection, connection.pipeline():
        enqueue(connection, "main", ORDER, client_msg_id="mine")
        with pytest.raises(AlreadyQueued):
            enqueue(connection, "main", ORDER, client_msg_id="mine")
        enqueue(connection, "main", ORDER)


def test_a_savepoint_of_the_callers_takes_the_command_back(database_url: str) -> None:
    with orm.Session(engine_of(database_url)) as session:
        enqueue(session, "main", ORDER, client_msg_id="kept")
        with pytest.raises(ZeroDivisionError), session.begin_nested():
            enqueue(session, "main", ORDER, client_msg_id="taken back")
            raise ZeroDivisionError
        session.commit()
        ids = session.execute(sqlalchemy.text("SELECT client_msg_id FROM outbox"))
        assert ids.scalars().all() == ["kept"]


# PostgreSQL: the role that may do little, and two transactions at once.


def as_enqueuer(caller: Caller) -> None:
    caller.sql("SET ROLE recorder_enqueuer")


def test_the_enqueuer_queues_and_a_repeat_is_reported(postgres_url: str) -> None:
    with by_psycopg(postgres_url) as caller:
        as_enqueuer(caller)
        first = caller.enqueue(client_msg_id="mine", priority=3)
        caller.enqueue()
        assert caller.repeats(client_msg_id="mine").outbox_id == first.outbox_id
        caller.commit()
        assert caller.sql("SELECT client_msg_id FROM outbox WHERE outbox_id = 1") == [("mine",)]


def test_the_enqueuer_can_not_compare_and_that_is_reported(postgres_url: str) -> None:
    with by_psycopg(postgres_url) as caller:
        as_enqueuer(caller)
        first = caller.enqueue(client_msg_id="mine")
        reported = caller.repeats(client_msg_id="mine", on_repeat="return")
        assert (reported.outbox_id, reported.differs) == (first.outbox_id, None)
        assert "without SELECT (command, payload) ON outbox" in str(reported)
        # The transaction goes on.
        caller.enqueue(client_msg_id="next")
        caller.commit()
        caller.sql("RESET ROLE")
        caller.sql("GRANT SELECT (command, payload) ON outbox TO recorder_enqueuer")
        as_enqueuer(caller)
        assert caller.enqueue(client_msg_id="mine", on_repeat="return") == first
        assert caller.repeats(command=OTHER, client_msg_id="mine", on_repeat="return").differs


def test_what_the_enqueuer_may_not_write_is_the_servers_own_error(postgres_url: str) -> None:
    with by_psycopg(postgres_url) as caller:
        as_enqueuer(caller)
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            caller.enqueue(created_by="another")


def test_of_two_callers_at_once_one_queues_and_one_is_refused(postgres_url: str) -> None:
    with by_psycopg(postgres_url) as first, by_psycopg(postgres_url) as second:
        queued = first.enqueue(client_msg_id="mine")
        reported: list[AlreadyQueued] = []
        waits = threading.Thread(
            target=lambda: reported.append(second.repeats(client_msg_id="mine"))
        )
        waits.start()
        # It waits for the first one's end, since that may yet be a rollback.
        waits.join(0.2)
        assert waits.is_alive()
        first.commit()
        waits.join(10)
        assert reported[0].outbox_id == queued.outbox_id


def test_a_repeat_that_a_snapshot_can_not_show_is_the_servers_own_error(postgres_url: str) -> None:
    with by_psycopg(postgres_url) as first, by_psycopg(postgres_url) as second:
        second.sql("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        second.sql(COUNT)
        first.enqueue(client_msg_id="mine")
        first.commit()
        with pytest.raises(psycopg.errors.SerializationFailure):
            second.enqueue(client_msg_id="mine")


# psycopg's connections that are awaited.


def test_an_awaited_connection_queues_in_its_transaction(postgres_url: str) -> None:
    async def queue() -> list[Any]:
        connection = await psycopg.AsyncConnection.connect(postgres_url, row_factory=dict_row)
        async with connection:
            first = await enqueue_async(connection, "main", ORDER, client_msg_id="mine")
            again = await enqueue_async(
                connection.cursor(), "main", ORDER, client_msg_id="mine", on_repeat="return"
            )
            with pytest.raises(AlreadyQueued, match="is another command"):
                await enqueue_async(
                    connection, "main", OTHER, client_msg_id="mine", on_repeat="return"
                )
            await connection.commit()
            await enqueue_async(connection, "main", ORDER)
            await connection.rollback()
            with pytest.raises(TypeError, match="await enqueue_async"):
                enqueue(connection, "main", ORDER)  # type: ignore[arg-type]
            with pytest.raises(Refused, match=r"^exactly one of orderId and customerOrderId"):
                await enqueue_async(connection, "main", UNRULED)
        return [first, again]

    first, again = asyncio.run(queue())
    assert first == again
    with by_psycopg(postgres_url) as caller:
        assert caller.sql("SELECT client_msg_id FROM outbox") == [("mine",)]


def test_enqueue_async_is_for_awaited_connections(plain: sqlite3.Connection) -> None:
    with pytest.raises(TypeError, match=r"sqlite3.Connection is no connection for enqueue_async"):
        asyncio.run(enqueue_async(plain, "main", ORDER))  # type: ignore[arg-type]


# What importing costs.

QUEUES_ONE = """
import sqlite3, sys
from recorder.client import CancelOrder, enqueue
connection = sqlite3.connect(sys.argv[1])
enqueue(connection, "main", CancelOrder(pair="BTCZAR", order_id="o"))
connection.commit()
connection.close()
print(*sorted({name.partition(".")[0] for name in sys.modules}))
print(*sorted(name for name in sys.modules if name.startswith("recorder")))
"""


def run_program(program: str, *arguments: str) -> list[set[str]]:
    done = subprocess.run(
        [sys.executable, "-c", program, *arguments], capture_output=True, text=True, check=True
    )
    return [set(line.split()) for line in done.stdout.splitlines()]


def test_a_sqlite3_caller_pays_for_no_other_driver_and_no_loop(sqlite_url: str) -> None:
    loaded, ours = run_program(QUEUES_ONE, sqlite_url.removeprefix("sqlite:///"))
    assert not loaded & {"trio", "trio_websocket", "asyncio", "httpx", "sqlalchemy", "psycopg"}
    parts = {name.split(".")[1] for name in ours if "." in name}
    assert parts == {"client", "errors", "exchange"}


def test_importing_it_loads_no_driver_at_all() -> None:
    [loaded] = run_program(
        "import recorder.client, sys; print(*{name.partition('.')[0] for name in sys.modules})"
    )
    assert not loaded & {"sqlite3", "trio", "asyncio", "sqlalchemy", "psycopg"}
