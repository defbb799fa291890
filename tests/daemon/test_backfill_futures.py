"""Positions and conditional orders after a gap, against the exchange's own books."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from recorder.simulator import Simulator
from tests.daemon.scene import Scene, daemon, exchange, until
from tests.daemon.test_backfill import (
    SOON,
    assert_rebuilt_alike,
    cut,
    notes,
    until_back,
    until_healed,
)

BTC, USDT = "BTCUSDTPERP", "USDTZARPERP"
RICH = {"USDT": Decimal(10_000), "ZAR": Decimal(100_000)}


def trade(simulator: Simulator, pair: str, side: str, quantity: str) -> None:
    simulator.exchange.futures.trade(pair, side, Decimal(quantity), Decimal(20))
    simulator.send(simulator.exchange.account.take())


def wait_for(simulator: Simulator, pair: str = BTC) -> str:
    """Leave a conditional order; return its id."""
    futures = simulator.exchange.futures
    futures.add_conditional(pair, Decimal(0), take_profit=Decimal(900_000))
    simulator.send(simulator.exchange.account.take())
    return list(futures.conditionals)[-1]


def held(scene: Scene) -> dict[str, Decimal]:
    """Return the positions that count as open, by their ids."""
    query = (
        "SELECT position_id, quantity FROM positions WHERE state = 'open' AND basis = 'reported'"
    )
    return {str(name): Decimal(str(quantity)) for name, quantity in scene.books.ask(query)}


def states(scene: Scene) -> dict[str, tuple[str, str]]:
    query = "SELECT order_id, state, basis FROM conditional_orders"
    return {row[0]: (row[1], row[2]) for row in scene.books.ask(query)}


def true_positions(simulator: Simulator) -> dict[str, Decimal]:
    return {each.position_id: each.quantity for each in simulator.exchange.futures.held.values()}


async def test_what_became_of_positions_and_conditionals_unobserved_is_fetched(
    database_url: str,
) -> None:
    async with (
        exchange(balances=RICH) as simulator,
        daemon(database_url, simulator, **SOON) as scene,
    ):
        await scene.until_connected(1)
        await scene.until_live()
        for pair, quantity in ((BTC, "0.005"), (USDT, "5")):
            trade(simulator, pair, "buy", quantity)
        stays, ends = wait_for(simulator), wait_for(simulator)
        await until(lambda: {stays, ends} <= states(scene).keys())
        await scene.until_recorded()
        await cut(scene)
        # One position is closed, one changed, one order removed, one added, all unobserved.
        trade(simulator, BTC, "sell", "0.005")
        trade(simulator, USDT, "buy", "2.5")
        simulator.exchange.futures.remove_conditional(ends)
        new = wait_for(simulator)
        simulator.exchange.account.take()
        await until_back(scene)
        await until_healed(scene)

        assert held(scene) == true_positions(simulator)
        assert len(held(scene)) == 1
        reported = states(scene)
        assert reported[stays] == reported[new] == ("open", "reported")
        assert reported[ends][0] == "cancelled"
        assert notes(scene, "GAP_UNVERIFIABLE") == []
        covered = notes(scene, "GAP_HEALED")[-1]["not_covered"]
        assert not [each for each in covered if "HTTP" in each]
        lists = "SELECT list, state FROM backfill_lists WHERE list LIKE '%positions%'"
        assert {row[1] for row in scene.books.ask(lists)} == {"complete"}
    assert_rebuilt_alike(database_url)


@pytest.mark.parametrize("has_futures", [False, True])
async def test_lists_that_are_refused_count_only_where_futures_are_held(
    database_url: str, *, has_futures: bool
) -> None:
    async with (
        exchange(balances=RICH) as simulator,
        daemon(database_url, simulator, **SOON) as scene,
    ):
        simulator.faults.change({"no_futures": True})
        await scene.until_connected(1)
        await scene.until_live()
        if has_futures:
            trade(simulator, BTC, "buy", "0.005")
        await scene.until_recorded()
        await cut(scene)
        await until_back(scene)
        await until_healed(scene)

        verdicts: list[Any] = [
            *notes(scene, "GAP_HEALED"),
            *notes(scene, "GAP_UNVERIFIABLE"),
        ]
        refused = "open_positions: HTTP 403: Futures are not enabled"
        assert all(refused in each["not_covered"] for each in verdicts)
        last = notes(scene, "GAP_UNVERIFIABLE" if has_futures else "GAP_HEALED")[-1]
        assert (refused in last["reasons"]) == has_futures
        # The answer is kept, and no fold takes it for a list.
        query = "SELECT count(*) FROM events WHERE origin = 'fetched' AND payload LIKE '%19213%'"
        assert scene.books.one(query) >= 3
        assert scene.books.count("fold_failures") == 0
