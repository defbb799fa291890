"""A difference that frames explain is none; a real one is always found."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st

from recorder.exchange.declared import read_as
from recorder.exchange.fields import Fields
from recorder.exchange.lists import RestOrder
from recorder.projections.rules.diffing import (
    Difference,
    Held,
    OpenState,
    differing_balances,
    differing_orders,
)

AMOUNT = st.integers(0, 10**6).map(lambda number: Decimal(number).scaleb(-3))
HELD = st.builds(Held, AMOUNT, AMOUNT, AMOUNT, st.integers(1, 100))
NOTHING = Held(Decimal(0), Decimal(0), Decimal(0))
WINDOWS = st.dictionaries(st.sampled_from(["ZAR", "BTC", "ETH"]), st.lists(HELD, min_size=1))


@given(WINDOWS, st.data())
def test_whatever_we_passed_through_meanwhile_explains_the_answer(
    window: Mapping[str, list[Held]], data: st.DataObject
) -> None:
    theirs = {
        currency: evolve(data.draw(st.sampled_from(passed)), position=None)
        for currency, passed in window.items()
    }
    assert differing_balances(theirs, window) == []


@given(WINDOWS, HELD)
def test_a_balance_that_we_never_had_is_a_difference(
    window: Mapping[str, list[Held]], answer: Held
) -> None:
    passed = window.get("ZAR", [NOTHING])
    theirs = {currency: each[-1] for currency, each in window.items()} | {"ZAR": answer}
    amounts = {(each.available, each.reserved, each.total) for each in passed}
    found = differing_balances(theirs, window)
    if (answer.available, answer.reserved, answer.total) in amounts:
        assert found == []
    else:
        assert found
        assert {each.key for each in found} == {"ZAR"}
        assert all(each.ours != each.theirs for each in found)


def test_a_currency_that_one_side_leaves_out_is_zero_there() -> None:
    held = Held(Decimal("1.50"), Decimal(0), Decimal("1.50"), 7)
    assert differing_balances({"BTC": NOTHING}, {}) == []
    assert differing_balances({}, {"ZAR": [held]}) == [
        Difference("balances", "ZAR", "available", "1.5", "0", 7),
        Difference("balances", "ZAR", "total", "1.5", "0", 7),
    ]


def test_what_a_side_does_not_report_is_no_difference() -> None:
    answer = Held(Decimal(1), None, None)
    assert (
        differing_balances({"ZAR": answer}, {"ZAR": [Held(Decimal(1), Decimal(3), None, 2)]}) == []
    )


def order(order_id: str, **reported: Any) -> RestOrder:
    named = {"orderId": order_id, "orderStatusType": "Placed", "remainingQuantity": "2"}
    return read_as(RestOrder, Fields({**named, "price": "10", **reported}))


def state_at(
    position: int, state: str = "open", remaining: str = "2", price: str = "10"
) -> OpenState:
    is_live = state in ("open", "partially_filled")
    return OpenState(state, is_live, Decimal(price), Decimal(remaining), position)


def test_orders_that_are_as_reported_or_were_meanwhile_are_equal() -> None:
    window = {
        "same": [state_at(1)],
        "filled since": [state_at(1), state_at(12, "partially_filled", "1")],
        "ended since": [state_at(1), state_at(13, "filled", "0")],
        "new since": [state_at(14)],
    }
    reported = [order("same"), order("filled since"), order("ended since")]
    assert differing_orders(reported, window, first=10) == []
    # The answer may as well be of the later moment.
    reported = [order("same"), order("filled since", remainingQuantity="1"), order("new since")]
    assert differing_orders(reported, window, first=10) == []


def test_each_way_in_which_open_orders_differ_is_distinguished() -> None:
    window = {
        "gone": [state_at(1)],
        "ended": [state_at(2, "cancelled")],
        "less": [state_at(3, remaining="2")],
        "dearer": [state_at(4)],
    }
    reported = [
        order("ended"),
        order("less", remainingQuantity="1.5"),
        order("dearer", price="11"),
        order("not known"),
    ]
    assert differing_orders(reported, window, first=10) == [
        Difference("open_orders", "dearer", "price", "10", "11", 4),
        Difference("open_orders", "ended", "state", "cancelled", "Placed", 2),
        Difference("open_orders", "less", "remaining_quantity", "2", "1.5", 3),
        Difference("open_orders", "not known", "row", None, "Placed", None),
        Difference("open_orders", "gone", "row", "open", None, 1),
    ]


@given(st.lists(st.tuples(st.integers(0, 20), st.booleans()), min_size=1, max_size=6))
def test_an_order_that_is_live_all_the_time_and_not_listed_is_found(
    steps: list[tuple[int, bool]],
) -> None:
    steps = sorted(steps)
    passed = [state_at(at, "open" if live else "cancelled") for at, live in steps]
    found = differing_orders([], {"x": passed}, first=10)
    is_missing = steps[0][0] <= 10 and all(live for _, live in steps)
    assert bool(found) == is_missing
