"""What an account sees without commands of its own: an owner at the web site, or a load.

A load is many frames at once, for benchmarks: encoded before the first is sent, and true to the
books.
"""

from __future__ import annotations

from decimal import Decimal

import trio
from wsproto import ConnectionType
from wsproto.connection import Connection
from wsproto.events import TextMessage

from recorder.simulator.config import Flood
from recorder.simulator.engine import Exchange
from recorder.simulator.frames import Frame, encode
from recorder.simulator.hub import Simulator
from recorder.simulator.market import PAIRS
from recorder.simulator.peer import Peer
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


#: Bytes handed to the kernel at once when no rate is asked for.
CHUNK_BYTES = 262_144
#: Frames encoded before others get a turn.
ENCODED_AT_ONCE = 1_000
#: Seconds between two portions when there is one.
PORTION_S = 0.01


async def flood(simulator: Simulator, peer: Peer) -> None:
    """Send what the configuration asks for to a client that has just got its snapshot."""
    wanted = simulator.config.flood
    if wanted is None:
        return
    await peer.flush()
    frames: list[bytes] = []
    while len(frames) < wanted.frames:
        frames += wire_frames(simulator.exchange, min(ENCODED_AT_ONCE, wanted.frames - len(frames)))
        await trio.lowlevel.checkpoint()
    if wanted.per_s:
        await _at_rate(peer, frames, wanted)
    else:
        for portion in _chunks(frames):
            await peer.write_raw(portion)


def wire_frames(exchange: Exchange, count: int) -> list[bytes]:
    """Return so many WebSocket frames: small rewards, each a transaction and a balance."""
    connection = Connection(ConnectionType.SERVER)
    wire: list[bytes] = []
    while len(wire) < count:
        rewarded = exchange.reward("USDC", Decimal("0.01"))
        wire.extend(connection.send(TextMessage(encode(frame))) for frame in rewarded)
    return wire[:count]


def _chunks(frames: list[bytes]) -> list[bytes]:
    chunks: list[bytes] = []
    chunk = bytearray()
    for frame in frames:
        chunk += frame
        if len(chunk) >= CHUNK_BYTES:
            chunks.append(bytes(chunk))
            chunk.clear()
    return [*chunks, bytes(chunk)]


async def _at_rate(peer: Peer, frames: list[bytes], wanted: Flood) -> None:
    began, sent = trio.current_time(), 0
    while sent < len(frames):
        due = min(int((trio.current_time() - began) * wanted.per_s) + 1, len(frames))
        await peer.write_raw(b"".join(frames[sent:due]))
        sent = due
        await trio.sleep(PORTION_S)
