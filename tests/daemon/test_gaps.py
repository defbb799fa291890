"""Every way of missing something is a row of gaps, from the last frame until all is known."""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, closing, contextmanager
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import partial
from itertools import pairwise
from typing import Any

import psycopg
import pytest
import trio
from attrs import define

from recorder.cli import main
from recorder.clock import SystemClock
from recorder.connection.connection import PAUSE_UNOBSERVED_S
from recorder.connection.observation import STILL_S
from recorder.daemon import run_daemon
from recorder.simulator.faults import GARBAGE
from tests.daemon.scene import (
    Books,
    Scene,
    books_of,
    connected,
    daemon,
    exchange,
    recording,
    runtime,
    settings_for,
    until,
)

HOUR_S = 3_600
#: What is looked at here is how a gap opens and closes; back-fill would judge it a moment later.
NO_BACKFILL: dict[str, Any] = {"backfill": "0"}


@define
class SetClock(SystemClock):
    """The machine's clocks, the one on the wall set by so many seconds."""

    ahead_s: float = 0.0

    def wall_us(self) -> int:
        return super().wall_us() + int(self.ahead_s * 1e6)


def moment(value: Any) -> datetime:
    """Return a time as any driver gives it."""
    if isinstance(value, str):
        return datetime.fromisoformat(value).replace(tzinfo=UTC)
    assert isinstance(value, datetime)
    return value.astimezone(UTC)


def gaps(books: Books, *columns: str) -> list[tuple[Any, ...]]:
    return books.ask(f"SELECT {', '.join(columns)} FROM gaps ORDER BY gap_id")


def last_frame_before(books: Books, position: int) -> datetime:
    """Return when the last frame before a position came in."""
    query = (
        "SELECT received_at FROM events WHERE origin = 'received' AND position < :position"
        " ORDER BY position DESC LIMIT 1"
    )
    return moment(books.one(query, position=position))


async def until_closed(books: Books, *causes: str) -> None:
    """Wait until there are gaps of just these causes, in this order, and none is open."""
    wanted = [(cause, "closed") for cause in causes]
    await until(lambda: gaps(books, "cause", "state") == wanted)


def assert_sane(books: Books) -> None:
    """Check what holds for every gap, and that the view covers the time since the first start."""
    for begin, end, known_since, cause in gaps(
        books, "unobserved_from", "unobserved_until", "from_at", "cause"
    ):
        assert moment(begin) <= moment(end)
        assert (known_since is None) == (cause == "first_start")
    rows = books.ask("SELECT from_at, until_at, microseconds, kind, cause FROM coverage")
    rows.sort(key=lambda row: moment(row[0]))
    for (_, end, *_), (begin, *_) in pairwise(rows):
        assert moment(end) == moment(begin)
    for begin, end, microseconds, *_ in rows:
        assert timedelta(0) < moment(end) - moment(begin) == timedelta(microseconds=microseconds)


@pytest.mark.parametrize("how", ["close", "cut", "reset"])
async def test_a_lost_connection_is_a_gap_from_the_last_frame_on(
    database_url: str, how: Any
) -> None:
    async with recording(database_url, **NO_BACKFILL) as scene:
        await scene.simulator.drop(how)
        await until_closed(scene.books, "first_start", "connection_lost")

        _, (gap_id, from_at, until_at, evidence, first_after) = gaps(
            scene.books, "gap_id", "from_at", "until_at", "evidence", "first_position_after"
        )
        assert moment(from_at) == last_frame_before(scene.books, gap_id)
        complete = "SELECT received_at FROM events WHERE position = :at AND type = :kind"
        ended = scene.books.one(complete, at=first_after, kind="SNAPSHOT_COMPLETE")
        assert moment(until_at) == moment(ended)
        assert evidence == scene.books.endings()[0]["reason"]
        assert_sane(scene.books)


async def test_losses_while_a_gap_is_open_are_counted_in_it(sqlite_url: str) -> None:
    async with recording(sqlite_url, **NO_BACKFILL) as scene:
        scene.simulator.faults.refuse_upgrade = 0
        for session in (2, 3, 4):
            await scene.simulator.drop("cut" if session < 4 else "close", 1001, "going away")
            await scene.until_connected(session)
        await until_closed(scene.books, "first_start", "connection_lost")

        (losses, causes, evidence, last, position) = gaps(
            scene.books, "losses", "causes", "evidence", "last_loss", "last_loss_position"
        )[1]
        endings = scene.books.endings()
        assert losses == len(endings) >= 3
        assert causes == "connection_lost"
        assert (evidence, last) == (endings[0]["reason"], endings[-1]["reason"])
        note = "SELECT type FROM events WHERE position = :position"
        assert scene.books.one(note, position=position) == "CONNECTION_CLOSED"


async def test_a_stop_and_a_kill_are_gaps_from_the_last_frame_on(database_url: str) -> None:
    async with exchange() as simulator:
        async with daemon(database_url, simulator, **NO_BACKFILL) as scene:
            await scene.until_live()
        async with killed(database_url, simulator) as scene:
            await until_closed(scene.books, "first_start", "stopped")
            await scene.simulator.reward("USDC", Decimal("0.5"))
            await scene.until_recorded()
            # Long enough that we report PING ourselves: our own words show nothing of the exchange.
            await until(lambda: is_reported_last(scene.books))
        async with daemon(database_url, simulator, **NO_BACKFILL) as scene:
            await until_closed(scene.books, "first_start", "stopped", "killed")

            rows = gaps(scene.books, "gap_id", "from_at", "losses", "causes")
            for gap_id, from_at, losses, causes in rows[1:]:
                assert moment(from_at) == last_frame_before(scene.books, gap_id)
                assert (losses, causes) in ((1, "stopped"), (1, "killed"))
            assert_sane(scene.books)


def is_reported_last(books: Books) -> bool:
    """Return whether the last event is a PING of ours; its answer is a millisecond away."""
    query = "SELECT origin FROM events ORDER BY position DESC LIMIT 1"
    return bool(books.one(query) == "sent") or books.count("events", "type = 'PONG'") >= 4


@asynccontextmanager
async def killed(url: str, simulator: Any) -> AsyncIterator[Scene]:
    """Run a daemon that ends without a word: whatever isn't durable by then is gone."""
    settings = settings_for(url, simulator, **NO_BACKFILL)
    with books_of(url) as books:
        scene = Scene(simulator, settings, books)
        async with trio.open_nursery() as nursery:
            await nursery.start(partial(run_daemon, settings, runtime(), stop=scene.stop))
            yield scene
            nursery.cancel_scope.cancel()
        # This process goes on, so the next one can't see that the owner is gone.
        books.do("UPDATE leases SET expires_at = renewed_at")


@pytest.mark.parametrize(("ahead_s", "cause"), [(HOUR_S, "asleep"), (-HOUR_S, "clock_set_back")])
async def test_a_machine_that_slept_or_whose_clock_was_set_reconnects(
    database_url: str, ahead_s: float, cause: str
) -> None:
    clock = SetClock()
    async with exchange() as simulator:
        async with daemon(database_url, simulator, runtime(clock=clock), **NO_BACKFILL) as scene:
            await scene.until_live()
            # Time went on there as well; else our signatures would be out of date.
            simulator.faults.clock_ahead_s = clock.ahead_s = ahead_s
            await until_closed(scene.books, "first_start", cause)

            assert simulator.connections == 2
            gap_id, from_at, until_at, begin, end = gaps(
                scene.books, "gap_id", "from_at", "until_at", "unobserved_from", "unobserved_until"
            )[1]
            assert moment(from_at) == last_frame_before(scene.books, gap_id)
            note = "SELECT payload FROM events WHERE type = 'CLOCK_JUMPED'"
            (payload,) = scene.books.ask(note)[0]
            assert abs(json.loads(payload)["data"]["ahead_s"] - ahead_s) < 1
            unobserved_s = (moment(end) - moment(begin)).total_seconds()
            # Who slept was away all the time; who set the clock back wasn't away for an hour.
            assert unobserved_s > HOUR_S if ahead_s > 0 else 0 < unobserved_s < 60
            assert (moment(from_at) > moment(until_at)) == (ahead_s < 0)


async def test_a_wrong_clock_costs_no_connection_and_the_gap_waits_until_it_is_right(
    sqlite_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    clock = SetClock()
    async with exchange() as simulator:
        async with daemon(sqlite_url, simulator, runtime(clock=clock), **NO_BACKFILL) as scene:
            await scene.until_live()
            clock.ahead_s = HOUR_S
            await until(lambda: scene.books.count("gaps", "state = 'open'") == 1)
            await until(lambda: "a new one would be refused" in caplog.text)
            assert "ahead of the exchange's: set it" in caplog.text
            # What comes meanwhile is taken as ever.
            await simulator.reward("USDC", Decimal("0.5"))
            await scene.until_recorded()
            assert simulator.connections == 1
            clock.ahead_s = 0.0
            await until_closed(scene.books, "first_start", "asleep")

            assert simulator.connections == 2
            assert gaps(scene.books, "causes")[1][0].startswith("asleep,clock_set_back")
            assert not scene.books.has_note("CONNECTION_REFUSED")


async def test_what_back_fill_finds_out_is_the_gaps_own_verdict(database_url: str) -> None:
    async with recording(database_url, backfill_after_s="0.05") as scene:
        await scene.simulator.drop("cut")
        await until(lambda: [*gaps(scene.books, "state")] == [("healed",)] * 2)
        scene.simulator.faults.change({"rest_status": 403})
        await scene.simulator.drop("cut")
        await until(lambda: len(gaps(scene.books, "state")) == 3)
        await until(lambda: gaps(scene.books, "state")[2] == ("unverifiable",))
        scene.simulator.faults.change({"rest_status": 0})
        _, (healed_by, verdict_position), (no_answers, reason) = (
            gaps(scene.books, "healed_by", "verdict_position")[:2]
            + gaps(scene.books, "healed_by", "verdict")[2:]
        )
        note = "SELECT type FROM events WHERE position = :position"
        assert scene.books.one(note, position=verdict_position) == "GAP_HEALED"
        for position in map(int, healed_by.split(",")):
            origin = "SELECT origin FROM events WHERE position = :position"
            assert scene.books.one(origin, position=position) == "fetched"
        assert no_answers is None
        assert "HTTP 403" in reason
        assert_sane(scene.books)

        # Who asks for the period again, once it can be read, has the last word.
        scene.books.do(
            "INSERT INTO backfills (account, from_at, until_at)"
            " SELECT account, MIN(unobserved_from), MAX(unobserved_until) FROM gaps"
            " GROUP BY account"
        )
        await until(lambda: gaps(scene.books, "state")[2] == ("healed",))


async def test_a_clock_set_back_in_the_middle_of_a_gap_measures_the_gap_all_the_same(
    sqlite_url: str,
) -> None:
    clock = SetClock()
    async with exchange() as simulator:
        async with daemon(sqlite_url, simulator, runtime(clock=clock), **NO_BACKFILL) as scene:
            await scene.until_live()
            simulator.faults.refuse_upgrade = 503
            await simulator.drop("cut")
            await until(lambda: scene.books.count("gaps", "state = 'open'") == 1)
            simulator.faults.clock_ahead_s = clock.ahead_s = -HOUR_S
            await until(lambda: scene.books.has_note("CLOCK_JUMPED"))
            simulator.faults.refuse_upgrade = 0
            await until_closed(scene.books, "first_start", "connection_lost")

            begin, end, causes = gaps(scene.books, "unobserved_from", "unobserved_until", "causes")[
                1
            ]
            assert 0 < (moment(end) - moment(begin)).total_seconds() < 90
            assert causes == "connection_lost,clock_set_back"
            assert (moment(end) - datetime.now(UTC)).total_seconds() < -HOUR_S + 90


async def test_a_log_that_took_nothing_for_long_is_a_gap_and_a_short_wait_is_none(
    database_url: str,
) -> None:
    async with recording(database_url, queue_frames="3", **NO_BACKFILL) as scene:
        await lock_for(scene, 2.0)
        await until(lambda: scene.books.has_note("READING_PAUSED"))
        assert gaps(scene.books, "cause") == [("first_start",)]

        await lock_for(scene, PAUSE_UNOBSERVED_S + 1)
        await until_closed(scene.books, "first_start", "queue_full")

        gap_id, from_at, evidence = gaps(scene.books, "gap_id", "from_at", "evidence")[1]
        assert moment(from_at) <= last_frame_before(scene.books, gap_id)
        assert "was not read for" in evidence
        # What TCP held was read before we left: nothing that was reported is missing.
        assert scene.books.count("ledger") == len(scene.simulator.exchange.account.books.ledger)
        assert_sane(scene.books)


async def test_however_short_the_waits_for_the_log_were_their_sum_is_kept(
    database_url: str,
) -> None:
    async with recording(database_url, queue_frames="3", **NO_BACKFILL) as scene:
        for _ in range(2):
            await lock_for(scene, 0.8)
            await scene.until_recorded()
        assert not scene.books.has_note("READING_PAUSED")
        await scene.simulator.drop("close")
        await until(lambda: scene.books.endings())

        (ending,) = scene.books.endings()
        assert 0.3 < ending["not_read_s"] < 1.8


async def test_the_time_of_a_standstill_in_which_the_connection_was_lost_is_not_observed(
    sqlite_url: str,
) -> None:
    async with recording(sqlite_url, **NO_BACKFILL) as scene:
        await scene.until_recorded()
        before = datetime.now(UTC)
        await scene.simulator.reward("USDC", Decimal("0.01"))
        await scene.simulator.drop("cut")
        stand_still()
        await until_closed(scene.books, "first_start", "connection_lost")

        ((unobserved_from,),) = gaps(scene.books, "unobserved_from")[1:]
        # What waited was read late; it proves nothing about the time before.
        assert moment(unobserved_from) < before + timedelta(seconds=1)
        assert scene.books.has_note("READING_PAUSED")
        assert_sane(scene.books)


async def test_a_standstill_on_a_line_that_holds_is_no_gap_and_casts_no_doubt_for_long(
    sqlite_url: str,
) -> None:
    async with recording(sqlite_url, **NO_BACKFILL) as scene:
        stand_still()
        await until(lambda: scene.books.has_note("READING_PAUSED"))
        pongs = scene.books.count("events", "type = 'PONG'")
        await until(lambda: scene.books.count("events", "type = 'PONG'") > pongs + 1)
        assert gaps(scene.books, "cause") == [("first_start",)]

        await scene.simulator.drop("cut")
        await until_closed(scene.books, "first_start", "connection_lost")
        gap_id, from_at = gaps(scene.books, "gap_id", "from_at")[1]
        assert moment(from_at) == last_frame_before(scene.books, gap_id)


def stand_still() -> None:
    """Block the whole loop, as when the process is stopped."""
    time.sleep(STILL_S + 0.5)


async def lock_for(scene: Scene, seconds: float) -> None:
    """Keep others from writing into the log while the exchange sends."""
    with locked(scene.settings.database_url):
        ends_at = trio.current_time() + seconds
        while trio.current_time() < ends_at:
            await scene.simulator.reward("USDC", Decimal("0.01"))
            await trio.sleep(0.2)


@contextmanager
def locked(url: str) -> Iterator[None]:
    """Hold a lock that lets others read the log and no more."""
    if url.startswith("sqlite"):
        path = url.removeprefix("sqlite:///")
        with closing(sqlite3.connect(path, isolation_level=None, timeout=10)) as other:
            other.execute("BEGIN IMMEDIATE")
            yield
            other.execute("ROLLBACK")
        return
    with psycopg.connect(url) as postgres:
        postgres.execute("LOCK TABLE events IN SHARE MODE")
        yield
        postgres.rollback()


UNREADABLE: list[str] = ["no_json", "no_object", "empty", "binary", "wrong_shape", "no_amount"]


async def test_a_frame_that_can_not_be_read_is_a_gap_of_its_own(database_url: str) -> None:
    async with recording(database_url, **NO_BACKFILL) as scene:
        for name in UNREADABLE:
            await scene.simulator.emit(GARBAGE[name])
        await scene.simulator.emit(GARBAGE["unknown_type"])
        where = "cause = 'undecodable' AND state = 'closed'"
        await until(lambda: scene.books.count("gaps", where) == len(UNREADABLE))

        rows = scene.books.ask(
            "SELECT gap_id, from_at, until_at, received_at, origin, payload FROM gaps"
            " JOIN events ON events.account = gaps.account AND position = gap_id"
            " WHERE cause = 'undecodable' ORDER BY gap_id"
        )
        assert [origin for *_, origin, _ in rows] == ["received"] * len(UNREADABLE)
        for _, from_at, until_at, received_at, *_ in rows:
            assert moment(from_at) == moment(until_at) == moment(received_at)
        assert scene.books.count("gaps", "first_position_after IS NOT NULL") == 1
        assert scene.simulator.connections == 1
        assert_sane(scene.books)


async def test_a_pong_that_stays_away_under_traffic_is_a_gap(sqlite_url: str) -> None:
    async with connected(sqlite_url, **NO_BACKFILL) as scene:
        await scene.until_live()
        scene.simulator.faults.no_pong = True
        answer = "type = 'PING' AND origin = 'sent'"
        before = scene.books.count("events", answer)
        # Once it is quiet it is asked soon; traffic since then is no answer.
        await until(lambda: scene.books.count("events", answer) > before)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(talk, scene)
            await until(lambda: bool(scene.books.endings()), 60)
            nursery.cancel_scope.cancel()
        scene.simulator.faults.no_pong = False
        await until_closed(scene.books, "first_start", "no_pong")

        assert "no PONG within 30 s" in gaps(scene.books, "evidence")[1][0]


async def talk(scene: Scene) -> None:
    while True:
        await scene.simulator.reward("USDC", Decimal("0.01"))
        await trio.sleep(1)


async def test_what_the_command_reports_adds_up_while_it_runs_and_after(
    database_url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    async with recording(database_url, **NO_BACKFILL) as scene:
        await scene.simulator.drop("cut")
        await until_closed(scene.books, "first_start", "connection_lost")
        await scene.until_folded()
        running = ask(database_url, capsys)
    stopped = ask(database_url, capsys)

    for reported in (running, stopped):
        parts = [Decimal(reported[name]) for name in ("observed_s", "unobserved_s", "healed_s")]
        assert sum(parts) == Decimal(reported["seconds"])
        assert parts[2] == 0
        assert reported["complete"] is False
        assert reported["unknowable"]
    assert running["recorder"] == "running"
    assert {row["cause"] for row in running["causes"]} >= {"first_start", "connection_lost"}
    # The stop is an open gap by now: the time since is not observed, and grows.
    assert stopped["causes"][1]["cause"] == "stopped"
    assert Decimal(stopped["unobserved_s"]) > Decimal(running["unobserved_s"])


def ask(url: str, capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    assert main(["gaps", "--json"], {"RECORDER_DATABASE_URL": url}) == 0
    reported: dict[str, Any] = json.loads(capsys.readouterr().out)
    return reported
