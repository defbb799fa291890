"""A reader that keeps its snapshot delays no writer, and is named."""

from __future__ import annotations

import logging
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import trio

from recorder.clock import SystemClock
from recorder.database.blockers import find_blockers, sqlite_readers, sqlite_writers
from recorder.database.engine import Database, open_database
from recorder.log.tasks import wal_checkpointer
from recorder.log.tasks.wal_checkpointer import PAGE_BYTES, WalCheckpointer, checkpoint
from recorder.units import WriteGate
from tests.log.drafts import frame, run_sql, write

HOLD = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
for statement in sys.argv[2:]:
    connection.execute(statement).fetchone()
print("held", flush=True)
sys.stdin.read()
"""
SNAPSHOT = ("BEGIN", "SELECT count(*) FROM events")


@contextmanager
def holder(url: str, *statements: str) -> Iterator[subprocess.Popen[str]]:
    """Another program, inside a transaction."""
    argv = [sys.executable, "-c", HOLD, url.removeprefix("sqlite:///"), *statements]
    with subprocess.Popen(argv, stdin=-1, stdout=-1, text=True) as program:
        assert program.stdout is not None
        assert program.stdout.readline() == "held\n"
        yield program
        program.kill()


@pytest.fixture
def recorded(sqlite_url: str) -> Iterator[Database]:
    """A database whose COMMITs leave the write-ahead log alone, as a recorder's do."""
    with open_database(sqlite_url, has_checkpointer=True) as database:
        write(database, frame())
        yield database


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Look often, at a short log."""
    monkeypatch.setattr(wal_checkpointer, "EVERY_S", 0.02)
    monkeypatch.setattr(wal_checkpointer, "PAGES_MAX", 50)
    monkeypatch.setattr(wal_checkpointer, "HELD_WITH_LONG_WAL_S", 0.1)


def wal_bytes(database: Database) -> int:
    return Path(f"{database.url.database}-wal").stat().st_size


async def until(holds: Callable[[], bool], *, write_to: Database) -> None:
    """Write until it holds."""
    with trio.fail_after(20):
        while not holds():
            write(write_to, frame("x" * 20_000))
            await trio.sleep(0.01)


async def test_a_reader_is_named_and_the_log_shrinks_when_it_is_gone(
    recorded: Database, sqlite_url: str, quick: None, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "recorder.wal")
    gate = WriteGate()
    checkpointer = WalCheckpointer(recorded, gate, SystemClock(), lambda: False)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(checkpointer.run)
        with holder(sqlite_url, *SNAPSHOT) as reader:
            await until(
                lambda: "a reader has held a snapshot since" in caplog.text, write_to=recorded
            )
            assert f"process {reader.pid} (python" in caplog.text
            assert "Recording goes on; end that program's transaction" in caplog.text
            grown = wal_bytes(recorded)
            assert grown > 50 * PAGE_BYTES
        await until(lambda: "the snapshot is gone" in caplog.text, write_to=recorded)
        count = run_sql(recorded, "SELECT count(*) FROM events")[0][0]
        assert isinstance(count, int)
        # It begins again: more is written into the same bytes.
        before = wal_bytes(recorded)
        for _ in range(100):
            write(recorded, frame("x" * 20_000))
            await trio.sleep(0.01)
        assert wal_bytes(recorded) < before + 50 * 20_000
        nursery.cancel_scope.cancel()
    assert run_sql(recorded, "SELECT count(*) FROM events") == [(count + 100,)]


async def test_a_restart_never_waits_for_a_reader_while_it_holds_the_writers(
    recorded: Database, sqlite_url: str, quick: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wal_checkpointer, "PAGES_MAX", 1)
    checkpointer = WalCheckpointer(recorded, WriteGate(), SystemClock(), lambda: False)
    waits: list[int] = []

    def restart(connection: sqlite3.Connection) -> None:
        waits.append(connection.execute("PRAGMA busy_timeout").fetchone()[0])

    monkeypatch.setattr(WalCheckpointer, "restart_wal", lambda _, connection: restart(connection))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(checkpointer.run)
        await until(lambda: bool(waits), write_to=recorded)
        nursery.cancel_scope.cancel()
    assert set(waits) == {0}


def test_no_commit_of_a_recorder_copies_the_log(recorded: Database, sqlite_url: str) -> None:
    asked = "PRAGMA wal_autocheckpoint"
    assert run_sql(recorded, asked) == [(0,)]
    with open_database(sqlite_url) as other:
        assert run_sql(other, asked) == [(20_480,)]


def test_who_holds_the_write_lock_is_named(recorded: Database, sqlite_url: str) -> None:
    path = sqlite_url.removeprefix("sqlite:///")
    assert (sqlite_writers(path), sqlite_readers(path)) == ([], [])
    with holder(sqlite_url, "BEGIN IMMEDIATE") as writer:
        (named,) = sqlite_writers(path)
        assert named.startswith(f"process {writer.pid} (python")
        assert find_blockers(recorded) == [f"{named} holds the write lock"]
    assert sqlite_writers(path) == []


class Busy:
    """A connection whose checkpoint can't begin, since another program makes one."""

    def execute(self, _statement: str) -> Busy:
        return self

    def fetchone(self) -> tuple[int, int, int]:
        return (1, -1, -1)


def test_a_look_that_another_programs_checkpoint_kept_out_proves_nothing() -> None:
    busy: Any = Busy()
    assert checkpoint(busy, "PASSIVE") is None
