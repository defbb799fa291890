"""Drains the outbox: chooses the next row, makes its frame, and hands it to the socket's task.

It never waits for an answer and keeps nothing in memory that matters: what was claimed stands in
the row and in the log, and what became of it is judged from the log (``storage.settle``). So a
restart changes nothing in how answers are found, and no row is looked at twice for sending.

The claim is the point of no return: one statement that takes the row only if it is still queued,
not expired, permitted by the switch, and if our lease's epoch is still the account's. In the same
transaction the command is held against the account's limits. It is committed together with the
``sent`` event before the first byte goes to the socket.

The exchange takes so many commands a second. Each costs a token of the account's pace; the last few
are kept for cancels. What meets the exchange's rate limit all the same comes back to the queue.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from functools import partial
from typing import Any

import trio
from attrs import define, field
from sqlalchemy import Connection

from recorder.clock import Clock
from recorder.errors import Refused, StorageUnavailable
from recorder.exchange.commands import CANCEL_ORDER, Encoded, WireNames
from recorder.exchange.token_bucket import TokenBucket
from recorder.log.event import from_us
from recorder.outbox.encoding import encode_row
from recorder.outbox.selection import Expire, QueuedRow, Send, choose
from recorder.outbox.states import Status
from recorder.storage import outbox, sending
from recorder.storage.limits import broken_limit
from recorder.storage.strict_order import first_unsettled
from recorder.tasks.link import TOGETHER_MAX, Link, Outgoing
from recorder.tasks.units import UnitRunner

log = logging.getLogger("recorder.commander")

#: Rows read at a time; cancels come first, so that none waits behind a long queue.
QUEUE_READ_MAX = 200
RETRY_S = 0.5
#: Where none of the rows that were read could be claimed, it is looked again so soon.
REFUSED_S = 0.05
#: Of a queue of this length two commands share a transaction, of a longer one more. Those that do
#: fall into doubt together if the line breaks, so it is one by one as long as that will do.
TOGETHER_PART = 32
#: The part of the pace's burst that only cancels may use.
KEPT_FOR_CANCELS = 0.25


@define(eq=False)
class Commander:
    """One account's commander."""

    account: str
    epoch: int
    wire_names: WireNames
    link: Link
    pace: TokenBucket
    reader: UnitRunner
    writer: UnitRunner
    clock: Clock
    #: Whether the account is surely ours at this moment. Asked in any thread.
    may_send: Callable[[], bool] = lambda: True
    _woken: trio.Event = field(factory=trio.Event)
    #: How many claims have found their row, tries that were repeated among them.
    _claimed: int = 0

    def wake(self) -> None:
        """Say that the outbox or the switch may have changed."""
        self._woken.set()

    async def run(self) -> None:
        """Send what is queued, for ever."""
        while True:
            await self.link.wait_open()
            # Reset before reading: what is queued after the read wakes us again.
            self._woken = trio.Event()
            try:
                until = await self._send_ready()
            except StorageUnavailable as error:
                log.warning("%s: the outbox can't be read now: %s", self.account, error)
                await trio.sleep(RETRY_S)
                continue
            await self._wait(until)

    async def _wait(self, until: datetime | None) -> None:
        if until is None:
            await self._woken.wait()
            return
        with trio.move_on_after(max(0.0, (until - self._now()).total_seconds())):
            await self._woken.wait()

    async def _send_ready(self) -> datetime | None:
        """Send all that may go now; return when to look again, or None for "when woken"."""
        while self.link.is_open and self.may_send():
            # Reset before reading: what is queued after the read wakes us again.
            self._woken = trio.Event()
            rows, switch, unsettled = await self.reader.run(_read_queue, self.account, self._now())
            choice = choose(rows, switch, True, self._now(), unsettled)
            if isinstance(choice, Send):
                wait_s = await self._send_those(rows, switch, unsettled)
                if wait_s:
                    # Chosen anew then: something more urgent may have come.
                    return self._now() + timedelta(seconds=wait_s)
            elif isinstance(choice, Expire):
                for row in choice.rows:
                    await self._end(row, Status.EXPIRED, "expires_at had come before it was sent")
            else:
                return choice.until
        return None

    async def _send_those(
        self, rows: list[QueuedRow], switch: str, unsettled: Mapping[str, int]
    ) -> float:
        """Send what may go of these rows, a few at a time, until something new is heard of.

        Returns how many seconds to wait then: for the pace, or because nothing could be claimed.
        """
        while self.link.is_open and self.may_send() and not self._woken.is_set():
            before, wait_s, few = self._claimed, 0.0, list[Outgoing]()
            together = min(TOGETHER_MAX, 1 + len(rows) // TOGETHER_PART)
            while len(few) < together and not wait_s:
                choice = choose(rows, switch, True, self._now(), unsettled)
                if not isinstance(choice, Send):
                    break
                made, wait_s = await self._make(choice.row)
                if not wait_s:
                    rows.remove(choice.row)
                few += made
                if choice.row.in_order:
                    # What goes next depends on what becomes of this one.
                    rows.clear()
            await self.link.hand_over(*few)
            if wait_s or not few:
                return wait_s
            if self._claimed == before:
                return REFUSED_S
        return 0.0

    async def _make(self, row: QueuedRow) -> tuple[list[Outgoing], float]:
        """Return the command to send, if it can be; or how many seconds the pace allows nothing."""
        try:
            encoded = encode_row(self.account, row, self.wire_names)
        except Refused as error:
            log.warning("%s: outbox %d refused: %s", self.account, row.outbox_id, error)
            await self._end(row, Status.REFUSED, f"{error.rule}: {error}")
            return [], 0.0
        keep = 0.0 if row.command == CANCEL_ORDER else self.pace.capacity * KEPT_FOR_CANCELS
        # A pace of one or two commands has nothing to keep.
        keep = max(0.0, min(keep, self.pace.capacity - 1))
        wait_s = self.pace.take(self.clock.monotonic_ns() / 1e9, keep=keep)
        return ([] if wait_s else [self._outgoing(row, encoded)]), wait_s

    def _outgoing(self, row: QueuedRow, encoded: Encoded) -> Outgoing:
        return Outgoing(
            encoded.text,
            row.outbox_id,
            row.client_msg_id,
            claim=partial(self._claim, row, encoded),
            placed=partial(self._placed, row),
            written=partial(self._written, row),
            may_go=self.may_send,
        )

    def _claim(
        self, row: QueuedRow, encoded: Encoded, connection: Connection, connection_id: str
    ) -> bool:
        if not self.may_send():
            return False
        named: dict[str, Any] = {
            "epoch": self.epoch,
            "connection_id": connection_id,
            "customer_order_id": encoded.customer_order_id,
            "order_id": encoded.order_id,
        }
        now = self._now()
        if sending.claim_unlimited(connection, self.account, row.outbox_id, **named, now=now):
            self._claimed += 1
            return True
        broken = broken_limit(connection, self.account, row.command, row.payload)
        if broken is not None:
            self._refuse(row, f"{broken.rule}: {broken.message}", connection)
            return False
        is_claimed = outbox.claim(connection, self.account, row.outbox_id, **named, now=now)
        self._claimed += is_claimed
        return is_claimed

    def _refuse(self, row: QueuedRow, reason: str, connection: Connection) -> None:
        refused = outbox.refuse(
            connection,
            self.account,
            row.outbox_id,
            epoch=self.epoch,
            reason=reason,
            now=self._now(),
        )
        if refused:
            log.warning("%s: outbox %d refused: %s", self.account, row.outbox_id, reason)

    def _placed(self, row: QueuedRow, connection: Connection, positions: Sequence[int]) -> None:
        sending.place(connection, self.account, row.outbox_id, positions[-1])

    def _written(self, row: QueuedRow, connection: Connection, position: int) -> None:
        sending.mark_sent(connection, self.account, row.outbox_id, position, self._now())

    async def _end(self, row: QueuedRow, status: Status, reason: str) -> None:
        await self.writer.run(
            outbox.change_status,
            self.account,
            row.outbox_id,
            Status.QUEUED,
            status,
            now=self._now(),
            reason=reason,
        )

    def _now(self) -> datetime:
        return from_us(self.clock.wall_us())


def _read_queue(
    connection: Connection, account: str, now: datetime
) -> tuple[list[QueuedRow], str, dict[str, int]]:
    """Return what `choose` needs: the queue's beginning, the switch, and what is unsettled."""
    if (read := sending.read_queue(connection, account, now, QUEUE_READ_MAX)) is not None:
        return *read, {}
    unsettled = first_unsettled(connection, account)
    rows = outbox.queued(
        connection, account, now, QUEUE_READ_MAX, unsettled=set(unsettled.values())
    )
    return rows, outbox.read_switch(connection, account), unsettled
