"""Two recorders on one account: the second waits, and takes over from a killed or frozen first."""

from __future__ import annotations

import signal
import sqlite3
import subprocess
import time
from contextlib import closing
from pathlib import Path

import trio

from tests.daemon.scene import LIMIT, Books, assert_chained, books_of, exchange, until
from tests.processes.scene import (
    call,
    ended,
    environment_for,
    kill,
    recorder,
    running,
    stop,
    stopped_at_last,
)

TTL_S = 2.0
#: A freeze is only reported from a slow owner by its lease; the rest is for starting a connection.
TAKEN_OVER_S = TTL_S + 6.0
#: What a woken sleeper would do, it has done by then.
WAKING_S = 1.0
#: What a server does for a process that was stopped, it has done by then.
SETTLING_S = 0.1


def answer(folder: Path) -> str:
    return (folder / "err").read_text(encoding="utf-8")


def connections_of(books: Books, epoch: int) -> set[str]:
    """Return the sessions that stand in the log behind the taking with this epoch."""
    query = (
        "SELECT DISTINCT connection_id FROM events WHERE connection_id IS NOT NULL AND position >"
        " (SELECT max(position) FROM events WHERE type = 'LEASE_TAKEN' AND payload LIKE :epoch)"
    )
    return {row[0] for row in books.ask(query, epoch=f'%"epoch":{epoch}%')}


async def freeze(process: subprocess.Popen[bytes], books: Books) -> None:
    """Stop a process as SIGSTOP does, at a moment at which it holds no lock in the database.

    One that does keeps others out for as long as docs/how-to/run-a-standby.md describes: on SQLite
    for ever.
    """
    while True:
        process.send_signal(signal.SIGSTOP)
        await trio.sleep(SETTLING_S)
        if not is_any_lock_held(books):
            return
        process.send_signal(signal.SIGCONT)
        await trio.sleep(SETTLING_S)


def is_any_lock_held(books: Books) -> bool:
    """Return whether a process is in the middle of a transaction that writes."""
    if books.connection.dialect.name == "postgresql":
        open_ones = "state = 'idle in transaction' AND datname = current_database()"
        return books.count("pg_stat_activity", open_ones) > 0
    path = books.one("SELECT file FROM pragma_database_list WHERE name = 'main'")
    with closing(sqlite3.connect(path, timeout=0, isolation_level=None)) as connection:
        try:
            connection.execute("BEGIN IMMEDIATE")
        except sqlite3.OperationalError:
            return True
        connection.execute("ROLLBACK")
    return False


def folders_in(folder: Path) -> tuple[Path, Path]:
    first, second = folder / "first", folder / "second"
    first.mkdir()
    second.mkdir()
    return first, second


async def test_a_standby_takes_over_from_a_killed_owner(database_url: str, tmp_path: Path) -> None:
    first, second = folders_in(tmp_path)
    # So long that nothing but the owner's provable death can free the account in time.
    more = {"RECORDER_LEASE_TTL_S": "60"}
    async with exchange() as simulator:
        environment = environment_for(tmp_path, database_url, simulator, **more)
        async with running(first, environment, simulator) as owner:
            with books_of(database_url) as books:
                await until(lambda: books.has_note("SNAPSHOT_COMPLETE"))
                waiting = recorder(second, environment | {"RECORDER_STANDBY": "1"}, "run")
                with stopped_at_last(waiting):
                    await until(lambda: "waiting as standby" in answer(second))
                    placed = books.queue("PLACE_LIMIT_ORDER", LIMIT, client_msg_id="before")
                    await until(lambda: books.status(placed) == "accepted")
                    await kill(owner)
                    began = time.monotonic()
                    await until(lambda: simulator.connections == 2)
                    assert time.monotonic() - began < TAKEN_OVER_S
                    placed = books.queue("PLACE_LIMIT_ORDER", LIMIT, client_msg_id="behind")
                    await until(lambda: books.status(placed) == "accepted")
                    last = await stop(second, waiting)
                    assert last.code == 0, last.err
                assert simulator.exchange.received == {"before": 1, "behind": 1}
                assert_chained(books)
                assert books.one("SELECT epoch FROM leases") == 2


async def test_a_standby_takes_over_from_a_frozen_owner_which_then_does_nothing_more(
    database_url: str, tmp_path: Path
) -> None:
    first, second = folders_in(tmp_path)
    async with exchange() as simulator:
        environment = environment_for(
            tmp_path, database_url, simulator, RECORDER_LEASE_TTL_S=str(TTL_S)
        )
        async with running(first, environment, simulator) as owner:
            with books_of(database_url) as books:
                await until(lambda: books.has_note("SNAPSHOT_COMPLETE"))
                await until(books.is_caught_up)
                waiting = recorder(second, environment | {"RECORDER_STANDBY": "1"}, "run")
                with stopped_at_last(waiting):
                    await until(lambda: "waiting as standby" in answer(second))
                    # Longer than any lease: while the owner runs the standby waits.
                    await trio.sleep(TTL_S * 1.5)
                    assert simulator.connections == 1
                    await freeze(owner, books)
                    began = time.monotonic()
                    await until(lambda: simulator.connections == 2)
                    assert time.monotonic() - began < TAKEN_OVER_S
                    await until(lambda: books.count("events", "type = 'SNAPSHOT_COMPLETE'") == 2)

                    # It wakes in the middle of things: commands wait, and frames have come for it.
                    queued = [
                        books.queue("PLACE_LIMIT_ORDER", LIMIT, client_msg_id=f"order-{number}")
                        for number in range(20)
                    ]
                    owner.send_signal(signal.SIGCONT)
                    last = await ended(first, owner)
                    assert last.code == 4, last.err
                    assert "another process" in last.err
                    assert "Traceback" not in last.err

                    await until(lambda: all(books.status(each) == "accepted" for each in queued))
                    await trio.sleep(WAKING_S)
                    stopped = await stop(second, waiting)
                    assert stopped.code == 0, stopped.err
                assert set(simulator.exchange.received.values()) == {1}
                assert len(simulator.exchange.received) == len(queued)
                assert books.count("outbox", "epoch <> 2") == 0
                assert len(connections_of(books, 2)) == 1
                assert_chained(books)


async def test_a_standby_that_waits_stops_in_order(sqlite_url: str, tmp_path: Path) -> None:
    first, second = folders_in(tmp_path)
    async with exchange() as simulator:
        environment = environment_for(tmp_path, sqlite_url, simulator)
        async with running(first, environment, simulator):
            waiting = recorder(second, environment, "run", "--standby", "1")
            with stopped_at_last(waiting):
                await until(lambda: "waiting as standby" in answer(second))
                last = await stop(second, waiting)
                assert last.code == 0, last.err
        verified = await call(tmp_path, environment, "verify")
        assert verified.code == 0, verified.err
        assert simulator.connections == 1
