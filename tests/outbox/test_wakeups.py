"""What wakes the commander, and what doesn't."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, closing, contextmanager
from functools import partial
from pathlib import Path

import psycopg
import pytest
import trio
from attrs import define

from recorder.database.engine import Database
from recorder.outbox.tasks import wakeups
from recorder.outbox.tasks.wakeups import CommitLook, FileWatch, OutboxWatch, watching

ORDER = (
    "INSERT INTO outbox (account, command, payload) VALUES (?, 'PLACE_LIMIT_ORDER',"
    """ '{"side":"BUY","pair":"BTCZAR","quantity":"0.001","price":"1000000"}')"""
)
EVENT = "INSERT INTO controls (account, trading) VALUES (?, 'on')"
#: Less than the slow poll: what comes sooner was received of.
SOON_S = 0.5
QUIET_S = 0.2


@define(eq=False)
class Wakes:
    """Counts wake-ups."""

    count: int = 0

    def wake(self) -> None:
        self.count += 1

    async def more_than(self, received_facts: int) -> None:
        with trio.fail_after(SOON_S):
            while self.count <= received_facts:
                await trio.sleep(0.001)


@contextmanager
def caller(database: Database) -> Iterator[sqlite3.Connection]:
    assert database.url.database is not None
    with closing(sqlite3.connect(database.url.database, isolation_level=None)) as connection:
        yield connection


@asynccontextmanager
async def watched(database: Database, account: str = "main") -> AsyncIterator[Wakes]:
    wakes = Wakes()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(OutboxWatch(account, database, wakes.wake).run)
        await trio.sleep(QUIET_S)
        yield wakes
        nursery.cancel_scope.cancel()


async def test_a_command_queued_by_any_program_wakes_at_once(sqlite: Database) -> None:
    with caller(sqlite) as program:
        async with watched(sqlite) as wakes:
            for _ in range(3):
                received_facts = wakes.count
                program.execute(ORDER, ("main",))
                await wakes.more_than(received_facts)


async def test_commits_that_queue_nothing_wake_no_task(sqlite: Database) -> None:
    with caller(sqlite) as program:
        async with watched(sqlite) as wakes:
            received_facts = wakes.count
            for number in range(20):
                program.execute(EVENT, (f"account-{number}",))
                await trio.sleep(0.005)
            program.execute(ORDER, ("another",))
            await trio.sleep(0.05)
            assert wakes.count - received_facts <= 1  # the slow poll may have come


async def test_without_notifications_of_the_system_it_polls(
    sqlite: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    @contextmanager
    def deaf(_path: Path) -> Iterator[FileWatch | None]:
        yield None

    monkeypatch.setattr(wakeups, "watching", deaf)
    with caller(sqlite) as program:
        async with watched(sqlite) as wakes:
            received_facts = wakes.count
            program.execute(ORDER, ("main",))
            await wakes.more_than(received_facts)


async def test_postgresql_notifies_again_after_it_was_gone(
    postgres: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    # What is received of is not received of by the net.
    monkeypatch.setattr(wakeups, "SLOW_POLL_S", 3_600.0)
    monkeypatch.setattr(wakeups, "RECONNECT_S", 0.05)
    url = postgres.url.set(drivername="postgresql").render_as_string(hide_password=False)
    order = ORDER.replace("?", "%s")
    with psycopg.connect(url, autocommit=True) as program:
        async with watched(postgres) as wakes:
            for _ in range(3):
                received_facts = wakes.count
                program.execute(order, ("main",))
                await wakes.more_than(received_facts)
            received_facts = wakes.count
            program.execute(order, ("another",))
            await trio.sleep(QUIET_S)
            assert wakes.count == received_facts
            ended = program.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE query LIKE 'LISTEN%' AND datname = current_database()"
            )
            assert ended.fetchall() == [(True,)]
            # A new listener doesn't know what it missed.
            await wakes.more_than(received_facts)
            received_facts = wakes.count
            program.execute(order, ("main",))
            await wakes.more_than(received_facts)


def test_each_command_is_news_once(sqlite: Database) -> None:
    with caller(sqlite) as program, caller(sqlite) as ours:
        look = CommitLook(ours, "main")
        assert look.is_new()
        assert not look.is_worth_waking()
        program.execute(ORDER, ("main",))
        assert look.is_new()
        assert not look.is_new()
        assert [look.is_worth_waking(), look.is_worth_waking()] == [True, False]
        program.execute(ORDER, ("main",))
        assert look.is_worth_waking()
        program.execute("INSERT INTO controls (account, trading) VALUES ('main', 'off')")
        assert look.is_worth_waking()
        program.execute("UPDATE outbox SET status = 'withdrawn'")
        assert not look.is_worth_waking()


async def test_a_file_is_noticed_when_written_and_when_created_again(tmp_path: Path) -> None:
    path = tmp_path / "log"
    with watching(path) as watch:
        assert watch is not None
        for write in (path.write_text, partial(append, path)):
            write("x")
            with trio.fail_after(SOON_S):
                await watch.changed()
        path.unlink()
        watch.take()
        assert not watch.take()
        path.write_text("again")
        assert watch.take()
        append(path, "and again")
        assert watch.take()
        (tmp_path / "other").write_text("x")


def append(path: Path, text: str) -> None:
    with path.open("a") as file:
        file.write(text)


def test_a_folder_that_is_not_there_can_not_be_watched(tmp_path: Path) -> None:
    with watching(tmp_path / "nowhere" / "log") as watch:
        assert watch is None
