"""Where the commander meets the socket: whether there is one, and how to hand it a command."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import trio
from attrs import define, field, frozen
from sqlalchemy import Connection

#: Commands and PINGs waiting for the socket. More means that the exchange no longer reads.
WAITING_MAX = 64
#: Commands claimed in one transaction. A crash puts all of them into doubt, so they are few.
TOGETHER_MAX = 8


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
    #: Asked once more before the first byte: time may have passed since the claim.
    may_go: Callable[[], bool] = lambda: True
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

    async def hand_over(self, *commands: Outgoing) -> None:
        """Give commands to the socket's task, in order; return when that is through with them.

        Those handed over together may share a transaction. Returns as well when the connection
        ends first. What became of a command then, the row and the log say: it may be queued still,
        or claimed.
        """
        if self._channel is None:
            return
        with trio.CancelScope() as self._handing:
            try:
                for command in commands:
                    await _send(self._channel, command)
            except trio.BrokenResourceError:
                # The session's sender is gone already, and the session is about to say so.
                self.close()
                return
            for command in commands:
                await command.done.wait()


async def _send(channel: trio.MemorySendChannel[Outgoing], command: Outgoing) -> None:
    """Put a command into the channel, before anybody else runs if there is room."""
    try:
        channel.send_nowait(command)
    except trio.WouldBlock:
        await channel.send(command)
