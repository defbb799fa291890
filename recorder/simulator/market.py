"""Pairs, their rules, and prices that walk at random from a seed."""

from __future__ import annotations

import random
from decimal import ROUND_DOWN, Decimal

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

    dice: random.Random
    depth: int
    prices: dict[str, Decimal] = field(factory=_first_prices)

    def move(self) -> None:
        """Let every price take a step."""
        for symbol, price in self.prices.items():
            moved = price * (BASIS + self.dice.randint(-STEP_BP_MAX, STEP_BP_MAX)) / BASIS
            self.prices[symbol] = max(_cut(moved, PAIRS[symbol].tick), PAIRS[symbol].tick)

    def touch(self, symbol: str, side: str) -> Decimal:
        """Return the price at which an order of this side meets the first resting one."""
        pair, price = PAIRS[symbol], self.prices[symbol]
        if side == "buy":
            return _cut(price * (BASIS + HALF_SPREAD_BP) / BASIS, pair.tick) + pair.tick
        return max(_cut(price * (BASIS - HALF_SPREAD_BP) / BASIS, pair.tick), pair.tick)

    def crosses(self, symbol: str, side: str, price: Decimal) -> bool:
        """Tell whether an order at this price would be executed at once."""
        touch = self.touch(symbol, side)
        return price >= touch if side == "buy" else price <= touch

    def reaches(self, symbol: str, side: str, price: Decimal) -> bool:
        """Tell whether the market has come to an order that rests at this price."""
        here = self.prices[symbol]
        return here <= price if side == "buy" else here >= price

    def takable(self, symbol: str) -> Decimal:
        """Return the quantity that one order finds at the touch."""
        return PAIRS[symbol].least * self.depth

    def bought_for(self, symbol: str, side: str, quote_amount: Decimal) -> Decimal:
        """Return the quantity that an amount of the quote currency pays for, rounded down."""
        return _cut(quote_amount / self.touch(symbol, side), PAIRS[symbol].step)

    def part(self, symbol: str, remaining: Decimal) -> Decimal:
        """Return how much of a resting order somebody takes: two times in three all of it."""
        if self.dice.random() < 2 / 3:
            return remaining
        return _cut(remaining * self.dice.randint(1, 9) / 10, PAIRS[symbol].step) or remaining

    def in_rand(self, currency: str) -> Decimal:
        """Return the price of one unit in rand; 1 for what isn't traded against it."""
        return self.prices.get(f"{currency}ZAR", Decimal(1))


def _cut(amount: Decimal, step: Decimal) -> Decimal:
    return (amount / step).to_integral_value(ROUND_DOWN) * step
