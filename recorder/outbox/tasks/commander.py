"""Drains the outbox: reports on which terms commands may go now, and hands that to the socket's
task.

It never waits for an answer and keeps nothing in memory that matters: what was claimed stands in
the row and in the log, and what became of it is judged from the log (``storage.settle``). So a
restart changes nothing in how answers are found, and no row is looked at twice for sending.

Which rows go is decided in the log's transaction itself (``storage.dispatch``). The claim is the
point of no return: one statement that takes the row only if it is still queued, not expired,
permitted by the switch, and if our lease's epoch is still the account's. In the same transaction
the command is held against the account's limits. It is committed together with the ``sent`` event
before the first byte goes to the socket.

The exchange takes so many commands of a kind a second; the account's pace keeps below that. What
meets the exchange's rate limit all the same comes back to the queue.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta

import trio
from attrs import define, field
from sqlalchemy import Connection

from recorder.clock import Clock
from recorder.errors import StorageUnavailable
from recorder.exchange.commands import WireNames
from recorder.exchange.token_bucket import CommandPace
from recorder.outbox.rules.selection import Queue, choose_few, is_over
from recorder.outbox.sql import queue as outbox
from recorder.outbox.sql import sending
from recorder.outbox.sql.dispatch import ClaimedCommand, Dispatched, Terms, dispatch, read_queue
from recorder.outbox.tasks.send_queue import Dispatch, SendQueue
from recorder.timestamps import from_us
from recorder.units import UnitRunner

log = logging.getLogger("recorder.commander")

RETRY_S = 0.5
#: Where none of the rows that were tried could be claimed, it is looked again so soon.
REFUSED_S = 0.05
#: Of a queue of this length two commands share a transaction, of a longer one more. Those that do
#: fall into doubt together if the line breaks, so it is one by one as long as that will do.
TOGETHER_PART = 16
TOGETHER_MAX = 16
#: Without a connection the queue is looked at this often for what expires meanwhile.
EXPIRED_LOOK_S = 1.0
#: Where a transaction met what isn't plain (limits, expiry), the next ones are not for so long.
CARE_S = 5.0


@define(eq=False)
class Commander:
    """One account's commander."""

    account: str
    epoch: int
    wire_names: WireNames
    send_queue: SendQueue
    pace: CommandPace
    reader: UnitRunner
    writer: UnitRunner
    clock: Clock
    #: Whether the account is surely ours at this moment. Asked in any thread.
    may_send: Callable[[], bool] = lambda: True
    #: True while it waits to be woken: only then is an effort to do so at once worth it.
    is_idle: bool = False
    _woken: trio.Event = field(factory=trio.Event)
    #: Whether the queue was short and plain when it was last read.
    _is_short: bool = False
    _careful_until_s: float = 0.0

    def wake(self) -> None:
        """Report that the outbox or the switch may have changed."""
        self._woken.set()

    async def run(self) -> None:
        """Send what is queued, for ever."""
        while True:
            await self._wait_open()
            # Reset before reading: what is queued after the read wakes us again.
            self._woken = trio.Event()
            try:
                until = await self._send_ready()
            except StorageUnavailable as error:
                log.warning("%s: the outbox can't be read now: %s", self.account, error)
                await trio.sleep(RETRY_S)
                continue
            await self._wait(until)

    async def _wait_open(self) -> None:
        """Return when commands may go; end on the way what expires meanwhile."""
        while not self.send_queue.is_open:
            try:
                due = await self.reader.run(outbox.queued, self.account, self._now(), 1)
                if any(is_over(row.expires_at, self._now()) for row in due):
                    await self.writer.run(
                        outbox.end_expired, self.account, epoch=self.epoch, now=self._now()
                    )
            except StorageUnavailable as error:
                log.warning("%s: what has expired can't be ended now: %s", self.account, error)
            with trio.move_on_after(EXPIRED_LOOK_S):
                await self.send_queue.wait_open()

    async def _wait(self, until: datetime | None) -> None:
        wait_s = math.inf if until is None else (until - self._now()).total_seconds()
        self.is_idle = True
        with trio.move_on_after(max(0.0, wait_s)):
            await self._woken.wait()
        self.is_idle = False

    async def _send_ready(self) -> datetime | None:
        """Send all that may go now; return when to look again, or None for "when woken"."""
        queue: Queue | None = None
        while self.send_queue.is_open and self.may_send():
            if self._woken.is_set():
                # Something more urgent may have come than what is known.
                queue = None
            if queue is None:
                # Reset before reading: what is queued after the read wakes us again.
                self._woken = trio.Event()
                if not self._is_short:
                    queue = await self.reader.run(read_queue, self.account, self._now())
                    self._is_short = queue.is_short
            if queue is not None:
                now_s = self._now_s()
                few = choose_few(queue, self._now(), 1, self.pace.allowance(now_s))
                if not few.rows and not few.expired:
                    paced = few.paced
                    return self._later(self.pace.wait_s(now_s, paced)) if paced else few.until
            done = await self._hand_over(queue)
            queue = done.rest
            if done.lost and not done.taken and not done.needs_care:
                return self._later(REFUSED_S)
        return None

    async def _hand_over(self, queue: Queue | None) -> Dispatched:
        """Let the socket's task send what goes next; return what came of it."""
        round_ = _Round(self, queue, self.pace.allowance(self._now_s()))
        is_plain = self._now_s() >= self._careful_until_s
        outgoing = Dispatch(round_.claim, self._record, self._mark_sent, self._may_go, is_plain)
        await self.send_queue.hand_over(outgoing)
        done = round_.done
        if not outgoing.is_committed:
            # The connection has ended; what was claimed and what not is in the rows.
            return Dispatched()
        self.pace.spend(taken.command for taken in done.taken)
        if done.is_long:
            self._is_short = False
        if done.needs_care:
            self._careful_until_s = self._now_s() + CARE_S
        for outbox_id, reason in done.refused:
            log.warning("%s: outbox %d refused: %s", self.account, outbox_id, reason)
        return done

    def dispatch(
        self,
        connection: Connection,
        queue: Queue | None,
        allowance: Mapping[str, int],
        connection_id: str,
        next_position: int,
    ) -> Dispatched:
        """Take what goes next; in the log's transaction."""
        if not self.may_send():
            return Dispatched(lost=1)
        terms = Terms(
            self.epoch,
            connection_id,
            self.wire_names,
            allowance,
            TOGETHER_PART,
            TOGETHER_MAX,
            next_position,
        )
        return dispatch(connection, self.account, queue, terms, self._now())

    def _may_go(self, taken: ClaimedCommand) -> bool:
        """Return whether what is claimed may go still: its COMMIT may have taken long."""
        return self.may_send() and not is_over(taken.expires_at, self._now())

    def _record(
        self, connection: Connection, taken: Sequence[ClaimedCommand], positions: Sequence[int]
    ) -> None:
        for each, position in zip(taken, positions, strict=True):
            if position != each.expected_position:
                sending.place(connection, self.account, each.outbox_id, position)

    def _mark_sent(
        self, connection: Connection, taken: Sequence[ClaimedCommand], positions: Sequence[int]
    ) -> None:
        for each, position in zip(taken, positions, strict=True):
            sending.mark_sent(connection, self.account, each.outbox_id, position, self._now())

    def _later(self, wait_s: float) -> datetime:
        return self._now() + timedelta(seconds=wait_s)

    def _now(self) -> datetime:
        return from_us(self.clock.wall_us())

    def _now_s(self) -> float:
        return self.clock.monotonic_ns() / 1e9


@define(eq=False)
class _Round:
    """One handing over: what it starts from, and what the last try of it came to."""

    commander: Commander
    queue: Queue | None
    allowance: Mapping[str, int]
    done: Dispatched = field(factory=Dispatched)

    def claim(
        self, connection: Connection, connection_id: str, next_position: int
    ) -> Sequence[ClaimedCommand]:
        """Take what goes next; may run again if its transaction failed."""
        self.done = self.commander.dispatch(
            connection, self.queue, self.allowance, connection_id, next_position
        )
        return self.done.taken
