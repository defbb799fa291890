"""The dry run: notes for each queued command what would happen to it, and sends nothing.

It replaces the commander: while it runs, no task hands commands to the socket. It only reads the
outbox, so that no row is untrue: each stays ``queued``. What would have happened to it is noted in
the log once per row and start:

- ``would be sent``, with the frame. The row is due, permitted by the switch, in the right form and
  within the limits as they stand.
- ``would be refused`` or ``would expire``, with the reason.

Each row is judged by itself. What rows before it would have changed (open orders, and what strict
order waits for) is not made up.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import datetime

import trio
from attrs import define, field
from sqlalchemy import Connection

from recorder.clock import Clock
from recorder.errors import Refused, StorageUnavailable
from recorder.exchange.commands import WireNames
from recorder.log.rules.event import Note
from recorder.outbox.rules.encoding import encode_row
from recorder.outbox.rules.limits import Refusal
from recorder.outbox.rules.selection import Expire, QueuedRow, Send, choose
from recorder.outbox.rules.states import Status, path
from recorder.outbox.sql import queue as outbox
from recorder.outbox.sql.limits import broken_limit
from recorder.timestamps import from_us
from recorder.units import UnitRunner

log = logging.getLogger("recorder.dry_run")

#: Rows read at a time, besides those that are known already.
QUEUE_READ_MAX = 200
RETRY_S = 0.5
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
        log.warning("%s: dry run: no command is sent, whatever is queued", self.account)
        while True:
            self._woken = trio.Event()
            try:
                until = await self._notify_ready()
            except StorageUnavailable as error:
                log.warning("%s: the outbox can't be read now: %s", self.account, error)
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
        log.info(
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
