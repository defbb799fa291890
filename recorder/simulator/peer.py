"""One client's WebSocket, from the moment its upgrade was accepted.

wsproto does the protocol; this is its loop. Writing goes through one lock, so that frames of
several tasks never mix.
"""

from __future__ import annotations

import socket
import struct

import trio
from attrs import define, field
from wsproto import ConnectionType, WSConnection
from wsproto.events import (
    AcceptConnection,
    BytesMessage,
    CloseConnection,
    Event,
    Ping,
    Request,
    TextMessage,
)
from wsproto.utilities import LocalProtocolError, RemoteProtocolError

RECEIVE_BYTES = 65_536


@define(eq=False)
class Peer:
    """An open WebSocket to one client. ``number`` counts connections from 1."""

    stream: trio.SocketStream
    number: int
    protocol: WSConnection = field(factory=lambda: WSConnection(ConnectionType.SERVER))
    authenticated: bool = False
    scope: trio.CancelScope = field(factory=trio.CancelScope)
    _turn: trio.Lock = field(factory=trio.Lock)
    _parts: list[str] = field(factory=list)

    async def accept(self, head: bytes) -> bool:
        """Answer the upgrade whose request is ``head``; False if it is none."""
        try:
            self.protocol.receive_data(head)
            if not any(isinstance(event, Request) for event in self.protocol.events()):
                return False
        except RemoteProtocolError:
            return False
        await self._send(AcceptConnection())
        return True

    async def receive(self) -> str | None:
        """Return the next text frame, None at the end. Answers pings on the way."""
        while True:
            for event in self.protocol.events():
                if isinstance(event, Ping):
                    await self._send(event.response())
                elif isinstance(event, CloseConnection):
                    await self._answer_close(event)
                    return None
                elif isinstance(event, TextMessage):
                    self._parts.append(event.data)
                    if event.message_finished:
                        text = "".join(self._parts)
                        self._parts.clear()
                        return text
            received = await self.stream.receive_some(RECEIVE_BYTES)
            if not received:
                return None
            self.protocol.receive_data(received)

    async def send(self, frame: str | bytes) -> None:
        """Send a text or binary frame."""
        await self._send(
            TextMessage(data=frame) if isinstance(frame, str) else BytesMessage(data=frame)
        )

    async def send_raw(self, wire: bytes) -> None:
        """Write frames that are encoded already."""
        async with self._turn:
            await self.stream.send_all(wire)

    async def close(self, code: int, reason: str = "") -> None:
        """Close politely: the close frame, then the socket."""
        await self._send(CloseConnection(code=code, reason=reason))
        await self.stream.aclose()

    async def reset(self) -> None:
        """Cut the line with a TCP reset."""
        linger = struct.pack("ii", 1, 0)
        self.stream.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        await trio.aclose_forcefully(self.stream)

    async def _answer_close(self, event: CloseConnection) -> None:
        try:
            await self._send(event.response())
        except (LocalProtocolError, trio.BrokenResourceError):
            return

    async def _send(self, event: Event) -> None:
        async with self._turn:
            await self.stream.send_all(self.protocol.send(event))
