"""Many frames at once, for benchmarks: encoded before the first is sent, and true to the books."""

from __future__ import annotations

from decimal import Decimal

import trio
from wsproto import ConnectionType
from wsproto.connection import Connection
from wsproto.events import TextMessage

from recorder.simulator.config import Flood
from recorder.simulator.engine import Exchange
from recorder.simulator.frames import encode
from recorder.simulator.hub import Simulator
from recorder.simulator.peer import Peer

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
