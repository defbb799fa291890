"""Claims and marks single commands in as few round trips as the databases allow.

This is on the latency path of an order: the same statements as in `queue`, compiled once and handed
to the driver (`prepared`), in one round trip where they don't depend on each other. Where strict
order or limits apply they return that, and the caller takes the longer way.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any

import attrs
from sqlalchemy import (
    BindParameter,
    ColumnElement,
    Connection,
    FromClause,
    bindparam,
    exists,
    literal_column,
    not_,
    or_,
    select,
    update,
)
from sqlalchemy.sql.base import Executable

from recorder.database.columns import UtcTime
from recorder.database.prepared import Prepared, answered, pipelined, prepare
from recorder.database.schema import controls, leases, limits, outbox
from recorder.exchange.commands import CANCEL_ORDER
from recorder.outbox.rules.selection import SWITCH_CANCEL_ONLY, SWITCH_OFF, SWITCH_ON, QueuedRow
from recorder.outbox.rules.states import Status

_CHOOSING = [outbox.c[field.name] for field in attrs.fields(QueuedRow)]
_TIMES = [place for place, column in enumerate(_CHOOSING) if isinstance(column.type, UtcTime)]
_IN_ORDER = [column.name for column in _CHOOSING].index("in_order")

_is_queued = outbox.c.status == literal_column(f"'{Status.QUEUED.value}'")
_is_sending = outbox.c.status == literal_column(f"'{Status.SENDING.value}'")
_account: BindParameter[str] = bindparam("of_account")
_now: BindParameter[datetime] = bindparam("at_now", type_=UtcTime())
#: The queue once more, within a question about its rows.
asking = outbox.alias("asking")
_is_row = (outbox.c.account == _account, outbox.c.outbox_id == bindparam("of_row"))


def read_queue(
    connection: Connection, account: str, now: datetime, limit: int
) -> tuple[list[QueuedRow], str] | None:
    """Return the queue's beginning, in the order of `outbox.queued`, and the switch.

    The switch is ``off`` where nothing is queued that it would matter to. None if a queued command
    asks for strict order: then more has to be known.
    """
    values = {"of_account": account, "at_now": now, "limit_rows": limit}
    is_sqlite = connection.dialect.name == "sqlite"
    make = _queued_sqlite if is_sqlite else _queued_postgresql
    with pipelined(connection, 0):
        read = _write(connection, "queued", make, values)
    found = read.fetchall()
    if not found:
        return [], SWITCH_OFF
    *_, switch, is_in_order = found[0]
    return None if is_in_order else ([_queued_row(row[:-2]) for row in found], switch or SWITCH_OFF)


def claim_unlimited(
    connection: Connection,
    account: str,
    claims: Sequence[Mapping[str, Any]],
    *,
    epoch: int,
    connection_id: str,
    now: datetime,
) -> list[bool]:
    """Do what `outbox.claim` does for each, where the account has no limits that it could break.

    A claim has ``outbox_id``, ``customer_order_id``, ``order_id`` and ``sent_position``, where its
    event will stand. False means as well that the account has limits, and then nothing was changed
    of that row.
    """
    named = {
        "of_account": account,
        "of_epoch": epoch,
        "to_connection": connection_id,
        "at_now": now,
    }
    claimed = []
    # On SQLite this transaction is alone from its start.
    make = _claim_sqlite if connection.dialect.name == "sqlite" else _claim_postgresql
    with answered(connection):
        for claim in claims:
            ids = {
                "of_row": claim["outbox_id"],
                "to_customer_order_id": claim["customer_order_id"],
                "to_order_id": claim["order_id"],
                "to_position": claim["sent_position"],
            }
            claimed.append(_write(connection, "claim", make, named | ids))
    return [each.rowcount == 1 for each in claimed]


def place(connection: Connection, account: str, outbox_id: int, position: int) -> None:
    """Record the position of the ``sent`` event, in the transaction that claims and appends it.

    So an answer never has to be placed before or behind it by a guess.
    """
    values = {"of_account": account, "of_row": outbox_id, "to_position": position}
    _write(connection, "place", _place, values)


def mark_sent(
    connection: Connection, account: str, outbox_id: int, position: int, now: datetime
) -> bool:
    """Report that the bytes are with the kernel; ``position`` is that of the ``sent`` event.

    Where the answer came first, the command may be on its way a second time by now: that sending
    is not the one that is spoken of.
    """
    values = {"of_account": account, "of_row": outbox_id, "to_position": position, "at_now": now}
    return bool(_write(connection, "mark_sent", _mark_sent, values).rowcount == 1)


def _write(
    connection: Connection, name: str, make: Callable[[], Executable], values: dict[str, Any]
) -> Any:
    prepared = _PREPARED.get((connection.dialect.name, name))
    if prepared is None:
        prepared = prepare(connection.dialect, make())
        _PREPARED[connection.dialect.name, name] = prepared
    return prepared.write(connection, [values])


_PREPARED: dict[tuple[str, str], Prepared] = {}


def _queued_row(row: tuple[Any, ...]) -> QueuedRow:
    values = list(row)
    for place_ in _TIMES:
        values[place_] = UtcTime().process_result_value(values[place_], None)  # type: ignore[arg-type]
    values[_IN_ORDER] = bool(values[_IN_ORDER])
    return QueuedRow(*values)


def _queued_sqlite() -> Executable:
    # Spelt as the partial index has it.
    return _queued(asking.c.in_order == literal_column("1"))


def _queued_postgresql() -> Executable:
    return _queued(asking.c.in_order)


def _queued(is_strict: ColumnElement[bool]) -> Executable:
    """Return what reads rows, each with the switch and whether any row asks for strict order."""
    is_asking = asking.c.status == literal_column(f"'{Status.QUEUED.value}'")
    in_order = (
        select(asking.c.outbox_id)
        .with_hint(asking, "INDEXED BY outbox_in_order", "sqlite")
        .where(asking.c.account == _account, is_asking, is_strict)
    )
    switch = select(controls.c.trading).where(controls.c.account == _account)
    is_live = or_(outbox.c.expires_at.is_(None), outbox.c.expires_at > _now)
    must_wait = outbox.c.not_before.is_not(None) & (outbox.c.not_before > _now)
    return (
        select(*_CHOOSING, switch.scalar_subquery(), exists(in_order))
        .with_hint(outbox, "INDEXED BY outbox_queued", "sqlite")
        .where(outbox.c.account == _account, _is_queued)
        .order_by(
            is_live,
            must_wait,
            outbox.c.command != CANCEL_ORDER,
            outbox.c.priority.desc(),
            outbox.c.outbox_id,
        )
        .limit(bindparam("limit_rows"))
    )


_LEASE = select(leases.c.epoch, leases.c.expires_at, leases.c.renewed_at).where(
    leases.c.account == _account
)
_SWITCH = select(controls.c.trading).where(controls.c.account == _account)


def _claim_sqlite() -> Executable:
    return _claim(_LEASE.subquery("lease"), _SWITCH.subquery("switch"))


def _claim_postgresql() -> Executable:
    """As `outbox.claim` does it: who finds the switch or the row locked takes nothing."""
    row = select(outbox.c.outbox_id).where(*_is_row)
    free = row.with_for_update(key_share=True, skip_locked=True).cte("free")
    return _claim(
        _LEASE.with_for_update(read=True).cte("lease"),
        _SWITCH.with_for_update(read=True, skip_locked=True).cte("switch"),
        exists().where(free.c.outbox_id == outbox.c.outbox_id).correlate(outbox),
    )


def _claim(lease: FromClause, switch: FromClause, *more: ColumnElement[bool]) -> Executable:
    is_cancel = outbox.c.command == CANCEL_ORDER
    owned = exists().where(
        lease.c.epoch == bindparam("of_epoch"), lease.c.expires_at > lease.c.renewed_at
    )
    trading = switch.c.trading
    permits = or_(trading == SWITCH_ON, (trading == SWITCH_CANCEL_ONLY) & is_cancel)
    permitted = exists().where(permits).correlate(outbox)
    limited = exists().where(limits.c.account == _account)
    return (
        update(outbox)
        .where(*_is_row, _is_queued, *more)
        .where(or_(outbox.c.expires_at.is_(None), outbox.c.expires_at > _now))
        .where(or_(outbox.c.not_before.is_(None), outbox.c.not_before <= _now))
        .where(owned, permitted, or_(is_cancel, not_(limited)))
        .values(
            status=Status.SENDING.value,
            epoch=bindparam("of_epoch"),
            connection_id=bindparam("to_connection"),
            customer_order_id=bindparam("to_customer_order_id"),
            order_id=bindparam("to_order_id"),
            sent_position=bindparam("to_position"),
            updated_at=_now,
        )
    )


def _place() -> Executable:
    return (
        update(outbox).where(*_is_row, _is_sending).values(sent_position=bindparam("to_position"))
    )


def _mark_sent() -> Executable:
    sending = outbox.c.sent_position
    position: BindParameter[int] = bindparam("to_position")
    return (
        update(outbox)
        .where(*_is_row, _is_sending)
        .where(or_(sending.is_(None), sending == position))
        .values(status=Status.SENT.value, updated_at=_now, sent_position=position)
    )
