"""What the folds make of the exchange's words, without a database."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recorder.log.rules.event import Draft, Event, Note, noted
from recorder.projections import PROJECTIONS, projection_named
from recorder.projections.rules.fold import Add, Projection, Rows, Unfoldable
from recorder.projections.rules.reading import read_message

Tables = dict[str, dict[tuple[Any, ...], dict[str, Any]]]


def events(drafts: Iterable[Draft]) -> list[Event]:
    made = []
    for position, draft in enumerate(drafts, 1):
        parts = (draft.received_us, draft.elapsed_ns, draft.connection_id, draft.origin)
        made.append(
            Event(draft.account, position, *parts, draft.type, draft.payload, "text", bytes(32))
        )
    return made


def frame(kind: str, content: object, connection: str = "c1") -> Draft:
    text = json.dumps({"type": kind, "data": content})
    return Draft("main", 1_700_000_000_000_000, 1, connection, "received", kind, text)


def note(kind: Note, connection: str | None = "c1", **facts: object) -> Draft:
    return noted("main", 1_700_000_000_000_000, kind, facts, connection_id=connection)


def fold(projection: Projection, batch: Sequence[Event]) -> tuple[Tables, list[int]]:
    """Return the tables after these events, and the positions that could not be folded."""
    rows, added, failed = Rows(), dict[str, dict[tuple[Any, ...], dict[str, Any]]](), []
    for event in batch:
        if event.type not in projection.types:
            continue
        try:
            changes = projection.fold(rows, event, read_message(event))
        except Unfoldable:
            failed.append(event.position)
            continue
        for change in changes:
            rows.take(change)
            if isinstance(change, Add) and not change.kept:
                key = change.key if None not in change.key else (*change.key, event.position)
                added.setdefault(change.table, {}).setdefault(key, dict(change.values))
    tables = {name: {k: dict(v) for k, v in held.items()} for name, held in rows.tables.items()}
    return tables | added, failed


def named(name: str) -> Projection:
    projection = projection_named(name)
    assert projection is not None
    return projection


def balance(currency: str, total: str, at: str | None = None, connection: str = "c1") -> Draft:
    content = {"currency": {"shortName": currency}, "available": total, "total": total}
    return frame("BALANCE_UPDATE", content | ({"updatedAt": at} if at else {}), connection)


def status(word: str, remaining: str, at: str, **more: object) -> Draft:
    content = {
        "orderId": "o-1",
        "orderStatusType": word,
        "originalQuantity": "3",
        "remainingQuantity": remaining,
        "orderUpdatedAt": at,
    }
    return frame("ORDER_STATUS_UPDATE", content | more)


def listed(*order_ids: str, connection: str = "c1", at: str = "2026-01-01T00:00:00.000Z") -> Draft:
    orders = [
        {
            "orderId": order_id,
            "side": "buy",
            "quantity": "3",
            "originalQuantity": "3",
            "price": "10",
            "status": "Placed",
            "updatedAt": at,
        }
        for order_id in order_ids
    ]
    return frame("OPEN_ORDERS_UPDATE", orders, connection)


def order(drafts: Iterable[Draft], order_id: str = "o-1") -> dict[str, Any]:
    return fold(named("orders"), events(drafts))[0]["orders"][(order_id,)]


# Balances


def test_an_older_balance_never_overwrites_a_newer_one() -> None:
    reported = [
        balance("BTC", "2", "2026-01-01T00:00:02Z"),
        balance("BTC", "1", "2026-01-01T00:00:01Z"),
    ]
    tables, _ = fold(named("balances"), events(reported))
    assert tables["balances"][("BTC",)]["total"] == Decimal(2)
    assert len(tables["balance_history"]) == 1


def test_the_first_word_of_a_new_connection_counts_whatever_its_time() -> None:
    reported = [
        balance("BTC", "6", "2099-01-01T00:00:00Z"),
        balance("BTC", "7", "2026-01-01T00:00:01Z", connection="c2"),
        balance("BTC", "5", "2026-01-01T00:00:00Z", connection="c2"),
    ]
    tables, _ = fold(named("balances"), events(reported))
    assert tables["balances"]["BTC",]["total"] == Decimal(7)


def test_a_balance_that_is_reported_twice_is_kept_once_in_the_history() -> None:
    tables, _ = fold(named("balances"), events([balance("BTC", "0.00000786")] * 3))
    assert [row["total"] for row in tables["balance_history"].values()] == [Decimal("0.00000786")]


def test_the_rand_is_known_by_its_code_and_not_by_its_symbol() -> None:
    reported = {"currency": {"symbol": "R", "shortName": "ZAR"}, "total": "5"}
    tables, _ = fold(named("balances"), events([frame("BALANCE_UPDATE", reported)]))
    assert list(tables["balances"]) == [("ZAR",)]


def test_what_a_complete_snapshot_leaves_out_is_no_longer_held() -> None:
    reported = [
        balance("BTC", "2"),
        balance("ETH", "3"),
        balance("BTC", "2", connection="c2"),
        note(Note.SNAPSHOT_COMPLETE, "c2", complete=True, balances=True),
    ]
    tables, _ = fold(named("balances"), events(reported))
    assert tables["balances"][("BTC",)]["basis"] == "reported"
    absent = tables["balances"][("ETH",)]
    assert (absent["basis"], absent["total"], absent["reserved"]) == (
        "inferred_zero",
        Decimal(0),
        None,
    )


def test_a_snapshot_that_proves_nothing_removes_nothing() -> None:
    reported = [
        balance("ETH", "3"),
        note(Note.SNAPSHOT_COMPLETE, "c2", complete=False, balances=False),
    ]
    tables, _ = fold(named("balances"), events(reported))
    assert tables["balances"][("ETH",)]["total"] == Decimal(3)


def test_a_frame_that_calls_itself_a_note_is_none() -> None:
    fake = frame("SNAPSHOT_COMPLETE", {"complete": True, "balances": True}, "c2")
    tables, failed = fold(named("balances"), events([balance("ETH", "3"), fake]))
    assert tables["balances"][("ETH",)]["total"] == Decimal(3)
    assert failed == []


# Orders


def test_an_order_that_leaves_the_list_without_a_word_has_an_unknown_end() -> None:
    row = order([listed("o-1"), listed()])
    assert (row["state"], row["live"], row["listed"]) == ("end_unknown", False, False)


def test_a_gap_closes_with_a_complete_snapshot_and_with_no_other() -> None:
    started = note(Note.RECORDER_STARTED, None, epoch=1, last_event_at=None)
    given_up = note(Note.SNAPSHOT_COMPLETE, complete=False, balances=False, open_orders=False)
    complete = note(Note.SNAPSHOT_COMPLETE, complete=True, balances=True, open_orders=True)

    def gap(*drafts: Draft) -> tuple[Any, ...]:
        tables, _ = fold(named("connections"), events(drafts))
        [row] = tables["gaps"].values()
        return row["state"], row["first_position_after"]

    assert gap(started, given_up) == ("open", None)
    assert gap(started, given_up, complete) == ("closed", 3)


def test_a_status_that_comes_later_gives_the_final_state() -> None:
    row = order([listed("o-1"), listed(), status("Cancelled", "3", "2026-01-01T00:00:01.000Z")])
    assert row["state"] == "cancelled"


def test_a_list_from_before_the_end_brings_no_order_back() -> None:
    row = order([listed("o-1"), status("Filled", "0", "2026-01-01T00:00:01.000Z"), listed("o-1")])
    assert (row["state"], row["live"], row["listed"]) == ("filled", False, False)


def test_absence_is_not_applied_to_an_order_that_no_list_has_named() -> None:
    processed = frame("ORDER_PROCESSED", {"orderId": "o-1", "success": True})
    assert order([processed, listed()])["state"] == "open"


def test_an_order_of_an_earlier_connection_that_a_list_leaves_out_is_no_longer_open() -> None:
    processed = frame("ORDER_PROCESSED", {"orderId": "o-1", "success": True})
    assert order([processed, listed(connection="c2")])["state"] == "end_unknown"


def test_a_late_status_goes_into_the_history_and_changes_nothing_else() -> None:
    reported = [
        status("Filled", "0", "2026-01-01T00:00:02.000Z"),
        status("Partially Filled", "1", "2026-01-01T00:00:01.000Z"),
    ]
    tables, _ = fold(named("orders"), events(reported))
    assert tables["orders"][("o-1",)]["state"] == "filled"
    assert [row["applied"] for row in tables["order_history"].values()] == [True, False]


def test_an_execution_that_is_reported_twice_counts_once() -> None:
    part = {"executedPrice": "10", "executedQuantity": "1", "executedFee": "0.1"}
    rest = {"executedPrice": "13", "executedQuantity": "2", "executedFee": "0.2"}
    first = status("Partially Filled", "2", "2026-01-01T00:00:01.000Z", **part)
    last = status("Filled", "0", "2026-01-01T00:00:02.000Z", **rest)
    row = order([first, first, last, last])
    assert (row["executed_quantity"], row["fee"]) == (Decimal(3), Decimal("0.3"))
    assert (row["executed_value"], row["average_price"]) == (Decimal(36), Decimal(12))


def test_where_an_execution_was_missed_average_and_fee_are_unknown() -> None:
    first = {"executedPrice": "10", "executedQuantity": "1", "executedFee": "0.01"}
    last = {"executedPrice": "20", "executedQuantity": "1", "executedFee": "0.01"}
    reported = [
        status("Partially Filled", "2", "2026-01-01T00:00:01Z", **first),
        # The one that left 1 never came.
        status("Filled", "0", "2026-01-01T00:00:03Z", **last),
    ]
    row = order(reported)
    assert (row["executed_quantity"], row["counted_quantity"]) == (Decimal(3), Decimal(2))
    assert (row["average_price"], row["fee"]) == (None, None)
    late = status("Filled", "1", "2026-01-01T00:00:02Z", **last)
    assert order([reported[0], late, reported[1]])["fee"] == Decimal("0.03")


def test_a_list_ahead_of_its_execution_takes_the_average_away_for_a_moment_only() -> None:
    done = {"executedPrice": "10", "executedQuantity": "1", "executedFee": "0.01"}
    reported = [
        status("Partially Filled", "2", "2026-01-01T00:00:01Z", **done),
        status("Partially Filled", "1", "2026-01-01T00:00:02Z"),
        status("Partially Filled", "1", "2026-01-01T00:00:02Z", **done),
    ]
    assert order(reported[:2])["average_price"] is None
    assert order(reported)["average_price"] == Decimal(10)


def test_a_refusal_is_an_end_and_keeps_its_reason() -> None:
    refused = {"orderId": "o-1", "success": False, "failureReason": "Insufficient Balance"}
    reported = status("Failed", "3", "2026-01-01T00:00:01.000Z", currencyPair="BTCZAR")
    row = order([frame("ORDER_PROCESSED", refused), reported])
    assert (row["state"], row["reason"]) == ("failed", "Insufficient Balance")
    assert row["pair"] == "BTCZAR"


MOMENT = "2026-01-01T00:00:01.000Z"
CHANGED = {"originalQuantity": "5", "originalPrice": "11"}
MODIFIED = status("Order Modified", "5", MOMENT, **CHANGED)


@pytest.mark.parametrize(
    ("reported", "stands"),
    [
        ([MODIFIED], ("open", "11", "5", "5")),
        ([MODIFIED, status("Placed", "3", MOMENT, originalPrice="10")], ("open", "11", "5", "5")),
        ([MODIFIED, MODIFIED], ("open", "11", "5", "5")),
        (
            [MODIFIED, status("Partially Filled", "4", MOMENT, **CHANGED)],
            ("partially_filled", "11", "5", "4"),
        ),
        (
            [MODIFIED, status("Partially Filled", "4", MOMENT, **CHANGED), MODIFIED],
            ("partially_filled", "11", "5", "4"),
        ),
        (
            [status("Partially Filled", "2", MOMENT, originalPrice="10"), MODIFIED],
            ("open", "11", "5", "5"),
        ),
        (
            [
                MODIFIED,
                status("Partially Filled", "4", MOMENT, **CHANGED),
                status("Placed", "3", MOMENT, originalPrice="10"),
            ],
            ("partially_filled", "11", "5", "4"),
        ),
        ([MODIFIED, status("Filled", "0", MOMENT, **CHANGED)], ("filled", "11", "5", "0")),
        (
            [MODIFIED, status("Cancelled", "3", MOMENT, originalPrice="10")],
            ("cancelled", "10", "3", "3"),
        ),
        (
            [status("Cancelled", "3", MOMENT, originalPrice="10"), MODIFIED],
            ("cancelled", "10", "3", "3"),
        ),
    ],
)
def test_a_change_lies_behind_what_it_changed_in_the_same_millisecond(
    reported: list[Draft], stands: tuple[str, str, str, str]
) -> None:
    row = order([status("Placed", "3", MOMENT, originalPrice="10"), *reported])
    shown = (row["price"], row["original_quantity"], row["remaining_quantity"])
    assert (row["state"], *map(str, shown)) == stands


def test_a_list_that_can_not_be_read_whole_changes_nothing() -> None:
    broken = frame("OPEN_ORDERS_UPDATE", [{"side": "buy"}])
    tables, failed = fold(named("open_orders"), events([listed("o-1"), broken]))
    assert list(tables["open_orders"]) == [("o-1",)]
    assert failed == [2]


def test_our_note_that_no_order_is_open_is_an_empty_list_and_a_frame_of_its_name_is_not() -> None:
    reported = [listed("o-1"), note(Note.NO_OPEN_ORDERS, "c2", answer="REST")]
    assert fold(named("open_orders"), events(reported)) == ({"open_orders": {}}, [])
    assert order(reported)["state"] == "end_unknown"
    fake = frame("NO_OPEN_ORDERS", {"answer": "REST"})
    tables, failed = fold(named("open_orders"), events([reported[0], fake]))
    assert (list(tables["open_orders"]), failed) == ([("o-1",)], [2])


# Money


def test_a_fill_with_an_id_is_one_fill_and_one_without_always_counts() -> None:
    known = frame("NEW_ACCOUNT_TRADE", {"id": "t", "price": "114,953", "quantity": "1"})
    unknown = frame("NEW_ACCOUNT_TRADE", {"price": "1", "quantity": "1"})
    tables, _ = fold(named("trades"), events([known, known, unknown, unknown]))
    assert [(row["price"], row["matched_by"]) for row in tables["trades"].values()] == [
        (Decimal(114953), "id"),
        (Decimal(1), "undecided"),
        (Decimal(1), "undecided"),
    ]


def test_confirmations_never_go_back() -> None:
    def deposit(confirmations: int, confirmed: bool) -> Draft:
        content = {"transactionHash": "h", "indexInTx": 0, "amount": 0.0005}
        reported = {"confirmations": confirmations, "confirmed": confirmed}
        return frame("NEW_PENDING_RECEIVE", content | reported)

    tables, _ = fold(named("transfers"), events([deposit(3, True), deposit(1, False)]))
    (row,) = tables["transfers"].values()
    assert (row["confirmations"], row["confirmed"], row["amount"]) == (3, True, Decimal("0.0005"))


# All of them

GARBAGE: st.SearchStrategy[object] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5) | st.just("\ud800"),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=8,
)
TYPES = sorted({kind for projection in PROJECTIONS for kind in projection.types})


@given(st.sampled_from(TYPES), GARBAGE, st.booleans())
def test_no_frame_makes_a_fold_raise_anything_but_unfoldable(
    kind: str, content: object, ours: bool
) -> None:
    text = json.dumps({"type": kind, "data": content})
    origin = "noted" if ours else "received"
    event = events([Draft("main", 1, 1, "c1", origin, kind, text)])
    for projection in PROJECTIONS:
        fold(projection, event)


AMOUNTS = st.decimals(
    allow_nan=False, allow_infinity=False, places=18, min_value=-(10**12), max_value=10**12
)


@given(AMOUNTS)
def test_an_amount_survives_exactly(amount: Decimal) -> None:
    reported = [balance("BTC", f"{amount:f}")]
    tables, _ = fold(named("balances"), events(reported))
    assert tables["balances"][("BTC",)]["total"] == amount


@pytest.mark.parametrize("projection", PROJECTIONS, ids=lambda each: each.name)
def test_events_of_another_origin_are_passed_by(projection: Projection) -> None:
    sent = [
        Draft("main", 1, 1, "c1", "sent", kind, json.dumps({"type": kind, "data": {}}))
        for kind in sorted(projection.types)
    ]
    assert fold(projection, events(sent)) == ({}, [])
