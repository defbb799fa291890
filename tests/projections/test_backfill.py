"""What was fetched joins what the stream reported: nothing twice, nothing missing, no guess."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recorder.exchange.lists import Fetched
from recorder.log.rules.event import Draft
from tests.projections.test_folds import events, fold, frame, listed, named, order, status

AT = "2026-01-01T00:00:01.000Z"


def page(kind: Fetched, rows: Sequence[object], at_us: int = 1_700_000_000_000_001) -> Draft:
    return Draft("main", at_us, None, None, "fetched", kind.value, json.dumps(rows))


def fill(trade_id: str | None = "t", price: str = "10", at: str = AT, **more: object) -> Any:
    reported = {"price": price, "quantity": "1", "currencyPair": "BTCZAR", "side": "buy"}
    return reported | {"tradedAt": at} | ({"id": trade_id} if trade_id else {}) | more


def streamed(*fills: Any) -> list[Draft]:
    return [frame("NEW_ACCOUNT_TRADE", each) for each in fills]


def trades(drafts: Sequence[Draft]) -> list[dict[str, Any]]:
    tables, failed = fold(named("trades"), events(drafts))
    assert failed == []
    rows = tables.get("trades", {}).values()
    return sorted(rows, key=lambda row: (row["position"], row["item"]))


def reported_by(rows: Sequence[dict[str, Any]]) -> list[tuple[Any, ...]]:
    return [(row["trade_id"], row["source"], row["matched_by"]) for row in rows]


# Fills


def test_a_fill_that_both_report_is_one_fill_in_either_order() -> None:
    fetched = page(Fetched.TRADES, [fill("t")])
    assert reported_by(trades([*streamed(fill("t")), fetched])) == [("t", "stream", "id")]
    assert reported_by(trades([fetched, *streamed(fill("t"))])) == [("t", "backfill", "id")]


def test_what_the_stream_missed_is_added_and_marked() -> None:
    drafts = [*streamed(fill("t")), page(Fetched.TRADES, [fill("u"), fill("t")])]
    assert reported_by(trades(drafts)) == [("t", "stream", "id"), ("u", "backfill", "id")]


def test_of_two_equal_fills_in_one_millisecond_the_history_adds_the_one_that_is_missing() -> None:
    both = page(Fetched.TRADES, [fill("t", fee="1"), fill("u", fee="1")])
    rows = trades([*streamed(fill(None)), both])
    assert reported_by(rows) == [("t", "stream", "counted"), ("u", "backfill", "id")]
    # What the frame didn't report, the history fills in.
    assert rows[0]["fee"] == 1
    assert reported_by(trades([*streamed(fill(None), fill(None)), both])) == [
        ("t", "stream", "counted"),
        ("u", "stream", "counted"),
    ]


def test_a_frame_without_an_id_that_comes_late_is_the_fill_that_was_fetched() -> None:
    both = page(Fetched.TRADES, [fill("t"), fill("u")])
    rows = trades([both, *streamed(fill(None), fill(None)), both])
    assert reported_by(rows) == [("t", "backfill", "counted"), ("u", "backfill", "counted")]
    assert len(trades([both, *streamed(fill(None), fill(None), fill(None))])) == 3


def test_equal_fills_of_two_orders_are_distinguished() -> None:
    other = [fill("t", orderId="o-2"), fill("u", orderId="o-1")]
    rows = trades([*streamed(fill(None, orderId="o-1")), page(Fetched.TRADES, other)])
    assert {(row["trade_id"], row["order_id"]) for row in rows} == {("t", "o-2"), ("u", "o-1")}


def test_a_fill_that_no_history_reports_stays_alone_and_is_marked() -> None:
    rows = trades([*streamed(fill(None)), page(Fetched.TRADES, [fill("t", price="11")])])
    assert reported_by(rows) == [(None, "stream", "alone"), ("t", "backfill", "id")]


def test_a_fill_without_id_and_time_can_not_be_counted_and_is_marked() -> None:
    timeless = {"price": "10", "quantity": "1", "currencyPair": "BTCZAR", "side": "buy"}
    rows = trades([*streamed(timeless), page(Fetched.TRADES, [fill("t")])])
    assert reported_by(rows) == [(None, "stream", "undecided"), ("t", "backfill", "id")]


def test_a_row_that_can_not_be_read_takes_no_other_with_it() -> None:
    rows = trades([page(Fetched.TRADES, [fill("t"), 7, fill(None), {"id": "x"}, fill("u")])])
    assert [row["trade_id"] for row in rows] == ["t", "u"]
    assert [row["item"] for row in rows] == [0, 4]


def test_what_is_no_list_is_not_folded() -> None:
    html = Draft("main", 1, None, None, "fetched", Fetched.TRADES.value, "<html>")
    assert fold(named("trades"), events([html]))[1] == [1]
    fake = Draft("main", 1, 1, "c1", "received", Fetched.TRADES.value, json.dumps([fill("t")]))
    assert fold(named("trades"), events([fake])) == ({}, [1])


#: (price, millisecond) of each fill that there was: few of both, so that many are equal.
TRUTH = st.lists(st.tuples(st.integers(1, 2), st.integers(1, 2)), max_size=8)


@st.composite
def histories(draw: st.DrawFn) -> tuple[list[Any], list[Draft], list[Draft]]:
    """Draw fills, the reports of them in the stream and in parts of the history, and the whole."""
    truth = [
        fill(f"t-{number}", price=str(price), at=f"2026-01-01T00:00:0{second}.000Z")
        for number, (price, second) in enumerate(draw(TRUTH))
    ]
    has_ids = draw(st.booleans())
    drafts: list[Draft] = []
    for each in truth:
        if draw(st.booleans()):
            shape = each if has_ids else {name: each[name] for name in each if name != "id"}
            drafts += streamed(shape)
    for _ in range(draw(st.integers(0, 3))):
        some = draw(st.lists(st.sampled_from(truth))) if truth else []
        drafts.append(page(Fetched.TRADES, some))
    whole = [page(Fetched.TRADES, truth[start : start + 3]) for start in range(0, len(truth), 3)]
    return truth, draw(st.permutations(drafts)), whole


def content(rows: Sequence[dict[str, Any]]) -> Counter[tuple[Any, ...]]:
    return Counter((row["price"], row["quantity"], row["traded_at"]) for row in rows)


@given(histories())
def test_after_the_whole_history_there_are_the_fills_that_there_were(
    history_of: tuple[list[Any], list[Draft], list[Draft]],
) -> None:
    truth, reported, whole = history_of
    rows = trades([*reported, *whole])
    assert sorted(row["trade_id"] for row in rows) == sorted(each["id"] for each in truth)
    assert content(rows) == content(trades(streamed(*truth)))


@given(histories())
def test_telling_the_history_again_changes_nothing(
    history_of: tuple[list[Any], list[Draft], list[Draft]],
) -> None:
    _, reported, whole = history_of
    assert trades([*reported, *whole, *whole]) == trades([*reported, *whole])


# Transactions


def transaction(transaction_id: str | None = "x", **more: object) -> Any:
    reported: dict[str, object] = {
        "transactionType": {"type": "LIMIT_BUY", "description": "Limit Buy"},
        "debitCurrency": "ZAR",
        "debitValue": "10",
        "creditCurrency": "BTC",
        "creditValue": "1",
        "eventAt": AT,
    }
    return reported | ({"id": transaction_id} if transaction_id else {}) | more


def ledger(drafts: Sequence[Draft]) -> list[tuple[Any, ...]]:
    tables, failed = fold(named("ledger"), events(drafts))
    assert failed == []
    rows = sorted(tables["ledger"].values(), key=lambda row: (row["position"], row["item"]))
    return [(row["transaction_id"], row["source"], row["matched_by"]) for row in rows]


def test_transactions_are_joined_by_id_and_where_there_is_none_by_counting() -> None:
    both = page(Fetched.TRANSACTIONS, [transaction("x"), transaction("y")])

    def reported(shape: Any) -> Draft:
        return frame("NEW_ACCOUNT_HISTORY_RECORD", shape)

    assert ledger([reported(transaction("x")), both, both]) == [
        ("x", "stream", "id"),
        ("y", "backfill", "id"),
    ]
    assert ledger([reported(transaction(None)), both, both]) == [
        ("x", "stream", "counted"),
        ("y", "backfill", "id"),
    ]
    other = transaction(None, debitValue="11")
    assert ledger([reported(other), both])[0] == (None, "stream", "alone")
    assert ledger([reported(transaction(None, eventAt=None)), both])[0] == (
        None,
        "stream",
        "undecided",
    )


# Orders


def summary(word: str, remaining: str, at: str, executed: str = "0", **more: object) -> Any:
    reported: dict[str, object] = {
        "orderId": "o-1",
        "orderStatusType": word,
        "currencyPair": "BTCZAR",
        "originalQuantity": "3",
        "remainingQuantity": remaining,
        "totalExecutedQuantity": executed,
        "total": str(Decimal(executed) * 10),
        "totalFee": str(Decimal(executed) / 10),
        "feeCurrency": "BTC",
        "orderSide": "buy",
        "orderUpdatedAt": at,
        "orderCreatedAt": AT,
    }
    return reported | more


def orders_page(*rows: Any) -> Draft:
    return page(Fetched.ORDER_HISTORY, rows)


def test_an_order_that_no_frame_reported_is_added_and_marked() -> None:
    row = order([orders_page(summary("Cancelled", "3", "2026-01-01T00:00:02.000Z"))])
    assert (row["state"], row["live"], row["source"]) == ("cancelled", False, "backfill")
    assert (row["pair"], row["executed_quantity"]) == ("BTCZAR", Decimal(0))


def test_an_older_answer_never_overwrites_what_the_stream_has_reported() -> None:
    reported = [
        status("Filled", "0", "2026-01-01T00:00:03.000Z"),
        orders_page(summary("Placed", "3", "2026-01-01T00:00:02.000Z")),
    ]
    tables, _ = fold(named("orders"), events(reported))
    assert tables["orders"][("o-1",)]["state"] == "filled"
    assert len(tables["order_history"]) == 1


def test_what_all_fills_came_to_takes_the_place_of_what_was_missed() -> None:
    last = {"executedPrice": "10", "executedQuantity": "1", "executedFee": "0.1"}
    reported = status("Filled", "0", "2026-01-01T00:00:03.000Z", **last)
    assert order([reported])["average_price"] is None
    fetched = orders_page(summary("Filled", "0", "2026-01-01T00:00:03.000Z", "3"))
    row = order([reported, fetched])
    assert (row["average_price"], row["fee"]) == (Decimal(10), Decimal("0.3"))
    assert (row["source"], row["fee_currency"]) == ("stream", "BTC")
    assert order([reported, fetched, fetched]) == row
    # A frame that comes behind the answer is counted in it.
    assert order([fetched, reported])["fee"] == Decimal("0.3")


def test_fills_after_the_answer_are_counted_on() -> None:
    more = {"executedPrice": "13", "executedQuantity": "1", "executedFee": "0.1"}
    row = order(
        [
            orders_page(summary("Partially Filled", "1", "2026-01-01T00:00:02.000Z", "2")),
            status("Partially Filled", "1", "2026-01-01T00:00:02.000Z", **more),
            status("Filled", "0", "2026-01-01T00:00:03.000Z", **more),
        ]
    )
    assert (row["executed_quantity"], row["executed_value"]) == (Decimal(3), Decimal(33))
    assert (row["average_price"], row["fee"]) == (Decimal(11), Decimal("0.3"))


def test_how_an_order_ended_that_left_the_list_the_history_reports() -> None:
    gone = [listed("o-1"), listed()]
    ended = orders_page(summary("Cancelled", "3", "2026-01-01T00:00:01.000Z"))
    assert order([*gone, ended])["state"] == "cancelled"


def test_an_answer_from_before_the_list_brings_no_order_back() -> None:
    gone = [listed("o-1"), listed()]
    stale = orders_page(summary("Placed", "3", "2026-01-01T00:00:00.000Z"))
    assert order([*gone, stale])["state"] == "end_unknown"


def test_an_order_that_was_fetched_belongs_to_no_connection_until_a_frame_names_it() -> None:
    fetched = orders_page(summary("Placed", "3", "2026-01-01T00:00:00.000Z"))
    assert order([fetched, listed("o-1")])["connection_id"] == "c1"
    assert order([listed("o-1"), fetched])["connection_id"] == "c1"
    assert order([fetched, listed()])["state"] == "end_unknown"


ORDER_WORDS = st.sampled_from(
    [
        listed("o-1"),
        listed(),
        status("Placed", "3", "2026-01-01T00:00:01.000Z"),
        status("Partially Filled", "2", "2026-01-01T00:00:02.000Z", executedQuantity="1"),
        status("Filled", "0", "2026-01-01T00:00:03.000Z", executedPrice="10", executedQuantity="2"),
        orders_page(summary("Placed", "3", "2026-01-01T00:00:01.000Z")),
        orders_page(summary("Partially Filled", "2", "2026-01-01T00:00:02.000Z", "1")),
    ]
)


@given(st.lists(ORDER_WORDS, max_size=6), ORDER_WORDS)
def test_telling_the_order_history_again_changes_nothing(
    reported: list[Draft], after: Draft
) -> None:
    """Nor does a page that was made before frames that stand already."""
    whole = orders_page(summary("Filled", "0", "2026-01-01T00:00:03.000Z", "3"))
    seen = [fold(named("orders"), events([*reported, whole, *rest]))[0] for rest in ([], [whole])]
    assert seen[0] == seen[1]
    row = order([*reported, whole, after])
    assert (row["state"], row["average_price"]) == ("filled", Decimal(10))
    assert (row["executed_quantity"], row["fee"]) == (Decimal(3), Decimal("0.3"))


# Deposits and withdrawals


def pending(confirmations: int, index: int = 0, confirmed: bool = False) -> Draft:
    content = {"transactionHash": "h", "indexInTx": index, "amount": 1, "receiveAddress": "a"}
    reported = {"currency": "ETH", "confirmations": confirmations, "confirmed": confirmed}
    return frame("NEW_PENDING_RECEIVE", content | reported)


def deposit(confirmations: int, confirmed: bool = False) -> Any:
    return {
        "currencyCode": "ETH",
        "transactionHash": "h",
        "amount": "1",
        "receiveAddress": "a",
        "confirmations": confirmations,
        "confirmed": confirmed,
        "createdAt": "2026-01-01T00:00:00Z",
    }


def transfers(drafts: Sequence[Draft]) -> list[dict[str, Any]]:
    tables, failed = fold(named("transfers"), events(drafts))
    assert failed == []
    return list(tables["transfers"].values())


def test_a_deposit_of_the_history_is_the_one_that_the_stream_reported() -> None:
    fetched = page(Fetched.DEPOSITS, [deposit(3, confirmed=True)])
    (row,) = transfers([pending(1), fetched, fetched, pending(2)])
    assert (row["transfer_id"], row["confirmations"], row["confirmed"]) == ("deposit:h:0", 3, True)
    assert row["source"] == "stream"


def test_frames_about_a_deposit_that_was_fetched_collapse_with_it() -> None:
    fetched = page(Fetched.DEPOSITS, [deposit(1)])
    (row,) = transfers(
        [fetched, pending(2, index=57), pending(3, index=57, confirmed=True), fetched]
    )
    assert (row["transfer_id"], row["index_in_transaction"]) == ("deposit:h:?1", 57)
    assert (row["confirmations"], row["confirmed"], row["source"]) == (3, True, "backfill")


def test_two_equal_deposits_of_one_transaction_are_counted() -> None:
    both = page(Fetched.DEPOSITS, [deposit(1), deposit(1)])
    assert len(transfers([both, both])) == 2
    assert len(transfers([pending(1, 0), both, pending(1, 1), pending(1, 0), both])) == 2
    assert len(transfers([both, pending(1, 0), pending(1, 1), pending(2, 2)])) == 3


@pytest.mark.parametrize("further_first", [False, True])
def test_of_two_equal_deposits_the_history_confirms_no_more_than_are_confirmed(
    *, further_first: bool
) -> None:
    rows = [deposit(2), deposit(3, confirmed=True)]
    both = page(Fetched.DEPOSITS, rows[::-1] if further_first else rows)
    before = page(Fetched.DEPOSITS, [deposit(1), deposit(1)])
    for reported in (
        [pending(2, 0), pending(3, 1, confirmed=True), both, both],
        [pending(3, 0, confirmed=True), pending(1, 1), both, both],
        [before, pending(3, 1, confirmed=True), both, both, pending(2, 0)],
        [both, pending(3, 1, confirmed=True), pending(2, 0), both],
    ):
        stand = sorted((row["confirmations"], row["confirmed"]) for row in transfers(reported))
        assert stand == [(2, False), (3, True)]


def test_a_withdrawal_is_known_by_its_id_and_never_goes_back() -> None:
    reported = {"uniqueId": "w", "status": "SEND_BROADCASTED", "confirmations": 2}
    sent = frame("SEND_STATUS_UPDATE", reported)
    row = {"uniqueId": "w", "currency": "ETH", "amount": "1", "confirmations": 1}
    late = page(Fetched.WITHDRAWALS, [row | {"status": "Processing"}])
    through = page(Fetched.WITHDRAWALS, [row | {"confirmations": 2, "status": "Complete"}])
    (known,) = transfers([sent, late])
    assert (known["status"], known["confirmations"]) == ("SEND_BROADCASTED", 2)
    assert (known["amount"], known["source"]) == (Decimal(1), "stream")
    (known,) = transfers([sent, late, through, through, late])
    assert (known["status"], known["confirmations"]) == ("Complete", 2)


@pytest.mark.parametrize("kind", list(Fetched))
def test_pages_of_every_kind_pass_by_the_folds_of_others(kind: Fetched) -> None:
    empty = events([page(kind, [])])
    for name in ("trades", "ledger", "orders", "transfers", "balances", "open_orders"):
        assert fold(named(name), empty) == ({}, [])
