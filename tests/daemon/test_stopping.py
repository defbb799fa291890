"""Stopping, starting again, sharing the database: nothing that was read is lost."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from decimal import Decimal
from functools import partial
from typing import Any

import pytest
import trio

from recorder.daemon import run_daemon
from recorder.errors import LeaseHeld, LeaseLost
from recorder.log.event import Event
from recorder.simulator import Simulator
from tests.daemon.scene import (
    LIMIT,
    Books,
    Scene,
    assert_chained,
    books_of,
    daemon,
    exchange,
    received,
    recording,
    settings_for,
    until,
    world,
)

REWARD = Decimal("0.01")
#: A stop with nothing wrong takes a fraction of this; a second per connection would be too much.
PROMPT_S = 3.0
LOCKED_S = 2.0


async def keep_talking(simulator: Simulator) -> None:
    """Say something as often as the line takes it, until cancelled."""
    while True:
        await simulator.reward("USDC", REWARD)
        await trio.sleep(0)


async def test_a_stop_under_traffic_leaves_a_whole_log_and_free_lease(database_url: str) -> None:
    async with exchange() as simulator:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(keep_talking, simulator)
            for round_ in range(3):
                async with daemon(database_url, simulator) as scene:
                    await until(
                        lambda scene=scene, round_=round_: (
                            scene.simulator.connections == round_ + 1
                            and scene.books.count("ledger") > 100 * (round_ + 1)
                        )
                    )
                    began = trio.current_time()
                    await scene.end()
                    assert trio.current_time() - began < PROMPT_S
                    assert_is_stopped(scene.books)
            nursery.cancel_scope.cancel()
        with books_of(database_url) as books:
            assert_said_without_holes(books, simulator)
            assert books.one("SELECT epoch FROM leases") == 3


def assert_is_stopped(books: Books) -> None:
    last = "SELECT type FROM events ORDER BY position DESC LIMIT 1"
    assert books.one(last) == "RECORDER_STOPPED"
    assert books.is_caught_up()
    assert books.one("SELECT expires_at <= renewed_at OR taken_at < expires_at FROM leases")
    assert books.endings()[-1]["reason"] == "the recorder stopped"
    assert books.count("connections", "is_open") == 0
    assert_chained(books)


def assert_said_without_holes(books: Books, simulator: Simulator) -> None:
    """Check that what was heard on each connection is how that connection began."""
    heard = received(books)
    for number in {number for number, _ in heard}:
        kept = [text for each, text in heard if each == number]
        said = [text for each, text in simulator.sent if each == number]
        assert kept == said[: len(kept)]


async def test_what_was_announced_is_durable_before_it_is_announced(database_url: str) -> None:
    """Whoever hears of a commit finds it through a connection of its own."""
    missing: list[int] = []
    with books_of(database_url) as books:

        def look(events: Any) -> None:
            last: Event = events[-1]
            if not books.count("events", "position = :at", at=last.position):
                missing.append(last.position)

        async with (
            exchange() as simulator,
            daemon(database_url, simulator, world(on_commit=look)) as scene,
        ):
            await scene.until_live()
            for _ in range(20):
                await simulator.tick()
                await simulator.reward("USDC", REWARD)
            await scene.until_recorded()

    assert not missing


async def test_a_second_daemon_is_turned_away_while_the_first_lives(database_url: str) -> None:
    async with exchange() as simulator:
        settings = settings_for(database_url, simulator, lease_ttl_s="1")
        async with daemon(database_url, simulator, lease_ttl_s="1") as scene:
            await scene.until_live()
            with pytest.raises(LeaseHeld, match="is held by"):
                await run_daemon(settings, world(), stop=trio.Event())
            assert simulator.connections == 1
        # Once it is gone the next one needs no patience.
        async with daemon(database_url, simulator, world(holder="another/boot/1/1")) as second:
            began = trio.current_time()
            await second.until_live()
            assert trio.current_time() - began < PROMPT_S
            assert_chained(second.books)


async def test_a_daemon_that_was_taken_over_stops_and_appends_nothing(database_url: str) -> None:
    async with exchange() as simulator:
        settings = settings_for(database_url, simulator, lease_ttl_s="1")
        with books_of(database_url) as books, pytest.raises(LeaseLost, match="took the account"):
            async with trio.open_nursery() as nursery:
                run = partial(run_daemon, settings, world(), stop=trio.Event())
                await nursery.start(run)
                await until(lambda: books.has_note("SNAPSHOT_COMPLETE"))
                books.do("UPDATE leases SET epoch = epoch + 1, holder = 'elsewhere/boot/1/1'")
                order = books.queue("PLACE_LIMIT_ORDER", LIMIT)
                nursery.cancel_scope.shield = True
        assert simulator.exchange.received.total() == 0
        with books_of(database_url) as books:
            assert books.status(order) == "queued"
            assert_chained(books)
