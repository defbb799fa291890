"""A WebSocket that hands over what came in one piece of reading all at once.

trio-websocket passes message by message through a channel between two tasks: a turn of the event
loop for each, and with it the interpreter's lock, which every other thread then reaches for. A
burst of a thousand small frames cost more for that than for everything else done with them. So the
channel is put aside: its reader's messages are kept here, in order, until the next reader takes
them all. The reader waits where more is held than `HELD_MAX` or `HELD_BYTES_MAX`, so a reader of
ours that stops still stops the socket, and TCP holds the rest.

Three names of trio-websocket that are not public are used here and nowhere else: the channel, the
reader's task, and the event that the handshake sets. `pyproject.toml` bounds the version for it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import trio
from attrs import define, field
from trio_websocket import ConnectionClosed, WebSocketConnection
from wsproto import ConnectionType, WSConnection

#: More than so many messages, or bytes and characters of them and one more message, aren't held.
HELD_MAX = 512
HELD_BYTES_MAX = 65_536
#: Read from the kernel in pieces of this size.
RECEIVE_BUFFER_BYTES = 65_536

Message = str | bytes


@define(eq=False)
class Arrivals(trio.abc.SendChannel[Message]):
    """What came and was not taken yet. One task sends, one takes."""

    _held: list[Message] = field(factory=list)
    _weight: int = 0
    _is_closed: bool = False
    #: No reader is left: what arrives now is dropped.
    _is_left: bool = False
    _arrival: trio.lowlevel.ParkingLot = field(factory=trio.lowlevel.ParkingLot)
    _room: trio.lowlevel.ParkingLot = field(factory=trio.lowlevel.ParkingLot)

    async def send(self, value: Message) -> None:
        """Hold a message; wait where that makes too many. No checkpoint otherwise."""
        if self._is_left:
            return
        self._held.append(value)
        self._weight += len(value)
        self._arrival.unpark_all()
        while self._is_too_much() and not self._is_left:
            await self._room.park()

    async def aclose(self) -> None:
        """Report that nothing more comes; what is held can still be taken."""
        self._is_closed = True
        self._arrival.unpark_all()
        await trio.lowlevel.checkpoint()

    def leave(self) -> list[Message]:
        """Take what is held, and nothing any more."""
        self._is_left = True
        return self._empty()

    async def take(self) -> list[Message]:
        """Return what is held, in order, one message at least. Raises EndOfChannel at the end."""
        while not self._held:
            if self._is_closed or self._is_left:
                raise trio.EndOfChannel
            await self._arrival.park()
        return self._empty()

    def _empty(self) -> list[Message]:
        held, self._held, self._weight = self._held, [], 0
        self._room.unpark_all()
        return held

    def _is_too_much(self) -> bool:
        return len(self._held) >= HELD_MAX or self._weight >= HELD_BYTES_MAX


class Wire(WebSocketConnection):
    """A client's WebSocket that is read with `messages`; its `get_message` has nothing to give."""

    def __init__(
        self,
        stream: trio.abc.Stream,
        host: str,
        path: str,
        headers: Sequence[tuple[str, str]],
        max_message_bytes: int,
    ) -> None:
        super().__init__(
            # The annotation names trio's two network streams; any Stream does.
            cast(trio.SocketStream, stream),
            WSConnection(ConnectionType.CLIENT),
            host=host,
            path=path,
            client_extra_headers=[(name.encode(), value.encode()) for name, value in headers],
            max_message_size=max_message_bytes,
            receive_buffer_size=RECEIVE_BUFFER_BYTES,
        )
        self._arrivals = Arrivals()
        self._send_channel = cast(trio.MemorySendChannel[Message], self._arrivals)

    async def open(self, nursery: trio.Nursery) -> None:
        """Start the reader in ``nursery``; return once the upgrade is agreed to.

        The nursery fails with ConnectionRejected where it is refused.
        """
        nursery.start_soon(self._reader_task)
        await self._open_handshake.wait()

    @property
    def is_open(self) -> bool:
        """True once the upgrade was agreed to, whatever came of the line since."""
        return self._open_handshake.is_set()

    async def messages(self) -> list[Message]:
        """Return what came since the last call, in order; wait where nothing did.

        Raises ConnectionClosed once the connection has ended and everything was taken.
        """
        try:
            return await self._arrivals.take()
        except trio.EndOfChannel:
            raise ConnectionClosed(self.closed) from None

    def leave(self) -> list[Message]:
        """Return what came and was not taken, and drop what comes from now on."""
        return self._arrivals.leave()
