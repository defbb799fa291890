"""What pages of the exchange's histories say: trades, transactions, orders, deposits, withdrawals.

A page that was fetched is an event of one of the `Fetched` types, its payload the answer as it
came. Its rows say the same as frames do, so most of them become the same messages. A row that can't
be read takes nothing from the others: it is named among ``unread``, and whoever needs to know that
nothing is missing has to look there.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from decimal import Decimal
from enum import StrEnum

from attrs import field, frozen

from recorder.exchange.fields import FieldError, Fields
from recorder.exchange.messages import (
    Message,
    NewAccountHistoryRecord,
    NewAccountTrade,
    NewPendingReceive,
    Unrecognised,
)
from recorder.exchange.readers import money
from recorder.exchange.rest import RestOrder, decode_rows, read_order
from recorder.exchange.rest_requests import Kind


class Fetched(StrEnum):
    """The type of a ``fetched`` event whose payload is a list of this kind."""

    TRADES = "REST_TRADES"
    TRANSACTIONS = "REST_TRANSACTIONS"
    ORDER_HISTORY = "REST_ORDER_HISTORY"
    DEPOSITS = "REST_DEPOSITS"
    WITHDRAWALS = "REST_WITHDRAWALS"
    OPEN_ORDERS = "REST_OPEN_ORDERS"
    BALANCES = "REST_BALANCES"


FETCHED_AS: Mapping[Kind, Fetched] = {
    Kind.TRADES: Fetched.TRADES,
    Kind.TRANSACTIONS: Fetched.TRANSACTIONS,
    Kind.ORDER_HISTORY: Fetched.ORDER_HISTORY,
    Kind.DEPOSITS: Fetched.DEPOSITS,
    Kind.WITHDRAWALS: Fetched.WITHDRAWALS,
    Kind.OPEN_ORDERS: Fetched.OPEN_ORDERS,
    Kind.BALANCES: Fetched.BALANCES,
}


@frozen
class Withdrawal(Message):
    """A withdrawal as its history tells it."""

    unique_id: str
    currency: str | None
    address: str | None
    transaction_hash: str | None
    amount: Decimal | None
    fee: Decimal | None
    confirmations: int | None
    network: str | None
    status: str | None
    created_at: datetime | None


#: What a row of a history may be.
HistoryRow = NewAccountTrade | NewAccountHistoryRecord | RestOrder | NewPendingReceive | Withdrawal


@frozen
class HistoryPage(Message):
    """A page: (place in the answer, row) of what could be read, and what was wrong elsewhere.

    ``length`` counts all elements. Pages of open orders and balances have no rows here: they are
    fetched to be compared, not to be folded.
    """

    rows: tuple[tuple[int, HistoryRow], ...] = field(repr=False)
    unread: tuple[str, ...]
    length: int


def read_history(type_: str, text: str) -> HistoryPage | Unrecognised:
    """Return what a fetched list says. Never raises: what is no list is `Unrecognised`."""
    if type_ not in _TYPES:
        return Unrecognised(type_, "answers of this type are not folded")
    try:
        elements = decode_rows(text)
    except FieldError as error:
        return Unrecognised(type_, str(error))
    reader = _READERS.get(type_)
    if reader is None:
        return HistoryPage(type_, (), (), len(elements))
    rows, unread = [], []
    for place, element in enumerate(elements):
        try:
            rows.append((place, reader(type_, _object(element))))
        except FieldError as error:
            unread.append(f"[{place}]: {error}")
    return HistoryPage(type_, tuple(rows), tuple(unread), len(elements))


def _object(element: object) -> Fields:
    if not isinstance(element, dict):
        raise FieldError("no JSON object")
    return Fields(element)


def _trade(type_: str, row: Fields) -> HistoryRow:
    trade = money.trade(type_, Fields({"data": row.members}))
    assert isinstance(trade, NewAccountTrade)
    row.required_text("id")
    return trade


def _transaction(type_: str, row: Fields) -> HistoryRow:
    record = money.history(type_, Fields({"data": row.members}))
    assert isinstance(record, NewAccountHistoryRecord)
    row.required_text("id")
    return record


def _deposit(type_: str, row: Fields) -> HistoryRow:
    return NewPendingReceive(
        type_,
        currency=row.currency("currencyCode", "currency"),
        address=row.text("receiveAddress", "address"),
        transaction_hash=row.required_text("transactionHash"),
        network=row.text("networkType"),
        amount=row.amount("amount"),
        confirmations=row.whole("confirmations"),
        confirmed=row.flag("confirmed"),
        index_in_transaction=row.whole("indexInTx"),
        created_at=row.time("createdAt"),
    )


def _withdrawal(type_: str, row: Fields) -> HistoryRow:
    return Withdrawal(
        type_,
        unique_id=row.required_text("uniqueId"),
        currency=row.currency("currency", "currencyCode"),
        address=row.text("address", "sendAddress"),
        transaction_hash=row.text("transactionHash"),
        amount=row.amount("amount"),
        fee=row.amount("feeAmount"),
        confirmations=row.whole("confirmations"),
        network=row.text("networkType"),
        status=row.text("status"),
        created_at=row.time("createdAt"),
    )


def _order(_: str, row: Fields) -> HistoryRow:
    return read_order(row)


_TYPES = frozenset(each.value for each in Fetched)
_READERS: Mapping[str, Callable[[str, Fields], HistoryRow]] = {
    Fetched.TRADES: _trade,
    Fetched.TRANSACTIONS: _transaction,
    Fetched.ORDER_HISTORY: _order,
    Fetched.DEPOSITS: _deposit,
    Fetched.WITHDRAWALS: _withdrawal,
}
