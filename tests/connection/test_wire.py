"""Reading a WebSocket by the piece: order, what a burst costs, what it holds, and how it ends."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio
from trio_websocket import ConnectionClosed, WebSocketConnection, wrap_server_stream
from wsproto.frame_protocol import FrameProtocol

from recorder.connection.wire import HELD_BYTES_MAX, HELD_MAX, RECEIVE_BUFFER_BYTES, Arrivals, Wire

WAIT_MAX_S = 5.0


class Peer:
    """The exchange's end: a WebSocket, and the bare stream below it."""

    def __init__(self, stream: trio.abc.Stream, socket: WebSocketConnection) -> None:
        self.stream = stream
        self.socket = socket

    async def send(self, *texts: str) -> None:
        """Write messages as one piece, as a kernel would hand them over."""
        frames = FrameProtocol(client=False, extensions=[])
        await self.stream.send_all(b"".join(bytes(frames.send_data(each)) for each in texts))


@asynccontextmanager
async def connected(max_message_bytes: int = 2**20) -> AsyncIterator[tuple[Wire, Peer]]:
    ours, theirs = trio.testing.memory_stream_pair()
    wire = Wire(ours, "localhost", "/ws/account", [("X-A", "b")], max_message_bytes)
    peers: list[Peer] = []

    async def accept(nursery: trio.Nursery) -> None:
        request = await wrap_server_stream(nursery, theirs)
        assert (b"x-a", b"b") in [(name.lower(), value) for name, value in request.headers]
        peers.append(Peer(theirs, await request.accept()))

    with trio.fail_after(WAIT_MAX_S):
        async with trio.open_nursery() as nursery:
            async with trio.open_nursery() as opening:
                opening.start_soon(accept, nursery)
                opening.start_soon(wire.open, nursery)
            yield wire, peers[0]
            nursery.cancel_scope.cancel()


async def read(wire: Wire, count: int) -> list[str | bytes]:
    result: list[str | bytes] = []
    while len(result) < count:
        result += await wire.messages()
    return result


async def test_a_burst_comes_in_order_and_in_few_pieces() -> None:
    async with connected() as (wire, peer):
        answer = [f"message {number}" for number in range(400)]
        await peer.send(*answer)
        pieces = [await wire.messages()]
        while sum(map(len, pieces)) < len(answer):
            pieces.append(await wire.messages())
        assert [each for piece in pieces for each in piece] == answer
        # One piece for each read of the socket, not one for each message.
        assert len(pieces) == 1


async def test_text_and_bytes_stay_what_they_are_and_parts_are_put_together() -> None:
    async with connected() as (wire, peer):
        frames = FrameProtocol(client=False, extensions=[])
        parts = frames.send_data("one ", fin=False), frames.send_data("two", fin=True)
        await peer.stream.send_all(b"".join(map(bytes, parts)))
        await peer.socket.send_message(b"\x00\xff")
        assert await read(wire, 2) == ["one two", b"\x00\xff"]


async def test_a_ping_of_the_protocol_is_answered_though_no_task_takes_what_came() -> None:
    async with connected() as (wire, peer):
        await peer.send("not taken yet")
        await peer.socket.ping(b"are you there?")
        assert await read(wire, 1) == ["not taken yet"]


async def test_a_reader_that_stops_stops_the_socket_with_little_held() -> None:
    text = "x" * 1_000
    count = 10 * RECEIVE_BUFFER_BYTES // len(text)
    async with connected() as (wire, peer):
        await peer.send(*[text] * count)
        await trio.testing.wait_all_tasks_blocked()
        held = await wire.messages()
        assert len(held) == HELD_BYTES_MAX // len(text) + 1
        assert held + await read(wire, count - len(held)) == [text] * count


async def test_tiny_messages_are_held_by_number() -> None:
    async with connected() as (wire, peer):
        answer = [str(number) for number in range(3 * HELD_MAX)]
        await peer.send(*answer)
        await trio.testing.wait_all_tasks_blocked()
        first = await wire.messages()
        assert len(first) == HELD_MAX
        assert first + await read(wire, len(answer) - HELD_MAX) == answer


async def test_what_came_before_a_close_is_still_given_and_then_the_close() -> None:
    async with connected() as (wire, peer):
        await peer.send("goodbye")
        await peer.socket.aclose(1001, "maintenance")
        assert await wire.messages() == ["goodbye"]
        with pytest.raises(ConnectionClosed) as closed:
            await wire.messages()
        assert closed.value.reason is not None
        assert (closed.value.reason.code, closed.value.reason.reason) == (1001, "maintenance")


async def test_a_line_that_is_cut_ends_the_reading() -> None:
    async with connected() as (wire, peer):
        await peer.send("a", "b")
        await trio.aclose_forcefully(peer.stream)
        assert await read(wire, 2) == ["a", "b"]
        with pytest.raises(ConnectionClosed) as closed:
            await wire.messages()
        assert closed.value.reason is not None
        assert closed.value.reason.code == 1006


async def test_too_large_a_message_ends_it_and_what_came_before_is_given() -> None:
    async with connected(max_message_bytes=100) as (wire, peer):
        await peer.send("small", "x" * 101)
        assert await wire.messages() == ["small"]
        with pytest.raises(ConnectionClosed) as closed:
            await wire.messages()
        assert closed.value.reason is not None
        assert closed.value.reason.code == 1009


async def test_who_leaves_gets_the_rest_and_closes_politely_in_a_flood() -> None:
    async with connected() as (wire, peer):
        await peer.send(*["x"] * (4 * HELD_MAX))
        await trio.testing.wait_all_tasks_blocked()
        assert wire.leave() == ["x"] * HELD_MAX
        # The reader isn't held up by frames that wait, so the goodbye comes through.
        await wire.aclose()
        assert peer.socket.closed is not None
        assert peer.socket.closed.code == 1000


async def test_a_cancelled_wait_loses_nothing() -> None:
    arrivals = Arrivals()
    with trio.move_on_after(0):
        await arrivals.take()
    await arrivals.send("a")
    assert await arrivals.take() == ["a"]
    await arrivals.aclose()
    with pytest.raises(trio.EndOfChannel):
        await arrivals.take()
