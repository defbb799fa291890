"""The simulated exchange's positions: VALR's order of frames, and money that adds up."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recorder.simulator.engine import Exchange
from recorder.simulator.futures import PERPETUALS
from tests.simulator.scene import new_exchange, scene, types

PAIR = "USDTZARPERP"
FUTURES = ("REDUCE_POSITION", "OPEN_POSITION_UPDATE", "POSITION_CLOSED")


def trade(exchange: Exchange, side: str, quantity: str, price: str) -> list[dict[str, Any]]:
    exchange.futures.trade(PAIR, side, Decimal(quantity), Decimal(price))
    return exchange.account.take()


def of_positions(frames: list[dict[str, Any]]) -> list[str]:
    return [kind for kind in types(frames) if kind in FUTURES]


def test_a_position_is_opened_reduced_flipped_and_closed_in_valrs_order_of_frames() -> None:
    exchange = new_exchange()
    assert of_positions(trade(exchange, "buy", "100", "18")) == ["OPEN_POSITION_UPDATE"]
    reported = of_positions(trade(exchange, "sell", "40", "19"))
    assert reported == ["REDUCE_POSITION", "OPEN_POSITION_UPDATE"]
    reported = of_positions(trade(exchange, "sell", "160", "19"))
    assert reported == ["REDUCE_POSITION", "POSITION_CLOSED", "OPEN_POSITION_UPDATE"]
    assert exchange.futures.held[PAIR].side == "sell"
    reported = of_positions(trade(exchange, "buy", "100", "20"))
    assert reported == ["REDUCE_POSITION", "POSITION_CLOSED"]
    assert [each.realised for each in exchange.futures.closed] == [
        # 100 at 18, 40 and 60 closed at 19; then 100 sold at 19 and bought back at 20.
        100 - (1800 + 1900) * Decimal("0.001"),
        -100 - (1900 + 2000) * Decimal("0.001"),
    ]


def test_a_loss_that_can_not_be_paid_is_refused_and_changes_nothing() -> None:
    exchange = new_exchange()
    trade(exchange, "sell", "1000", "18")
    before = exchange.futures.open_positions(), exchange.account.books.available("ZAR")
    with pytest.raises(ValueError, match="not enough money"):
        trade(exchange, "buy", "1000", "1000")
    assert (exchange.futures.open_positions(), exchange.account.books.available("ZAR")) == before
    assert exchange.account.take() == []


TRADES = st.tuples(
    st.sampled_from(["buy", "sell"]), st.integers(1, 500), st.integers(1500, 2200)
).map(lambda each: (each[0], f"{each[1]}", f"{Decimal(each[2]) / 100}"))


@given(st.lists(TRADES, max_size=20))
def test_the_result_of_positions_equals_the_ledger(trades: list[tuple[str, str, str]]) -> None:
    exchange = new_exchange()
    for each in trades:
        trade(exchange, *each)
    futures, ledger = exchange.futures, exchange.account.books.ledger
    realised = sum(each.realised for each in [*futures.closed, *futures.held.values()])
    assert realised == sum(row.change_of("ZAR") for row in ledger)
    for ended in futures.closed:
        parts = [one.quantity for one in futures.reductions if one.position is ended]
        assert sum(parts) == ended.closed_quantity


def test_the_snapshot_names_positions_and_no_conditional_orders() -> None:
    exchange = new_exchange()
    trade(exchange, "buy", "100", "18")
    exchange.futures.add_conditional(PAIR, Decimal(0), Decimal(20))
    kinds = types(exchange.snapshot())
    assert kinds.count("OPEN_POSITION_UPDATE") == 1
    assert "ADD_CONDITIONAL_ORDER" not in kinds


async def test_the_lists_over_rest_are_the_books() -> None:
    async with scene() as here:
        simulator = here.simulator
        await simulator.trade_future(PAIR, "buy", Decimal(100), Decimal(18))
        await simulator.trade_future(PAIR, "sell", Decimal(150), Decimal(19))
        await simulator.add_conditional(PAIR, Decimal(0), Decimal(17), Decimal(25))
        [order] = simulator.exchange.futures.waiting()
        paths = ("/v1/positions/open", "/v1/positions/closed", "/v1/positions/closed/summary")
        reported = [(await here.get(path)).json() for path in paths]
        assert [each[0]["quantity"] for each in reported] == ["50", "100", "100"]
        assert reported[0][0]["side"] == "sell"
        [waiting] = (await here.get("/v1/orders/conditionals")).json()
        assert (waiting["orderId"], waiting["conditionalType"]) == (order.order_id, "OT_OCO")
        await simulator.remove_conditional(order.order_id)
        assert (await here.get("/v1/orders/conditionals")).json() == []
        [past] = (await here.get(f"/v1/orders/conditionals/{PAIR}/history")).json()
        assert past["orderStatusType"] == "Cancelled"


def test_every_perpetual_has_a_mark() -> None:
    exchange = new_exchange()
    assert all(exchange.futures.mark(pair) > 0 for pair in PERPETUALS)
