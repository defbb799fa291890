"""Whatever is asked of the exchange, its books add up."""

from __future__ import annotations

from contextlib import suppress
from decimal import Decimal
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from recorder.simulator.activity import act_at_random
from recorder.simulator.engine import Exchange
from recorder.simulator.frames import encode
from recorder.simulator.futures import PERPETUALS
from recorder.simulator.market import PAIRS
from tests.simulator.scene import Frame, HandClock, command, new_exchange

SIDES = st.sampled_from(["BUY", "SELL"])
SYMBOLS = st.sampled_from(sorted(PAIRS))


@st.composite
def limit_orders(draw: st.DrawFn) -> Frame:
    """Orders of any size, near the market's price and far from it."""
    pair = PAIRS[draw(SYMBOLS)]
    steps = draw(st.integers(1, 50_000_000))
    price = pair.first_price * draw(st.integers(95, 105)) / 100
    return {
        "pair": pair.symbol,
        "side": draw(SIDES),
        "quantity": f"{pair.step * steps:f}",
        "price": f"{price - price % pair.tick:f}",
        "timeInForce": draw(st.sampled_from(["GTC", "GTC", "IOC", "FOK"])),
        "customerOrderId": f"c{draw(st.integers(0, 3))}",
    }


@st.composite
def market_orders(draw: st.DrawFn) -> Frame:
    amount = f"{Decimal(draw(st.integers(1, 10**7))) / 100:f}"
    return {"pair": draw(SYMBOLS), "side": draw(SIDES), "quoteAmount": amount}


@st.composite
def changes(draw: st.DrawFn) -> Frame:
    member = draw(st.sampled_from(["newRemainingQuantity", "newTotalQuantity"]))
    return {
        "customerOrderId": f"c{draw(st.integers(0, 3))}",
        "pair": "BTCZAR",
        "modifyMatchStrategy": draw(
            st.sampled_from(["RETAIN_ORIGINAL", "CANCEL_ORIGINAL", "REPRICE"])
        ),
        member: f"{Decimal(draw(st.integers(1, 10**6))) * Decimal('0.01'):f}",
    }


CANCELS = st.builds(lambda n: {"customerOrderId": f"c{n}", "pair": "BTCZAR"}, st.integers(0, 3))
AMOUNTS = st.decimals(min_value="0.00000001", max_value=1000, places=8)
FUTURES = st.tuples(
    st.sampled_from(sorted(PERPETUALS)),
    st.sampled_from(["buy", "sell"]),
    st.decimals(min_value="0.0001", max_value=3000, places=4),
    st.decimals(min_value=10, max_value=30, places=2),
)
STEPS = st.one_of(
    st.tuples(st.just("PLACE_LIMIT_ORDER"), limit_orders()),
    st.tuples(st.just("PLACE_MARKET_ORDER"), market_orders()),
    st.tuples(st.just("MODIFY_ORDER"), changes()),
    st.tuples(st.just("CANCEL_LIMIT_ORDER"), CANCELS),
    st.tuples(st.sampled_from(["deposit", "withdraw", "reward"]), AMOUNTS),
    st.tuples(st.just("future"), FUTURES),
    st.tuples(st.just("tick"), st.none()),
    st.tuples(st.just("live"), st.none()),
)


def take(exchange: Exchange, what: str, content: Any) -> list[Frame]:
    if what == "tick":
        return exchange.tick()
    if what == "future":
        with suppress(ValueError):
            exchange.futures.trade(*content)
        return exchange.account.take()
    if what == "live":
        return act_at_random(exchange)
    if isinstance(content, Decimal):
        happen = {
            "deposit": exchange.deposit,
            "withdraw": exchange.withdraw,
            "reward": exchange.reward,
        }
        return happen[what]("USDC", content)
    return exchange.command(command(what, **content))


def assert_books_add_up(exchange: Exchange) -> None:
    books, first = exchange.account.books, exchange.config.balances
    live = exchange.open_orders()
    for code, held in books.balances.items():
        explained = sum((row.change_of(code) for row in books.ledger), first.get(code, Decimal(0)))
        needed = sum((_needed(order) for order in live if _currency(order) == code), Decimal(0))
        assert held.total == explained
        assert held.reserved == needed
        assert held.available >= 0


def _needed(order: Any) -> Decimal:
    rest: Decimal = order.remaining
    return rest * order.price if order.side == "buy" else rest


def _currency(order: Any) -> str:
    pair = PAIRS[order.pair]
    return pair.quote if order.side == "buy" else pair.base


@given(seed=st.integers(0, 1000), depth=st.sampled_from([50, 200_000]), steps=st.lists(STEPS))
def test_totals_equal_the_ledger_and_reserves_are_what_open_orders_need(
    seed: int, depth: int, steps: list[tuple[str, Any]]
) -> None:
    exchange = new_exchange(seed, depth=depth)
    for what, content in steps:
        take(exchange, what, content)
        assert_books_add_up(exchange)


@given(seed=st.integers(0, 1000), steps=st.lists(STEPS))
def test_who_applies_the_frames_knows_what_the_exchange_knows(
    seed: int, steps: list[tuple[str, Any]]
) -> None:
    exchange = new_exchange(seed)
    seen: dict[str, Frame] = {}
    orders: list[Frame] = []
    sent = exchange.snapshot()
    for what, content in steps:
        sent += take(exchange, what, content)
    for frame in sent:
        assert encode(frame)
        if frame["type"] == "BALANCE_UPDATE":
            seen[frame["data"]["currency"]["shortName"]] = frame["data"]
        elif frame["type"] == "OPEN_ORDERS_UPDATE":
            orders = frame["data"]

    *rest, reported = exchange.snapshot()
    balances = [frame for frame in rest if frame["type"] == "BALANCE_UPDATE"]
    for frame in balances:
        there = frame["data"]
        here = seen[there["currency"]["shortName"]]
        amounts = ("available", "reserved", "total", "updatedAt")
        assert [here[name] for name in amounts] == [there[name] for name in amounts]
    assert orders == reported["data"]


def test_an_account_left_to_itself_trades_and_its_books_add_up() -> None:
    exchange, kinds = new_exchange(seed=3), set()
    clock = exchange.clock
    assert isinstance(clock, HandClock)
    for _ in range(600):
        clock.pass_s(0.5)
        for frame in exchange.tick() + act_at_random(exchange):
            kinds.add(frame["type"])
    assert_books_add_up(exchange)
    assert kinds >= {
        "NEW_ACCOUNT_TRADE",
        "ORDER_STATUS_UPDATE",
        "NEW_PENDING_RECEIVE",
        "SEND_STATUS_UPDATE",
        "OPEN_ORDERS_UPDATE",
    }
