"""Deposits and withdrawals, one row each, as far as their last frame told.

A deposit is told again at each confirmation and is known by transaction and index; a withdrawal is
known by the exchange's id, and its frames may come in either order: whichever is first makes the
row, the others fill in what it left open. A frame with fewer confirmations than stand is late and
fills in blanks alone; what is confirmed stays confirmed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from recorder.exchange.messages import (
    Message,
    NewPendingReceive,
    NewPendingSend,
    SendStatusUpdate,
)
from recorder.log.event import Event
from recorder.projections.fold import Change, Key, Put, Row, Rows, Table
from recorder.projections.reading import is_received, unfoldable

TRANSFERS = Table("transfers", ("transfer_id",))
_COLUMNS = (
    "currency",
    "amount",
    "fee",
    "address",
    "transaction_hash",
    "network",
    "confirmations",
    "confirmed",
    "status",
    "reason",
    "created_at",
)


class Transfers:
    """The fold of NEW_PENDING_RECEIVE, NEW_PENDING_SEND and SEND_STATUS_UPDATE."""

    name = "transfers"
    version = 1
    types = frozenset({"NEW_PENDING_RECEIVE", "NEW_PENDING_SEND", "SEND_STATUS_UPDATE"})
    tables = (TRANSFERS,)

    def keys(self, message: Message) -> Iterable[tuple[str, Key]]:
        """Return the transfer that the message is about."""
        transfer_id = _transfer_id(message)
        return () if transfer_id is None else (("transfers", (transfer_id,)),)

    def fold(self, rows: Rows, event: Event, message: Message) -> Sequence[Change]:
        """Return the transfer as it stands after the message."""
        if not is_received(event):
            return ()
        transfer_id = _transfer_id(message)
        if transfer_id is None:
            raise unfoldable(message)
        old = rows.get("transfers", (transfer_id,))
        stated = _stated(message)
        if old is None:
            old = dict.fromkeys(_COLUMNS) | {
                "position": event.position,
                "transfer_id": transfer_id,
                "direction": transfer_id.partition(":")[0],
                "received_at": event.received_at,
            }
        elif _is_late(stated, old):
            stated = {name: value for name, value in stated.items() if old[name] is None}
        row = {**old, **stated, "last_position": event.position}
        row["confirmed"] = stated.get("confirmed", old["confirmed"]) or old["confirmed"]
        if _same(row, old):
            return ()
        return (Put("transfers", (transfer_id,), row),)


def _transfer_id(message: Message) -> str | None:
    match message:
        case NewPendingReceive():
            return f"deposit:{message.transaction_hash}:{message.index_in_transaction or 0}"
        case NewPendingSend() | SendStatusUpdate():
            return f"withdrawal:{message.unique_id}"
        case _:
            return None


def _stated(message: Message) -> dict[str, object]:
    """Return the columns that the message states; what it leaves open is left out."""
    row: dict[str, object] = {}
    match message:
        case NewPendingReceive():
            row = {
                "currency": message.currency,
                "amount": message.amount,
                "address": message.address,
                "transaction_hash": message.transaction_hash,
                "network": message.network,
                "confirmations": message.confirmations,
                "confirmed": message.confirmed,
                "created_at": message.created_at,
            }
        case NewPendingSend():
            row = {
                "currency": message.currency,
                "amount": message.amount,
                "fee": message.fee,
                "address": message.address,
                "transaction_hash": message.transaction_hash,
                "confirmations": message.confirmations,
                "created_at": message.created_at,
            }
        case SendStatusUpdate():
            row = {
                "status": message.status,
                "transaction_hash": message.transaction_hash,
                "confirmations": message.confirmations,
                "reason": message.failure_reason,
            }
    return {name: value for name, value in row.items() if value is not None}


def _is_late(stated: Mapping[str, object], old: Row) -> bool:
    told, stands = stated.get("confirmations"), old["confirmations"]
    return isinstance(told, int) and stands is not None and told < stands


def _same(row: Row, old: Row) -> bool:
    return all(row[name] == old.get(name) for name in _COLUMNS) and "last_position" in old
