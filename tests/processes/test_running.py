"""A recorder's life as a process: looked at, stopped, killed, and started again."""

from __future__ import annotations

import random
import signal
import sqlite3
import time
from decimal import Decimal
from pathlib import Path

import psycopg
import trio

from recorder.simulator import Simulator
from tests.daemon.scene import (
    FINAL,
    KEY,
    LIMIT,
    SECRET,
    Books,
    assert_chained,
    books_of,
    exchange,
    received,
    until,
)
from tests.processes.scene import call, ended, environment_for, kill, running, stop

REWARD = Decimal("0.01")
#: Between two things that the exchange reports.
PAUSE_S = 0.005
#: A stop takes a fraction of this.
STOP_S = 5.0
#: Leaving at once takes no longer, on a slow machine.
AT_ONCE_S = 3.0
KILLS = 6


def count_from_outside(url: str) -> int:
    """Count the log with the database's own driver."""
    query = "SELECT count(*) FROM events"
    if url.startswith("sqlite"):
        connection = sqlite3.connect(f"file:{url.removeprefix('sqlite:///')}?mode=ro", uri=True)
        try:
            return int(connection.execute(query).fetchone()[0])
        finally:
            connection.close()
    with psycopg.connect(url) as postgres:
        row = postgres.execute(query).fetchone()
        assert row is not None
        return int(row[0])


async def test_a_recorder_can_be_asked_from_outside_while_it_runs_and_stops_in_order(
    empty_database_url: str, tmp_path: Path
) -> None:
    async with exchange() as simulator:
        environment = environment_for(tmp_path, empty_database_url, simulator)
        async with running(tmp_path, environment, simulator) as process:
            with books_of(empty_database_url) as books:
                await until(lambda: books.has_note("SNAPSHOT_COMPLETE"))
                seen = count_from_outside(empty_database_url)
                placed = books.queue("PLACE_LIMIT_ORDER", LIMIT)
                await until(lambda: books.status(placed) == "accepted")
                await until(lambda: count_from_outside(empty_database_url) > seen)

                began = time.monotonic()
                last = await stop(tmp_path, process)
                assert time.monotonic() - began < STOP_S
                assert (last.code, last.out) == (0, "")
                assert received(books) == simulator.sent
                assert_chained(books)
                assert books.is_caught_up()
        assert KEY not in last.err
        assert SECRET not in last.err
        assert "Traceback" not in last.err
        verified = await call(tmp_path, environment, "verify")
        assert verified.code == 0, verified.err


async def keep_busy(simulator: Simulator, books: Books) -> None:
    """Report something and queue orders all the time, until cancelled."""
    number = 0
    while True:
        await simulator.reward("USDC", REWARD)
        if number % 10 == 0:
            books.queue("PLACE_LIMIT_ORDER", LIMIT, client_msg_id=f"order-{number}")
        number += 1
        await trio.sleep(PAUSE_S)


async def test_killed_again_and_again_a_recorder_keeps_a_whole_log_and_sends_nothing_twice(
    database_url: str, tmp_path: Path
) -> None:
    rng = random.Random(20261123)
    async with exchange(balances={"ZAR": Decimal(10**8)}) as simulator:
        environment = environment_for(tmp_path, database_url, simulator)
        with books_of(database_url) as books:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(keep_busy, simulator, books)
                for number in range(KILLS):
                    async with running(tmp_path, environment, simulator) as process:
                        if number == 0:
                            # Once from a state in which nothing is missing, for the gap's sake.
                            await until(lambda: books.count("gaps", "NOT is_open"))
                        await trio.sleep(rng.uniform(0.05, 1.0))
                        await kill(process)
                        assert_chained(books)
                nursery.cancel_scope.cancel()
            await let_it_finish(tmp_path, environment, simulator, books)

            verified = await call(tmp_path, environment, "verify")
            assert verified.code == 0, verified.err
            assert_each_went_out_once(books, simulator)
            assert_chained(books)
            assert books.one("SELECT epoch FROM leases") == KILLS + 1
            assert books.count("gaps", "cause = 'killed' AND state <> 'open'") == 1
            compared = await call(tmp_path, environment, "rebuild", "--check")
            assert compared.code == 0, compared.out + compared.err


async def let_it_finish(
    folder: Path, environment: dict[str, str], simulator: Simulator, books: Books
) -> None:
    """Run once more, until nothing is left to send or to wait for, and stop in order."""
    async with running(folder, environment, simulator) as process:
        settled = (*FINAL, "in_doubt")
        await until(lambda: {row[0] for row in books.ask(STATUSES)} <= set(settled))
        await until(lambda: books.count("gaps", "is_open") == 0)
        last = await stop(folder, process)
        assert last.code == 0, last.err


STATUSES = "SELECT DISTINCT status FROM outbox"


def assert_each_went_out_once(books: Books, simulator: Simulator) -> None:
    arrived = simulator.exchange.received
    assert arrived
    assert max(arrived.values()) == 1
    accepted = {
        row[0] for row in books.ask("SELECT client_msg_id FROM outbox WHERE status = 'accepted'")
    }
    doubtful = {
        row[0] for row in books.ask("SELECT client_msg_id FROM outbox WHERE status = 'in_doubt'")
    }
    # Every order rests, so the list after each start names all that arrived.
    assert accepted == set(arrived)
    assert not doubtful & set(arrived)


async def test_a_second_signal_ends_a_stop_that_takes_long(sqlite_url: str, tmp_path: Path) -> None:
    async with exchange() as simulator:
        environment = environment_for(tmp_path, sqlite_url, simulator, RECORDER_STOP_GRACE_S="60")
        async with running(tmp_path, environment, simulator) as process:
            with books_of(sqlite_url) as books:
                await until(lambda: books.has_note("SNAPSHOT_COMPLETE"))
            # What keeps it from stopping: nothing can be written any more.
            with sqlite3.connect(sqlite_url.removeprefix("sqlite:///")) as other:
                other.execute("BEGIN IMMEDIATE")
                process.send_signal(signal.SIGTERM)
                answer = tmp_path / "err"
                await until(lambda: "stopping" in answer.read_text(encoding="utf-8"))
                process.send_signal(signal.SIGTERM)
                await until(lambda: "leaving at once" in answer.read_text(encoding="utf-8"))
                began = time.monotonic()
                last = await ended(tmp_path, process)
                assert time.monotonic() - began < AT_ONCE_S
                other.rollback()
            other.close()
        assert last.code == -signal.SIGTERM
        assert "Traceback" not in last.err
        with books_of(sqlite_url) as books:
            assert_chained(books)


async def test_a_second_recorder_leaves_with_the_code_of_an_owned_account(
    sqlite_url: str, tmp_path: Path
) -> None:
    second = tmp_path / "second"
    second.mkdir()
    async with exchange() as simulator:
        environment = environment_for(tmp_path, sqlite_url, simulator, RECORDER_LEASE_TTL_S="1")
        async with running(tmp_path, environment, simulator) as process:
            turned_away = await call(second, environment, "run")
            assert turned_away.code == 4
            assert "is held by" in turned_away.err
            assert "Traceback" not in turned_away.err
            assert (await stop(tmp_path, process)).code == 0
        assert simulator.connections == 1
