"""Marks commands in doubt whose sending the database has lost.

A database that comes back older than what was committed has a command as queued that was sent: its
``sent`` event comes back with the log's tail (`log_writer`), and it must not be sent again.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime

import attrs
from sqlalchemy import Connection, select

from recorder.database.schema import outbox
from recorder.errors import StorageUnavailable
from recorder.exchange.commands import WireNames, wire_msg_id
from recorder.log.rules.event import Event, Origin
from recorder.outbox.rules.selection import QueuedRow
from recorder.outbox.rules.states import Status
from recorder.outbox.sql.dispatch import encode_row
from recorder.outbox.sql.settle import change_status

REASON = "the database lost the record of its sending; it is not sent again"
_COLUMNS = [outbox.c[each.name] for each in attrs.fields(QueuedRow)]


def mark_in_doubt(
    connection: Connection, account: str, tail: Sequence[Event], epoch: int, now: datetime
) -> list[int]:
    """Mark each queued command in doubt that an event of ``tail`` sent; return their numbers."""
    sent = {name: event for event in tail if (name := _sent_name(event))}
    if not sent:
        return []
    queued = select(*_COLUMNS).where(
        outbox.c.account == account, outbox.c.status == Status.QUEUED.value
    )
    found = []
    for row in [QueuedRow(**each._mapping) for each in connection.execute(queued)]:
        event = sent.get(wire_msg_id(row.client_msg_id, row.attempts))
        if event is None:
            continue
        encoded = encode_row(account, row, WireNames())
        claim = {
            "epoch": epoch,
            "connection_id": event.connection_id,
            "customer_order_id": encoded.customer_order_id,
            "order_id": encoded.order_id,
            "sent_position": event.position,
        }
        number, sending = row.outbox_id, Status.SENDING.value
        is_changed = change_status(
            connection, account, number, Status.QUEUED.value, sending, now=now, **claim
        ) and change_status(
            connection, account, number, sending, Status.IN_DOUBT.value, now=now, reason=REASON
        )
        if not is_changed:
            raise StorageUnavailable(f"outbox {number} was changed meanwhile")
        found.append(number)
    return found


def _sent_name(event: Event) -> str | None:
    if event.origin != Origin.SENT:
        return None
    try:
        name = json.loads(event.payload).get("clientMsgId")
    except (ValueError, AttributeError):
        return None
    return name if isinstance(name, str) else None
