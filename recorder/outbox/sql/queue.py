"""The outbox in SQL: queue, claim, and every later change of a command's status.

Each change is one conditional UPDATE that names what it expects to find, and returns whether it
found that. The database's triggers decide which changes are legal, so that this holds for every
program that writes to the table.

Times are arguments. Every change by the recorder moves ``updated_at``, by which the triggers
recognise it.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Any

import attrs
from attrs import frozen
from sqlalchemy import (
    ColumnElement,
    Connection,
    bindparam,
    exists,
    insert,
    literal_column,
    not_,
    or_,
    select,
    update,
)
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.sql.base import Executable
from sqlalchemy.types import TypeEngine

from recorder.database.columns import Flag, UtcTime
from recorder.database.prepared import Prepared, prepare
from recorder.database.schema import controls, leases, orders, outbox, projections
from recorder.errors import Refused, StorageUnavailable
from recorder.exchange.commands import CANCEL_ORDER
from recorder.outbox.rules.selection import SWITCH_CANCEL_ONLY, SWITCH_OFF, SWITCH_ON, QueuedRow
from recorder.outbox.rules.states import UNRESOLVED, Status

# Spelt out, because with a bound parameter SQLite can't see that a partial index answers the
# question, and would read the whole outbox at every wake-up.
is_queued = outbox.c.status == literal_column(f"'{Status.QUEUED.value}'")
is_unresolved = outbox.c.status.in_(
    [literal_column(f"'{status.value}'") for status in Status if status in UNRESOLVED]
)
_is_not_placed = outbox.c.status == literal_column(f"'{Status.NOT_PLACED.value}'")

#: Why a command is expired.
TIME_OVER = "expires_at had come before it was sent"
#: What a 32-bit column holds.
PRIORITY_MAX = 2**31 - 1


@frozen
class OutboxRow:
    """One command as it stands in the table."""

    account: str
    outbox_id: int
    client_msg_id: str
    command: str
    payload: str
    priority: int
    not_before: datetime | None
    expires_at: datetime | None
    created_at: datetime
    created_by: str
    status: str
    reason: str | None
    epoch: int | None
    connection_id: str | None
    customer_order_id: str | None
    order_id: str | None
    modify_request_id: str | None
    sent_position: int | None
    acknowledged_position: int | None
    resolved_position: int | None
    updated_at: datetime | None
    in_order: bool
    attempts: int


_WHOLE = [outbox.c[field.name] for field in attrs.fields(OutboxRow)]
_KINDS = [column.type for column in _WHOLE]
_CHOOSING = [outbox.c[field.name] for field in attrs.fields(QueuedRow)]


def enqueue(
    connection: Connection,
    account: str,
    command: str,
    payload: str,
    *,
    client_msg_id: str | None = None,
    priority: int | None = None,
    not_before: datetime | None = None,
    expires_at: datetime | None = None,
    in_order: bool | None = None,
) -> int:
    """Queue a command and return its ``outbox_id``; durable with the caller's transaction.

    What is None is left to the schema's default. Raises Refused (some of it through `in_unit`) for
    what the schema refuses, naming the field.
    """
    for name, text in (
        ("account", account),
        ("payload", payload),
        ("client_msg_id", client_msg_id),
    ):
        _check_text(name, text)
    if priority is not None and not -PRIORITY_MAX <= priority <= PRIORITY_MAX:
        raise Refused("priority", f"priority must lie between -{PRIORITY_MAX} and {PRIORITY_MAX}")
    reported = {
        "account": account,
        "command": command,
        "payload": payload,
        "client_msg_id": client_msg_id,
        "priority": priority,
        "not_before": not_before,
        "expires_at": expires_at,
        "in_order": in_order,
    }
    given = {name: value for name, value in reported.items() if value is not None}
    queue = insert(outbox).values(given).returning(outbox.c.outbox_id)
    return int(connection.execute(queue).scalar_one())


def queued(
    connection: Connection,
    account: str,
    now: datetime,
    limit: int,
    unsettled: Collection[int] = (),
) -> list[QueuedRow]:
    """Return queued commands, the most urgent first.

    Expired ones come before all others (they are to be marked), then what may be sent now in the
    order of sending, then what has to wait, so that ``limit`` cuts off only what isn't next. Of
    those that want strict order only what is in ``unsettled`` can be next, the values of
    `strict_order.first_unsettled`; where that is given, the others are left out.
    """
    is_live = or_(outbox.c.expires_at.is_(None), outbox.c.expires_at > now)
    must_wait = outbox.c.not_before.is_not(None) & (outbox.c.not_before > now)
    may_be_next: tuple[ColumnElement[bool], ...] = ()
    if unsettled:
        first = outbox.c.outbox_id.in_(unsettled)
        may_be_next = (or_(not_(outbox.c.in_order), first, not_(is_live)),)
    statement = (
        select(*_CHOOSING)
        .with_hint(outbox, "INDEXED BY outbox_queued", "sqlite")
        .where(outbox.c.account == account, is_queued, *may_be_next)
        .order_by(
            is_live,
            must_wait,
            outbox.c.command != CANCEL_ORDER,
            outbox.c.priority.desc(),
            outbox.c.outbox_id,
        )
        .limit(limit)
    )
    return [QueuedRow(**row) for row in connection.execute(statement).mappings()]


def claim(
    connection: Connection,
    account: str,
    outbox_id: int,
    *,
    epoch: int,
    connection_id: str,
    customer_order_id: str | None,
    order_id: str | None,
    now: datetime,
    sent_position: int | None = None,
) -> bool:
    """Take a queued command for sending; return whether it was there to be taken.

    ``sent_position`` is where its ``sent`` event will stand, if that is known (`sending.place`).
    It is not, if it isn't queued any more, its time isn't now, the lease isn't ours (or was given
    back), the switch forbids it, or another transaction is about to change switch or row. Before
    COMMIT returned, nothing of it may be sent.
    """
    # A takeover of the lease or a change of the switch waits for this transaction, so that its
    # next look sees the row as sending and not as queued. But the log is written in it, and must
    # not wait for a person who has changed the switch and not committed that yet.
    lease = select(leases.c.epoch).where(leases.c.account == account)
    switch = select(controls.c.trading).where(controls.c.account == account)
    row = select(outbox.c.outbox_id).where(*_is(account, outbox_id, Status.QUEUED))
    locking = (
        lease.with_for_update(read=True),
        switch.with_for_update(read=True, skip_locked=True),
        row.with_for_update(key_share=True, skip_locked=True),
    )
    if any(connection.execute(each).first() is None for each in locking):
        return False
    taken = (
        update(outbox)
        .where(*_is(account, outbox_id, Status.QUEUED))
        .where(or_(outbox.c.expires_at.is_(None), outbox.c.expires_at > now))
        .where(or_(outbox.c.not_before.is_(None), outbox.c.not_before <= now))
        .where(_owned(account, epoch), _permitted(account))
        .values(
            status=Status.SENDING,
            epoch=epoch,
            connection_id=connection_id,
            customer_order_id=customer_order_id,
            order_id=order_id,
            sent_position=sent_position,
            updated_at=now,
        )
    )
    return connection.execute(taken).rowcount == 1


def end_queued(
    connection: Connection,
    account: str,
    outbox_id: int,
    status: Status,
    *,
    epoch: int,
    reason: str,
    now: datetime,
) -> bool:
    """End a queued command that won't be sent, if its account is ours; return whether it did."""
    ended = (
        update(outbox)
        .where(*_is(account, outbox_id, Status.QUEUED), _owned(account, epoch))
        .values(status=status, reason=reason, updated_at=now)
    )
    return connection.execute(ended).rowcount == 1


def end_expired(connection: Connection, account: str, *, epoch: int, now: datetime) -> int:
    """End all queued commands whose time is over, if their account is ours; return how many."""
    ended = (
        update(outbox)
        .where(outbox.c.account == account, is_queued, outbox.c.expires_at <= now)
        .where(_owned(account, epoch))
        .values(status=Status.EXPIRED, reason=TIME_OVER, updated_at=now)
    )
    return connection.execute(ended).rowcount


def unresolved(connection: Connection, account: str) -> list[OutboxRow]:
    """Return the commands that went out, or may have, and whose outcome is open; oldest first."""
    return _read(connection, "unresolved", account)


def not_placed(connection: Connection, account: str, limit: int) -> list[OutboxRow]:
    """Return the newest commands that count as not placed: a late frame may overturn that."""
    return _read(connection, "not_placed", account, limit)


def _read(connection: Connection, name: str, account: str, limit: int = -1) -> list[OutboxRow]:
    dialect = connection.dialect
    if (dialect.name, name) not in _READING:
        _READING[dialect.name, name] = prepare(dialect, _READ[name]())
    values = {"of_account": account} | ({} if limit < 0 else {"limit_rows": limit})
    read = _READING[dialect.name, name].write(connection, [values])
    return [OutboxRow(*map(_value, _KINDS, row)) for row in read.fetchall()]


def _value(kind: TypeEngine[Any], value: Any) -> Any:
    """Return a column's value from what the driver returns for it."""
    if value is None:
        return None
    if isinstance(kind, UtcTime):
        return kind.process_result_value(value, None)  # type: ignore[arg-type]
    return bool(value) if isinstance(kind, Flag) else value


def _unresolved() -> Executable:
    ours = outbox.c.account == bindparam("of_account")
    return select(*_WHOLE).where(ours, is_unresolved).order_by(outbox.c.outbox_id)


def _newest_not_placed() -> Executable:
    ours = outbox.c.account == bindparam("of_account")
    newest = select(*_WHOLE).where(ours, _is_not_placed).order_by(outbox.c.outbox_id.desc())
    return newest.limit(bindparam("limit_rows"))


_READ = {"unresolved": _unresolved, "not_placed": _newest_not_placed}
_READING: dict[tuple[str, str], Prepared] = {}


def row_for_update(connection: Connection, account: str, outbox_id: int) -> OutboxRow:
    """Return a command, locked against other writers until this transaction ends."""
    found = select(*_WHOLE).where(outbox.c.account == account, outbox.c.outbox_id == outbox_id)
    return OutboxRow(**connection.execute(found.with_for_update()).mappings().one())


def find(
    connection: Connection,
    account: str,
    *,
    client_msg_id: str | None = None,
    order_id: str | None = None,
    customer_order_id: str | None = None,
    modify_request_id: str | None = None,
) -> list[OutboxRow]:
    """Return the commands that all of the given ids name, oldest first."""
    given = {
        outbox.c.client_msg_id: client_msg_id,
        outbox.c.order_id: order_id,
        outbox.c.customer_order_id: customer_order_id,
        outbox.c.modify_request_id: modify_request_id,
    }
    wanted = [column == value for column, value in given.items() if value is not None]
    assert wanted, "name at least one id"
    return _rows(connection, account, *wanted)


def first_position(
    connection: Connection, account: str, order_id: str, *, behind: int
) -> int | None:
    """Return the position at which the order was first reported; None if it was not reported up to
    now.

    Raises StorageUnavailable while ``orders`` is not folded up to ``behind`` yet.
    """
    reported = select(orders.c.first_position).where(
        orders.c.account == account, orders.c.order_id == order_id
    )
    first: int | None = connection.execute(reported).scalar_one_or_none()
    if first is not None:
        return first
    folded = select(projections.c.position).where(
        projections.c.account == account, projections.c.projection == "orders"
    )
    position = connection.execute(folded).scalar_one_or_none()
    if position is None or position < behind:
        raise StorageUnavailable(
            f"orders is folded up to {position or 0}; what event {behind} led to waits for it"
        )
    return None


def ensure_control(
    connection: Connection, account: str, now: datetime, *, trading: str = SWITCH_ON
) -> None:
    """Give the account a switch, if it has none yet. Whether to trade at all is configuration."""
    dialect = sqlite if connection.dialect.name == "sqlite" else postgresql
    row = {
        "account": account,
        "trading": trading,
        "reason": "first start",
        "changed_by": "recorder",
        "changed_at": now,
    }
    connection.execute(dialect.insert(controls).values(row).on_conflict_do_nothing())


def read_switch(connection: Connection, account: str) -> str:
    """Return ``on``, ``cancel_only`` or ``off``; an account without a switch is off."""
    return changed_switch(connection, account) or SWITCH_OFF


def changed_switch(connection: Connection, account: str) -> str | None:
    """Return the trading switch; None if it was never set."""
    found = select(controls.c.trading).where(controls.c.account == account)
    return connection.execute(found).scalar_one_or_none()


def _owned(account: str, epoch: int) -> ColumnElement[bool]:
    # By no clock: a lease that ran out is ours until another takes it, and whether we may still
    # trust it was asked by the monotonic clock (`tasks.lease`).
    return exists().where(
        leases.c.account == account,
        leases.c.epoch == epoch,
        leases.c.expires_at > leases.c.renewed_at,
    )


def _permitted(account: str) -> ColumnElement[bool]:
    is_cancel = outbox.c.command == CANCEL_ORDER
    permits = or_(
        controls.c.trading == SWITCH_ON, (controls.c.trading == SWITCH_CANCEL_ONLY) & is_cancel
    )
    return exists().where(controls.c.account == account, permits).correlate(outbox)


def _is(account: str, outbox_id: int, status: str) -> tuple[ColumnElement[bool], ...]:
    return (
        outbox.c.account == account,
        outbox.c.outbox_id == outbox_id,
        outbox.c.status == status,
    )


def _rows(
    connection: Connection, account: str, *conditions: ColumnElement[bool]
) -> list[OutboxRow]:
    statement = (
        select(*_WHOLE).where(outbox.c.account == account, *conditions).order_by(outbox.c.outbox_id)
    )
    found: Sequence[Any] = connection.execute(statement).mappings().all()
    return [OutboxRow(**row) for row in found]


def _check_text(name: str, text: str | None) -> None:
    """No database text holds NUL or half a character; JSON and names have neither."""
    try:
        is_storable = text is None or b"\x00" not in text.encode()
    except UnicodeEncodeError:
        is_storable = False
    if not is_storable:
        raise Refused(name, f"{name} holds a character that no database can store")
