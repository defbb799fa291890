"""Stopping, starting again, sharing the database: nothing that was read is lost."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from datetime import UTC, datetime
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio

from recorder.config import read_settings
from recorder.daemon import run_daemon
from recorder.errors import LeaseHeld, LeaseLost
from recorder.log.rules.event import Event
from recorder.simulator import Simulator
from tests.daemon.scene import (
    KEY,
    LIMIT,
    SECRET,
    Books,
    Scene,
    assert_chained,
    books_of,
    connected,
    daemon,
    exchange,
    received,
    runtime,
    settings_for,
    time_us,
    until,
)

REWARD = Decimal("0.01")
#: Between two things that the exchange reports, each of them two frames: busier than any account.
PAUSE_S = 0.002
#: A stop with nothing wrong takes a fraction of this, and never more than its grace.
PROMPT_S = 5.0
LOCKED_S = 2.0


async def keep_talking(simulator: Simulator) -> None:
    """Report something all the time, until cancelled."""
    while True:
        await simulator.reward("USDC", REWARD)
        await trio.sleep(PAUSE_S)


async def test_a_stop_under_traffic_leaves_a_whole_log_and_a_free_lease(
    database_url: str,
) -> None:
    async with exchange() as simulator:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(keep_talking, simulator)
            for starts in (1, 2, 3):
                async with daemon(database_url, simulator) as scene:
                    await scene.until_connected(starts)
                    await until_more(scene.books)
                    began = trio.current_time()
                    await scene.end()
                    assert trio.current_time() - began < PROMPT_S
                    assert_is_stopped(scene.books)
            nursery.cancel_scope.cancel()
        with books_of(database_url) as books:
            assert_recorded_without_holes(books, simulator)
            assert books.one("SELECT epoch FROM leases") == 3


async def until_more(books: Books) -> None:
    """Wait until some more of what the exchange reports is folded."""
    before = books.count("ledger")
    await until(lambda: books.count("ledger") > before + 50)


def assert_is_stopped(books: Books) -> None:
    last = "SELECT type FROM events ORDER BY position DESC LIMIT 1"
    assert books.one(last) == "RECORDER_STOPPED"
    assert books.is_caught_up()
    assert time_us(books.one("SELECT expires_at FROM leases")) <= time_us(datetime.now(UTC))
    assert books.endings()[-1]["reason"] == "the recorder stopped"
    assert books.count("connections", "is_open") == 0
    assert_chained(books)


def assert_recorded_without_holes(books: Books, simulator: Simulator) -> None:
    """Check that what was received on each connection is how that connection began."""
    received_facts = received(books)
    for number in {number for number, _ in received_facts}:
        kept = [text for each, text in received_facts if each == number]
        answer = [text for each, text in simulator.sent if each == number]
        assert kept == answer[: len(kept)]


async def test_what_was_announced_is_durable_before_it_is_announced(database_url: str) -> None:
    """A listener of a commit finds it through a connection of its own."""
    missing: list[int] = []
    with books_of(database_url) as books:

        def look(events: Any) -> None:
            last: Event = events[-1]
            if not books.count("events", "position = :at", at=last.position):
                missing.append(last.position)

        async with (
            exchange() as simulator,
            daemon(database_url, simulator, runtime(on_commit=look)) as scene,
        ):
            await scene.until_connected(1)
            for _ in range(20):
                await simulator.tick()
                await simulator.reward("USDC", REWARD)
            await scene.until_recorded()

    assert not missing


async def test_a_second_daemon_is_refused_while_the_first_runs(database_url: str) -> None:
    async with exchange() as simulator:
        settings = settings_for(database_url, simulator, lease_ttl_s="1")
        async with daemon(database_url, simulator, lease_ttl_s="1") as scene:
            await scene.until_connected(1)
            with pytest.raises(LeaseHeld, match="is held by"):
                await run_daemon(settings, runtime(), stop=trio.Event())
            assert simulator.connections == 1
        # Once it is gone the next one needs no waiting time.
        async with daemon(database_url, simulator, runtime(holder="another/boot/1/1")) as second:
            began = trio.current_time()
            await second.until_connected(2)
            assert trio.current_time() - began < PROMPT_S
            assert_chained(second.books)


async def test_a_daemon_that_was_taken_over_stops_and_sends_nothing(database_url: str) -> None:
    queued: list[int] = []
    async with exchange() as simulator, trio.open_nursery() as nursery:
        with books_of(database_url) as books:

            async def take_over() -> None:
                await until(lambda: books.has_note("CONNECTION_OPENED"))
                books.do("UPDATE leases SET epoch = epoch + 1, holder = 'elsewhere/boot/1/1'")
                queued.append(books.queue("PLACE_LIMIT_ORDER", LIMIT))

            nursery.start_soon(take_over)
            settings = settings_for(database_url, simulator, lease_ttl_s="1")
            with pytest.raises(LeaseLost, match="took the account"):
                await run_daemon(settings, runtime(), stop=trio.Event())

            assert not simulator.exchange.received
            assert books.status(queued[0]) == "queued"
            assert books.one("SELECT holder FROM leases") == "elsewhere/boot/1/1"
            assert_chained(books)


async def test_another_program_that_locks_the_database_for_seconds_costs_nothing(
    sqlite_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with connected(sqlite_url) as scene:
        order = await queued_and_accepted(scene)
        path = sqlite_url.removeprefix("sqlite:///")
        with closing(sqlite3.connect(path, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            before = scene.books.one("SELECT max(position) FROM events")
            with trio.move_on_after(LOCKED_S):
                await keep_talking(scene.simulator)
            assert scene.books.one("SELECT max(position) FROM events") == before
            other.execute("ROLLBACK")
        await scene.until_recorded()
        second = await queued_and_accepted(scene)

        assert received(scene.books) == scene.simulator.sent
        assert scene.simulator.connections == 1
        assert scene.books.status(order) == scene.books.status(second) == "accepted"
        assert_chained(scene.books)


async def queued_and_accepted(scene: Scene) -> int:
    outbox_id = scene.books.queue("PLACE_LIMIT_ORDER", LIMIT)
    await scene.until_status(outbox_id, "accepted")
    return outbox_id


async def test_a_server_that_ends_all_connections_costs_nothing(postgres_url: str) -> None:
    async with connected(postgres_url) as scene:
        await queued_and_accepted(scene)
        end_all = (
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
        async with trio.open_nursery() as nursery:
            nursery.start_soon(keep_talking, scene.simulator)
            for _ in range(5):
                await until_more(scene.books)
                assert scene.books.ask(end_all)
            nursery.cancel_scope.cancel()
        await scene.until_recorded()
        await queued_and_accepted(scene)

        assert received(scene.books) == scene.simulator.sent
        assert scene.simulator.connections == 1
        assert max(scene.simulator.exchange.received.values()) == 1
        assert_chained(scene.books)


async def test_two_accounts_are_recorded_beside_each_other(
    database_url: str, tmp_path: Path
) -> None:
    """One account's broken line is nothing to the other."""
    async with exchange() as simulator:
        file = tmp_path / "recorder.toml"
        file.write_text("[accounts.main]\ntrading = 0\n[accounts.other]\nauth = 'message'\n")
        flags = {"database_url": database_url, "ws_url": simulator.ws_url}
        environment = {"VALR_API_KEY": KEY, "VALR_API_SECRET": SECRET}
        settings = read_settings(environment, flags, file=file)
        stop = trio.Event()
        with books_of(database_url) as books:
            async with trio.open_nursery() as nursery:
                await nursery.start(partial(run_daemon, settings, runtime(), stop=stop))
                welcome = "type = 'CONNECTION_AUTHENTICATED'"
                await until(lambda: books.count("events", welcome) == 2)
                await simulator.reward("USDC", REWARD)
                await until(lambda: books.count("ledger") == 2)
                stop.set()
            assert assert_chained(books, "main") > 5
            assert assert_chained(books, "other") > 5
            assert books.count("leases", "epoch = 1") == 2
