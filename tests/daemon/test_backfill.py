"""Cut off while trading goes on, the recorder ends with the exchange's own books."""

from __future__ import annotations

import json
import random
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import partial
from typing import Any

import pytest
import trio
from attrs import evolve

from recorder.daemon import run_daemon
from recorder.database.engine import open_database
from recorder.projections import PROJECTIONS
from recorder.projections.sql.rebuild import check
from recorder.simulator import Simulator
from recorder.simulator.activity import act_at_random
from recorder.simulator.requests import Placing
from tests.cli.scene import Answer, ask
from tests.daemon.exchange_books import differences
from tests.daemon.scene import (
    Books,
    Scene,
    books_of,
    daemon,
    exchange,
    runtime,
    settings_for,
    until,
)

#: How often a line is cut before it has to be, and how long it is waited for each time.
CUTS_MAX, AGAIN_S = 15, 2.0
SOON: dict[str, Any] = {"backfill_after_s": "0.05"}
PAIR, PRICE = "BTCZAR", Decimal(1_000_000)


def live(simulator: Simulator, times: int) -> None:
    """Let things happen on the account; each connection receives them."""
    for _ in range(times):
        simulator.send(simulator.exchange.tick())
        simulator.send(act_at_random(simulator.exchange))


def rest(simulator: Simulator, quantity: str = "0.004") -> str:
    """Place an order that rests; return its id."""
    placing = Placing(PAIR, "buy", Decimal(quantity), PRICE, post_only=True, time_in_force="GTC")
    order = simulator.exchange.trading.place(placing)
    simulator.send(simulator.exchange.account.take())
    return order.order_id


def fill_unobserved(simulator: Simulator, order_id: str, quantity: str = "0.001") -> None:
    """Fill a part of an order while no connection is there to receive it."""
    simulator.exchange.fill(order_id, Decimal(quantity))


def notes(scene: Scene, kind: str) -> list[Any]:
    asked = "SELECT payload FROM events WHERE origin = 'noted' AND type = :kind ORDER BY position"
    return [json.loads(text)["data"] for (text,) in scene.books.ask(asked, kind=kind)]


def judged(scene: Scene) -> set[int]:
    return {
        fact["gap_id"] for kind in ("GAP_HEALED", "GAP_UNVERIFIABLE") for fact in notes(scene, kind)
    }


async def until_healed(scene: Scene) -> None:
    """Wait until every gap is judged, and everything is folded."""

    def is_done() -> bool:
        gaps = scene.books.ask("SELECT gap_id, state FROM gaps")
        is_closed = all(state != "open" for _, state in gaps)
        return bool(gaps) and is_closed and {gap for gap, _ in gaps} <= judged(scene)

    await until(is_done, wait_max_s=180)
    await scene.until_folded()


async def cut(scene: Scene, how: Any = "cut") -> None:
    """End the connection, and go on once the exchange has no receiver."""
    scene.simulator.faults.change({"refuse_upgrade": 503})
    for _ in range(CUTS_MAX):
        await scene.simulator.drop(how)
        with trio.move_on_after(AGAIN_S):
            return await until(lambda: not scene.simulator.peers)
        # What was let in just before the drop was not among the dropped.
    raise AssertionError("a client is still connected")


async def until_back(scene: Scene) -> None:
    """Let the recorder in again, and wait until its snapshot is complete."""
    before = scene.simulator.connections
    scene.simulator.faults.change({"refuse_upgrade": 0})
    await until(lambda: scene.simulator.connections > before)
    await scene.until_live()


async def test_what_was_traded_while_no_connection_was_open_is_fetched(database_url: str) -> None:
    async with exchange() as simulator, daemon(database_url, simulator, **SOON) as scene:
        await scene.until_connected(1)
        await scene.until_live()
        order_id = rest(simulator)
        await cut(scene)
        live(simulator, 40)
        fill_unobserved(simulator, order_id)
        fill_unobserved(simulator, order_id)
        await until_back(scene)
        live(simulator, 10)
        await until_healed(scene)
        await until(lambda: not differences(simulator, scene.books), wait_max_s=90)
        assert notes(scene, "GAP_UNVERIFIABLE") == []
        healed = notes(scene, "GAP_HEALED")
        assert len(healed) == 2
        assert healed[1]["reasons"] == []
        assert scene.books.count("trades", "source = 'backfill'") >= 2
        assert scene.books.count("orders", "source = 'backfill'") > 0
        # Balances and open orders are fetched to be compared.
        assert scene.books.count("events", "type = 'REST_BALANCES'") == 2
        assert scene.books.count("events", "type = 'REST_OPEN_ORDERS'") == 2


async def test_two_fills_of_one_time_count_once_each_where_only_one_was_reported(
    database_url: str,
) -> None:
    async with exchange() as simulator, daemon(database_url, simulator, **SOON) as scene:
        await scene.until_connected(1)
        await scene.until_live()
        simulator.faults.change({"without_ids": True})
        order_id = rest(simulator)
        reported = simulator.exchange.fill(order_id, Decimal("0.001"))
        simulator.exchange.fill(order_id, Decimal("0.001"))
        first, second = simulator.exchange.trading.trades[-2:]
        simulator.exchange.trading.trades[-1] = evolve(second, at=first.at)
        # The line breaks behind the fill's own frame: what follows from it is lost.
        simulator.send(reported[:1])
        await simulator.flush()
        await cut(scene)
        await until_back(scene)
        await until_healed(scene)
        rows = scene.books.ask(
            "SELECT trade_id, source, matched_by FROM trades ORDER BY position, item"
        )
        assert sorted(row[0] for row in rows) == sorted([first.trade_id, second.trade_id])
        assert [row[1:] for row in rows] == [("stream", "counted"), ("backfill", "id")]
        assert {"orders", "trades", "ledger"}.isdisjoint(differences(simulator, scene.books))
        assert notes(scene, "GAP_UNVERIFIABLE") == []


PROBLEMS = ["error", "shuffled", "html", "cut_json", "cut", "limited"]


@pytest.mark.parametrize("seed", range(2))
async def test_whatever_rest_does_meanwhile_it_ends_with_the_books(
    database_url: str, seed: int
) -> None:
    rng = random.Random(seed)
    async with (
        exchange(seed=seed + 7) as simulator,
        daemon(database_url, simulator, **SOON) as scene,
    ):
        await scene.until_connected(1)
        await scene.until_live()
        await until_healed(scene)
        simulator.faults.change({"rest_rows_max": 20, "rest_delay_s": 0.01})
        for how in rng.sample(["cut", "reset", "close"], 2):
            live(simulator, rng.randint(5, 15))
            await cut(scene, how)
            live(simulator, rng.randint(10, 20))
            # A right answer now and then, or the waits in between grow to minutes.
            problem = [each for what in rng.sample(PROBLEMS, 3) for each in (what, "none")]
            simulator.faults.change({"next_rest": problem})
            # It breaks once more in the middle of the snapshot.
            simulator.faults.change({"refuse_upgrade": 0, "delay_s": 0.05})
            before = simulator.connections
            await until(lambda before=before: simulator.connections > before and simulator.peers)
            await cut(scene)
            simulator.faults.change({"delay_s": 0})
            await until_back(scene)
            live(simulator, 3)
        await until_healed(scene)
        await until(lambda: not differences(simulator, scene.books), wait_max_s=90)
        assert notes(scene, "GAP_UNVERIFIABLE") == []
        assert {text for (text,) in scene.books.ask("SELECT type FROM events WHERE type = ''")}
    assert_rebuilt_alike(database_url)


def assert_rebuilt_alike(url: str) -> None:
    """Check that every table is what its log folds into."""
    with open_database(url) as database:
        for projection in PROJECTIONS:
            assert check(database, "main", projection, lambda _: None).differences == []


@pytest.mark.parametrize("end", ["stopped", "killed"])
async def test_a_run_that_was_broken_off_goes_on_with_the_page_that_is_missing(
    database_url: str, end: str
) -> None:
    async with exchange() as simulator:
        live(simulator, 60)
        simulator.faults.change({"rest_rows_max": 5, "rest_delay_s": 0.05})
        with books_of(database_url) as books:
            await run_until(database_url, simulator, books, end)
            pages = books.count("events", "type = 'BACKFILL_PAGE'")
            assert pages >= 4
        live(simulator, 10)
        simulator.faults.change({"rest_delay_s": 0})
        async with daemon(database_url, simulator, **SOON) as scene:
            await until_healed(scene)
            await until(lambda: not differences(simulator, scene.books), wait_max_s=90)
            begun, asked = notes(scene, "BACKFILL_STARTED"), notes(scene, "BACKFILL_PAGE")
            assert len(begun) == len(scene.books.ask("SELECT gap_id FROM gaps"))
            first = notes(scene, "BACKFILL_FINISHED")[0]["run"]
            requests = [each["request"] for each in asked if each["run"] == first]
            # Nothing that is durable is asked for again.
            assert len(requests) == len(set(requests))
        assert_rebuilt_alike(database_url)


async def run_until(url: str, simulator: Simulator, books: Books, end: str) -> None:
    """Run a recorder until it has fetched some pages, and end it."""
    settings, stop = settings_for(url, simulator, **SOON), trio.Event()
    async with trio.open_nursery() as nursery:
        run = partial(run_daemon, settings, runtime(), stop=stop)
        await nursery.start(run)
        await until(lambda: books.count("events", "type = 'BACKFILL_PAGE'") >= 4)
        if end == "killed":
            # Nothing more is written by any reader.
            nursery.cancel_scope.cancel()
        stop.set()


async def test_what_can_not_be_fetched_is_reported_as_unverifiable(database_url: str) -> None:
    async with exchange() as simulator, daemon(database_url, simulator, **SOON) as scene:
        await scene.until_connected(1)
        await scene.until_live()
        await until_healed(scene)
        await cut(scene)
        live(simulator, 5)
        simulator.faults.change({"next_rest": ["odd_row"]})
        await until_back(scene)
        await until_healed(scene)
        (reported,) = notes(scene, "GAP_UNVERIFIABLE")
        assert reported["reasons"] == ["trades: 1 rows could not be read"]
        await until(lambda: not differences(simulator, scene.books), wait_max_s=90)
        simulator.faults.change({"rest_status": 403})
        await cut(scene)
        await until_back(scene)
        await until_healed(scene)
        reasons = notes(scene, "GAP_UNVERIFIABLE")[-1]["reasons"]
        assert len(reasons) == 7
        assert all("HTTP 403" in reason for reason in reasons)


async def test_a_period_that_a_person_asks_for_changes_nothing_that_is_known(
    database_url: str,
) -> None:
    async with (
        exchange() as simulator,
        daemon(database_url, simulator, backfill="0", **SOON) as scene,
    ):
        await scene.until_connected(1)
        await scene.until_live()
        live(simulator, 10)
        await cut(scene)
        live(simulator, 20)
        await until_back(scene)
        await scene.until_recorded()
        assert notes(scene, "BACKFILL_STARTED") == []
        assert differences(simulator, scene.books)
        seen = []
        for _ in range(2):
            answer = await trio.to_thread.run_sync(ask_for_today, database_url)
            assert (answer.code, answer.rows[0]["state"]) == (0, "complete"), answer
            assert answer.rows[0]["rows"] > 0
            await scene.until_folded()
            seen.append([scene.books.ask(f"SELECT * FROM {name} ORDER BY 1, 2") for name in TABLES])
        assert differences(simulator, scene.books) == {}
        assert seen[0] == seen[1]
        # Nothing is fetched by itself: a request for the whole period heals the gaps, once.
        healed = [each["gap_id"] for each in notes(scene, "GAP_HEALED")]
        assert healed == [row[0] for row in scene.books.ask("SELECT gap_id FROM gaps ORDER BY 1")]


TABLES = ("trades", "ledger", "orders", "order_history", "transfers", "balances", "open_orders")


def ask_for_today(url: str) -> Answer:
    since = datetime.now(UTC) - timedelta(hours=1)
    return ask(url, "backfill", "--from", since.isoformat(), "--wait")


async def test_nothing_is_fetched_where_no_recorder_runs(database_url: str) -> None:
    answer = ask(database_url, "backfill", "--from", "2026-01-01T00:00:00Z")
    assert answer.code == 2
    assert "no recorder is running" in answer.err
    with books_of(database_url) as books:
        assert books.count("backfills") == 0
    late = ask(database_url, "backfill", "--from", "2999-01-01T00:00:00Z")
    assert (late.code, "empty" in late.err) == (2, True)
