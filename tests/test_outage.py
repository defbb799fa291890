"""A database that is away is one line when it goes, one a minute, and one when it is back."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio
from attrs import define, field
from trio.testing import MockClock

from recorder.errors import StorageUnavailable
from recorder.outage import EVERY_S, Outage
from tests.connection.clocks import TrioClock

LOST = StorageUnavailable("the connection was lost")


async def a_bot() -> list[str]:
    return ["process 7 (bot) waits"]


@define
class Bench:
    """An outage of which 4,500 events wait, with what it logged."""

    caplog: pytest.LogCaptureFixture
    outage: Outage = field(factory=lambda: Outage(TrioClock(), lambda: 4_500, a_bot))

    @property
    def lines(self) -> list[str]:
        return [record.getMessage() for record in self.caplog.records]

    @asynccontextmanager
    async def watched(self) -> AsyncIterator[None]:
        """Watch meanwhile."""
        with self.caplog.at_level(logging.INFO):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self.outage.watch)
                yield
                nursery.cancel_scope.cancel()


@pytest.fixture
def bench(caplog: pytest.LogCaptureFixture) -> Bench:
    return Bench(caplog)


async def test_an_outage_is_a_line_when_it_begins_one_a_minute_and_one_at_its_end(
    bench: Bench, autojump_clock: MockClock
) -> None:
    async with bench.watched():
        for second in range(150):
            for task in ("log", "writer", "projector", "reader"):
                bench.outage.failed(task, LOST)
            await trio.sleep(1)
            assert len(bench.lines) <= 2 * (1 + second // 60 + 1)
        for task in ("log", "writer", "projector", "reader"):
            bench.outage.worked(task)
        await trio.sleep(1)
    named = "in the way: process 7 (bot) waits"
    assert bench.lines == [
        "the database takes nothing: the connection was lost. 4,500 events wait in memory;"
        " nothing is lost while this process runs, and it goes on trying",
        named,
        "the database has been away for 1 min 1 s: the connection was lost. 4,500 events wait in"
        " memory",
        named,
        "the database has been away for 2 min 1 s: the connection was lost. 4,500 events wait in"
        " memory",
        named,
        "the database is back after 2 min 30 s. 4,500 events wait in memory",
    ]


async def test_a_failure_that_passes_at_once_is_none(
    bench: Bench, autojump_clock: MockClock
) -> None:
    async with bench.watched():
        for _ in range(20):
            bench.outage.failed("writer", LOST)
            await trio.sleep(0.4)
            bench.outage.worked("writer")
            await trio.sleep(0.4)
    assert bench.lines == []


async def test_a_kind_of_work_that_fails_alone_is_an_outage(
    bench: Bench, autojump_clock: MockClock
) -> None:
    async with bench.watched():
        bench.outage.failed("writer", LOST)
        for _ in range(10):
            bench.outage.worked("reader")
            await trio.sleep(1)
    assert len(bench.lines) == 2


async def test_a_database_that_does_not_answer_is_away_as_well(
    bench: Bench, autojump_clock: MockClock
) -> None:
    async with bench.watched():
        await trio.sleep(30)
        bench.outage.asked()
        await trio.sleep(EVERY_S)
        bench.outage.answered()
        await trio.sleep(1)
    assert bench.lines[0].startswith(
        "the database takes nothing: it has not answered for 10 s. 4,500 events wait in memory"
    )
    assert bench.lines[-1].startswith("the database is back after 1 min")
    assert [line for line in bench.lines if "way" not in line.partition(":")[0]] == bench.lines[::2]
