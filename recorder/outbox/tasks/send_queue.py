"""Passes commands from the commander to the task that owns the socket."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import trio
from attrs import define, field
from sqlalchemy import Connection

from recorder.log.rules.event import Draft
from recorder.log.tasks.inbox import NextPosition, Submission
from recorder.outbox.sql.dispatch import ClaimedCommand

#: Dispatches and PINGs waiting for the socket. More means that the exchange no longer reads.
WAITING_MAX = 64


@define(eq=False)
class Dispatch:
    """Commands on their way out, which ones being decided at the last moment.

    ``claim`` runs in the transaction that also writes the ``sent`` events: given a connection's id
    and the position of the next event, it returns what may go. ``record`` records those events'
    positions in it; ``mark_sent`` follows once the bytes of some are with the kernel. All three are
    repeatable.
    """

    claim: Callable[[Connection, str, int], Sequence[ClaimedCommand]]
    record: Callable[[Connection, Sequence[ClaimedCommand], Sequence[int]], None]
    mark_sent: Callable[[Connection, Sequence[ClaimedCommand], Sequence[int]], None]
    #: Asked of each once more before its first byte: time may have passed since the claim.
    may_go: Callable[[ClaimedCommand], bool]
    #: ``claim`` and ``record`` are as plain as `Submission.is_plain` reports.
    is_plain: bool = False
    #: True once what was taken is durable.
    is_committed: bool = False
    #: Set when the socket's task is through with it.
    done: trio.Event = field(factory=trio.Event)


@define(eq=False)
class SendQueue:
    """The account's present connection, if it is authenticated."""

    _channel: trio.MemorySendChannel[Dispatch] | None = None
    _up: trio.Event = field(factory=trio.Event)
    _handing: trio.CancelScope = field(factory=trio.CancelScope)

    def open(self, channel: trio.MemorySendChannel[Dispatch]) -> None:
        """Report that commands may go through this channel."""
        self._channel = channel
        self._up.set()

    def close(self) -> None:
        """Report that there is no authenticated connection any more."""
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

    async def hand_over(self, dispatch: Dispatch) -> None:
        """Give a dispatch to the socket's task; return when that is through with it.

        Returns as well when the connection ends first. What became of its commands then, the rows
        and the log report: they may be queued still, or claimed.
        """
        if self._channel is None:
            return
        with trio.CancelScope() as self._handing:
            try:
                await _send(self._channel, dispatch)
            except trio.BrokenResourceError:
                # The session's sender is gone already, and the session is about to end.
                self.close()
                return
            await dispatch.done.wait()


async def _send(channel: trio.MemorySendChannel[Dispatch], dispatch: Dispatch) -> None:
    """Put it into the channel, before another runs if there is room."""
    try:
        channel.send_nowait(dispatch)
    except trio.WouldBlock:
        await channel.send(dispatch)


@define(eq=False)
class Claiming:
    """One dispatch in the log's transaction, and what the last try of it took."""

    dispatch: Dispatch
    account: str
    connection_id: str
    drafts: Callable[[ClaimedCommand], list[Draft]]
    taken: Sequence[ClaimedCommand] = ()

    def decide(self, connection: Connection, next_position: NextPosition) -> list[Draft]:
        """Take what may go; return the events of that."""
        position = next_position(self.account)
        self.taken = self.dispatch.claim(connection, self.connection_id, position)
        return [draft for taken in self.taken for draft in self.drafts(taken)]

    def record(self, connection: Connection, positions: Sequence[int]) -> None:
        """Record where the ``sent`` events stand."""
        self.dispatch.record(connection, self.taken, positions[1::2])


def claim_facts(taken: ClaimedCommand) -> dict[str, object]:
    """Return the facts of a note about a command."""
    return {"outbox_id": taken.outbox_id, "client_msg_id": taken.client_msg_id}


def mark_all_sent(dispatch: Dispatch, sent: Sequence[tuple[ClaimedCommand, int]]) -> Submission:
    """Return what reports on the rows that the kernel has the bytes, with the events' positions."""
    taken, positions = [each for each, _ in sent], [position for _, position in sent]

    def record(connection: Connection, _: Sequence[int]) -> None:
        dispatch.mark_sent(connection, taken, positions)

    return Submission(record=record, is_plain=True)
