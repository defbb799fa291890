"""Pairs, their rules, and prices that walk at random from a seed."""

from __future__ import annotations

import random
from collections.abc import Iterator
from datetime import datetime
from decimal import ROUND_DOWN, Decimal
from typing import Any

from attrs import define, field, frozen


@frozen
class Pair:
    """One market. ``tick`` is the price's step, ``step`` the quantity's, ``least`` its minimum."""

    symbol: str
    base: str
    quote: str
    tick: Decimal
    least: Decimal
    step: Decimal
    first_price: Decimal


def _pair(base: str, quote: str, tick: str, least: str, step: str, first_price: str) -> Pair:
    numbers = (Decimal(each) for each in (tick, least, step, first_price))
    return Pair(f"{base}{quote}", base, quote, *numbers)


PAIRS = {
    pair.symbol: pair
    for pair in (
        _pair("BTC", "ZAR", "1", "0.00001", "0.00000001", "1200000"),
        _pair("ETH", "ZAR", "1", "0.0001", "0.00000001", "42000"),
        _pair("USDC", "ZAR", "0.01", "1", "0.01", "18.2"),
        _pair("USDT", "ZAR", "0.01", "1", "0.01", "18.2"),
        _pair("BTC", "USDC", "0.1", "0.00001", "0.00000001", "66000"),
        _pair("BTC", "USDT", "0.1", "0.00001", "0.00000001", "66000"),
    )
}
#: Basis points: how far a price moves at most in one step, and best bid and ask from the price.
STEP_BP_MAX = 20
HALF_SPREAD_BP = 5
BASIS = 10_000


def _first_prices() -> dict[str, Decimal]:
    return {symbol: pair.first_price for symbol, pair in PAIRS.items()}


@define(eq=False)
class Market:
    """The prices of all pairs. Others rest at bid and ask with ``depth`` smallest quantities."""

    rng: random.Random
    depth: int
    prices: dict[str, Decimal] = field(factory=_first_prices)

    def move(self) -> None:
        """Let every price take a step."""
        for symbol, price in self.prices.items():
            moved = price * (BASIS + self.rng.randint(-STEP_BP_MAX, STEP_BP_MAX)) / BASIS
            self.prices[symbol] = max(_cut(moved, PAIRS[symbol].tick), PAIRS[symbol].tick)

    def touch(self, symbol: str, side: str) -> Decimal:
        """Return the price at which an order of this side meets the first resting one."""
        pair, price = PAIRS[symbol], self.prices[symbol]
        if side == "buy":
            return _cut(price * (BASIS + HALF_SPREAD_BP) / BASIS, pair.tick) + pair.tick
        return max(_cut(price * (BASIS - HALF_SPREAD_BP) / BASIS, pair.tick), pair.tick)

    def crosses(self, symbol: str, side: str, price: Decimal) -> bool:
        """Return whether an order at this price would be executed at once."""
        touch = self.touch(symbol, side)
        return price >= touch if side == "buy" else price <= touch

    def reaches(self, symbol: str, side: str, price: Decimal) -> bool:
        """Return whether the market has come to an order that rests at this price."""
        here = self.prices[symbol]
        return here <= price if side == "buy" else here >= price

    def takable(self, symbol: str) -> Decimal:
        """Return the quantity that one order finds at the touch."""
        return PAIRS[symbol].least * self.depth

    def bought_for(self, symbol: str, side: str, quote_amount: Decimal) -> Decimal:
        """Return the quantity that an amount of the quote currency pays for, rounded down."""
        return _cut(quote_amount / self.touch(symbol, side), PAIRS[symbol].step)

    def part(self, symbol: str, remaining: Decimal) -> Decimal:
        """Return how much of a resting order the market takes: two times in three all of it."""
        if self.rng.random() < 2 / 3:
            return remaining
        return _cut(remaining * self.rng.randint(1, 9) / 10, PAIRS[symbol].step) or remaining

    def in_rand(self, currency: str) -> Decimal:
        """Return the price of one unit in rand; 1 for what isn't traded against it."""
        return self.prices.get(f"{currency}ZAR", Decimal(1))


def _cut(amount: Decimal, step: Decimal) -> Decimal:
    return (amount / step).to_integral_value(ROUND_DOWN) * step


LIVE = ("Placed", "Partially Filled", "Order Modified")
ZERO = Decimal(0)


@define(eq=False)
class Order:
    """One order. ``held`` is what is reserved for its rest, ``price`` its limit."""

    order_id: str
    pair: str
    side: str
    kind: str
    price: Decimal
    quantity: Decimal
    remaining: Decimal
    time_in_force: str
    created_at: datetime
    updated_at: datetime
    customer_order_id: str | None = None
    status: str = "Placed"
    reason: str = ""
    held: Decimal = ZERO
    #: Of all its fills: what was paid or received for them, and the fees.
    turnover: Decimal = ZERO
    fees: Decimal = ZERO
    #: Every state it was in, oldest first, with the members of ORDER_STATUS_UPDATE.
    states: list[dict[str, Any]] = field(factory=list)

    @property
    def executed(self) -> Decimal:
        """What was filled so far."""
        return self.quantity - self.remaining

    @property
    def is_live(self) -> bool:
        """True while it may still be executed. Only then its status may be one of LIVE."""
        return self.status in LIVE

    @property
    def post_only(self) -> bool:
        """True if it may only rest."""
        return self.kind == "post-only limit"


@define(eq=False)
class Orders:
    """All orders ever taken or refused, oldest first."""

    all: dict[str, Order] = field(factory=dict)
    _live: dict[str, Order] = field(factory=dict)

    def add(self, order: Order) -> None:
        """Remember an order."""
        self.all[order.order_id] = self._live[order.order_id] = order

    def live(self) -> list[Order]:
        """Return what may still be executed, oldest first."""
        self._live = {each.order_id: each for each in self._live.values() if each.is_live}
        return list(self._live.values())

    def find_live(self, order_id: str | None, name: str | None) -> Order | None:
        """Return the live order of this id, or else of this customerOrderId."""
        if order_id is not None:
            found = self.all.get(order_id)
            return found if found is not None and found.is_live else None
        return next((each for each in self.live() if each.customer_order_id == name), None)

    def named(self, name: str) -> Iterator[Order]:
        """Give the orders that ever had this customerOrderId, newest first."""
        return (each for each in reversed(self.all.values()) if each.customer_order_id == name)
