"""Drains the outbox: chooses the next row, makes its frame, and hands it to the socket's task.

It never waits for an answer and keeps nothing in memory that matters: what was claimed stands in
the row and in the log, and what became of it is judged from the log (``storage.settle``). So a
restart changes nothing in how answers are found, and no row is looked at twice for sending.

The claim is the point of no return: one statement that takes the row only if it is still queued,
not expired, permitted by the switch, and if our lease's epoch is still the account's. It is
committed together with the ``sent`` event before the first byte goes to the socket.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from datetime import datetime
from functools import partial

import trio
from attrs import define, field
from sqlalchemy import Connection

from recorder.clock import Clock
from recorder.errors import Refused, StorageUnavailable
from recorder.exchange.commands import (
    Encoded,
    WireNames,
    encode_command,
    generated_customer_order_id,
)
from recorder.log.event import from_us
from recorder.outbox.selection import Expire, QueuedRow, Send, choose
from recorder.outbox.states import Status
from recorder.storage import outbox
from recorder.tasks.link import Link, Outgoing
from recorder.tasks.units import UnitRunner

log = logging.getLogger("recorder.commander")

#: Rows read at a time; cancels come first, so that none waits behind a long queue.
QUEUE_READ_MAX = 200
RETRY_S = 0.5


@define(eq=False)
class Commander:
    """One account's commander."""

    account: str
    epoch: int
    wire_names: WireNames
    link: Link
    reader: UnitRunner
    writer: UnitRunner
    clock: Clock
    _woken: trio.Event = field(factory=trio.Event)

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
        while self.link.is_open:
            rows, switch = await self.reader.run(_read_queue, self.account, self._now())
            choice = choose(rows, switch, True, self._now())
            if isinstance(choice, Send):
                await self._send(choice.row)
            elif isinstance(choice, Expire):
                for row in choice.rows:
                    await self._end(row, Status.EXPIRED, "expires_at had come before it was sent")
            else:
                return choice.until
        return None

    async def _send(self, row: QueuedRow) -> None:
        fallback = generated_customer_order_id(self.account, row.outbox_id, row.client_msg_id)
        try:
            encoded = encode_command(
                row.command, row.payload, row.client_msg_id, self.wire_names, fallback
            )
        except Refused as error:
            log.warning("%s: outbox %d refused: %s", self.account, row.outbox_id, error)
            await self._end(row, Status.REFUSED, f"{error.rule}: {error}")
            return
        await self.link.hand_over(self._outgoing(row, encoded))

    def _outgoing(self, row: QueuedRow, encoded: Encoded) -> Outgoing:
        return Outgoing(
            encoded.text,
            row.outbox_id,
            row.client_msg_id,
            claim=partial(self._claim, row, encoded),
            placed=partial(self._placed, row),
            written=partial(self._written, row),
        )

    def _claim(
        self, row: QueuedRow, encoded: Encoded, connection: Connection, connection_id: str
    ) -> bool:
        return outbox.claim(
            connection,
            self.account,
            row.outbox_id,
            epoch=self.epoch,
            connection_id=connection_id,
            customer_order_id=encoded.customer_order_id,
            order_id=encoded.order_id,
            now=self._now(),
        )

    def _placed(self, row: QueuedRow, connection: Connection, positions: Sequence[int]) -> None:
        outbox.place(connection, self.account, row.outbox_id, positions[-1])

    def _written(self, row: QueuedRow, connection: Connection, position: int) -> None:
        outbox.mark_sent(connection, self.account, row.outbox_id, position, self._now())

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


def _read_queue(connection: Connection, account: str, now: datetime) -> tuple[list[QueuedRow], str]:
    rows = outbox.queued(connection, account, now=now, limit=QUEUE_READ_MAX)
    return rows, outbox.read_switch(connection, account)
