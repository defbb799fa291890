"""The transaction history, row by row, from the stream and from REST; see `matching`.

Each row also gets its fee basis: whether the reported amount already has the fee taken off
(``net``) or not (``gross``). VALR doesn't document it. A fill proves it, because it has a price:
what was bought times the price is what was paid, and only one reading fits. Rounding makes neither
fit exactly, so the better one counts if it is clearly better. Otherwise the basis is unknown.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from decimal import Decimal
from enum import StrEnum

from recorder.exchange.amounts import EXACT
from recorder.exchange.lists import Fetched, HistoryPage
from recorder.exchange.messages import Message, NewAccountHistoryRecord
from recorder.log.rules.event import Event
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
    version = 4
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


#: A reading that misses by at most this part of what the other one does is proved.
_CLEARLY = 3


class FeeBasis(StrEnum):
    """How the fee stands to the amount in its own currency."""

    #: It is in there already: the balance changes by the reported amounts alone.
    NET = "net"
    #: It comes off besides.
    GROSS = "gross"


def fee_basis(record: NewAccountHistoryRecord) -> FeeBasis | None:
    """Return what the record proves of its fee; None if there is none, or nothing proves it."""
    if not record.fee_value or record.fee_currency is None:
        return None
    if record.fee_currency not in (record.credit_currency, record.debit_currency):
        # There is no amount that it could be a part of.
        return FeeBasis.GROSS
    misses = _misses(record, record.fee_value)
    if misses is None:
        return None
    gross, net = misses
    if net * _CLEARLY <= gross:
        return FeeBasis.NET
    return FeeBasis.GROSS if gross * _CLEARLY <= net else None


def _misses(record: NewAccountHistoryRecord, fee: Decimal) -> tuple[Decimal, Decimal] | None:
    """Return by how much base times price misses quote, if read as gross and as net."""
    credit, debit, price = record.credit_value, record.debit_value, record.cost_per_coin
    is_buy = _is_buy(record)
    if credit is None or debit is None or not price or is_buy is None:
        return None
    if record.credit_currency == record.debit_currency:
        return None
    # Read as net, the amount before the fee is more of a credit, and less of a debit.
    if record.fee_currency == record.credit_currency:
        before = EXACT.add(credit, fee), debit
    else:
        before = credit, EXACT.subtract(debit, fee)
    return _miss(credit, debit, price, is_buy), _miss(*before, price, is_buy)


def _miss(credit: Decimal, debit: Decimal, price: Decimal, is_buy: bool) -> Decimal:
    base, quote = (credit, debit) if is_buy else (debit, credit)
    return abs(EXACT.subtract(EXACT.multiply(base, price), quote))


def _is_buy(record: NewAccountHistoryRecord) -> bool | None:
    """Return whether the base currency was credited; None if neither pair nor type shows it."""
    credited, debited = record.credit_currency or "", record.debit_currency or ""
    if record.pair == credited + debited:
        return True
    if record.pair == debited + credited:
        return False
    verb = (record.transaction_type or "").rpartition("_")[2]
    return {"BUY": True, "SELL": False}.get(verb)
