"""One client's WebSocket, from the moment its upgrade was accepted.

wsproto does the protocol. A sender posts a frame, without waiting; one task writes
them in that order. So frames that belong together stay together, whatever happens meanwhile, and a
client that doesn't read delays no other.
"""

from __future__ import annotations

import math
import socket
import struct
from collections.abc import Awaitable, Callable

import trio
from attrs import define, field
from wsproto import ConnectionType, WSConnection
from wsproto.events import (
    AcceptConnection,
    BytesMessage,
    CloseConnection,
    Event,
    Ping,
    TextMessage,
)
from wsproto.utilities import LocalProtocolError, RemoteProtocolError

from recorder.simulator.faults import Faults
from recorder.simulator.http import Asked

RECEIVE_BYTES = 65_536
#: A client that has left so many frames unread is cut off.
UNREAD_FRAMES_MAX = 100_000
#: A client's frame longer than this is refused with 1009; VALR's limit isn't known.
FRAME_CHARS_MAX = 1_000_000
#: How long a client may take to read the last frames and answer a close, in seconds.
GOODBYE_S = 1.0
#: What trio raises when the other side is gone, or this one.
GONE = (trio.BrokenResourceError, trio.ClosedResourceError)

Sent = Callable[["Peer", str], None]
#: When it is due, by trio's clock, and what it is.
_Posted = tuple[float, Event]


@define(eq=False)
class Peer:
    """An open WebSocket to one client. ``number`` counts connections from 1."""

    stream: trio.abc.Stream
    number: int
    faults: Faults
    #: Reported each text frame that was handed to the kernel.
    on_sent: Sent
    is_authenticated: bool = False
    cancels_on_disconnect: bool = False
    #: Types of frames that the client doesn't want.
    muted: set[str] = field(factory=set)
    _scope: trio.CancelScope = field(factory=trio.CancelScope)
    _protocol: WSConnection = field(factory=lambda: WSConnection(ConnectionType.SERVER))
    #: Frames posted and not yet with the kernel.
    unread: int = 0
    _flushed: trio.Event = field(factory=trio.Event)
    _post_in: trio.MemorySendChannel[_Posted] = field(init=False)
    _post_out: trio.MemoryReceiveChannel[_Posted] = field(init=False)
    _turn: trio.Lock = field(factory=trio.Lock)
    _parts: list[str] = field(factory=list)
    _is_closing: bool = False

    def __attrs_post_init__(self) -> None:
        """Open the letter box. Its limit is ours to watch: `UNREAD_FRAMES_MAX`."""
        self._post_in, self._post_out = trio.open_memory_channel(math.inf)

    async def accept(self, asked: Asked, left_over: bytes) -> bool:
        """Answer an upgrade with 101; False if it isn't a proper one."""
        try:
            self._protocol.initiate_upgrade_connection(list(asked.raw_headers), asked.path)
            wire = self._protocol.send(AcceptConnection())
        except (RemoteProtocolError, LocalProtocolError):
            return False
        self._protocol.receive_data(left_over)
        await self.stream.send_all(wire)
        return True

    def post(self, frame: str | bytes) -> None:
        """Send a text or binary frame after those posted before."""
        event = TextMessage(frame) if isinstance(frame, str) else BytesMessage(frame)
        for _ in range(2 if self.faults.duplicate else 1):
            self._post(event)

    def close(self, code: int, reason: str = "") -> None:
        """Close politely, after what was posted before. Reading goes on until the client agrees."""
        self._post(CloseConnection(code, reason))

    async def close_politely(self, code: int, reason: str = "") -> None:
        """Close politely and read on until the client agrees, or `GOODBYE_S` after the close."""
        self.close(code, reason)
        with trio.move_on_after(GOODBYE_S):
            while await self.receive(math.inf) is not None:
                pass

    def cut(self, *, reset: bool = False) -> None:
        """End the line without a close frame; with ``reset`` by a TCP reset.

        The socket is closed by the task that serves it, at its next step.
        """
        if reset and isinstance(self.stream, trio.SocketStream):
            linger = struct.pack("ii", 1, 0)
            self.stream.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        self._scope.cancel()

    async def flush(self) -> None:
        """Wait until all that was posted is with the kernel, or never will be."""
        while self.unread and not self.faults.silent and not self._scope.cancel_called:
            await self._flushed.wait()

    async def converse(self, converse_with: Callable[[Peer], Awaitable[None]]) -> None:
        """Write what is posted while ``converse_with`` runs, and a little longer for the last
        frames.
        """
        try:
            with self._scope:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._write_posted)
                    await converse_with(self)
                    self._scope.deadline = trio.current_time() + GOODBYE_S
                    self._post_in.close()
        finally:
            self.unread = 0
            self._flushed.set()

    async def receive(self, idle_s: float) -> str | None:
        """Return the next text frame, None at the end. Answers pings on the way.

        Raises trio.TooSlowError if nothing at all came for ``idle_s``. A binary frame is returned
        as an empty text: binary frames have no meaning here.
        """
        while True:
            for event in self._protocol.events():
                if isinstance(event, Ping):
                    self._post(event.response())
                elif isinstance(event, CloseConnection):
                    if not self._is_closing:
                        self._post(event.response())
                    return None
                elif isinstance(event, BytesMessage) and event.message_finished:
                    return ""
                elif isinstance(event, TextMessage) and (text := self._whole(event)) is not None:
                    return text
            with trio.fail_after(idle_s):
                received = await self._receive_some()
            if self.faults.silent:
                await trio.sleep_forever()
            if not received:
                return None
            self._protocol.receive_data(received)

    async def write_raw(self, wire: bytes) -> None:
        """Write frames that are encoded already, between two posted ones."""
        async with self._turn:
            try:
                await self.stream.send_all(wire)
            except GONE:
                self._scope.cancel()

    async def _receive_some(self) -> bytes:
        try:
            return bytes(await self.stream.receive_some(RECEIVE_BYTES))
        except GONE:
            return b""

    def _whole(self, event: TextMessage) -> str | None:
        self._parts.append(event.data)
        if sum(map(len, self._parts)) > FRAME_CHARS_MAX:
            self._parts.clear()
            self.close(1009, "Frame too long")
        if not event.message_finished:
            return None
        text = "".join(self._parts)
        self._parts.clear()
        return text

    def _post(self, event: Event) -> None:
        if self.unread >= UNREAD_FRAMES_MAX:
            self.cut()
            return
        try:
            self._post_in.send_nowait((trio.current_time() + self.faults.delay_s, event))
        except GONE:  # the conversation is over
            return
        if not self.unread:
            self._flushed = trio.Event()
        self.unread += 1

    async def _write_posted(self) -> None:
        async for due, event in self._post_out:
            await trio.sleep_until(due)
            await self._write(event)
            self.unread -= 1
            if not self.unread:
                self._flushed.set()

    async def _write(self, event: Event) -> None:
        if self.faults.silent or self._is_closing:
            return
        self._is_closing = isinstance(event, CloseConnection)
        try:
            wire = self._protocol.send(event)
        except LocalProtocolError:  # the client has closed meanwhile
            self._scope.cancel()
            return
        await self.write_raw(wire)
        if isinstance(event, TextMessage) and not self._scope.cancel_called:
            self.on_sent(self, event.data)
        if self._is_closing:
            self._scope.deadline = trio.current_time() + GOODBYE_S
