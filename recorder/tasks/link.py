"""Where the commander meets the socket: whether there is one, and how to hand it a command."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import trio
from attrs import define, field, frozen
from sqlalchemy import Connection

#: Commands and PINGs waiting for the socket. More means that the exchange no longer reads.
WAITING_MAX = 64


@frozen
class Outgoing:
    """A command on its way out.

    ``claim`` runs in the transaction that also writes the ``sent`` event and says whether the row
    may go; ``placed`` records that event's position; ``written`` follows once the bytes are with
    the kernel. All three are repeatable units.
    """

    text: str
    outbox_id: int
    client_msg_id: str
    claim: Callable[[Connection, str], bool]
    placed: Callable[[Connection, Sequence[int]], None]
    written: Callable[[Connection, int], None]
    #: Set when the socket's task is through with it, sent or not.
    done: trio.Event = field(factory=trio.Event)


@define(eq=False)
class Link:
    """The account's present connection, if it is authenticated."""

    _channel: trio.MemorySendChannel[Outgoing] | None = None
    _up: trio.Event = field(factory=trio.Event)
    _handing: trio.CancelScope = field(factory=trio.CancelScope)

    def open(self, channel: trio.MemorySendChannel[Outgoing]) -> None:
        """Say that commands may go through this channel."""
        self._channel = channel
        self._up.set()

    def close(self) -> None:
        """Say that there is no authenticated connection any more."""
        if self._channel is not None:
            self._channel.close()
            self._channel = None
            self._up = trio.Event()
            self._handing.cancel()

    @property
    def is_open(self) -> bool:
        """True while commands may go."""
        return self._channel is not None

    async def wait_open(self) -> None:
        """Return when commands may go."""
        await self._up.wait()

    async def hand_over(self, outgoing: Outgoing) -> None:
        """Give a command to the socket's task; return when that is through with it.

        Returns as well when the connection ends first. What became of the command then, the row and
        the log say: it may be queued still, or claimed.
        """
        if self._channel is None:
            return
        with trio.CancelScope() as self._handing:
            try:
                await self._channel.send(outgoing)
            except trio.BrokenResourceError:
                # The session's sender is gone already, and the session is about to say so.
                self.close()
                return
            await outgoing.done.wait()
