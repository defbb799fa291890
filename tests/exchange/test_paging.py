from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from recorder.exchange.lists import FETCHED_AS, HistoryPage, read_history
from recorder.exchange.paging import (
    OVERLAP,
    ROUNDS_MAX,
    Cursor,
    HistoryList,
    Unreadable,
    first_cursor,
    following,
    read_cursor,
)

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
HOUR = timedelta(hours=1)


def page(cursor: Cursor, rows: Sequence[Any]) -> HistoryPage:
    answer = read_history(FETCHED_AS[cursor.request().kind].value, json.dumps(rows))
    assert isinstance(answer, HistoryPage)
    return answer


def fill(trade_id: str, second: int) -> Any:
    at = f"2026-03-01T11:00:{second:02}.000Z"
    return {"id": trade_id, "price": "1", "quantity": "1", "tradedAt": at}


def order(order_id: str, second: int) -> Any:
    return {"orderId": order_id, "orderUpdatedAt": f"2026-03-01T11:00:{second:02}.000Z"}


def first(name: HistoryList) -> Cursor:
    return first_cursor(name, NOW - HOUR, NOW, NOW)


@pytest.mark.parametrize("name", list(HistoryList))
def test_a_cursor_survives_as_text(name: HistoryList) -> None:
    cursor = first(name)
    assert read_cursor(cursor.text()) == cursor
    assert read_cursor(cursor.text()).request() == cursor.request()
    whole = Cursor(name, NOW, NOW, "b", 7, ("s",), 3, 2, NOW, 5, ("t",), ("w",))
    assert read_cursor(whole.text()) == whole


def test_a_period_is_read_with_an_overlap_and_without_an_end_that_is_still_to_come() -> None:
    asked = first(HistoryList.TRADES).request().path_with_query
    assert "startTime=2026-03-01T10:59:00.000Z" in asked
    assert "endTime" not in asked
    past = first_cursor(HistoryList.TRADES, NOW - 3 * HOUR, NOW - 2 * HOUR, NOW)
    assert "endTime=2026-03-01T10:01:00.000Z" in past.request().path_with_query
    # An order of the period may have changed after it.
    orders = first_cursor(HistoryList.ORDERS, NOW - 3 * HOUR, NOW - 2 * HOUR, NOW)
    assert "endTime" not in orders.request().path_with_query
    assert "showZeroVolumeCancels=TRUE" in orders.request().path_with_query
    sent = first(HistoryList.WITHDRAWALS).request().path_with_query
    assert "startTime=2026-02-26T11:00:00.000Z" in sent


@pytest.mark.parametrize("name", list(HistoryList))
def test_transfers_are_read_from_the_oldest_that_is_pending(name: HistoryList) -> None:
    young, old = NOW - timedelta(days=1), NOW - timedelta(days=20)
    assert first_cursor(name, NOW - HOUR, NOW, NOW, young) == first(name)
    begins = first_cursor(name, NOW - HOUR, NOW, NOW, old).start
    if name in (HistoryList.DEPOSITS, HistoryList.WITHDRAWALS):
        assert begins == old - OVERLAP
    else:
        assert begins == first(name).start


def test_fills_are_read_backwards_from_the_oldest_whatever_their_order() -> None:
    cursor: Cursor | None = first(HistoryList.TRADES)
    assert cursor is not None
    cursor = following(cursor, page(cursor, [fill("b", 2), fill("a", 1), fill("c", 3)]))
    assert cursor is not None
    assert "beforeId=a" in cursor.request().path_with_query
    assert following(cursor, page(cursor, [])) is None


def test_a_short_page_is_not_taken_for_the_last() -> None:
    for name in (HistoryList.TRADES, HistoryList.DEPOSITS):
        cursor = first(name)
        rows = [fill("a", 1)] if name is HistoryList.TRADES else [{"transactionHash": "h"}]
        assert following(cursor, page(cursor, rows)) is not None


def test_an_exchange_that_heeds_no_cursor_is_found_out() -> None:
    cursor = first(HistoryList.TRADES)
    rows = [fill("b", 2), fill("a", 1)]
    again = following(cursor, page(cursor, rows))
    assert again is not None
    with pytest.raises(Unreadable, match="beforeId"):
        following(again, page(again, rows))


def test_orders_are_read_on_by_time_until_nothing_is_new() -> None:
    cursor = first(HistoryList.ORDERS)
    second = following(cursor, page(cursor, [order("c", 3), order("b", 2)]))
    assert second is not None
    assert "endTime=2026-03-01T11:00:02.001Z" in second.request().path_with_query
    third = following(second, page(second, [order("b", 2), order("a", 1)]))
    assert third is not None
    # The next round begins with the newest change that the first page of this one knew.
    again = following(third, page(third, [order("a", 1)]))
    assert again is not None
    assert (again.round, again.start.second) == (2, 1)
    # Nothing has moved since.
    assert following(again, page(again, [order("c", 3), order("b", 2)])) is None
    moved = following(again, page(again, [order("a", 9), order("c", 3)]))
    assert moved is not None


def test_a_round_of_one_page_is_the_last() -> None:
    cursor = first(HistoryList.ORDERS)
    second = following(cursor, page(cursor, [order("c", 3), order("b", 2)]))
    assert second is not None
    assert following(second, page(second, [order("b", 2)])) is None
    assert following(cursor, page(cursor, [])) is None


def test_more_orders_of_one_moment_than_a_page_holds_are_counted() -> None:
    cursor = first(HistoryList.ORDERS)
    second = following(cursor, page(cursor, [order("a", 1), order("b", 1)]))
    assert second is not None
    third = following(second, page(second, [order("a", 1), order("b", 1)]))
    assert third is not None
    assert "skip=2" in third.request().path_with_query
    fourth = following(third, page(third, [order("c", 1)]))
    assert fourth is not None
    assert fourth.skip == 3


def test_orders_that_change_faster_than_they_are_read_are_given_up() -> None:
    cursor = Cursor(HistoryList.ORDERS, NOW, round=ROUNDS_MAX, pages=2, newest=NOW, longest=2)
    with pytest.raises(Unreadable, match="faster"):
        following(cursor, page(cursor, []))
