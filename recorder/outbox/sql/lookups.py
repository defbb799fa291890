"""Look-ups of commands in doubt: which commands to look up, and what each look-up found.

The answer's event, the row of `outbox_lookups`, and the change of status that it proves are one
transaction: `record` runs in the one that appends the event.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from attrs import field, frozen
from sqlalchemy import Connection, func, insert, not_, select

from recorder.database.schema import (
    connections,
    events,
    gaps,
    order_history,
    orders,
    outbox_lookups,
)
from recorder.outbox.rules.lookups import Finding
from recorder.outbox.rules.states import UNRESOLVED, Fact, Status
from recorder.outbox.sql.queue import OutboxRow, find, row_for_update, unresolved
from recorder.outbox.sql.settle import PLACING_COMMANDS, change
from recorder.projections.sql.rows import fold_position

#: Of these the outcome can be looked up; what is ``sending`` is with the socket's task.
_OPEN = frozenset({Status.SENT, Status.ACKNOWLEDGED, Status.IN_DOUBT})


@frozen
class InDoubtCommand:
    """A command whose outcome is open.

    ``has_snapshot``: a snapshot was complete on a connection opened since the one that it went out
    over had ended.
    """

    row: OutboxRow
    sent_at: datetime
    has_snapshot: bool


@frozen
class Lookup:
    """One request about one command, and what its answer reported.

    ``fact`` is what is proved by now, with ``columns`` for the row; None if nothing is.
    """

    outbox_id: int
    request: str
    finding: Finding
    answer: str
    fact: Fact | None = None
    columns: dict[str, Any] = field(factory=dict)


def in_doubt_commands(connection: Connection, account: str) -> list[InDoubtCommand]:
    """Return the commands that went out, or may have, and whose outcome is open; oldest first."""
    rows = [row for row in unresolved(connection, account) if row.status in _OPEN]
    if not rows:
        return []
    sent_positions = {row.sent_position for row in rows if row.sent_position is not None}
    sent = select(events.c.position, events.c.received_at).where(
        events.c.account == account, events.c.position.in_(sent_positions)
    )
    sent_at = {position: received_at for position, received_at in connection.execute(sent)}
    ended = select(connections.c.connection_id, connections.c.last_position).where(
        connections.c.account == account,
        connections.c.connection_id.in_({row.connection_id for row in rows if row.connection_id}),
        not_(connections.c.is_open),
    )
    ended_at = {name: position for name, position in connection.execute(ended)}
    newest = select(func.max(gaps.c.first_position_after)).where(gaps.c.account == account)
    snapshot = connection.execute(newest).scalar_one() or 0
    return [
        InDoubtCommand(
            row, sent_at[row.sent_position], ended_at.get(row.connection_id, snapshot) < snapshot
        )
        for row in rows
        if row.sent_position in sent_at
    ]


def only_order_named(connection: Connection, row: OutboxRow, name: str) -> str | None:
    """Return the one order that a command can mean by a name; None where that isn't known.

    It isn't known while ``orders`` isn't folded up to the command, or while a command is under way
    that may have placed another order of that name.
    """
    if fold_position(connection, row.account, ("orders",)) < (row.sent_position or 0):
        return None
    placing = find(connection, row.account, customer_order_id=name)
    undecided = UNRESOLVED | {Status.NOT_PLACED}
    if any(
        other.command in PLACING_COMMANDS and other.order_id is None and other.status in undecided
        for other in placing
    ):
        return None
    named = select(orders.c.order_id).where(
        orders.c.account == row.account, orders.c.customer_order_id == name
    )
    found = connection.execute(named.limit(2)).scalars().all()
    return found[0] if len(found) == 1 else None


def states_before(
    connection: Connection, row: OutboxRow, order_id: str
) -> frozenset[tuple[datetime | None, str | None]] | None:
    """Return when and in which state an order was reported before a command went out.

    By the exchange's clock and in its words. None where no such order was reported.
    """
    reported = select(order_history.c.updated_at, order_history.c.status).where(
        order_history.c.account == row.account,
        order_history.c.order_id == order_id,
        order_history.c.position < (row.sent_position or 0),
    )
    found = connection.execute(reported).all()
    return frozenset((each.updated_at, each.status) for each in found) or None


def record(
    connection: Connection,
    positions: Sequence[int],
    *,
    account: str,
    lookups: Sequence[Lookup],
    now: datetime,
) -> None:
    """Keep what was reported, and take the steps that it proves.

    ``positions`` has that of the answer's event, and nothing without an answer; then a command
    becomes in doubt at most. One that has changed since the request keeps its status, unless the
    answer proves more. Repeatable, as long as nothing of it was committed.
    """
    position = positions[0] if positions else None
    for look in lookups:
        row = row_for_update(connection, account, look.outbox_id)
        _write(connection, account, look, position, now)
        # That a command is in doubt rests on no event, and no column holds its position.
        if look.fact is not None and (position is not None or look.fact is Fact.LOST_TOUCH):
            change(connection, row, look.fact, dict(look.columns), position or 0, now)


def _write(
    connection: Connection, account: str, look: Lookup, position: int | None, now: datetime
) -> None:
    of = outbox_lookups.c
    last = select(func.coalesce(func.max(of.seq), 0)).where(
        of.account == account, of.outbox_id == look.outbox_id
    )
    row = {
        "account": account,
        "outbox_id": look.outbox_id,
        "seq": last.scalar_subquery() + 1,
        "looked_at": now,
        "request": look.request,
        "position": position,
        "finding": look.finding.value,
        "answer": look.answer,
    }
    connection.execute(insert(outbox_lookups).values(row))
