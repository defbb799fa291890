"""Look-ups of commands in doubt: whom to look up, and what was found, kept with the row.

The answer's event, the line with its content, and the change of status that it proves
are one transaction: `record` runs in the one that appends the event.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from attrs import field, frozen
from sqlalchemy import Connection, func, insert, literal, select

from recorder.database.schema import (
    connections,
    events,
    gaps,
    order_history,
    orders,
    outbox_lookups,
    projections,
)
from recorder.outbox.rules.lookups import Finding
from recorder.outbox.rules.states import UNRESOLVED, Fact, Status
from recorder.outbox.sql.queue import OutboxRow, find, row_for_update, unresolved
from recorder.outbox.sql.settle import PLACING_COMMANDS, change

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
class Look:
    """One question about one command: what was asked, and what its answer reported.

    ``fact`` is what is proved by now, with ``columns`` for the row; None if nothing is.
    """

    outbox_id: int
    asked: str
    finding: Finding
    answer: str
    fact: Fact | None = None
    columns: dict[str, Any] = field(factory=dict)


def warnings(connection: Connection, account: str) -> list[InDoubtCommand]:
    """Return the commands that went out, or may have, and whose outcome is open; oldest first."""
    rows = [row for row in unresolved(connection, account) if row.status in _OPEN]
    if not rows:
        return []
    positions = [row.sent_position for row in rows if row.sent_position is not None]
    sent = select(events.c.position, events.c.received_at).where(
        events.c.account == account, events.c.position.in_(positions)
    )
    sent_at: dict[int, datetime] = {
        row.position: row.received_at for row in connection.execute(sent)
    }
    ended = _ended(connection, account, {row.connection_id for row in rows})
    newest = select(func.max(gaps.c.first_position_after)).where(gaps.c.account == account)
    snapshot = connection.execute(newest).scalar_one() or 0
    return [
        InDoubtCommand(
            row,
            sent_at[row.sent_position],
            ended.get(row.connection_id or "", snapshot) < snapshot,
        )
        for row in rows
        if row.sent_position in sent_at
    ]


def only_order_named(connection: Connection, row: OutboxRow, name: str) -> str | None:
    """Return the one order that a name can mean which a command gives; None where that isn't known.

    That isn't known as long as ``orders`` isn't folded up to the command, or while one is out that
    may have placed another order of that name.
    """
    folded = select(projections.c.position).where(
        projections.c.account == row.account, projections.c.projection == "orders"
    )
    if (connection.execute(folded).scalar_one_or_none() or 0) < (row.sent_position or 0):
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
    looks: Sequence[Look],
    now: datetime,
) -> None:
    """Write down what was reported, and take the steps that it proves.

    ``positions`` has that of the answer's event, and nothing where no answer came: then there is
    doubt at most. A command that has moved on since it was asked about keeps its status, unless the
    answer proves more.
    Repeatable, as long as nothing of it was committed.
    """
    position = positions[0] if positions else None
    for look in looks:
        row = row_for_update(connection, account, look.outbox_id)
        _write(connection, account, look, position, now)
        # Doubt rests on no event, and no column holds its position.
        if look.fact is not None and (position is not None or look.fact is Fact.LOST_TOUCH):
            change(connection, row, look.fact, dict(look.columns), position or 0, now)


def _write(
    connection: Connection, account: str, look: Look, position: int | None, now: datetime
) -> None:
    columns = (
        "account",
        "outbox_id",
        "seq",
        "looked_at",
        "request",
        "position",
        "finding",
        "answer",
    )
    table = outbox_lookups.c
    following = select(
        literal(account),
        literal(look.outbox_id),
        func.coalesce(func.max(table.seq), 0) + 1,
        literal(now, table.looked_at.type),
        literal(look.asked),
        literal(position, table.position.type),
        literal(look.finding.value),
        literal(look.answer),
    ).where(table.account == account, table.outbox_id == look.outbox_id)
    connection.execute(insert(outbox_lookups).from_select(columns, following))


def _ended(connection: Connection, account: str, connection_ids: set[str | None]) -> dict[str, int]:
    """Return the position of the end of each connection that has ended."""
    named = select(
        connections.c.connection_id, connections.c.last_position, connections.c.is_open
    ).where(
        connections.c.account == account,
        connections.c.connection_id.in_([name for name in connection_ids if name]),
    )
    found = connection.execute(named)
    return {row.connection_id: row.last_position for row in found if not row.is_open}
