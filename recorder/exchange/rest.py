"""Answers of VALR's REST end-points, and what they prove.

They are requested (`rest_requests`) to find the outcome of a command without an answer, and to
fetch what was missed while no connection was open.

**What an answer proves.** An order that is found is proof that it exists, in that state at that
time. That none is found proves less, and differs by path:

- ``history/detail`` has every order in any state and answers ``[]`` where there is none. Only this
  reports that there is no such order *in any state*, and only as of now: VALR documents nowhere how
  long a new order takes to appear, so one answer settles nothing.
- The status path answers 400 ``{"code":-1,"message":"Invalid Order. "}``. VALR's own notes differ
  on whether it forgets finished orders (by a 404), so it counts for live orders only.

A page of HTML, a truncated text, a refusal, or an order of another name proves nothing. VALR has
been seen to answer with an HTML error page although it had done what was requested. A
customerOrderId is unique among open orders only: all orders found by one are returned.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from attrs import field, frozen

from recorder.exchange.declared import read_as
from recorder.exchange.fields import FieldError, Fields, decode_json, decode_rows
from recorder.exchange.lists import RestOrder
from recorder.exchange.rest_requests import Kind, RestRequest
from recorder.exchange.session_actions import asked_wait_s, excerpt

INVALID_ORDER_CODE = -1
#: The message with that code where an order is unknown; the code has other uses too.
INVALID_ORDER_WORDS = "invalid order"
#: Invalid signature; address not allowed. Their HTTP status is not known for certain.
CREDENTIAL_CODES = frozenset({-11252, -11272})


@frozen
class Answered:
    """An answer; ``text`` is all of it, as received."""

    text: str = field(repr=False, kw_only=True)


@frozen
class OrdersFound(Answered):
    """Orders, in the answer's own order. A list of open orders or of a window may be empty."""

    orders: tuple[RestOrder, ...]


@frozen
class NoSuchOrder(Answered):
    """VALR reports that it has no such order, as of now.

    ``in_any_state`` is true only if the requested path has orders in every state.
    """

    in_any_state: bool


@frozen
class RowsFound(Answered):
    """Balances, trades, transactions, positions and the like, each with its members."""

    rows: tuple[Fields, ...]


@frozen
class RateLimited(Answered):
    """Too many requests. ``retry_after_s`` is the wait that the exchange names, if it does."""

    retry_after_s: float | None


@frozen
class CredentialsRefused(Answered):
    """Key, signature, time stamp or address were refused. An immediate retry is no use."""

    status: int
    code: int | None
    message: str


@frozen
class Declined(Answered):
    """The request was understood and refused for another reason; it proves nothing."""

    status: int
    code: int
    message: str


@frozen
class ExchangeUnavailable(Answered):
    """The exchange, or a server before it, cannot answer now."""

    status: int


@frozen
class Unreadable(Answered):
    """The answer has no known form. It proves nothing."""

    status: int
    reason: str


Outcome = (
    OrdersFound
    | NoSuchOrder
    | RowsFound
    | RateLimited
    | CredentialsRefused
    | Declined
    | ExchangeUnavailable
    | Unreadable
)


def read_answer(
    request: RestRequest, status: int, text: str, headers: Mapping[str, str]
) -> Outcome:
    """Return the meaning of an answer to this request. Names of ``headers`` are in lower case.

    Never raises. Takes a second for an answer of many megabytes.
    """
    if status == 429:
        return RateLimited(retry_after_s(headers), text=text)
    if status >= 500:
        return ExchangeUnavailable(status, text=text)
    try:
        if status == 200:
            return _READERS.get(request.kind, _read_rows)(request, text)
        if 400 <= status < 500:
            return _refusal(request, status, text)
    except FieldError as error:
        return Unreadable(status, excerpt(str(error)), text=text)
    return Unreadable(status, f"HTTP {status} was not expected", text=text)


def retry_after_s(headers: Mapping[str, str]) -> float | None:
    """Return the seconds in Retry-After. Names of ``headers`` are in lower case."""
    return asked_wait_s(headers.get("retry-after", ""), headers.get("date", ""))


def _refusal(request: RestRequest, status: int, text: str) -> Outcome:
    """Read a 4xx. Raises FieldError for one that is not in VALR's form."""
    try:
        fields = _object(decode_json(text), "")
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
        # Only of a path that forgets orders: elsewhere the path itself is missing.
        return kind is Kind.ORDER_STATUS
    words = message.strip(" .").lower()
    is_invalid = (status, code, words) == (400, INVALID_ORDER_CODE, INVALID_ORDER_WORDS)
    return is_invalid and kind in (Kind.ORDER_STATUS, Kind.ORDER_DETAIL)


def _read_order(request: RestRequest, text: str) -> Outcome:
    order = read_as(RestOrder, _object(decode_json(text), ""))
    return OrdersFound(_as_named(request, (order,)), text=text)


def _read_orders(request: RestRequest, text: str) -> Outcome:
    orders = tuple(read_as(RestOrder, row) for row in _rows(text))
    if request.kind is Kind.ORDER_DETAIL and not orders:
        return NoSuchOrder(in_any_state=True, text=text)
    return OrdersFound(_as_named(request, orders), text=text)


def _read_rows(_: RestRequest, text: str) -> Outcome:
    return RowsFound(tuple(_rows(text)), text=text)


_READERS: Mapping[Kind, Callable[[RestRequest, str], Outcome]] = {
    Kind.ORDER_STATUS: _read_order,
    Kind.ORDER_DETAIL: _read_orders,
    Kind.ORDER_HISTORY: _read_orders,
    Kind.OPEN_ORDERS: _read_orders,
}


def _as_named(request: RestRequest, orders: tuple[RestOrder, ...]) -> tuple[RestOrder, ...]:
    """Return the orders if they are the requested ones. Raises FieldError."""
    name = request.name
    if name is not None and not all(order.is_named(name) for order in orders):
        raise FieldError("the answer is about another order than the requested one")
    return orders


def _rows(text: str) -> list[Fields]:
    return [_object(row, f"[{place}].") for place, row in enumerate(decode_rows(text))]


def _object(value: object, path: str) -> Fields:
    if not isinstance(value, dict):
        raise FieldError(f"{path or 'the answer'} is no JSON object")
    return Fields(value, path)
