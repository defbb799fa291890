"""REST requests, as VALR spells them.

Only reading is requested: orders go over the WebSocket. The query is part of the signed text, so a
request is one text from the start and is never re-encoded.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from enum import Enum
from typing import Literal
from urllib.parse import quote, urlencode

from attrs import frozen

#: The longest page of every list. One source documents 200 for the ledger, two document 100.
PAGE_ROWS_MAX = 100
#: Ids and names of orders are shorter by far; a longer one would not fit a request line.
NAME_CHARS_MAX = 200


class Kind(Enum):
    """The kind of a request, in words."""

    OPEN_ORDERS = "open orders"
    ORDER_STATUS = "order status"
    ORDER_DETAIL = "order detail"
    ORDER_HISTORY = "order history"
    BALANCES = "balances"
    TRADES = "trades"
    TRANSACTIONS = "transactions"
    DEPOSITS = "deposits"
    WITHDRAWALS = "withdrawals"
    OPEN_POSITIONS = "open positions"
    CLOSED_POSITIONS_SUMMARY = "closed positions"
    CONDITIONALS = "conditional orders"
    CONDITIONAL_HISTORY = "conditional order history"
    API_KEY = "API key"


#: Lists in one page, without parameters of the caller. VALR documents no filter for open and
#: conditional orders. Balances of zero matter: the snapshot of a connection leaves them out.
_LISTS: Mapping[Kind, tuple[str, Mapping[str, str]]] = {
    Kind.OPEN_ORDERS: ("/v1/orders/open", {}),
    Kind.API_KEY: ("/v1/account/api-keys/current", {}),
    Kind.BALANCES: ("/v1/account/balances", {"excludeZeroBalances": "false"}),
    Kind.OPEN_POSITIONS: ("/v1/positions/open", {"limit": str(PAGE_ROWS_MAX)}),
    Kind.CLOSED_POSITIONS_SUMMARY: (
        "/v1/positions/closed/summary",
        {"skip": "0", "limit": str(PAGE_ROWS_MAX)},
    ),
    Kind.CONDITIONALS: ("/v1/orders/conditionals", {}),
}
#: Histories, read page by page, newest first. Without a start VALR may choose a window of its own.
_HISTORIES: Mapping[Kind, str] = {
    Kind.ORDER_HISTORY: "/v1/orders/history",
    Kind.TRADES: "/v1/account/tradehistory",
    Kind.TRANSACTIONS: "/v1/account/transactionhistory",
    Kind.DEPOSITS: "/v1/wallet/crypto/deposit/history",
    Kind.WITHDRAWALS: "/v1/wallet/crypto/withdraw/history",
}


@frozen
class OrderName:
    """The name by which an order is looked up: the exchange's id, or the customerOrderId."""

    by: Literal["orderid", "customerorderid"]
    text: str

    @classmethod
    def order_id(cls, text: str) -> OrderName:
        """Return the exchange's id as a name."""
        return cls("orderid", text)

    @classmethod
    def customer_order_id(cls, text: str) -> OrderName:
        """Return a customerOrderId as a name."""
        return cls("customerorderid", text)


@frozen
class RestRequest:
    """One GET request. ``path_with_query`` is signed and sent as it is, to the byte."""

    path_with_query: str
    kind: Kind
    #: The order that is requested, if it is one.
    name: OrderName | None = None
    method: str = "GET"


def list_request(kind: Kind) -> RestRequest:
    """Request one of the lists that have a single page: the first page, or the whole list."""
    path, query = _LISTS[kind]
    return _get(kind, path, query)


def history_request(
    kind: Kind,
    *,
    start: datetime,
    end: datetime | None = None,
    before_id: str = "",
    skip: int = 0,
    limit: int = PAGE_ROWS_MAX,
) -> RestRequest:
    """Request a page of a history, newest first. Both ends of the window belong to it.

    ``before_id`` (trades and transactions only) is the last row seen. Orders are listed by their
    last change, cancels without a fill included; one that changes moves to the front, so pages
    counted by ``skip`` can miss one: `recorder.exchange.paging` continues by time. Raises
    ValueError for a time without zone, a negative ``skip``, or a ``limit`` out of range.
    """
    if skip < 0 or not 1 <= limit <= PAGE_ROWS_MAX:
        raise ValueError(f"a page has 1 to {PAGE_ROWS_MAX} rows from 0 on, not {limit} from {skip}")
    query = {"skip": str(skip), "limit": str(limit), "startTime": _stamp(start)}
    query |= {"endTime": _stamp(end)} if end else {}
    query |= {"beforeId": before_id} if before_id else {}
    query |= {"showZeroVolumeCancels": "TRUE"} if kind is Kind.ORDER_HISTORY else {}
    return _get(kind, _HISTORIES[kind], query)


def order_status_request(pair: str, name: OrderName) -> RestRequest:
    """Request the present state of an order; finished orders may be unknown here."""
    path = f"/v1/orders/{_segment(pair)}/{name.by}/{_segment(name.text)}"
    return RestRequest(path, Kind.ORDER_STATUS, name)


def order_detail_request(name: OrderName) -> RestRequest:
    """Request every state of an order, newest first, open or finished."""
    path = f"/v1/orders/history/detail/{name.by}/{_segment(name.text)}"
    return RestRequest(path, Kind.ORDER_DETAIL, name)


def conditional_history_request(pair: str) -> RestRequest:
    """Request a pair's conditional orders in any state."""
    path = f"/v1/orders/conditionals/{_segment(pair)}/history"
    return RestRequest(path, Kind.CONDITIONAL_HISTORY)


def _get(kind: Kind, path: str, query: Mapping[str, str]) -> RestRequest:
    # Commas and colons stay unescaped, as in VALR's examples: the query is signed as it is sent.
    tail = "?" + urlencode(query, safe=",:", quote_via=quote) if query else ""
    return RestRequest(path + tail, kind)


def _segment(text: str) -> str:
    """Return a text as one segment of a path. Raises ValueError if it cannot be one."""
    if not text or len(text) > NAME_CHARS_MAX or text in (".", ".."):
        raise ValueError(f"{text[:40]!r} is no name of an order or pair")
    return quote(text, safe="")


def _stamp(at: datetime) -> str:
    """Return a time as the exchange writes it, cut to milliseconds."""
    if at.tzinfo is None:
        raise ValueError("a request needs a time with a zone; give it UTC")
    return at.astimezone(UTC).isoformat(timespec="milliseconds").removesuffix("+00:00") + "Z"
