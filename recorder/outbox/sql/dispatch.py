"""Chooses and claims what is sent next, in one transaction.

It runs in the transaction that also writes the ``sent`` events, so nothing comes between reading
the queue and claiming, and a command takes one round trip instead of two. A queue that is long or
asks for strict order takes longer to read than the log may wait: it is read beforehand, and handed
over. Either way the claim asks the row itself again. `first_unsettled` finds what blocks
commands that must not overtake others.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from attrs import define, evolve, field, frozen
from sqlalchemy import ColumnElement, Connection, cast, func, select
from sqlalchemy.dialects import postgresql

from recorder.database.prepared import PIPELINED_BYTES_MAX, is_pipelined
from recorder.database.schema import outbox
from recorder.errors import Refused
from recorder.exchange.commands import (
    PLACE_BATCH_ORDERS,
    Encoded,
    WireNames,
    encode_command,
    generated_customer_order_id,
    wire_msg_id,
)
from recorder.outbox.rules.limits import EVERY_PAIR, UnreadableError, pairs_of
from recorder.outbox.rules.selection import Few, Queue, QueuedRow, choose_few
from recorder.outbox.rules.states import Status
from recorder.outbox.sql import queue as queries
from recorder.outbox.sql import sending
from recorder.outbox.sql.limits import broken_limit
from recorder.outbox.sql.queue import is_queued, is_unresolved

#: Rows read at a time; cancels come first, so that none waits behind a long queue.
QUEUE_READ_MAX = 200
#: Payloads of the commands of one transaction, in characters; the first one may be longer.
TOGETHER_BYTES_MAX = PIPELINED_BYTES_MAX // 4


@frozen
class Terms:
    """On which terms commands may go now."""

    epoch: int
    connection_id: str
    wire_names: WireNames
    #: How many of each kind may go: see `exchange.command_pace`.
    allowance: Mapping[str, int]
    #: Of a queue of so many rows one goes by itself, of one twice as long two go together, …
    together_part: int
    #: … and never more than so many.
    together_max: int
    #: Where the next event will stand. Each command makes two: its claim, and what is sent.
    next_position: int


@frozen
class ClaimedCommand:
    """A command that is claimed: the text goes to the socket once that is durable."""

    outbox_id: int
    client_msg_id: str
    command: str
    text: str
    #: Where its ``sent`` event was going to stand when it was claimed.
    expected_position: int
    expires_at: datetime | None = None


@frozen
class Dispatched:
    """What was done, and what there is to do next."""

    taken: tuple[ClaimedCommand, ...] = ()
    #: What is queued besides; None where that has to be read again.
    rest: Queue | None = None
    #: Rows that were tried but not taken: they are another's by now, or their time isn't yet.
    lost: int = 0
    #: Rows that ended here: (outbox_id, reason).
    refused: tuple[tuple[int, str], ...] = ()
    #: The queue has to be read beforehand, by `read_queue`.
    is_long: bool = False
    #: There is something to do that has to read: not within a pipeline.
    needs_care: bool = False


def read_queue(connection: Connection, account: str, now: datetime) -> Queue:
    """Return the queue's beginning, however long it is and whatever order it asks for."""
    queue = _read_short(connection, account, now)
    if queue is not None:
        return queue
    unsettled = first_unsettled(connection, account)
    first = set(unsettled.values())
    rows = queries.queued(connection, account, now, QUEUE_READ_MAX, unsettled=first)
    return Queue(tuple(rows), queries.read_switch(connection, account), unsettled)


def _read_short(connection: Connection, account: str, now: datetime) -> Queue | None:
    """Return the queue's beginning; None where something in it asks for strict order."""
    read = sending.read_queue(connection, account, now, QUEUE_READ_MAX)
    if read is None:
        return None
    rows, switch = read
    return Queue(tuple(rows), switch, {}, is_whole=len(rows) < QUEUE_READ_MAX)


def dispatch(
    connection: Connection, account: str, queue: Queue | None, terms: Terms, now: datetime
) -> Dispatched:
    """Take what goes next from ``queue``, or else from what is queued now. Repeatable.

    Ends on the way what is over or can't be sent. Where the transaction is one pipeline, it does
    only what is plain, and returns that for the rest.
    """
    if queue is None:
        queue = _read_short(connection, account, now)
        if queue is None or not queue.is_whole:
            return Dispatched(is_long=True)
    most = min(terms.together_max, 1 + len(queue.rows) // terms.together_part)
    few = choose_few(queue, now, most, terms.allowance)
    taking = Taking(connection, account, terms, now)
    return taking.take(queue, few)


@define(eq=False)
class Taking:
    """One transaction's taking of commands."""

    connection: Connection
    account: str
    terms: Terms
    now: datetime
    taken: list[ClaimedCommand] = field(factory=list)
    refused: list[tuple[int, str]] = field(factory=list)
    #: Ids of the rows that are no longer queued.
    gone: set[int] = field(factory=set)

    def take(self, queue: Queue, few: Few) -> Dispatched:
        """Take these few of the queue."""
        rows = _light(few.rows)
        encoded = [(row, self._encode(row)) for row in rows]
        wrong = [(row, answer) for row, answer in encoded if isinstance(answer, str)]
        right = [(row, answer) for row, answer in encoded if isinstance(answer, Encoded)]
        is_quick = is_pipelined(self.connection)
        is_heavy = any(len(row.payload) > TOGETHER_BYTES_MAX for row in rows)
        if is_quick and (few.expired or wrong or is_heavy):
            return Dispatched(needs_care=True)
        for row in few.expired:
            self._end(row, Status.EXPIRED, queries.TIME_OVER)
        for row, reason in wrong:
            self._refuse(row, reason)
        missed = self._claim_plainly(right)
        if not is_quick:
            missed = [each for each in missed if not self._claim_carefully(*each)]
        is_last = any(row.in_order for row in rows)
        return Dispatched(
            tuple(self.taken),
            None if is_last or missed else self._rest(queue),
            len(missed),
            tuple(self.refused),
            needs_care=is_quick and bool(missed),
        )

    def _encode(self, row: QueuedRow) -> Encoded | str:
        try:
            return encode_row(self.account, row, self.terms.wire_names)
        except Refused as error:
            return f"{error.rule}: {error}"

    def _claim_plainly(
        self, encoded: Sequence[tuple[QueuedRow, Encoded]]
    ) -> list[tuple[QueuedRow, Encoded]]:
        """Claim those that no limit concerns; return the others."""
        claims = [_claim_of(*each, self._position(ahead)) for ahead, each in enumerate(encoded)]
        outcomes = sending.claim_unlimited(
            self.connection, self.account, claims, **self._named(), now=self.now
        )
        missed = []
        for (row, each), claim, is_ours in zip(encoded, claims, outcomes, strict=True):
            if is_ours:
                self._took(row, each, claim["sent_position"])
            else:
                missed.append((row, each))
        return missed

    def _claim_carefully(self, row: QueuedRow, encoded: Encoded) -> bool:
        """Claim it if it keeps to the account's limits, or end it; return whether either was."""
        broken = broken_limit(self.connection, self.account, row.command, row.payload)
        if broken is not None:
            return self._refuse(row, f"{broken.rule}: {broken.message}")
        claim = _claim_of(row, encoded, self._position(0))
        is_ours = queries.claim(
            self.connection, self.account, **claim, **self._named(), now=self.now
        )
        if is_ours:
            self._took(row, encoded, claim["sent_position"])
        return is_ours

    def _position(self, ahead: int) -> int:
        """Return where the ``sent`` event of the next row but so many stands, if all are taken."""
        return self.terms.next_position + 2 * (len(self.taken) + ahead) + 1

    def _took(self, row: QueuedRow, encoded: Encoded, position: int) -> None:
        self.gone.add(row.outbox_id)
        ids = row.outbox_id, row.client_msg_id
        self.taken.append(ClaimedCommand(*ids, row.command, encoded.text, position, row.expires_at))

    def _refuse(self, row: QueuedRow, reason: str) -> bool:
        is_refused = self._end(row, Status.REFUSED, reason)
        if is_refused:
            self.refused.append((row.outbox_id, reason))
        return is_refused

    def _end(self, row: QueuedRow, status: Status, reason: str) -> bool:
        self.gone.add(row.outbox_id)
        return queries.end_queued(
            self.connection,
            self.account,
            row.outbox_id,
            status,
            epoch=self.terms.epoch,
            reason=reason,
            now=self.now,
        )

    def _named(self) -> dict[str, Any]:
        return {"epoch": self.terms.epoch, "connection_id": self.terms.connection_id}

    def _rest(self, queue: Queue) -> Queue | None:
        left = tuple(row for row in queue.rows if row.outbox_id not in self.gone)
        return evolve(queue, rows=left) if left or queue.is_whole else None


def _claim_of(row: QueuedRow, encoded: Encoded, sent_position: int) -> dict[str, Any]:
    return {
        "outbox_id": row.outbox_id,
        "customer_order_id": encoded.customer_order_id,
        "order_id": encoded.order_id,
        "sent_position": sent_position,
    }


def _light(rows: Sequence[QueuedRow]) -> Sequence[QueuedRow]:
    """Leave out what would make the transaction a heavy one; not the first."""
    weight = 0
    for number, row in enumerate(rows):
        weight += len(row.payload)
        if number and weight > TOGETHER_BYTES_MAX:
            return rows[:number]
    return rows


def first_unsettled(connection: Connection, account: str) -> dict[str, int]:
    """Return, for each pair, the lowest id of a command whose outcome isn't settled.

    Empty while nothing in the queue asks for strict order. Under ``*`` stands a batch whose pairs
    can't be read.
    """
    asks = (
        select(outbox.c.outbox_id)
        .with_hint(outbox, "INDEXED BY outbox_in_order", "sqlite")
        .where(outbox.c.account == account, is_queued, outbox.c.in_order)
        .limit(1)
    )
    if connection.execute(asks).first() is None:
        return {}
    first: dict[str, int] = {}
    if connection.dialect.name == "sqlite":
        pair: ColumnElement[str] = func.json_extract(outbox.c.payload, "$.pair")
    else:
        pair = cast(outbox.c.payload, postgresql.JSON)["pair"].astext
    for is_open in (is_queued, is_unresolved):
        of_account = (outbox.c.account == account, is_open)
        named = (
            select(func.upper(pair), func.min(outbox.c.outbox_id))
            .where(*of_account, outbox.c.command != PLACE_BATCH_ORDERS)
            .group_by(func.upper(pair))
        )
        batches = select(outbox.c.payload, outbox.c.outbox_id).where(
            *of_account, outbox.c.command == PLACE_BATCH_ORDERS
        )
        found = [(str(name), int(number)) for name, number in connection.execute(named)]
        for payload, number in connection.execute(batches):
            found += [(name, number) for name in _pairs_of_batch(payload)]
        for name, number in found:
            first[name] = min(number, first.get(name, number))
    return first


def _pairs_of_batch(payload: str) -> frozenset[str]:
    try:
        return pairs_of(PLACE_BATCH_ORDERS, payload)
    except UnreadableError:
        return frozenset({EVERY_PAIR})


def encode_row(account: str, row: QueuedRow, names: WireNames) -> Encoded:
    """Return the frame of a row's next sending. Raises Refused for what can't be sent."""
    fallback = generated_customer_order_id(account, row.outbox_id, row.client_msg_id)
    msg_id = wire_msg_id(row.client_msg_id, row.attempts)
    return encode_command(row.command, row.payload, msg_id, names, fallback)
