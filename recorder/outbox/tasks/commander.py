"""Drains the outbox: decides on which terms commands may go, and hands that to the socket's task.

It never waits for an answer and keeps nothing in memory that matters: what was claimed is in the
row and in the log, and the log decides its outcome (`outbox.sql.settle`). So a restart changes
nothing in how answers are found, and no row is considered twice for sending.

Which rows go is decided in the log's transaction (`outbox.sql.dispatch`). The claim is the point of
no return: one statement that takes the row only if it is still queued, not expired, permitted by
the switch, within the account's limits, and if our lease's epoch is still the account's. It is
committed together with the ``sent`` event before the first byte goes to the socket.

`DryRun` takes the place of the commander. It only reads the outbox, so no row is untrue,
and notes once per row and start what would happen: ``would be sent`` with the frame, or ``would be
refused`` or ``would expire`` with the reason. Each row is judged by itself: effects of the rows
before it are not made up.
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
from recorder.errors import Refused, StorageUnavailable
from recorder.exchange.commands import WireNames
from recorder.exchange.pacing import CommandPace
from recorder.log.rules.event import Note
from recorder.outbox.rules.limits import Refusal
from recorder.outbox.rules.selection import (
    Expire,
    Queue,
    QueuedRow,
    Send,
    choose,
    choose_few,
    is_over,
)
from recorder.outbox.rules.states import Status, path
from recorder.outbox.sql import queue as outbox
from recorder.outbox.sql import sending
from recorder.outbox.sql.dispatch import (
    ClaimedCommand,
    Dispatched,
    Terms,
    dispatch,
    encode_row,
    read_queue,
)
from recorder.outbox.sql.limits import broken_limit
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
                log.debug("%s: the outbox can't be read now: %s", self.account, error)
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
                log.debug("%s: what has expired can't be ended now: %s", self.account, error)
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


dry_run_log = logging.getLogger("recorder.dry_run")

#: Rows read at a time, besides those that are known already.
QUEUE_READ_MAX = 200
SENT, REFUSED, EXPIRED = "would be sent", "would be refused", "would expire"
#: The last status that a command would reach without the exchange's part in it.
REACHED = {SENT: Status.SENT, REFUSED: Status.REFUSED, EXPIRED: Status.EXPIRED}


@define(eq=False)
class DryRun:
    """One account's dry run."""

    account: str
    wire_names: WireNames
    reader: UnitRunner
    clock: Clock
    note: Callable[[Note, dict[str, object]], None]
    _reported: set[int] = field(factory=set)
    _woken: trio.Event = field(factory=trio.Event)

    def wake(self) -> None:
        """Report that the outbox or the switch may have changed."""
        self._woken.set()

    async def run(self) -> None:
        """Report of what is queued, for ever."""
        dry_run_log.warning("%s: dry run: no command is sent, whatever is queued", self.account)
        while True:
            self._woken = trio.Event()
            try:
                until = await self._notify_ready()
            except StorageUnavailable as error:
                dry_run_log.debug("%s: the outbox can't be read now: %s", self.account, error)
                await trio.sleep(RETRY_S)
                continue
            wait_s = 3_600.0 if until is None else (until - self._now()).total_seconds()
            with trio.move_on_after(max(0.0, wait_s)):
                await self._woken.wait()

    async def _notify_ready(self) -> datetime | None:
        limit = QUEUE_READ_MAX + len(self._reported)
        rows, switch = await self.reader.run(_read_queue, self.account, self._now(), limit)
        while True:
            left = [row for row in rows if row.outbox_id not in self._reported]
            choice = choose(left, switch, True, self._now())
            if isinstance(choice, Send):
                await self._notify_of(choice.row)
            elif isinstance(choice, Expire):
                for row in choice.rows:
                    self._report(row, EXPIRED, {"reason": "expires_at has come"})
            else:
                return self._now() if len(rows) == limit and not left else choice.until

    async def _notify_of(self, row: QueuedRow) -> None:
        try:
            encoded = encode_row(self.account, row, self.wire_names)
        except Refused as error:
            self._report(row, REFUSED, {"reason": f"{error.rule}: {error}"})
            return
        broken: Refusal | None = await self.reader.run(
            broken_limit, self.account, row.command, row.payload
        )
        if broken is None:
            self._report(row, SENT, {"frame": encoded.text})
        else:
            self._report(row, REFUSED, {"reason": f"{broken.rule}: {broken.message}"})

    def _report(self, row: QueuedRow, verdict: str, more: dict[str, object]) -> None:
        self._reported.add(row.outbox_id)
        ids = {"outbox_id": row.outbox_id, "client_msg_id": row.client_msg_id}
        states = [Status.QUEUED.value, *path(Status.QUEUED, REACHED[verdict])]
        facts = {**ids, "verdict": verdict, "states": states, **more}
        self.note(Note.COMMAND_DRY_RUN, facts)
        why = f": {more['reason']}" if "reason" in more else ""
        dry_run_log.info(
            "%s: dry run: outbox %d (%s) %s%s",
            self.account,
            row.outbox_id,
            row.command,
            verdict,
            why,
        )

    def _now(self) -> datetime:
        return from_us(self.clock.wall_us())


def _read_queue(
    connection: Connection, account: str, now: datetime, limit: int
) -> tuple[list[QueuedRow], str]:
    rows = outbox.queued(connection, account, now, limit)
    return rows, outbox.read_switch(connection, account)
