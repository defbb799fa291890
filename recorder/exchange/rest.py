"""What the answers of VALR's REST end-points say, and what they prove.

They are asked (`rest_requests`) for two ends: to find out what became of a command whose answer
never came, and to fetch what was missed while no connection was open.

**What an answer proves.** An order that is found is proof that it exists, in the state told at that
time. That none is found proves less, and differs by path:

- ``history/detail`` knows every order in any state and answers ``[]`` where there is none. Only
  this says that there is no such order *in any state*, and still only as of now: how long VALR
  takes until a new order is seen there is documented nowhere, so one answer settles nothing.
- The status path answers 400 ``{"code":-1,"message":"Invalid Order. "}``. VALR's own notes differ
  on whether it forgets finished orders (by a 404), so it speaks of live orders only.
- ``history/summary`` knows finished orders only.

A page of HTML, a cut text, a refusal, or an order of another name proves nothing at all. VALR has
been seen to answer with an HTML error page although it had done what was asked.

A customerOrderId is unique among open orders only. Several orders may be found by one; they are all
returned.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import NoReturn

from attrs import field, frozen

from recorder.exchange.close_reasons import asked_wait_s, excerpt
from recorder.exchange.fields import FieldError, Fields, Number
from recorder.exchange.rest_requests import Kind, OrderName, RestRequest

INVALID_ORDER_CODE = -1
#: The message of that code where an order is unknown; the code is met elsewhere too.
INVALID_ORDER_WORDS = "invalid order"
#: Invalid signature; address not allowed. Their HTTP status is not known for certain.
CREDENTIAL_CODES = frozenset({-11252, -11272})

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@frozen
class RestOrder:
    """An order, or one state of it, as a REST answer tells it. Absent members are None.

    ``total_…`` and ``average_price`` are of all its fills so far, ``executed_…`` of one state.
    """

    order_id: str
    customer_order_id: str | None
    pair: str | None
    side: str | None
    order_type: str | None
    status: str | None
    price: Decimal | None
    stop_price: Decimal | None
    original_quantity: Decimal | None
    remaining_quantity: Decimal | None
    average_price: Decimal | None
    total: Decimal | None
    total_executed_quantity: Decimal | None
    total_fee: Decimal | None
    fee_currency: str | None
    executed_price: Decimal | None
    executed_quantity: Decimal | None
    executed_fee: Decimal | None
    time_in_force: str | None
    allow_margin: bool | None
    failed_reason: str | None
    created_at: datetime | None
    updated_at: datetime | None

    def is_named(self, name: OrderName) -> bool:
        """True if this is the order of that id or customerOrderId."""
        own = self.order_id if name.by == "orderid" else self.customer_order_id
        return own == name.text


@frozen
class Answered:
    """What an answer says; ``text`` is all of it, as it came."""

    text: str = field(repr=False, kw_only=True)


@frozen
class OrdersFound(Answered):
    """Orders, in the answer's own order. A list of open orders or of a window may be empty."""

    orders: tuple[RestOrder, ...]


@frozen
class NoSuchOrder(Answered):
    """VALR says that it has no such order, as of now.

    ``in_any_state`` is true only where the path that was asked knows orders in every state.
    """

    in_any_state: bool


@frozen
class RowsFound(Answered):
    """Balances, trades, transactions, positions and the like, each with its members."""

    rows: tuple[Fields, ...]


@frozen
class TimeTold(Answered):
    """The exchange's time."""

    at: datetime


@frozen
class RateLimited(Answered):
    """Asked too often. ``retry_after_s`` is the wait that the exchange names, if it does."""

    retry_after_s: float | None


@frozen
class CredentialsRefused(Answered):
    """Key, signature, time stamp or address were turned down. Asking again at once is no use."""

    status: int
    code: int | None
    message: str


@frozen
class Declined(Answered):
    """The request was understood and turned down for another reason; it proves nothing."""

    status: int
    code: int
    message: str


@frozen
class ExchangeTrouble(Answered):
    """The exchange, or something before it, can't answer now."""

    status: int


@frozen
class Unreadable(Answered):
    """The answer is none that we know. It proves nothing."""

    status: int
    reason: str


Outcome = (
    OrdersFound
    | NoSuchOrder
    | RowsFound
    | TimeTold
    | RateLimited
    | CredentialsRefused
    | Declined
    | ExchangeTrouble
    | Unreadable
)


def read_answer(
    request: RestRequest, status: int, text: str, headers: Mapping[str, str]
) -> Outcome:
    """Return what an answer to this request says. Names of ``headers`` are in lower case.

    Never raises, whatever the text is. Takes a second for one of many megabytes.
    """
    if status == 429:
        return RateLimited(retry_after_s(headers), text=text)
    if status >= 500:
        return ExchangeTrouble(status, text=text)
    try:
        if status == 200:
            return _READERS[request.kind](request, text)
        if 400 <= status < 500:
            return _refusal(request, status, text)
    except FieldError as error:
        return Unreadable(status, excerpt(str(error)), text=text)
    return Unreadable(status, f"HTTP {status} was not expected", text=text)


def retry_after_s(headers: Mapping[str, str]) -> float | None:
    """Return the seconds that Retry-After asks for. Names of ``headers`` are in lower case."""
    return asked_wait_s(headers.get("retry-after", ""), headers.get("date", ""))


def _refusal(request: RestRequest, status: int, text: str) -> Outcome:
    """Read a 4xx. Raises FieldError where it isn't in VALR's own words."""
    try:
        fields = _object(_decode(text), "")
        code, message = fields.whole("code"), fields.text("message") or ""
    except FieldError:
        if status in (401, 403):
            return CredentialsRefused(status, None, excerpt(text), text=text)
        raise
    if status in (401, 403) or code in CREDENTIAL_CODES:
        return CredentialsRefused(status, code, excerpt(message), text=text)
    if code is None:
        raise FieldError("the refusal has no code")
    if _is_no_such_order(request.kind, status, code, message):
        return NoSuchOrder(in_any_state=False, text=text)
    return Declined(status, code, excerpt(message), text=text)


def _is_no_such_order(kind: Kind, status: int, code: int, message: str) -> bool:
    if status == 404:
        # Only of a path that forgets orders: elsewhere it is the path that isn't there.
        return kind in (Kind.ORDER_STATUS, Kind.ORDER_SUMMARY)
    words = message.strip(" .").lower()
    return (
        kind in (Kind.ORDER_STATUS, Kind.ORDER_SUMMARY, Kind.ORDER_DETAIL)
        and (status, code) == (400, INVALID_ORDER_CODE)
        and words == INVALID_ORDER_WORDS
    )


def _read_order(request: RestRequest, text: str) -> Outcome:
    order = read_order(_object(_decode(text), ""))
    return OrdersFound(_as_named(request, (order,)), text=text)


def _read_orders(request: RestRequest, text: str) -> Outcome:
    orders = tuple(read_order(row) for row in _rows(text))
    if request.kind is Kind.ORDER_DETAIL and not orders:
        return NoSuchOrder(in_any_state=True, text=text)
    return OrdersFound(_as_named(request, orders), text=text)


def _read_rows(_: RestRequest, text: str) -> Outcome:
    return RowsFound(tuple(_rows(text)), text=text)


def _read_time(_: RestRequest, text: str) -> Outcome:
    fields = _object(_decode(text), "")
    at, epoch_s = fields.time("time"), fields.whole("epochTime")
    if at is None and epoch_s is not None and 0 <= epoch_s < 10**10:
        at = _EPOCH + timedelta(seconds=epoch_s)
    if at is None:
        raise FieldError("time is missing")
    return TimeTold(at, text=text)


_READERS: Mapping[Kind, Callable[[RestRequest, str], Outcome]] = {
    Kind.OPEN_ORDERS: _read_orders,
    Kind.ORDER_STATUS: _read_order,
    Kind.ORDER_SUMMARY: _read_order,
    Kind.ORDER_DETAIL: _read_orders,
    Kind.ORDER_HISTORY: _read_orders,
    Kind.BALANCES: _read_rows,
    Kind.TRADES: _read_rows,
    Kind.TRANSACTIONS: _read_rows,
    Kind.DEPOSITS: _read_rows,
    Kind.WITHDRAWALS: _read_rows,
    Kind.OPEN_POSITIONS: _read_rows,
    Kind.CLOSED_POSITIONS_SUMMARY: _read_rows,
    Kind.CONDITIONALS: _read_rows,
    Kind.CONDITIONAL_HISTORY: _read_rows,
    Kind.TIME: _read_time,
}


def read_order(order: Fields) -> RestOrder:
    """Read an order from any of the answers that have one. Raises FieldError."""
    return RestOrder(
        order_id=order.required_text("orderId"),
        customer_order_id=order.text("customerOrderId"),
        pair=order.pair("currencyPair", "pair"),
        side=order.side("orderSide", "side"),
        order_type=order.text("orderType", "type"),
        status=order.text("orderStatusType", "status"),
        price=order.amount("originalPrice", "price"),
        stop_price=order.amount("stopPrice"),
        original_quantity=order.amount("originalQuantity"),
        remaining_quantity=order.amount("remainingQuantity"),
        average_price=order.amount("averagePrice"),
        total=order.amount("total"),
        total_executed_quantity=order.amount("totalExecutedQuantity"),
        total_fee=order.amount("totalFee"),
        fee_currency=order.currency("feeCurrency"),
        executed_price=order.amount("executedPrice"),
        executed_quantity=order.amount("executedQuantity"),
        executed_fee=order.amount("executedFee"),
        time_in_force=order.text("timeInForce"),
        allow_margin=order.flag("allowMargin"),
        failed_reason=order.reason("failedReason", "failureReason"),
        created_at=order.time("orderCreatedAt", "createdAt"),
        updated_at=order.time("orderUpdatedAt", "updatedAt"),
    )


def _as_named(request: RestRequest, orders: tuple[RestOrder, ...]) -> tuple[RestOrder, ...]:
    """Return the orders if they are those that were asked for. Raises FieldError."""
    name = request.name
    if name is not None and not all(order.is_named(name) for order in orders):
        raise FieldError("the answer speaks of another order than the one asked for")
    return orders


def _rows(text: str) -> Iterable[Fields]:
    return [_object(row, f"[{place}].") for place, row in enumerate(decode_rows(text))]


def decode_rows(text: str) -> list[object]:
    """Return the elements of a list, whatever they are. Raises FieldError."""
    rows = _decode(text)
    if not isinstance(rows, list):
        raise FieldError("no JSON array")
    return rows


def _object(value: object, path: str) -> Fields:
    if not isinstance(value, dict):
        raise FieldError(f"{path or 'the answer'} is no JSON object")
    return Fields(value, path)


def _decode(text: str) -> object:
    """Return a JSON value with every number by its digits. Raises FieldError.

    The quicker decoder of `fields` reads objects only; answers come too rarely to miss it.
    """
    try:
        return json.loads(text, parse_int=Number, parse_float=Number, parse_constant=_refuse)
    except RecursionError:
        raise FieldError("the JSON is nested too deeply") from None
    except ValueError as error:
        raise FieldError(f"no valid JSON: {error}") from None


def _refuse(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON number")
