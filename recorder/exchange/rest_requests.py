"""What is asked over REST, spelled as VALR takes it.

Only reading is asked for here: orders go over the WebSocket. The query is part of what is signed,
so a request is one text from the beginning, and nobody may spell it anew on the way.
"""

from __future__ import annotations

from collections.abc import Collection
from datetime import UTC, datetime
from enum import Enum
from typing import Literal
from urllib.parse import quote, urlencode

from attrs import frozen

#: The longest page of every list; one source knows 200 for the ledger, two know 100.
PAGE_ROWS_MAX = 100
#: An order's id or name is shorter by far; a longer one would make no request line.
NAME_CHARS_MAX = 200


class Kind(Enum):
    """What a request asks for."""

    OPEN_ORDERS = "open orders"
    ORDER_STATUS = "order status"
    ORDER_SUMMARY = "order summary"
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
    TIME = "time"


@frozen
class OrderName:
    """What an order is looked up by: the exchange's id, or the one it was given."""

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
    """One request. ``path_with_query`` is what is signed and what is sent, to the byte."""

    method: str
    path_with_query: str
    kind: Kind
    #: The one order that is asked for, where it is one.
    name: OrderName | None = None

    @property
    def is_signed(self) -> bool:
        """False where no key is needed, so that none is shown."""
        return self.kind is not Kind.TIME


def open_orders_request() -> RestRequest:
    """Ask for all open orders. There are no pages, and VALR heeds no filter."""
    return _get(Kind.OPEN_ORDERS, "/v1/orders/open")


def order_status_request(pair: str, name: OrderName) -> RestRequest:
    """Ask for an order as it is now; finished ones may be unknown here."""
    path = f"/v1/orders/{_segment(pair)}/{name.by}/{_segment(name.text)}"
    return RestRequest("GET", path, Kind.ORDER_STATUS, name)


def order_summary_request(name: OrderName) -> RestRequest:
    """Ask for a finished order and what its fills came to."""
    path = f"/v1/orders/history/summary/{name.by}/{_segment(name.text)}"
    return RestRequest("GET", path, Kind.ORDER_SUMMARY, name)


def order_detail_request(name: OrderName) -> RestRequest:
    """Ask for every state of an order, newest first, whether it is open or finished."""
    path = f"/v1/orders/history/detail/{name.by}/{_segment(name.text)}"
    return RestRequest("GET", path, Kind.ORDER_DETAIL, name)


def order_history_request(
    *,
    start: datetime,
    end: datetime | None = None,
    skip: int = 0,
    limit: int = PAGE_ROWS_MAX,
    statuses: Collection[str] = (),
    pairs: Collection[str] = (),
) -> RestRequest:
    """Ask for a page of orders by their last change, newest first, cancels without a fill included.

    Both ends of the window belong to it. An order that changes moves to the front, so pages that
    are counted by ``skip`` can miss one: `recorder.exchange.paging` goes on by time.
    """
    return _get(
        Kind.ORDER_HISTORY,
        "/v1/orders/history",
        skip=_whole("skip", skip, 0),
        limit=_limit(limit),
        startTime=_stamp(start),
        endTime=_stamp(end) if end else "",
        statuses=",".join(statuses),
        currencyPair=",".join(pairs),
        showZeroVolumeCancels="TRUE",
    )


def balances_request(*, exclude_zero: bool = False) -> RestRequest:
    """Ask for all balances. Those of zero matter: the snapshot of a connection has none."""
    flag = "true" if exclude_zero else "false"
    return _get(Kind.BALANCES, "/v1/account/balances", excludeZeroBalances=flag)


def trade_history_request(
    *,
    start: datetime,
    end: datetime | None = None,
    before_id: str = "",
    skip: int = 0,
    limit: int = PAGE_ROWS_MAX,
) -> RestRequest:
    """Ask for a page of fills of all pairs, newest first; ``before_id`` is the last one seen.

    Without ``start`` VALR may choose a window of its own, so there is no asking without.
    """
    return _get(
        Kind.TRADES,
        "/v1/account/tradehistory",
        skip=_whole("skip", skip, 0),
        limit=_limit(limit),
        startTime=_stamp(start),
        endTime=_stamp(end) if end else "",
        beforeId=before_id,
    )


def transaction_history_request(
    *,
    start: datetime,
    end: datetime | None = None,
    before_id: str = "",
    skip: int = 0,
    limit: int = PAGE_ROWS_MAX,
    transaction_types: Collection[str] = (),
    currency: str = "",
) -> RestRequest:
    """Ask for a page of the ledger, newest first; ``before_id`` is the last one seen."""
    return _get(
        Kind.TRANSACTIONS,
        "/v1/account/transactionhistory",
        skip=_whole("skip", skip, 0),
        limit=_limit(limit),
        transactionTypes=",".join(transaction_types),
        currency=currency,
        startTime=_stamp(start),
        endTime=_stamp(end) if end else "",
        beforeId=before_id,
    )


def deposit_history_request(
    *, start: datetime, end: datetime | None = None, skip: int = 0, limit: int = PAGE_ROWS_MAX
) -> RestRequest:
    """Ask for a page of deposits, newest first."""
    path = "/v1/wallet/crypto/deposit/history"
    return _transfers(Kind.DEPOSITS, path, start, end, skip, limit)


def withdraw_history_request(
    *, start: datetime, end: datetime | None = None, skip: int = 0, limit: int = PAGE_ROWS_MAX
) -> RestRequest:
    """Ask for a page of withdrawals, newest first."""
    path = "/v1/wallet/crypto/withdraw/history"
    return _transfers(Kind.WITHDRAWALS, path, start, end, skip, limit)


def open_positions_request() -> RestRequest:
    """Ask for the positions that are held: the first page, which is all unless it is full."""
    return _get(Kind.OPEN_POSITIONS, "/v1/positions/open", limit=_limit(PAGE_ROWS_MAX))


def closed_positions_request(*, skip: int = 0) -> RestRequest:
    """Ask for a page of what closed positions came to."""
    return _get(
        Kind.CLOSED_POSITIONS_SUMMARY,
        "/v1/positions/closed/summary",
        skip=_whole("skip", skip, 0),
        limit=_limit(PAGE_ROWS_MAX),
    )


def conditionals_request() -> RestRequest:
    """Ask for the conditional orders that wait. No page or filter of it is documented."""
    return _get(Kind.CONDITIONALS, "/v1/orders/conditionals")


def conditional_history_request(pair: str) -> RestRequest:
    """Ask for a pair's conditional orders in any state."""
    path = f"/v1/orders/conditionals/{_segment(pair)}/history"
    return RestRequest("GET", path, Kind.CONDITIONAL_HISTORY)


def server_time_request() -> RestRequest:
    """Ask for the exchange's time. No key is needed."""
    return _get(Kind.TIME, "/v1/public/time")


def _transfers(
    kind: Kind, path: str, start: datetime, end: datetime | None, skip: int, limit: int
) -> RestRequest:
    return _get(
        kind,
        path,
        skip=_whole("skip", skip, 0),
        limit=_limit(limit),
        startTime=_stamp(start),
        endTime=_stamp(end) if end else "",
    )


def _get(kind: Kind, path: str, **query: str) -> RestRequest:
    given = {name: value for name, value in query.items() if value}
    # Commas and colons stay as VALR's own examples have them: the query is signed as it is sent.
    tail = "?" + urlencode(given, safe=",:", quote_via=quote) if given else ""
    return RestRequest("GET", path + tail, kind)


def _segment(text: str) -> str:
    """Return a text as one segment of a path. Raises ValueError for what can't be one."""
    if not text or len(text) > NAME_CHARS_MAX or text in (".", ".."):
        raise ValueError(f"{text[:40]!r} is no name of an order or pair")
    return quote(text, safe="")


def _whole(name: str, value: int, least: int) -> str:
    if value < least:
        raise ValueError(f"{name} is at least {least}, not {value}")
    return str(value)


def _limit(rows: int) -> str:
    if rows > PAGE_ROWS_MAX:
        raise ValueError(f"a page has at most {PAGE_ROWS_MAX} rows, not {rows}")
    return _whole("limit", rows, 1)


def _stamp(moment: datetime) -> str:
    """Return a time as the exchange writes it; what is finer than a millisecond is cut off."""
    if moment.tzinfo is None:
        raise ValueError("a time without a zone can't be asked for; give it UTC")
    text = moment.astimezone(UTC).isoformat(timespec="milliseconds")
    return text.removesuffix("+00:00") + "Z"
