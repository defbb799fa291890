"""What happens at the exchange by itself: prices move, and the account has a life of its own."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING

import trio

if TYPE_CHECKING:
    from recorder.simulator.server import Simulator


async def live_a_little(simulator: Simulator) -> None:
    """Tick for ever; with ``autoplay``, deposit, reward and withdraw now and then."""
    exchange, config = simulator.exchange, simulator.config
    while True:
        await trio.sleep(config.tick_s)
        await simulator.emit_all(exchange.tick())
        if not config.autoplay:
            continue
        chance = exchange.dice.random()
        if chance < 0.03:
            await simulator.emit_all(exchange.deposit("ETH", Decimal("0.25")))
        elif chance < 0.06:
            await simulator.emit_all(exchange.reward("USDC", Decimal("0.5")))
        elif chance < 0.08:
            await simulator.emit_all(exchange.withdraw("ZAR", Decimal("150")))
