"""Lists that REST answers hold: histories, positions, conditional orders.

A list that was fetched is an event of one of the types `Fetched` or `FuturesList`; its payload is
the answer as received. Rows become the same messages as frames do.

- Of a page of a history, a row that cannot be read is named among ``unread``; the others count.
- A list of futures with an unreadable row counts as unreadable: absence from part of a list proves
  nothing. A list as long as a page may continue behind it, and is not ``whole``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from decimal import Decimal
from enum import StrEnum

from attrs import field, frozen

from recorder.exchange import declared as wire
from recorder.exchange.declared import Declared, read_as, unreadable_of
from recorder.exchange.fields import FieldError, Fields, decode_rows
from recorder.exchange.messages import (
    AddConditionalOrder,
    Message,
    NewAccountHistoryRecord,
    NewAccountTrade,
    NewPendingReceive,
    OpenPositionUpdate,
    Unrecognised,
)
from recorder.exchange.rest_requests import PAGE_ROWS_MAX, Kind, OrderName


class Fetched(StrEnum):
    """The type of a ``fetched`` event whose payload is a list of this kind."""

    TRADES = "REST_TRADES"
    TRANSACTIONS = "REST_TRANSACTIONS"
    ORDER_HISTORY = "REST_ORDER_HISTORY"
    DEPOSITS = "REST_DEPOSITS"
    WITHDRAWALS = "REST_WITHDRAWALS"
    OPEN_ORDERS = "REST_OPEN_ORDERS"
    BALANCES = "REST_BALANCES"


class FuturesList(StrEnum):
    """The same for lists of positions and conditional orders, which are fetched whole."""

    OPEN_POSITIONS = "REST_OPEN_POSITIONS"
    CLOSED_SUMMARY = "REST_CLOSED_POSITIONS_SUMMARY"
    CONDITIONALS = "REST_CONDITIONAL_ORDERS"
    CONDITIONAL_HISTORY = "REST_CONDITIONAL_ORDER_HISTORY"


FETCHED_AS: Mapping[Kind, Fetched] = {Kind[each.name]: each for each in Fetched}
FUTURES_FETCHED_AS: Mapping[Kind, FuturesList] = {
    Kind.OPEN_POSITIONS: FuturesList.OPEN_POSITIONS,
    Kind.CLOSED_POSITIONS_SUMMARY: FuturesList.CLOSED_SUMMARY,
    Kind.CONDITIONALS: FuturesList.CONDITIONALS,
    Kind.CONDITIONAL_HISTORY: FuturesList.CONDITIONAL_HISTORY,
}


@frozen
class RestOrder(Declared):
    """An order, or one state of it, from a REST answer. Absent members are None.

    ``total_…`` and ``average_price`` are of all its fills so far, ``executed_…`` of one state.
    """

    order_id: str = wire.required_text("orderId")
    customer_order_id: str | None = wire.text("customerOrderId")
    pair: str | None = wire.pair("currencyPair", "pair")
    side: str | None = wire.side("orderSide", "side")
    order_type: str | None = wire.detail(wire.text("orderType", "type"))
    status: str | None = wire.text("orderStatusType", "status")
    price: Decimal | None = wire.amount("originalPrice", "price")
    stop_price: Decimal | None = wire.amount("stopPrice")
    original_quantity: Decimal | None = wire.amount("originalQuantity")
    remaining_quantity: Decimal | None = wire.amount("remainingQuantity")
    average_price: Decimal | None = wire.amount("averagePrice")
    total: Decimal | None = wire.amount("total")
    total_executed_quantity: Decimal | None = wire.amount("totalExecutedQuantity")
    total_fee: Decimal | None = wire.amount("totalFee")
    fee_currency: str | None = wire.currency("feeCurrency")
    executed_price: Decimal | None = wire.amount("executedPrice")
    executed_quantity: Decimal | None = wire.amount("executedQuantity")
    executed_fee: Decimal | None = wire.amount("executedFee")
    time_in_force: str | None = wire.detail(wire.text("timeInForce"))
    allow_margin: bool | None = wire.flag("allowMargin")
    failed_reason: str | None = wire.reason("failedReason", "failureReason")
    created_at: datetime | None = wire.time("orderCreatedAt", "createdAt")
    updated_at: datetime | None = wire.time("orderUpdatedAt", "updatedAt")

    def is_named(self, name: OrderName) -> bool:
        """Return whether this is the order of that id or customerOrderId."""
        own = self.order_id if name.by == "orderid" else self.customer_order_id
        return own == name.text


@frozen
class Withdrawal(Message):
    """A withdrawal in its history."""

    unique_id: str = wire.required_text("uniqueId")
    currency: str | None = wire.currency("currency", "currencyCode")
    address: str | None = wire.detail(wire.text("address", "sendAddress"))
    transaction_hash: str | None = wire.detail(wire.text("transactionHash"))
    amount: Decimal | None = wire.amount("amount")
    fee: Decimal | None = wire.amount("feeAmount")
    confirmations: int | None = wire.detail(wire.whole("confirmations"))
    network: str | None = wire.detail(wire.text("networkType"))
    status: str | None = wire.text("status")
    created_at: datetime | None = wire.time("createdAt")


@frozen
class ClosedPosition(Declared):
    """The result of a closed position. ``realised_pnl`` is net of fees."""

    position_id: str = wire.required_text("positionId")
    realised_pnl: Decimal | None = wire.amount("realisedPnl")


@frozen
class ListedConditional:
    """A conditional order of a list, with the exchange's word for its state if there is one."""

    order: AddConditionalOrder
    status: str | None


#: What a row of a history may be.
HistoryRow = NewAccountTrade | NewAccountHistoryRecord | RestOrder | NewPendingReceive | Withdrawal


@frozen
class HistoryPage(Message):
    """A page: (place in the answer, row) of each readable row, and the errors of the others.

    ``length`` counts all elements. Pages of open orders and balances have no rows here: they are
    fetched to be compared, not to be folded.
    """

    rows: tuple[tuple[int, HistoryRow], ...] = field(repr=False)
    unread: tuple[str, ...]
    length: int


@frozen
class OpenPositions(Message):
    """The positions that are held; ``is_whole`` where none can be missing."""

    positions: tuple[OpenPositionUpdate, ...]
    is_whole: bool


@frozen
class ClosedPositions(Message):
    """A page of positions that were closed; absence from it proves nothing."""

    positions: tuple[ClosedPosition, ...]


@frozen
class Conditionals(Message):
    """The conditional orders that wait for their price."""

    orders: tuple[ListedConditional, ...]
    is_whole: bool


@frozen
class ConditionalHistory(Message):
    """A page of conditional orders in any state; absence from it proves nothing."""

    orders: tuple[ListedConditional, ...]


def read_history(type_: str, text: str) -> HistoryPage | Unrecognised:
    """Return the page of a history. Never raises: what is no list is `Unrecognised`."""
    if type_ not in _HISTORIES:
        return Unrecognised(type_, "answers of this type are not folded")
    try:
        elements = decode_rows(text)
    except FieldError as error:
        return Unrecognised(type_, str(error))
    reader = _HISTORIES[type_]
    rows, unread = [], []
    for place, element in enumerate(elements if reader else ()):
        try:
            rows.append((place, _read_row(reader, type_, element)))
        except FieldError as error:
            unread.append(f"[{place}]: {error}")
    without = tuple(f"[{place}]: {error}" for place, row in rows for error in row.unreadable)
    return HistoryPage(type_, tuple(rows), tuple(unread), len(elements), unreadable=without)


def read_futures_list(type_: str, text: str) -> Message:
    """Return a list of futures. Never raises: what cannot be read is `Unrecognised`."""
    reader = _FUTURES_LISTS.get(type_)
    if reader is None:
        return Unrecognised(type_, "answers of this type are not folded")
    try:
        return reader(type_, [_object(place, row) for place, row in enumerate(decode_rows(text))])
    except FieldError as error:
        return Unrecognised(type_, str(error))


_RowReader = Callable[[str, Fields], HistoryRow]


def _read_row(reader: _RowReader | None, type_: str, element: object) -> HistoryRow:
    assert reader is not None
    if not isinstance(element, dict):
        raise FieldError("no JSON object")
    return reader(type_, Fields(element))


def _object(place: int, row: object) -> Fields:
    if not isinstance(row, dict):
        raise FieldError(f"[{place}] is no JSON object")
    return Fields(row, f"[{place}].")


def _with_id(kind: type[NewAccountTrade] | type[NewAccountHistoryRecord]) -> _RowReader:
    def read(type_: str, row: Fields) -> HistoryRow:
        made = read_as(kind, row, type_)
        row.required_text("id")
        return made

    return read


def _listed(type_: str, rows: list[Fields]) -> tuple[ListedConditional, ...]:
    return tuple(
        ListedConditional(
            read_as(AddConditionalOrder, row, type_), row.text("orderStatusType", "status")
        )
        for row in rows
    )


def _open_positions(type_: str, rows: list[Fields]) -> Message:
    positions = tuple(read_as(OpenPositionUpdate, row, type_) for row in rows)
    is_whole = len(rows) < PAGE_ROWS_MAX
    return OpenPositions(type_, positions, is_whole, unreadable=unreadable_of(positions))


def _closed_positions(type_: str, rows: list[Fields]) -> Message:
    positions = tuple(read_as(ClosedPosition, row) for row in rows)
    return ClosedPositions(type_, positions, unreadable=unreadable_of(positions))


def _conditionals(type_: str, rows: list[Fields]) -> Message:
    listed = _listed(type_, rows)
    unreadable = unreadable_of(each.order for each in listed)
    if type_ == FuturesList.CONDITIONAL_HISTORY:
        return ConditionalHistory(type_, listed, unreadable=unreadable)
    return Conditionals(type_, listed, len(rows) < PAGE_ROWS_MAX, unreadable=unreadable)


#: Event type → how its rows are read; None: they are fetched to be compared, not to be folded.
_HISTORIES: Mapping[str, _RowReader | None] = {
    Fetched.TRADES: _with_id(NewAccountTrade),
    Fetched.TRANSACTIONS: _with_id(NewAccountHistoryRecord),
    Fetched.ORDER_HISTORY: lambda _, row: read_as(RestOrder, row),
    Fetched.DEPOSITS: lambda type_, row: read_as(NewPendingReceive, row, type_),
    Fetched.WITHDRAWALS: lambda type_, row: read_as(Withdrawal, row, type_),
    Fetched.OPEN_ORDERS: None,
    Fetched.BALANCES: None,
}
_FUTURES_LISTS: Mapping[str, Callable[[str, list[Fields]], Message]] = {
    FuturesList.OPEN_POSITIONS: _open_positions,
    FuturesList.CLOSED_SUMMARY: _closed_positions,
    FuturesList.CONDITIONALS: _conditionals,
    FuturesList.CONDITIONAL_HISTORY: _conditionals,
}
