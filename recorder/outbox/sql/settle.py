"""Judges the outbox from the log: what each event proves about the commands that were sent.

It runs like a projection, with a checkpoint of its own in ``projections`` under the name
``outbox``: events in order, rows and checkpoint in one transaction. It can't be rebuilt, because
the queue is the only table that doesn't follow from the log.

- A frame from the exchange is evidence; `outbox.rules.evidence` decides for which commands.
- The noted end of a connection puts what it left unanswered in doubt, and the noted start of a
  recorder does so with what an earlier one left: those commands may or may not have arrived.

Answers that are in the log before such a note are judged before it, so nothing that was answered is
put in doubt. While no command's outcome is open or can be overturned, the log isn't read at all: a
claim is in one transaction with its ``sent`` event, so whatever could concern it comes after.

Each change of a status is one conditional UPDATE that names what it expects to find, and returns
whether it found that. Which changes are legal, the database's triggers decide.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from attrs import define, evolve, field, frozen
from sqlalchemy import Connection, Dialect, bindparam, update

from recorder.database.prepared import Prepared, pipelined, prepare
from recorder.database.schema import outbox
from recorder.errors import StorageUnavailable
from recorder.exchange.commands import PLACE_BATCH_ORDERS, PLACING, generated_customer_order_id
from recorder.exchange.parsing import parse_message
from recorder.log.rules.event import Event, Note, Origin
from recorder.log.sql.read import read_page
from recorder.outbox.rules.evidence import (
    Evidence,
    concerned,
    evidence,
    ids_in,
    ids_learnt,
    ids_of,
)
from recorder.outbox.rules.states import (
    UNRESOLVED,
    Fact,
    Status,
    after_rate_limit,
    next_status,
    path,
)
from recorder.outbox.sql.queue import (
    OutboxRow,
    find,
    first_position,
    not_placed,
    unresolved,
)
from recorder.projections.rules.fold import Table
from recorder.projections.sql.tables import Progress, move_checkpoint, read_checkpoint


@frozen
class _Settling:
    """What a checkpoint needs to know of whose it is."""

    name: str = "outbox"
    version: int = 1
    tables: tuple[Table, ...] = ()


SETTLING = _Settling()
PLACING_COMMANDS = PLACING | {PLACE_BATCH_ORDERS}

#: Commands that count as not placed and are still judged by frames: the newest so many.
OVERTURNABLE_MAX = 1_000

_ENDS = frozenset({Note.CONNECTION_CLOSED.value, Note.CONNECTION_REFUSED.value})
_UNANSWERED = "the connection ended before an answer came"
#: The line broke in the middle of it, or when its turn came the lease was no longer trusted or its
#: time was over.
_NOT_SENT = "it was claimed, and then not sent, or not as a whole"
#: Types that wake the settling fold at once. A batch's answer has no published name; it and
#: whatever else may prove something is read with the next of these, or a second later.
WAKING = (
    _ENDS
    | {Note.RECORDER_STARTED.value, Note.SEND_FAILED.value}
    | {
        "PLACE_LIMIT_WS_RESPONSE",
        "PLACE_MARKET_WS_RESPONSE",
        "CANCEL_ORDER_WS_RESPONSE",
        "MODIFY_ORDER_WS_RESPONSE",
        "BATCH_ORDERS_WS_RESPONSE",
        "RATE_LIMIT_EXCEEDED",
        "ORDER_PROCESSED",
        "ORDER_STATUS_UPDATE",
        "OPEN_ORDERS_UPDATE",
        "NEW_ACCOUNT_TRADE",
        "FAILED_ORDER",
        "FAILED_CANCEL_ORDER",
        "MODIFY_ORDER_OUTCOME",
    }
)


def settle(
    connection: Connection, account: str, *, up_to: int, limit: int, now: datetime
) -> Progress:
    """Judge the next ``limit`` events up to position ``up_to``; one unit, repeatable."""
    checkpoint = read_checkpoint(connection, SETTLING, account, now)
    if checkpoint >= up_to:
        return Progress(checkpoint, 0, ())
    rows = {row.outbox_id: row for row in _judged(connection, account)}
    position, events = up_to, 0
    if rows:
        page = read_page(connection, account, checkpoint, up_to=up_to, limit=limit)
        position = up_to if page.is_last else page.events[-1].position
        events = len(page.events)
        judging = Judging(connection, account, now, rows)
        for event in page.events:
            judging.judge(event)
        judging.write()
    move_checkpoint(connection, SETTLING.name, account, checkpoint, position, (), now)
    return Progress(position, events, ())


def _judged(connection: Connection, account: str) -> list[OutboxRow]:
    """Return the commands that an event may be evidence for."""
    return unresolved(connection, account) + not_placed(connection, account, OVERTURNABLE_MAX)


@define(eq=False)
class Judging:
    """The commands whose outcome is open, and what is known of them but not written yet."""

    connection: Connection
    account: str
    now: datetime
    rows: dict[int, OutboxRow]
    #: Which rows have which id; one that a row had is no harm.
    _having: defaultdict[str, set[int]] = field(factory=lambda: defaultdict(set))
    _steps: list[Step] = field(factory=list)

    def __attrs_post_init__(self) -> None:
        """Index the rows: a list of all open orders must not be held against each of them."""
        for row in self.rows.values():
            self._index(row)

    def judge(self, event: Event) -> None:
        """Take the steps that this event proves."""
        if event.origin == Origin.NOTED:
            reason = _NOT_SENT if event.type == Note.SEND_FAILED else _UNANSWERED
            for row in list(_abandoned(self.rows, event)):
                self._change(row, Fact.LOST_TOUCH, {"reason": reason}, event.position)
        elif event.origin == Origin.RECEIVED:
            for found in evidence(parse_message(event.type, event.payload)):
                for row in _open_first(concerned(found, self._sharing(found), event.position)):
                    if not self._is_of_another(found, row):
                        self._learn(found, row, event.position)

    def write(self) -> None:
        """Write what was not written yet. Raises StorageUnavailable: see `change`."""
        steps, self._steps = self._steps, []
        _write(self.connection, self.account, steps, self.now)

    def _is_of_another(self, found: Evidence, row: OutboxRow) -> bool:
        if not may_be_of_another(found, row):
            return False
        # The table is asked, and what this batch has changed belongs into it.
        self.write()
        return is_of_another(self.connection, found, row)

    def _learn(self, found: Evidence, row: OutboxRow, position: int) -> None:
        learnt: dict[str, Any] = dict(ids_learnt(found, row))
        if found.reason:
            learnt["reason"] = found.reason
        self._change(row, found.fact, learnt, position)

    def _change(self, row: OutboxRow, fact: Fact, columns: dict[str, Any], position: int) -> None:
        steps, changed = steps_to(row, fact, columns, position, self.now)
        self._steps += steps
        self.rows[row.outbox_id] = changed
        self._index(changed)

    def _index(self, row: OutboxRow) -> None:
        for each in ids_of(row):
            self._having[each].add(row.outbox_id)

    def _sharing(self, found: Evidence) -> list[OutboxRow]:
        """Return the rows that share an id with the evidence, oldest first.

        All there are, where what is under way besides makes a difference.
        """
        if found.only_under_way:
            return [self.rows[outbox_id] for outbox_id in sorted(self.rows)]
        having = self._having
        sharing = {row for each in ids_in(found) if each in having for row in having[each]}
        return [self.rows[outbox_id] for outbox_id in sorted(sharing)]


def _open_first(concerned: list[OutboxRow]) -> list[OutboxRow]:
    """Leave out what counts as not placed, where something that is open can be meant.

    An order that two cancels were sent for is cancelled by the one that isn't known to be lost.
    """
    return [row for row in concerned if row.status != Status.NOT_PLACED] or concerned


def may_be_of_another(found: Evidence, row: OutboxRow) -> bool:
    """Return whether `is_of_another` has to look."""
    if found.client_msg_id is not None or row.command not in PLACING_COMMANDS:
        return False
    return found.order_id is not None and found.order_id != row.order_id


def is_of_another(connection: Connection, found: Evidence, row: OutboxRow) -> bool:
    """Return whether the order that a name led to is not the one that the row placed.

    A name is unique among open orders only, and callers use one again when they try again. An
    order that another command placed, or that was known before this one went out, is not its. Nor
    is it known to be, while another command of that name is out whose order is unknown.
    """
    if not may_be_of_another(found, row):
        return False
    assert found.order_id is not None
    if any(other.outbox_id != row.outbox_id for other in _placed(connection, row, found.order_id)):
        return True
    own = generated_customer_order_id(row.account, row.outbox_id, row.client_msg_id)
    if row.customer_order_id == own or row.sent_position is None:
        return False
    if _rivals(connection, row):
        return True
    first = first_position(connection, row.account, found.order_id, behind=row.sent_position)
    return first is not None and first < row.sent_position


def _placed(connection: Connection, row: OutboxRow, order_id: str) -> list[OutboxRow]:
    owners = find(connection, row.account, order_id=order_id)
    return [owner for owner in owners if owner.command in PLACING_COMMANDS]


def _rivals(connection: Connection, row: OutboxRow) -> list[OutboxRow]:
    """Return the other commands that may have placed what bears the row's name."""
    named = find(connection, row.account, customer_order_id=row.customer_order_id)
    return [
        other
        for other in named
        if other.outbox_id != row.outbox_id
        and other.command in PLACING_COMMANDS
        and other.order_id is None
        and Status(other.status) in UNRESOLVED
    ]


def _abandoned(rows: dict[int, OutboxRow], event: Event) -> Iterator[OutboxRow]:
    """Yield the rows that went out over what the noted event ended, or did not go out."""
    for row in rows.values():
        if row.sent_position is not None and row.sent_position > event.position:
            continue
        if event.type in _ENDS and row.connection_id == event.connection_id:
            yield row
        elif event.type == Note.RECORDER_STARTED:
            epoch = json.loads(event.payload)["data"]["epoch"]
            if row.epoch is not None and row.epoch < epoch:
                yield row
        elif event.type == Note.SEND_FAILED and row.outbox_id == _named(event):
            yield row


def _named(event: Event) -> object:
    """Return the command that a note of ours is about."""
    return json.loads(event.payload)["data"]["outbox_id"]


def change(
    connection: Connection,
    row: OutboxRow,
    fact: Fact,
    columns: dict[str, Any],
    position: int,
    now: datetime,
) -> OutboxRow:
    """Take the steps to what ``fact`` proves, with ``columns`` in the last; return the row then.

    ``position`` is that of the event that proves it. A fact that proves nothing of a row in its
    status changes nothing. Raises StorageUnavailable if the row was changed meanwhile: try again.
    """
    steps, changed = steps_to(row, fact, columns, position, now)
    _write(connection, row.account, steps, now)
    return changed


def steps_to(
    row: OutboxRow, fact: Fact, columns: dict[str, Any], position: int, now: datetime
) -> tuple[list[Step], OutboxRow]:
    """Return the steps of `change`, and the row after them."""
    wait_s = after_rate_limit(row.attempts)
    if fact is Fact.RATE_LIMITED and wait_s is None:
        fact = Fact.REFUSED_BY_EXCHANGE
    target = next_status(Status(row.status), fact)
    if target is None:
        return [], row
    # A doubt that is resolved is no reason any more; the transitions keep it.
    columns.setdefault("reason", None)
    if target is Status.QUEUED and wait_s is not None:
        columns |= _sent_again(row, now + timedelta(seconds=wait_s))
    if target is Status.ACKNOWLEDGED:
        columns["acknowledged_position"] = position
    elif target not in (Status.IN_DOUBT, Status.QUEUED):
        columns["resolved_position"] = position
    steps, status = [], row.status
    for step in path(Status(row.status), target):
        last = columns if step is target else {}
        steps.append(Step(row.outbox_id, status, step.value, last))
        status = step.value
    return steps, evolve(row, status=status, **columns)


def _write(connection: Connection, account: str, steps: Sequence[Step], now: datetime) -> None:
    changed = change_statuses(connection, account, steps, now=now)
    for step, was_there in zip(steps, changed, strict=True):
        if not was_there:
            # Its writing was recorded between our reading and now: the next try sees it.
            raise StorageUnavailable(f"outbox {step.outbox_id} was changed meanwhile")


def _sent_again(row: OutboxRow, not_before: datetime) -> dict[str, Any]:
    """Return what a row becomes that waits once more: nothing of it is under way."""
    later = not_before if row.not_before is None else max(not_before, row.not_before)
    nothing = dict.fromkeys(("epoch", "connection_id", "sent_position"))
    return {"attempts": row.attempts + 1, "not_before": later, **nothing}


#: Changes that are sent without waiting for each other's answers.
STEPS_MAX = 16


def change_status(
    connection: Connection,
    /,
    account: str,
    outbox_id: int,
    from_status: str,
    to_status: str,
    *,
    now: datetime,
    **columns: Any,
) -> bool:
    """Change the status, and ``columns`` with it, if it is ``from_status``; return whether it was.

    A change that no command may make raises Refused (through `in_unit`).
    """
    step = Step(outbox_id, from_status, to_status, columns)
    return change_statuses(connection, account, [step], now=now) == [True]


@frozen
class Step:
    """One change of a command's status, and ``columns`` with it."""

    outbox_id: int
    from_status: str
    to_status: str
    columns: Mapping[str, Any]


def change_statuses(
    connection: Connection, account: str, steps: Sequence[Step], *, now: datetime
) -> list[bool]:
    """Do what `change_status` does for each, in this order; on PostgreSQL in few round trips."""
    changed = []
    for start in range(0, len(steps), STEPS_MAX):
        few = steps[start : start + STEPS_MAX]
        with pipelined(connection, sum(_weight(step) for step in few)):
            cursors = [_take_step(connection, account, step, now) for step in few]
        changed += [bool(cursor.rowcount == 1) for cursor in cursors]
    return changed


def _weight(step: Step) -> int:
    return sum(len(value) for value in step.columns.values() if isinstance(value, str))


def _take_step(connection: Connection, account: str, step: Step, now: datetime) -> Any:
    values = {f"to_{name}": value for name, value in step.columns.items()} | {
        "of_account": account,
        "of_row": step.outbox_id,
        "from_status": step.from_status,
        "to_status": step.to_status,
        "to_updated_at": now,
    }
    return _changing(connection.dialect, frozenset(step.columns)).write(connection, [values])


def _changing(dialect: Dialect, columns: frozenset[str]) -> Prepared:
    """Return the statement that changes the status and these columns."""
    if (dialect.name, columns) not in _CHANGING:
        row = (outbox.c.account, "of_account"), (outbox.c.outbox_id, "of_row")
        stands = (*row, (outbox.c.status, "from_status"))
        changed = sorted({"status", "updated_at", *columns})
        statement = (
            update(outbox)
            .where(*(column == bindparam(name) for column, name in stands))
            .values({name: bindparam(f"to_{name}", type_=outbox.c[name].type) for name in changed})
        )
        _CHANGING[dialect.name, columns] = prepare(dialect, statement)
    return _CHANGING[dialect.name, columns]


#: One per dialect and set of columns: as many as there are kinds of changes.
_CHANGING: dict[tuple[str, frozenset[str]], Prepared] = {}
