"""A resend: a new command that asks for the same again and points to the old one.

It is a person's act, and the recorder makes none. The old command keeps its outcome.
"""

from __future__ import annotations

from collections.abc import Collection

from sqlalchemy import Connection, insert, select

from recorder.database.schema import outbox
from recorder.errors import Refused
from recorder.outbox.rules.states import Status
from recorder.outbox.sql.queue import OutboxRow, row_for_update

#: After these nothing of the command stands in the exchange's book, as far as can be known.
WITHOUT_EFFECT = frozenset(
    {Status.REJECTED, Status.NOT_PLACED, Status.EXPIRED, Status.WITHDRAWN, Status.REFUSED}
)


def requeue(connection: Connection, account: str, outbox_id: int, *, again: bool = False) -> int:
    """Queue the command again and return the new ``outbox_id``; durable with the transaction.

    The new one has the command, payload, priority and order of the old one, a ``client_msg_id`` of
    its own, and no times: those of the old one may be over. A ``customerOrderId`` that the recorder
    had made isn't in the payload, so the new one gets its own; one that the caller gave stays.

    Raises Refused while the old one's outcome is open, always; and, unless ``again``, if it took
    effect, or if another that asks for the same is open or took effect: a resend of it, one that it
    is a resend of, and resends of those.
    """
    first = _first(connection, account, outbox_id)
    # Held by every transaction that resends any of them.
    row_for_update(connection, account, first)
    old = row_for_update(connection, account, outbox_id)
    if old.status not in WITHOUT_EFFECT | {Status.ACCEPTED}:
        raise Refused(
            "status",
            f"command {outbox_id} is {old.status}: its outcome is open, and a second one beside it"
            f" could be one too many; `recorder outbox show {outbox_id}` shows what is known",
        )
    if old.status == Status.ACCEPTED and not again:
        raise Refused("status", f"command {outbox_id} took effect; --again orders the same again")
    others = [
        number
        for number, status in _all_of(connection, account, first)
        if number != outbox_id and status not in WITHOUT_EFFECT
    ]
    if others and not again:
        raise Refused(
            "requeue_of",
            f"command {outbox_id} asks for the same as {_listed(others)}, by requeueing, which did"
            " not come to nothing; --again orders the same again",
        )
    return _queue(connection, old)


def resends(connection: Connection, account: str, outbox_id: int) -> list[tuple[int, str]]:
    """Return (outbox_id, status) of each resend of a command, oldest first."""
    found = (
        select(outbox.c.outbox_id, outbox.c.status)
        .where(outbox.c.account == account, outbox.c.requeue_of == outbox_id)
        .order_by(outbox.c.outbox_id)
    )
    return [(row.outbox_id, row.status) for row in connection.execute(found)]


def _first(connection: Connection, account: str, outbox_id: int) -> int:
    """Return the command that this one is a resend of, at first hand or at third."""
    while True:
        asked = select(outbox.c.requeue_of).where(
            outbox.c.account == account, outbox.c.outbox_id == outbox_id
        )
        before: int | None = connection.execute(asked).scalar_one()
        if before is None:
            return outbox_id
        outbox_id = before


def _all_of(connection: Connection, account: str, first: int) -> list[tuple[int, str]]:
    """Return (outbox_id, status) of a command and of all that were made from it."""
    asked = select(outbox.c.status).where(outbox.c.account == account, outbox.c.outbox_id == first)
    found = [(first, str(connection.execute(asked).scalar_one()))]
    for number, _ in found:
        found += resends(connection, account, number)
    return found


def _queue(connection: Connection, old: OutboxRow) -> int:
    same = select(
        outbox.c.account,
        outbox.c.command,
        outbox.c.payload,
        outbox.c.priority,
        outbox.c.in_order,
        outbox.c.outbox_id,
    ).where(outbox.c.account == old.account, outbox.c.outbox_id == old.outbox_id)
    columns = ("account", "command", "payload", "priority", "in_order", "requeue_of")
    queue = insert(outbox).from_select(columns, same).returning(outbox.c.outbox_id)
    return int(connection.execute(queue).scalar_one())


def _listed(numbers: Collection[int]) -> str:
    return ", ".join(map(str, numbers))
