"""A projector: in its own task and in the log's thread, it comes to the same rows."""

from __future__ import annotations

import json
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import pytest
import trio
from attrs import define, evolve, field
from sqlalchemy import Connection, text

from recorder.clock import SystemClock
from recorder.database.engine import Database, PersistentConnection, in_unit
from recorder.log.rules.event import EMPTY_HEAD, Draft, Event, Head, Note
from recorder.log.sql.append import append
from recorder.log.tasks.committed import Committed
from recorder.projections.rules.balances import Balances
from recorder.projections.tasks.projector import AT_ONCE_EVENTS_MAX, Projector
from recorder.units import ThreadRunner
from recorder.wiring import projection_fold


def balance(currency: object, available: str, position: int = 0) -> str:
    data = {"currency": {"symbol": currency}, "available": available, "total": available}
    return json.dumps({"type": "BALANCE_UPDATE", "data": data})


@define
class Bench:
    """A projector of balances on a database, and a log that grows."""

    database: Database
    committed: Committed
    projector: Projector
    notes: list[tuple[Note, dict[str, object]]]
    heads: dict[str, Head] = field(factory=lambda: {"main": EMPTY_HEAD})

    def commit(self, *payloads: str) -> tuple[Event, ...]:
        """Append frames, and report that they are durable."""
        drafts = [
            Draft("main", 1_700_000_000_000_000, 1, "c1", "received", "BALANCE_UPDATE", payload)
            for payload in payloads
        ]
        appended = in_unit(self.database.writer, append, self.heads, drafts)
        self.heads.update(appended.heads)
        self.committed.add(appended.events)
        return appended.events

    def rows(self) -> list[tuple[Any, ...]]:
        return self.ask("SELECT currency, available FROM balances ORDER BY currency")

    def checkpoint(self) -> int:
        ((position,),) = self.ask("SELECT position FROM projections WHERE projection = 'balances'")
        return int(position)

    def ask(self, statement: str) -> list[tuple[Any, ...]]:
        def read(connection: Connection) -> list[tuple[Any, ...]]:
            return [(row[0], *map(str, row[1:])) for row in connection.execute(text(statement))]

        return in_unit(self.database.reader, read)


@pytest.fixture
def bench(database: Database, request: pytest.FixtureRequest) -> Bench:
    kept = PersistentConnection(database.projector)
    request.addfinalizer(kept.close)
    committed, notes = Committed({"main": 0}), list[tuple[Note, dict[str, object]]]()
    projector = Projector(
        "main",
        projection_fold(Balances(), "main"),
        ThreadRunner(database.projector, persistent=kept),
        ThreadRunner(database.reader) if database.dialect == "sqlite" else None,
        committed,
        SystemClock(),
        lambda note, facts: notes.append((note, facts)),
        is_log_busy=lambda: False,
    )
    return Bench(database, committed, projector, notes)


@asynccontextmanager
async def running(bench: Bench) -> AsyncIterator[None]:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(bench.projector.run)
        yield
        nursery.cancel_scope.cancel()


async def caught_up(bench: Bench, events: tuple[Event, ...]) -> None:
    bench.committed.announce(events)
    with trio.fail_after(10):
        await bench.projector.wait_at(events[-1].position)


async def at_once(bench: Bench, events: tuple[Event, ...]) -> None:
    """Let the step be taken in another thread, as the log's does."""
    await trio.to_thread.run_sync(bench.projector.fold_at_once, events)


async def test_a_projector_at_the_head_is_carried_on_in_the_logs_thread(bench: Bench) -> None:
    async with running(bench):
        await caught_up(bench, bench.commit(balance("BTC", "1")))
        events = bench.commit(balance("BTC", "2"), balance("ETH", "3"))
        await at_once(bench, events)

        assert bench.rows() == [("BTC", "2"), ("ETH", "3")]
        assert bench.checkpoint() == 3
        await caught_up(bench, bench.commit(balance("BTC", "4")))
        assert bench.rows() == [("BTC", "4"), ("ETH", "3")]


async def test_a_projector_that_is_behind_is_left_to_its_task(bench: Bench) -> None:
    bench.commit(balance("BTC", "1"))
    events = bench.commit(balance("BTC", "2"))
    await at_once(bench, events)
    assert bench.rows() == []
    async with running(bench):
        await caught_up(bench, events)
    assert bench.rows() == [("BTC", "2")]


async def test_a_long_batch_is_left_to_its_task(bench: Bench) -> None:
    async with running(bench):
        await caught_up(bench, bench.commit(balance("BTC", "1")))
        events = bench.commit(*[balance("BTC", "2")] * (AT_ONCE_EVENTS_MAX + 1))
        await at_once(bench, events)
        assert bench.rows() == [("BTC", "1")]
        await caught_up(bench, events)
        assert bench.rows() == [("BTC", "2")]


async def test_no_step_is_taken_twice_while_the_task_takes_it(bench: Bench) -> None:
    async with running(bench):
        await caught_up(bench, bench.commit(balance("BTC", "1")))
        release, entered = threading.Event(), threading.Event()
        fold = bench.projector.fold
        assert fold.recall is not None
        recall = fold.recall

        def slowly(*args: Any) -> Any:
            entered.set()
            release.wait(10)
            return recall(*args)

        bench.projector.fold = evolve(fold, recall=slowly)
        events = bench.commit(balance("BTC", "2"))
        bench.committed.announce(events)
        await trio.to_thread.run_sync(entered.wait, 10)
        await at_once(bench, events)
        assert bench.rows() == [("BTC", "1")]
        release.set()
        await caught_up(bench, events)
        history = "SELECT COUNT(*) FROM balance_history"
        assert bench.ask(history) == [(2,)]


async def test_a_frame_that_can_not_be_folded_is_logged_by_the_task(bench: Bench) -> None:
    async with running(bench):
        await caught_up(bench, bench.commit(balance("BTC", "1")))
        events = bench.commit(balance(None, "2"), balance("ETH", "3"))
        await at_once(bench, events)
        assert bench.rows() == [("BTC", "1"), ("ETH", "3")]
        assert bench.ask("SELECT position FROM fold_failures") == [(2,)]

        more = bench.commit(balance("BTC", "5"))
        await caught_up(bench, more)
        ((note, facts),) = bench.notes
        assert note is Note.FRAME_NOT_FOLDED
        assert facts["position"] == 2


async def test_a_row_that_the_database_refuses_costs_that_event_alone(bench: Bench) -> None:
    # PostgreSQL can't hold a key of this length in its index, SQLite can.
    long = "".join(chr(0x4E00 + number * 7 % 20_000) for number in range(9_000))
    async with running(bench):
        await caught_up(bench, bench.commit(balance("BTC", "1")))
        events = bench.commit(balance("ETH", "2"), balance(long, "3"), balance("BTC", "4"))
        await at_once(bench, events)
        await caught_up(bench, events)
    short = [row for row in bench.rows() if row[0] != long]
    assert short == [("BTC", "4"), ("ETH", "2")]
    failed = bench.ask("SELECT position FROM fold_failures")
    assert failed == ([] if bench.database.dialect == "sqlite" else [(3,)])


async def test_a_step_that_fails_in_the_logs_thread_is_taken_by_the_task(bench: Bench) -> None:
    async with running(bench):
        await caught_up(bench, bench.commit(balance("BTC", "1")))
        # As if another process had folded meanwhile, and then given it up.
        move = "UPDATE projections SET position = :p WHERE projection = 'balances'"
        set_to = partial(_do, bench.database, move)
        set_to(0)
        events = bench.commit(balance("BTC", "2"))
        await at_once(bench, events)
        assert bench.rows() == [("BTC", "1")]
        set_to(1)
        await caught_up(bench, events)
        assert bench.rows() == [("BTC", "2")]


def _do(database: Database, statement: str, position: int) -> None:
    in_unit(database.writer, lambda c: c.execute(text(statement), {"p": position}))
