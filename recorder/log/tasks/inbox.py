"""The bounded queue before the log.

Everything that is to become an event goes through one `Inbox` per process, in the order in which
it happened. It is bounded in frames and in bytes: when it is full, the reader of the socket waits,
and TCP holds the rest. Facts of our own are few and always taken, so that every fault is
recorded.

An `Entry` is a frame's draft alone, or drafts together with row changes that belong into the same
transaction (`Submission`): a claim and its ``sent`` event are durable together or not at all.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from itertools import chain
from typing import TypeVar

import trio
from attrs import define, field
from sqlalchemy import Connection

from recorder.errors import ConfigurationError, LeaseLost, StorageFailed
from recorder.log.rules.event import Draft, Origin

E = TypeVar("E", bound=BaseException)

#: What one event weighs beside its payload, roughly: the object, its fields, the queue's slot.
DRAFT_OVERHEAD_BYTES = 400
#: One transaction takes at most this many events …
BATCH_FRAMES_MAX = 1_024
#: … and stops growing past this size, so that one commit stays short.
BATCH_BYTES_MAX = 4 * 1024 * 1024


#: The position that the next event of an account will have.
NextPosition = Callable[[str], int]


@define(eq=False)
class Submission:
    """Drafts that are appended together with row changes, durable together or not at all.

    ``decide(connection, next_position)`` runs in the transaction, before the append, and returns
    the drafts, or none, or None to leave it at that; without it they are ``drafts``. The first of
    them will stand at ``next_position(account)``. ``record(connection, positions)`` runs after the
    append. Both must be repeatable, because a transaction that failed is run again. ``outcome`` is
    set after the COMMIT: the positions given, or None.
    """

    drafts: Sequence[Draft] = ()
    decide: Callable[[Connection, NextPosition], Sequence[Draft] | None] | None = None
    record: Callable[[Connection, Sequence[int]], None] | None = None
    #: Both use `storage.prepared` alone and decide upon little, so the whole may be a pipeline.
    is_plain: bool = False
    outcome: Sequence[int] | None = None
    committed: trio.Event = field(factory=trio.Event)


Entry = Draft | Submission


@define(eq=False)
class Inbox:
    """What waits for the log. ``frames_max`` and ``bytes_max`` bound what frames may fill."""

    frames_max: int
    bytes_max: int
    frames: int = 0
    bytes: int = 0
    _entries: deque[Entry] = field(factory=deque)
    #: What was taken for a transaction and is not durable yet, and its weight.
    _batch: Sequence[Entry] = ()
    _taken: int = 0
    _closed: bool = False
    _is_waited_for: bool = False
    #: Submissions that wait: their callers wait for the commit.
    _submissions: int = 0
    _arrival: trio.lowlevel.ParkingLot = field(factory=trio.lowlevel.ParkingLot)
    _room: trio.lowlevel.ParkingLot = field(factory=trio.lowlevel.ParkingLot)

    @property
    def is_full(self) -> bool:
        """True when frames have to wait outside."""
        return self.frames >= self.frames_max or self.bytes >= self.bytes_max

    @property
    def received(self) -> int:
        """How many frames of the exchange wait or are under way, without facts of our own."""
        received = Origin.RECEIVED.value
        waiting = chain(self._batch, self._entries)
        return sum(type(each) is Draft and each.origin == received for each in waiting)

    @property
    def is_busy(self) -> bool:
        """True when more waits than one transaction takes."""
        return self.frames > BATCH_FRAMES_MAX

    @property
    def has_waiting_submissions(self) -> bool:
        """True when a caller waits for what is to be written next."""
        return self._submissions > 0

    def put(self, entry: Entry) -> None:
        """Queue an entry, full or not. For facts of our own, and for frames after `wait_room`."""
        if self._closed:
            raise trio.ClosedResourceError("the log takes nothing more")
        self._entries.append(entry)
        self._submissions += type(entry) is Submission
        self.frames += 1
        self.bytes += _weight(entry)
        if self._is_waited_for:
            self._arrival.unpark()

    async def wait_room(self) -> None:
        """Return when the inbox isn't full."""
        while self.is_full:
            await self._room.park()

    async def submit(self, submission: Submission) -> Sequence[int] | None:
        """Queue it and return its positions once they are durable; None if not permitted.

        Cancelled while waiting, the submission stays queued: its outcome is then in the log alone.
        """
        self.put(submission)
        await submission.committed.wait()
        return submission.outcome

    async def take(self) -> list[Entry]:
        """Return the next entries for one transaction; an empty list once closed and drained."""
        while not self._entries:
            if self._closed:
                return []
            self._is_waited_for = True
            try:
                await self._arrival.park()
            finally:
                self._is_waited_for = False
        batch: list[Entry] = []
        weight = 0
        while self._entries and len(batch) < BATCH_FRAMES_MAX and weight < BATCH_BYTES_MAX:
            entry = self._entries.popleft()
            weight += _weight(entry)
            batch.append(entry)
            self._submissions -= type(entry) is Submission
        # The batch keeps its room until it is durable: what is held in memory stays bounded.
        self._batch, self._taken = batch, weight
        return batch

    def settle(self, batch: Sequence[Entry]) -> None:
        """Free the room of a batch that is durable now."""
        self.frames -= len(batch)
        self.bytes -= self._taken
        self._batch, self._taken = (), 0
        if not self.is_full:
            self._room.unpark_all()

    def close(self) -> None:
        """Take nothing more; what is queued can still be taken out."""
        self._closed = True
        self._arrival.unpark_all()


def _weight(entry: Entry) -> int:
    if type(entry) is Draft:
        return len(entry.payload) + DRAFT_OVERHEAD_BYTES
    assert isinstance(entry, Submission)
    return sum(map(_weight, entry.drafts)) + DRAFT_OVERHEAD_BYTES


def with_unwritten(error: E, inbox: Inbox) -> E:
    """Return the error with the number of events that were received and are not written now."""
    kinds = (StorageFailed, LeaseLost, ConfigurationError)
    if not isinstance(error, kinds) or not inbox.frames:
        return error
    return type(error)(f"{error}\n{inbox.received} events were received but not written")
