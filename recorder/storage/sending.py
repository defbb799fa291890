"""The way of one command out, in as few round trips and as little work as the databases allow.

What happens here happens while somebody waits for an order to go: the same statements as in
`storage.outbox`, compiled once and given to the driver (`prepared`), in one round trip where they
don't depend on each other. What they don't cover (strict order, limits) they say so of, and the
caller goes the longer way.
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
    Select,
    bindparam,
    exists,
    literal_column,
    not_,
    or_,
    select,
    update,
)
from sqlalchemy.sql.base import Executable

from recorder.exchange.commands import CANCEL_ORDER
from recorder.outbox.selection import SWITCH_CANCEL_ONLY, SWITCH_OFF, SWITCH_ON, QueuedRow
from recorder.outbox.states import Status
from recorder.storage.columns import UtcTime
from recorder.storage.prepared import Prepared, answered, pipelined, prepare
from recorder.storage.schema import controls, leases, limits, outbox

_CHOOSING = [outbox.c[field.name] for field in attrs.fields(QueuedRow)]
_TIMES = [place for place, column in enumerate(_CHOOSING) if isinstance(column.type, UtcTime)]
_IN_ORDER = [column.name for column in _CHOOSING].index("in_order")

_is_queued = outbox.c.status == literal_column(f"'{Status.QUEUED.value}'")
_is_sending = outbox.c.status == literal_column(f"'{Status.SENDING.value}'")
_account: BindParameter[str] = bindparam("of_account")
_now: BindParameter[datetime] = bindparam("at_now", type_=UtcTime())
_is_row = (outbox.c.account == _account, outbox.c.outbox_id == bindparam("of_row"))


def read_queue(
    connection: Connection, account: str, now: datetime, limit: int
) -> tuple[list[QueuedRow], str] | None:
    """Return the queue's beginning, in the order of `outbox.queued`, and the switch.

    None if a command in it asks for strict order: then more has to be known.
    """
    values = {"of_account": account, "at_now": now, "limit_rows": limit}
    is_sqlite = connection.dialect.name == "sqlite"
    make = _in_order_sqlite if is_sqlite else _in_order_postgresql
    with pipelined(connection, 0):
        in_order = _write(connection, "in_order", make, values)
        switch = _write(connection, "switch", _switch, values)
        queued = _write(connection, "queued", _queued, values)
    if in_order.fetchone() is not None:
        return None
    found = switch.fetchone()
    return [*map(_queued_row, queued.fetchall())], found[0] if found else SWITCH_OFF


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

    A claim has ``outbox_id``, ``customer_order_id`` and ``order_id``. False means as well that the
    account has limits, and then nothing was changed of that row.
    """
    named = {
        "of_account": account,
        "of_epoch": epoch,
        "to_connection": connection_id,
        "at_now": now,
    }
    claimed = []
    with answered(connection):
        if connection.dialect.name != "sqlite":
            # As in `outbox.claim`; on SQLite this transaction is alone from its start.
            _write(connection, "hold_lease", _hold_lease, named)
            _write(connection, "hold_switch", _hold_switch, named)
        for claim in claims:
            ids = {
                "of_row": claim["outbox_id"],
                "to_customer_order_id": claim["customer_order_id"],
                "to_order_id": claim["order_id"],
            }
            claimed.append(_write(connection, "claim", _claim, named | ids))
    return [each.rowcount == 1 for each in claimed]


def place(connection: Connection, account: str, outbox_id: int, position: int) -> None:
    """Do what `outbox.place` does."""
    values = {"of_account": account, "of_row": outbox_id, "to_position": position}
    _write(connection, "place", _place, values)


def mark_sent(
    connection: Connection, account: str, outbox_id: int, position: int, now: datetime
) -> bool:
    """Do what `outbox.mark_sent` does."""
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


def _in_order_sqlite() -> Executable:
    # Spelt as the partial index has it.
    asked = outbox.c.in_order == literal_column("1")
    return _first_of(asked).with_hint(outbox, "INDEXED BY outbox_in_order", "sqlite")


def _in_order_postgresql() -> Executable:
    return _first_of(outbox.c.in_order)


def _first_of(asked: ColumnElement[bool]) -> Select[int]:
    ours = (outbox.c.account == _account, _is_queued, asked)
    return select(outbox.c.outbox_id).where(*ours).limit(literal_column("1"))


def _switch() -> Executable:
    return select(controls.c.trading).where(controls.c.account == _account)


def _queued() -> Executable:
    is_live = or_(outbox.c.expires_at.is_(None), outbox.c.expires_at > _now)
    must_wait = outbox.c.not_before.is_not(None) & (outbox.c.not_before > _now)
    return (
        select(*_CHOOSING)
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


def _hold_lease() -> Executable:
    return select(leases.c.epoch).where(leases.c.account == _account).with_for_update(read=True)


def _hold_switch() -> Executable:
    return (
        select(controls.c.trading).where(controls.c.account == _account).with_for_update(read=True)
    )


def _claim() -> Executable:
    is_cancel = outbox.c.command == CANCEL_ORDER
    owned = exists().where(
        leases.c.account == _account,
        leases.c.epoch == bindparam("of_epoch"),
        leases.c.expires_at > leases.c.renewed_at,
    )
    permits = or_(
        controls.c.trading == SWITCH_ON, (controls.c.trading == SWITCH_CANCEL_ONLY) & is_cancel
    )
    permitted = exists().where(controls.c.account == _account, permits).correlate(outbox)
    limited = exists().where(limits.c.account == _account)
    return (
        update(outbox)
        .where(*_is_row, _is_queued)
        .where(or_(outbox.c.expires_at.is_(None), outbox.c.expires_at > _now))
        .where(or_(outbox.c.not_before.is_(None), outbox.c.not_before <= _now))
        .where(owned, permitted, or_(is_cancel, not_(limited)))
        .values(
            status=Status.SENDING.value,
            epoch=bindparam("of_epoch"),
            connection_id=bindparam("to_connection"),
            customer_order_id=bindparam("to_customer_order_id"),
            order_id=bindparam("to_order_id"),
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
