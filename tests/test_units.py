"""How units are run: the gate before SQLite's one writer, and what a hop is made use of for."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest
import trio
import trio.testing
from sqlalchemy import Connection, text

from recorder.database.engine import Database, PersistentConnection, in_unit
from recorder.database.prepared import driver_connection
from recorder.errors import StorageFailed
from recorder.units import InlineRunner, ThreadRunner, UnitRunner, WriteGate

Runner = Callable[[Database], UnitRunner]


@pytest.fixture(params=["inline", "thread", "kept"])
def runner(request: pytest.FixtureRequest, database: Database) -> UnitRunner:
    if request.param == "inline":
        return InlineRunner(database.writer)
    kept = PersistentConnection(database.writer) if request.param == "kept" else None
    if kept is not None:
        request.addfinalizer(kept.close)
    gate = WriteGate() if database.dialect == "sqlite" else None
    return ThreadRunner(database.writer, gate, urgent=True, persistent=kept)


def note(connection: Connection, name: str) -> str:
    connection.execute(
        text("INSERT INTO controls (account, trading) VALUES (:name, 'on')"), {"name": name}
    )
    return name


def noted(database: Database) -> list[str]:
    def read(connection: Connection) -> list[str]:
        found = connection.execute(text("SELECT account FROM controls ORDER BY account"))
        return [*found.scalars()]

    return in_unit(database.reader, read)


async def test_what_is_made_beforehand_is_handed_to_the_unit(
    runner: UnitRunner, database: Database
) -> None:
    assert await runner.run_made(lambda: "made", note) == "made"
    assert noted(database) == ["made"]


async def test_where_nothing_was_made_nothing_is_run(
    runner: UnitRunner, database: Database
) -> None:
    assert await runner.run_made(lambda: None, note) is None
    assert noted(database) == []


async def test_what_follows_runs_when_all_is_durable_and_gets(
    runner: UnitRunner, database: Database
) -> None:
    reported: list[str] = []
    seen: list[list[str]] = []

    def then(_result: str) -> None:
        seen.append(noted(database))
        runner.run_here(note, "second")

    assert await runner.run_then(lambda c: note(c, "first"), reported.append, then) == "first"
    assert reported == ["first"]
    assert seen == [["first"]]
    assert noted(database) == ["first", "second"]


async def test_a_unit_that_fails_leaves_nothing_and_is_followed_by_nothing(
    runner: UnitRunner, database: Database
) -> None:
    reported: list[Any] = []

    def fail(connection: Connection) -> None:
        note(connection, "gone")
        connection.execute(text("SELECT * FROM nothing_of_this_name"))

    with pytest.raises(StorageFailed):
        await runner.run_then(fail, reported.append, reported.append)
    assert reported == noted(database) == []
    # Whatever it kept open is of use again.
    assert (
        await runner.run_then(lambda c: note(c, "next"), reported.append, reported.append) == "next"
    )
    assert noted(database) == ["next"]


async def test_what_raises_behind_a_unit_raises_and_the_unit_stands(
    runner: UnitRunner, database: Database
) -> None:
    def then(_result: str) -> None:
        raise ValueError("a bug")

    with pytest.raises(ValueError, match="a bug"):
        await runner.run_then(lambda c: note(c, "stands"), lambda _: None, then)
    assert noted(database) == ["stands"]


def test_the_gate_lets_one_in_at_a_time_and_the_urgent_first() -> None:
    gate, order, inside = WriteGate(), list[str](), list[int]()

    def enter(name: str, *, urgent: bool) -> None:
        with gate.hold(urgent=urgent):
            inside.append(1)
            assert len(inside) == 1
            order.append(name)
            inside.pop()

    with gate.hold(urgent=False):
        threads = []
        for name, urgent in (("a", False), ("b", False), ("log", True)):
            thread = threading.Thread(target=enter, args=(name,), kwargs={"urgent": urgent})
            thread.start()
            threads.append(thread)
            # Each stands in its queue before the next one comes.
            while len(gate._urgent) + len(gate._patient) < len(threads):
                pass
    for thread in threads:
        thread.join()
    assert order == ["log", "a", "b"]


def test_the_gate_opens_again_after_a_failure() -> None:
    gate = WriteGate()
    with pytest.raises(ValueError, match="x"), gate.hold(urgent=True):
        raise ValueError("x")
    with gate.hold(urgent=False):
        pass


async def test_a_hop_does_not_block_the_event_loop(database: Database) -> None:
    runner, release = ThreadRunner(database.writer), threading.Event()
    ticks = 0
    async with trio.open_nursery() as nursery:
        nursery.start_soon(runner.run, lambda _connection: release.wait(10))
        while ticks < 3:
            await trio.sleep(0.001)
            ticks += 1
        release.set()
    assert ticks == 3


async def test_a_write_only_unit_is_refused_whole_wherever_the_refusal_shows(
    runner: UnitRunner, database: Database
) -> None:
    reported: list[Any] = []

    def twice(connection: Connection) -> None:
        cursor = driver_connection(connection).cursor()
        for trading in ("on", "sideways"):
            cursor.execute(f"INSERT INTO controls (account, trading) VALUES ('x', '{trading}')")

    with pytest.raises(StorageFailed):
        await runner.run_then(twice, reported.append, reported.append, write_only=True)
    assert reported == noted(database) == []
    await runner.run_then(lambda c: note(c, "next"), reported.append, reported.append)
    assert noted(database) == ["next"]
