"""The transaction history, row by row. A row told twice, with the same id, is one row."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from recorder.exchange.messages import Message, NewAccountHistoryRecord
from recorder.log.event import Event
from recorder.projections.fold import Add, Change, Key, Rows, Table
from recorder.projections.reading import is_received, unfoldable

LEDGER = Table("ledger", ("transaction_id",), once=True)


class Ledger:
    """The fold of NEW_ACCOUNT_HISTORY_RECORD."""

    name = "ledger"
    version = 1
    types = frozenset({"NEW_ACCOUNT_HISTORY_RECORD"})
    tables = (LEDGER,)

    def keys(self, message: Message) -> Iterable[tuple[str, Key]]:
        """The fold looks at no row."""
        return ()

    def fold(self, rows: Rows, event: Event, message: Message) -> Sequence[Change]:
        """Return the transaction as a row."""
        if not is_received(event):
            return ()
        if not isinstance(message, NewAccountHistoryRecord):
            raise unfoldable(message)
        row = {
            "position": event.position,
            "transaction_id": message.transaction_id,
            "type": message.transaction_type,
            "description": message.description,
            "debit_currency": message.debit_currency,
            "debit_value": message.debit_value,
            "credit_currency": message.credit_currency,
            "credit_value": message.credit_value,
            "fee_currency": message.fee_currency,
            "fee_value": message.fee_value,
            "order_id": message.order_id,
            "pair": message.pair,
            "cost_per_coin": message.cost_per_coin,
            "cost_per_coin_symbol": message.cost_per_coin_symbol,
            "additional": message.additional,
            "event_at": message.event_at,
            "received_at": event.received_at,
        }
        return (Add("ledger", (message.transaction_id,), row),)
