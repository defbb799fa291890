"""The transaction history, row by row, from the stream and from REST; see `matching`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from recorder.exchange.lists import Fetched, HistoryPage
from recorder.exchange.messages import Message, NewAccountHistoryRecord
from recorder.log.rules.event import Event
from recorder.projections.rules.fee_basis import fee_basis
from recorder.projections.rules.fold import Change, Key, Row, Rows, Table
from recorder.projections.rules.matching import Matching
from recorder.projections.rules.reading import is_fetched, is_received, unfoldable

LEDGER = Table("ledger", ("natural_id",))
#: What a row reports was moved.
MOVED = (
    "debit_currency",
    "debit_value",
    "credit_currency",
    "credit_value",
    "fee_currency",
    "fee_value",
)
_MATCHING = Matching("ledger", "transaction_id", "event_at", ("type", "event_at"), alike=MOVED)


class Ledger:
    """The fold of NEW_ACCOUNT_HISTORY_RECORD and of the transaction history."""

    name = "ledger"
    version = 3
    types = frozenset({"NEW_ACCOUNT_HISTORY_RECORD", Fetched.TRANSACTIONS.value})
    tables = (LEDGER,)

    def keys(self, message: Message) -> Iterable[tuple[str, Key]]:
        """Return what the transaction, or the page, may have to be joined with."""
        if isinstance(message, NewAccountHistoryRecord):
            return _MATCHING.asked_of_frame(message.transaction_id, message.event_at)
        if isinstance(message, HistoryPage):
            return _MATCHING.asked_of_page(
                (row.transaction_id, row.event_at) for _, row in _records(message)
            )
        return ()

    def fold(self, rows: Rows, event: Event, message: Message) -> Sequence[Change]:
        """Return the transaction as a row; of a page those that are new."""
        if is_received(event):
            if not isinstance(message, NewAccountHistoryRecord):
                raise unfoldable(message)
            return _MATCHING.of_frame(rows, _row(event, 0, message))
        if is_fetched(event) and event.type == Fetched.TRANSACTIONS:
            if not isinstance(message, HistoryPage):
                raise unfoldable(message)
            reported = [_row(event, place, record) for place, record in _records(message)]
            return _MATCHING.of_page(rows, reported)
        return ()


def _records(page: HistoryPage) -> Iterable[tuple[int, NewAccountHistoryRecord]]:
    """Return the rows that can be joined: a history's rows have ids."""
    for place, row in page.rows:
        if isinstance(row, NewAccountHistoryRecord) and row.transaction_id is not None:
            yield place, row


def _row(event: Event, item: int, record: NewAccountHistoryRecord) -> Row:
    return {
        "position": event.position,
        "item": item,
        "transaction_id": record.transaction_id,
        "type": record.transaction_type,
        "description": record.description,
        "debit_currency": record.debit_currency,
        "debit_value": record.debit_value,
        "credit_currency": record.credit_currency,
        "credit_value": record.credit_value,
        "fee_currency": record.fee_currency,
        "fee_value": record.fee_value,
        "fee_basis": _basis(record),
        "order_id": record.order_id,
        "pair": record.pair,
        "cost_per_coin": record.cost_per_coin,
        "cost_per_coin_symbol": record.cost_per_coin_symbol,
        "additional": record.additional,
        "event_at": record.event_at,
        "received_at": event.received_at,
    }


def _basis(record: NewAccountHistoryRecord) -> str | None:
    basis = fee_basis(record)
    return None if basis is None else basis.value
