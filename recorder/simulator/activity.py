"""What an account sees without commands of its own: as if its owner used the web site as well."""

from __future__ import annotations

from decimal import Decimal

from recorder.simulator.engine import Exchange
from recorder.simulator.frames import Frame
from recorder.simulator.market import PAIRS
from recorder.simulator.requests import Placing

#: With more orders of its own than this, the account cancels one instead of placing another.
OWN_ORDERS_MAX = 5
#: How often something happens in a tick, and the shares of what it is, in percent.
BUSY = 0.4
SHARES = {"order": 60, "market": 12, "reward": 10, "deposit": 10, "withdraw": 8}


def act_at_random(exchange: Exchange) -> list[Frame]:
    """Do something now and then, decided by the exchange's random numbers; return the frames to be
    sent.
    """
    rng = exchange.rng
    if rng.random() > BUSY:
        return []
    (what,) = rng.choices(list(SHARES), list(SHARES.values()))
    if what == "reward":
        return exchange.reward("USDC", Decimal(rng.randint(1, 200)) / 100)
    if what == "deposit":
        return exchange.deposit("ETH", Decimal(rng.randint(1, 50)) / 1000)
    if what == "withdraw":
        return exchange.withdraw("ZAR", Decimal(rng.randint(50, 300)))
    if what == "market":
        pair, side = _pair_and_side(exchange)
        placing = Placing(pair, side, quote_amount=Decimal(rng.randint(100, 900)))
        exchange.trading.place(placing)
        return exchange.account.take()
    return _order(exchange)


def _order(exchange: Exchange) -> list[Frame]:
    """Place a post-only order near the price, or cancel the oldest of these if there are many."""
    own = [each for each in exchange.open_orders() if each.customer_order_id is None]
    if len(own) > OWN_ORDERS_MAX:
        exchange.trading.cancel(own[0])
        return exchange.account.take()
    symbol, side = _pair_and_side(exchange)
    pair, rng = PAIRS[symbol], exchange.rng
    away = pair.tick + exchange.account.market.prices[symbol] * rng.randint(10, 60) // 10_000
    away -= away % pair.tick
    touch = exchange.account.market.touch(symbol, side)
    price = touch - away if side == "buy" else touch + away
    quantity = pair.least * rng.randint(20, 200)
    exchange.trading.place(
        Placing(symbol, side, quantity, price, post_only=True, time_in_force="GTC")
    )
    return exchange.account.take()


def _pair_and_side(exchange: Exchange) -> tuple[str, str]:
    return exchange.rng.choice(("BTCZAR", "ETHZAR")), exchange.rng.choice(("buy", "sell"))
