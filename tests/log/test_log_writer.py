"""The one task that appends: group commit, and what it does when the database reports no."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any

import pytest
import trio
import trio.testing
from attrs import define, field
from sqlalchemy import Connection, insert, select

from recorder.database.engine import Database, in_unit
from recorder.database.schema import controls
from recorder.errors import CommitUncertain, LeaseLost, StorageFailed, StorageUnavailable
from recorder.log.rules.digest import digest_event
from recorder.log.rules.event import EMPTY_HEAD, Draft, Event
from recorder.log.sql.append import append, read_head
from recorder.log.sql.read import events_after
from recorder.log.tasks.committed import Committed
from recorder.log.tasks.inbox import Inbox, Submission
from recorder.log.tasks.log_writer import LogWriter
from recorder.units import InlineRunner, UnitRunner
from tests.log.drafts import lose

MOMENT = datetime(2026, 1, 1, tzinfo=UTC)


@define
class FaultyRunner:
    """Runs units inline; before or after the next ones, raises what the test reports."""

    inner: UnitRunner
    before: list[Exception] = field(factory=list)
    after: list[Exception] = field(factory=list)
    runs: int = 0
    #: Happens between a COMMIT and its lost answer.
    meanwhile: Callable[[], None] = lambda: None

    async def run(self, unit: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        self.runs += 1
        if self.before:
            await trio.lowlevel.checkpoint()
            raise self.before.pop(0)
        done = await self.inner.run(unit, *args, **kwargs)
        if self.after:
            self.meanwhile()
            raise self.after.pop(0)
        return done

    async def run_made(self, make: Callable[[], Any], unit: Callable[..., Any]) -> Any:
        raise NotImplementedError("the log writer makes nothing beforehand")

    async def run_then(
        self,
        unit: Callable[..., Any],
        done: Callable[[Any], None],
        then: Callable[[Any], None],
        *,
        write_only: bool = False,
    ) -> Any:
        result = await self.run(unit)
        done(result)
        then(result)
        return result

    def run_here(self, unit: Callable[..., Any], made: Any) -> Any:
        return self.inner.run_here(unit, made)


def draft(payload: str) -> Draft:
    return Draft("main", 1_700_000_000_000_000, 5, "c1", "received", "X", payload)


def log_of(database: Database) -> list[Event]:
    return in_unit(database.reader, events_after, "main", 0, limit=10_000)


def assert_sound(events: Sequence[Event]) -> None:
    previous = EMPTY_HEAD.digest
    for position, event in enumerate(events, 1):
        assert event.position == position
        assert event.digest == digest_event(previous, position, event)
        previous = event.digest


@define
class Bench:
    """A writer on a database, with what it announced."""

    database: Database
    runner: FaultyRunner
    inbox: Inbox
    announced: list[Event]
    #: What was handed on in the unit's thread.
    followed: list[Event]
    writer: LogWriter
    #: Whose events were written again, and their positions.
    repaired: list[tuple[str, list[int]]]

    async def drain(self) -> None:
        self.inbox.close()
        await self.writer.run()


@pytest.fixture
def bench(database: Database) -> Bench:
    runner = FaultyRunner(InlineRunner(database.writer))
    inbox, announced = Inbox(1_000, 1_000_000), list[Event]()
    followed: list[Event] = []
    committed = Committed()

    def follow(events: Sequence[Event]) -> None:
        followed.extend(events)
        committed.add(events)

    def repair(_connection: Connection, account: str, tail: Sequence[Event]) -> None:
        repaired.append((account, [event.position for event in tail]))

    repaired: list[tuple[str, list[int]]] = []
    heads = {"main": EMPTY_HEAD}
    writer = LogWriter(runner, inbox, heads, follow, announced.extend, committed.recent, repair)
    return Bench(database, runner, inbox, announced, followed, writer, repaired)


async def test_what_waits_becomes_one_transaction_in_order(bench: Bench) -> None:
    for number in range(50):
        bench.inbox.put(draft(str(number)))
    await bench.drain()
    events = log_of(bench.database)
    assert [event.payload for event in events] == [str(number) for number in range(50)]
    assert [event.position for event in events] == list(range(1, 51))
    assert bench.runner.runs == 1
    assert bench.announced == bench.followed == events
    assert_sound(events)


async def test_a_database_that_is_away_loses_nothing(
    bench: Bench, autojump_clock: trio.testing.MockClock
) -> None:
    bench.runner.before = [StorageUnavailable("locked")] * 7
    bench.inbox.put(draft("kept"))
    await bench.drain()
    assert [event.payload for event in log_of(bench.database)] == ["kept"]


async def test_nothing_is_announced_before_its_commit(bench: Bench) -> None:
    bench.runner.before = [StorageUnavailable("locked")] * 3
    bench.inbox.put(draft("later"))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(bench.writer.run)
        await trio.testing.wait_all_tasks_blocked()
        assert bench.announced == bench.followed == []
        bench.inbox.close()
    assert len(bench.announced) == 1


async def test_an_uncertain_commit_that_took_is_not_repeated(bench: Bench) -> None:
    bench.runner.after = [CommitUncertain("cut")]
    bench.inbox.put(draft("once"))
    await bench.drain()
    assert [event.payload for event in log_of(bench.database)] == ["once"]
    assert [event.payload for event in bench.announced] == ["once"]
    assert bench.followed == bench.announced


async def test_an_uncertain_commit_that_did_not_take_is_repeated(bench: Bench) -> None:
    # Nothing was run: the unit raised before it reached the database.
    bench.runner.before = [CommitUncertain("cut")]
    bench.inbox.put(draft("again"))
    await bench.drain()
    assert [event.payload for event in log_of(bench.database)] == ["again"]


async def test_what_a_permanent_failure_leaves_unwritten_still_counts_as_waiting(
    bench: Bench,
) -> None:
    bench.runner.before = [StorageFailed("the disk is full")]
    for number in range(3):
        bench.inbox.put(draft(str(number)))
    with pytest.raises(StorageFailed, match="disk is full"):
        await bench.drain()
    assert bench.announced == []
    assert bench.inbox.received == 3


async def test_a_second_writer_is_fenced_off_by_the_position(bench: Bench) -> None:
    in_unit(bench.database.writer, append, {"main": EMPTY_HEAD}, [draft("the other's")])
    bench.inbox.put(draft("ours"))
    with pytest.raises(LeaseLost):
        await bench.drain()
    assert [event.payload for event in log_of(bench.database)] == ["the other's"]


async def test_a_submission_that_decides_on_nothing_leaves_no_event(bench: Bench) -> None:
    refused = Submission([draft("refused")], lambda *_: None)
    recorded: list[Sequence[int]] = []

    def record(connection: Connection, positions: Sequence[int]) -> None:
        recorded.append(positions)

    permitted = Submission((), lambda *_: [draft("a"), draft("b")], record)
    for entry in (draft("first"), refused, permitted, draft("last")):
        bench.inbox.put(entry)
    await bench.drain()
    assert [event.payload for event in log_of(bench.database)] == ["first", "a", "b", "last"]
    assert refused.outcome is None and refused.committed.is_set()
    assert permitted.outcome == [2, 3]
    assert recorded == [[2, 3]]


async def test_row_changes_and_events_are_durable_together_or_not_at_all(bench: Bench) -> None:
    tries: list[Sequence[int]] = []

    def record(connection: Connection, positions: Sequence[int]) -> None:
        row = {"account": "main", "trading": "off", "changed_by": "test", "changed_at": MOMENT}
        connection.execute(insert(controls).values(row))
        tries.append(positions)
        if len(tries) == 1:
            raise StorageUnavailable("cut in the middle")

    bench.inbox.put(Submission([draft("x")], None, record))
    await bench.drain()
    found = in_unit(
        bench.database.reader, lambda connection: connection.execute(select(controls)).all()
    )
    # The first try left neither its event nor its row behind: both would stand in the way now.
    assert tries == [[1], [1]]
    assert [event.payload for event in log_of(bench.database)] == ["x"]
    assert len(found) == 1


# A database that comes back older than what it acknowledged


async def append_now(bench: Bench, *payloads: str) -> None:
    """Append while the writer goes on running."""
    submissions = [Submission(drafts=[draft(payload)]) for payload in payloads]
    for each in submissions:
        await bench.inbox.submit(each)


async def test_what_a_database_lost_is_written_again_from_memory(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(bench.writer.run)
        await append_now(bench, "1", "2", "3", "4")
        lose(bench.database, after=1)
        await append_now(bench, "5")
        bench.inbox.close()
    events = log_of(bench.database)
    assert [event.payload for event in events] == ["1", "2", "3", "4", "5"]
    assert_sound(events)
    assert bench.repaired == [("main", [2, 3, 4])]
    assert "came back without events 2 to 4 of account 'main'" in caplog.text


async def test_a_commit_that_is_lost_with_its_server_is_written_again_with_what_was_before(
    bench: Bench, autojump_clock: trio.testing.MockClock
) -> None:
    bench.runner.meanwhile = lambda: lose(bench.database, after=1)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(bench.writer.run)
        await append_now(bench, "1", "2", "3")
        bench.runner.after = [CommitUncertain("the primary died")]
        await append_now(bench, "4")
        bench.inbox.close()
    events = log_of(bench.database)
    assert [event.payload for event in events] == ["1", "2", "3", "4"]
    assert_sound(events)
    assert bench.repaired == [("main", [2, 3])]


async def test_an_empty_database_gets_all_of_it_again(bench: Bench) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(bench.writer.run)
        await append_now(bench, "1", "2")
        lose(bench.database, after=0)
        await append_now(bench, "3")
        bench.inbox.close()
    assert [event.payload for event in log_of(bench.database)] == ["1", "2", "3"]


async def test_what_is_not_in_memory_any_more_ends_the_writer_with_its_positions(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("recorder.log.tasks.committed.TAIL_EVENTS_MAX", 2)
    with pytest.RaisesGroup(
        pytest.RaisesExc(StorageFailed, match=r"without events 2 to 4 of account 'main'")
    ):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(bench.writer.run)
            await append_now(bench, "1", "2", "3", "4")
            lose(bench.database, after=1)
            bench.inbox.put(draft("5"))
    assert [event.payload for event in log_of(bench.database)] == ["1"]


async def test_another_history_is_never_gone_on_with(bench: Bench) -> None:
    with pytest.RaisesGroup(pytest.RaisesExc(StorageFailed, match="events 2 to 3")):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(bench.writer.run)
            await append_now(bench, "1", "2", "3")
            lose(bench.database, after=0)
            in_unit(bench.database.writer, append, {"main": EMPTY_HEAD}, [draft("another's")])
            bench.inbox.put(draft("4"))
    assert [event.payload for event in log_of(bench.database)] == ["another's"]


async def test_a_longer_log_is_another_process_s(bench: Bench) -> None:
    with pytest.RaisesGroup(LeaseLost):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(bench.writer.run)
            await append_now(bench, "1")
            head = in_unit(bench.database.reader, read_head, "main")
            in_unit(bench.database.writer, append, {"main": head}, [draft("another's")])
            bench.inbox.put(draft("2"))
    assert bench.repaired == []
