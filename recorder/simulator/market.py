"""Pairs, their rules, and prices that walk at random from a seed."""

from __future__ import annotations

import random
from decimal import ROUND_DOWN, Decimal

from attrs import define, field, frozen


@frozen
class Pair:
    """One market. ``tick`` is the price's step, ``least`` the smallest quantity."""

    symbol: str
    base: str
    quote: str
    tick: Decimal
    least: Decimal
    step: Decimal


PAIRS = {
    pair.symbol: pair
    for pair in (
        Pair("BTCZAR", "BTC", "ZAR", Decimal("1"), Decimal("0.00001"), Decimal("0.00000001")),
        Pair("ETHZAR", "ETH", "ZAR", Decimal("1"), Decimal("0.0001"), Decimal("0.00000001")),
        Pair("BTCUSDC", "BTC", "USDC", Decimal("0.1"), Decimal("0.00001"), Decimal("0.00000001")),
        Pair("USDCZAR", "USDC", "ZAR", Decimal("0.01"), Decimal("1"), Decimal("0.01")),
    )
}
FIRST_PRICES = {
    "BTCZAR": Decimal("1200000"),
    "ETHZAR": Decimal("42000"),
    "BTCUSDC": Decimal("66000"),
    "USDCZAR": Decimal("18.2"),
}
#: Hundredths of a percent that a price moves at most in one step.
STEP_MAX = 20
#: Distance of best bid and ask from the price, in hundredths of a percent.
HALF_SPREAD = 5


@define
class Market:
    """The prices of all pairs."""

    dice: random.Random
    prices: dict[str, Decimal] = field(factory=lambda: dict(FIRST_PRICES))

    def move(self) -> None:
        """Let every price take a step."""
        for symbol, price in self.prices.items():
            moved = price * (10_000 + self.dice.randint(-STEP_MAX, STEP_MAX)) / 10_000
            self.prices[symbol] = max(self.on_tick(symbol, moved), PAIRS[symbol].tick)

    def bid(self, symbol: str) -> Decimal:
        """Return what somebody pays."""
        return self.on_tick(symbol, self.prices[symbol] * (10_000 - HALF_SPREAD) / 10_000)

    def ask(self, symbol: str) -> Decimal:
        """Return what somebody asks."""
        lowest = self.on_tick(symbol, self.prices[symbol] * (10_000 + HALF_SPREAD) / 10_000)
        return lowest + PAIRS[symbol].tick

    def on_tick(self, symbol: str, price: Decimal) -> Decimal:
        """Return the price cut to the pair's step."""
        tick = PAIRS[symbol].tick
        return (price / tick).to_integral_value(ROUND_DOWN) * tick
