"""Deposits and withdrawals, one row each, as far as their last frame reported.

A deposit is reported again at each confirmation and is known by transaction and index; a withdrawal
is known by the exchange's id, and its frames may come in either order: whichever is first makes the
row, the others fill in what it left open. A frame with fewer confirmations than stand is late and
fills in blanks alone; what is confirmed stays confirmed.

The histories report the same. A withdrawal's has the same id. A deposit's names the transaction but
no index in it, so its row is joined with a frame's that is equal in transaction, currency, amount
and address, and such equal ones are counted: the one that a page confirms furthest is the one that
stands furthest, as confirmations only grow. It has no time of its last change: as many
confirmations as stand make it no news, and it fills in blanks alone. What has no equal yet gets an
id of its own (``deposit:<transaction>:?<n>``), which stays when a frame reports it later.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from recorder.exchange.lists import Fetched, HistoryPage, HistoryRow, Withdrawal
from recorder.exchange.messages import (
    Message,
    NewPendingReceive,
    NewPendingSend,
    SendStatusUpdate,
)
from recorder.log.rules.event import Event
from recorder.projections.rules.fold import Alike, Change, Key, Put, Row, Rows, Table
from recorder.projections.rules.matching import BACKFILL, STREAM
from recorder.projections.rules.reading import is_fetched, is_received, unfoldable

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
    "index_in_transaction",
)
#: The word of a withdrawal's history for one that is through.
COMPLETE = "Complete"


class Transfers:
    """The fold of NEW_PENDING_RECEIVE, NEW_PENDING_SEND, SEND_STATUS_UPDATE, and the histories."""

    name = "transfers"
    version = 4
    types = frozenset(
        {
            "NEW_PENDING_RECEIVE",
            "NEW_PENDING_SEND",
            "SEND_STATUS_UPDATE",
            Fetched.DEPOSITS.value,
            Fetched.WITHDRAWALS.value,
        }
    )
    tables = (TRANSFERS,)

    def keys(self, message: Message) -> Iterable[tuple[str, Key]]:
        """Return the transfers that the message is about, or may be."""
        reported = (
            [row for _, row in message.rows] if isinstance(message, HistoryPage) else [message]
        )
        for each in reported:
            if isinstance(each, NewPendingReceive):
                yield "transfers", Alike("transaction_hash", each.transaction_hash)
            transfer_id = _transfer_id(each)
            if transfer_id is not None:
                yield "transfers", (transfer_id,)

    def fold(self, rows: Rows, event: Event, message: Message) -> Sequence[Change]:
        """Return the transfers as they stand after the message."""
        if is_fetched(event):
            if event.type not in (Fetched.DEPOSITS, Fetched.WITHDRAWALS):
                return ()
            if not isinstance(message, HistoryPage):
                raise unfoldable(message)
            return _fold_page(rows, event, message)
        if not is_received(event):
            return ()
        transfer_id = _transfer_id(message)
        if transfer_id is None:
            raise unfoldable(message)
        old = rows.get("transfers", (transfer_id,))
        if old is None and isinstance(message, NewPendingReceive):
            old = _reported_by_history(rows, message)
        return _after(old, transfer_id, event, message, item=0)


def _fold_page(rows: Rows, event: Event, page: HistoryPage) -> Sequence[Change]:
    changes: list[Change] = []
    taken: set[str] = set()
    for place, reported in sorted(
        page.rows, key=lambda row: _progress(_values(row[1])), reverse=True
    ):
        old = _known(rows, reported, taken)
        if old is not None:
            transfer_id = str(old["transfer_id"])
        elif isinstance(reported, NewPendingReceive):
            transfer_id = _unplaced_id(reported, taken, rows)
        else:
            transfer_id = _transfer_id(reported) or ""
        if transfer_id not in taken:
            taken.add(transfer_id)
            changes += _after(old, transfer_id, event, reported, item=place)
    return changes


def _known(rows: Rows, reported: HistoryRow, taken: set[str]) -> Row | None:
    """Return the row for a transfer in the history that no history has reported yet."""
    if isinstance(reported, NewPendingReceive):
        free = (row for row in _equals(rows, reported) if row["transfer_id"] not in taken)
        return max(free, key=_progress, default=None)
    transfer_id = _transfer_id(reported)
    return None if transfer_id is None else rows.get("transfers", (transfer_id,))


def _equals(rows: Rows, reported: NewPendingReceive) -> list[Row]:
    """Return the deposits that may be this one, in the order in which they were reported."""
    found = [
        row
        for row in rows.all("transfers").values()
        if row["direction"] == "deposit"
        and row["transaction_hash"] == reported.transaction_hash
        and all(
            None in (row[name], value) or row[name] == value
            for name, value in (
                ("currency", reported.currency),
                ("amount", reported.amount),
                ("address", reported.address),
            )
        )
    ]
    return sorted(found, key=lambda row: (row["position"], row["item"]))


def _reported_by_history(rows: Rows, message: NewPendingReceive) -> Row | None:
    """Return the row that a history made of this deposit, whether it got its index or not."""
    made = [row for row in _equals(rows, message) if ":?" in row["transfer_id"]]
    index = message.index_in_transaction or 0
    for wanted in (index, None):
        found = [row for row in made if row["index_in_transaction"] == wanted]
        if found:
            return _nearest(found, _progress(_values(message)))
    return None


def _nearest(rows: Sequence[Row], reported: tuple[bool, int]) -> Row:
    """Return the row that a frame brings on: the furthest that isn't further than it."""
    before = [row for row in rows if _progress(row) <= reported]
    return max(before, key=_progress) if before else min(rows, key=_progress)


def _progress(row: Mapping[str, object]) -> tuple[bool, int]:
    """Return how far a transfer is confirmed."""
    confirmations = row.get("confirmations")
    return bool(row.get("confirmed")), confirmations if isinstance(confirmations, int) else 0


def _unplaced_id(reported: NewPendingReceive, taken: set[str], rows: Rows) -> str:
    number = 1
    while (name := f"deposit:{reported.transaction_hash}:?{number}") in taken or rows.get(
        "transfers", (name,)
    ):
        number += 1
    return name


def _after(
    old: Row | None, transfer_id: str, event: Event, message: Message | HistoryRow, *, item: int
) -> Sequence[Change]:
    """Return the transfer's row after a report."""
    values = _values(message)
    if old is None:
        old = dict.fromkeys(_COLUMNS) | {
            "position": event.position,
            "item": item,
            "transfer_id": transfer_id,
            "direction": transfer_id.partition(":")[0],
            "received_at": event.received_at,
            "source": BACKFILL if is_fetched(event) else STREAM,
        }
    elif _is_late(values, old) or (is_fetched(event) and not _is_news(values, old)):
        values = {name: value for name, value in values.items() if old[name] is None}
    if isinstance(message, NewPendingReceive) and is_received(event):
        values["index_in_transaction"] = message.index_in_transaction or 0
    row = {**old, **values, "last_position": event.position}
    if old["confirmed"]:
        row["confirmed"] = True
    if _same(row, old):
        return ()
    return (Put("transfers", (str(old["transfer_id"]),), row),)


def _is_news(values: Mapping[str, object], old: Row) -> bool:
    """Return whether a history reports more than stands: more confirmations, or an end."""
    reported, stands = values.get("confirmations"), old["confirmations"]
    if isinstance(reported, int) and (stands is None or reported > stands):
        return True
    is_end = values.get("confirmed") is True or values.get("status") == COMPLETE
    return is_end and not old["confirmed"] and old["status"] != values.get("status")


def _transfer_id(message: Message | HistoryRow) -> str | None:
    match message:
        case NewPendingReceive():
            return f"deposit:{message.transaction_hash}:{message.index_in_transaction or 0}"
        case NewPendingSend() | SendStatusUpdate() | Withdrawal():
            return f"withdrawal:{message.unique_id}"
        case _:
            return None


def _values(message: Message | HistoryRow) -> dict[str, object]:
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
        case Withdrawal():
            row = {
                "currency": message.currency,
                "amount": message.amount,
                "fee": message.fee,
                "address": message.address,
                "transaction_hash": message.transaction_hash,
                "network": message.network,
                "confirmations": message.confirmations,
                "status": message.status,
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


def _is_late(values: Mapping[str, object], old: Row) -> bool:
    reported, stands = values.get("confirmations"), old["confirmations"]
    return isinstance(reported, int) and stands is not None and reported < stands


def _same(row: Row, old: Row) -> bool:
    return all(row[name] == old.get(name) for name in _COLUMNS) and "last_position" in old
