"""Which requests read a period's histories to their ends, one page after the other. Pure.

A `Cursor` is where a list is read on. Its text is in the log with every page, so a back-fill that
was interrupted goes on with the page that is missing. What VALR documents of each list
decides how:

- **Trades, transactions** never change, newest first: read backwards by ``beforeId``, the id of
  the oldest row so far.
- **Deposits, withdrawals** are listed by the time they were made, which doesn't change: read by
  ``skip``. What is new meanwhile moves rows to later pages, never to earlier ones: some come twice.
- **Orders** are listed by their last change, and one that changes moves to the front, out of the
  pages that are still to come. So they are read by time (up to the oldest time seen, that one
  included) in rounds: what moved in one round has changed since it began, and the next one reads
  what has changed since. It is over with a round that is one page, in which nothing can move, and
  with one whose first page is no newer than that of the round before: then nothing has moved.
  There is no end of the window, as an order of the period may have changed after it.
- **Open orders, balances** have one page.

A short page is not taken for the last one, because the longest page of the exchange is not known.
A list ends where a page brings nothing more.

The period is read with an overlap on both sides, because the times around a gap are those of our
clock, and because matching needs rows that both sides have reported. A transfer changes for as long
as it is confirmed, so those are read from days before, or from the oldest that isn't through.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from enum import StrEnum

from attrs import evolve, frozen

from recorder.exchange.lists import HistoryPage, HistoryRow, RestOrder
from recorder.exchange.messages import NewAccountHistoryRecord, NewAccountTrade
from recorder.exchange.rest_requests import Kind, RestRequest, history_request, list_request

#: On both sides of a period: clocks differ by less (a request's signature would be refused), and
#: what was reported just before a loss is reported by both sides.
OVERLAP = timedelta(seconds=60)
#: A transfer made so long before the period may still have been confirmed in it.
TRANSFERS_OVERLAP = timedelta(days=3)
#: The times of the exchange's own machines differ by less.
ROUND_OVERLAP = timedelta(seconds=2)
#: Who changes a hundred orders in the time of a page, again and again, can't be read by pages.
ROUNDS_MAX = 20
#: What is finer than the millisecond of a request is cut off there.
_TICK = timedelta(milliseconds=1)
_LONG_AGO = datetime.min.replace(tzinfo=UTC)


class HistoryList(StrEnum):
    """What is fetched of an account, in the order in which it is."""

    TRADES = "trades"
    TRANSACTIONS = "transactions"
    DEPOSITS = "deposits"
    WITHDRAWALS = "withdrawals"
    ORDERS = "orders"
    OPEN_ORDERS = "open_orders"
    BALANCES = "balances"


_KINDS: Mapping[HistoryList, Kind] = {
    HistoryList.ORDERS: Kind.ORDER_HISTORY,
    **{each: Kind[each.name] for each in HistoryList if each is not HistoryList.ORDERS},
}


class Unreadable(Exception):
    """The list can't be read to a proven end; the text reports why."""


@frozen
class Cursor:
    """Where a list is read on.

    ``end`` is None where the window is open. For orders, ``seen`` names what the last page reported
    of the times that the next one covers again, ``pages`` counts those of the present round,
    ``newest`` is the last change that its first page knew, ``top`` the orders of that moment
    (``was_top`` those of the round before), and ``longest`` the length of the longest page: the
    exchange is known to give so many rows at once.
    """

    list: HistoryList
    start: datetime
    end: datetime | None = None
    before_id: str = ""
    skip: int = 0
    seen: tuple[str, ...] = ()
    round: int = 1
    pages: int = 0
    newest: datetime | None = None
    longest: int = 0
    top: tuple[str, ...] = ()
    was_top: tuple[str, ...] = ()

    def request(self) -> RestRequest:
        """Return the request for the next page."""
        kind = _KINDS[self.list]
        if self.list in (HistoryList.OPEN_ORDERS, HistoryList.BALANCES):
            return list_request(kind)
        return history_request(
            kind, start=self.start, end=self.end, before_id=self.before_id, skip=self.skip
        )

    def text(self) -> str:
        """Return it as JSON text, for the log."""
        reported = {
            "list": self.list.value,
            "start": self.start.isoformat(),
            "end": self.end and self.end.isoformat(),
            "before_id": self.before_id,
            "skip": self.skip,
            "seen": list(self.seen),
            "round": self.round,
            "pages": self.pages,
            "newest": self.newest and self.newest.isoformat(),
            "longest": self.longest,
            "top": list(self.top),
            "was_top": list(self.was_top),
        }
        return json.dumps({name: value for name, value in reported.items() if value})


def read_cursor(text: str) -> Cursor:
    """Return the cursor of a text. Raises ValueError or KeyError for one that is none."""
    reported = json.loads(text)
    end, newest = reported.get("end"), reported.get("newest")
    return Cursor(
        HistoryList(reported["list"]),
        datetime.fromisoformat(reported["start"]),
        end and datetime.fromisoformat(end),
        reported.get("before_id", ""),
        reported.get("skip", 0),
        tuple(reported.get("seen", ())),
        reported.get("round", 1),
        reported.get("pages", 0),
        newest and datetime.fromisoformat(newest),
        reported.get("longest", 0),
        tuple(reported.get("top", ())),
        tuple(reported.get("was_top", ())),
    )


def first_cursor(
    list_: HistoryList,
    since: datetime,
    until: datetime,
    now: datetime,
    pending_since: datetime | None = None,
) -> Cursor:
    """Return where the reading of a period begins. Times are aware.

    ``pending_since`` is when the oldest transfer was made of which more is to come.
    """
    end = until + OVERLAP
    is_past = end < now
    match list_:
        case HistoryList.DEPOSITS | HistoryList.WITHDRAWALS:
            begin = since - TRANSFERS_OVERLAP
            if pending_since is not None:
                begin = min(begin, pending_since - OVERLAP)
            return Cursor(list_, begin, end if is_past else None)
        case HistoryList.TRADES | HistoryList.TRANSACTIONS:
            return Cursor(list_, since - OVERLAP, end if is_past else None)
    return Cursor(list_, since - OVERLAP)


def following(cursor: Cursor, page: HistoryPage) -> Cursor | None:
    """Return where the list is read on after this page; None at its end. Raises Unreadable."""
    return _FOLLOWING[cursor.list](cursor, page)


def _by_id(cursor: Cursor, page: HistoryPage) -> Cursor | None:
    if not page.length:
        return None
    rows = [row for _, row in page.rows if _id_of(row)]
    if not rows:
        return evolve(cursor, skip=cursor.skip + page.length)
    # The oldest, wherever in the page it stands; of two alike the one that stands last.
    oldest = min(reversed(rows), key=_age_of)
    if _id_of(oldest) == cursor.before_id:
        if page.length == 1:
            return None
        raise Unreadable("the exchange gives the same page again: it doesn't heed beforeId")
    return evolve(cursor, before_id=_id_of(oldest), skip=0)


def _by_skip(cursor: Cursor, page: HistoryPage) -> Cursor | None:
    return evolve(cursor, skip=cursor.skip + page.length) if page.length else None


def _by_time(cursor: Cursor, page: HistoryPage) -> Cursor | None:
    orders = [row for _, row in page.rows if isinstance(row, RestOrder)]
    times = [order.updated_at for order in orders if order.updated_at is not None]
    reported = {_name_of(order): order.updated_at for order in orders}
    is_old = bool(reported) and reported.keys() <= set(cursor.seen)
    if not page.length or (is_old and page.length < cursor.longest):
        return _next_round(cursor)
    if not cursor.pages:
        newest = max(times, default=None)
        top = tuple(
            sorted(name for name, at in reported.items() if at is not None and at == newest)
        )
        if top and top == cursor.was_top:
            return None
        cursor = evolve(cursor, newest=newest, top=top)
    pages, longest = cursor.pages + (not is_old), max(cursor.longest, page.length)
    cursor = evolve(cursor, pages=pages, longest=longest)
    end = min(times) + _TICK if times else None
    if end is None or (cursor.end is not None and end >= cursor.end):
        # As many of one moment as a page holds, or without times: only counting leads on.
        seen = (*cursor.seen, *(name for name in reported if name not in cursor.seen))
        return evolve(cursor, skip=cursor.skip + page.length, seen=seen)
    seen = tuple(name for name, at in reported.items() if at is not None and at <= end)
    return evolve(cursor, end=end, skip=0, seen=seen)


def _next_round(cursor: Cursor) -> Cursor | None:
    if cursor.pages <= 1 or cursor.newest is None:
        return None
    if cursor.round >= ROUNDS_MAX:
        raise Unreadable("orders change faster than their history can be read")
    start = max(cursor.start, cursor.newest - ROUND_OVERLAP)
    began = Cursor(cursor.list, start, round=cursor.round + 1, longest=cursor.longest)
    return evolve(began, was_top=cursor.top)


def _at_once(_: Cursor, __: HistoryPage) -> None:
    return None


_FOLLOWING: Mapping[HistoryList, Callable[[Cursor, HistoryPage], Cursor | None]] = {
    HistoryList.TRADES: _by_id,
    HistoryList.TRANSACTIONS: _by_id,
    HistoryList.DEPOSITS: _by_skip,
    HistoryList.WITHDRAWALS: _by_skip,
    HistoryList.ORDERS: _by_time,
    HistoryList.OPEN_ORDERS: _at_once,
    HistoryList.BALANCES: _at_once,
}


def _id_of(row: HistoryRow) -> str:
    match row:
        case NewAccountTrade(trade_id=str(row_id)):
            return row_id
        case NewAccountHistoryRecord(transaction_id=str(row_id)):
            return row_id
    return ""


def _age_of(row: HistoryRow) -> datetime:
    """Return what sorts rows by age; one without a time counts as the oldest."""
    at = None
    if isinstance(row, NewAccountTrade):
        at = row.traded_at
    elif isinstance(row, NewAccountHistoryRecord):
        at = row.event_at
    return at or _LONG_AGO


def _name_of(order: RestOrder) -> str:
    at = order.updated_at
    return f"{order.order_id}@{'' if at is None else at.isoformat()}"
