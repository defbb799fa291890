"""Limits, as numbers against numbers."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recorder.outbox.rules.limits import (
    Limits,
    OpenExposure,
    Refusal,
    UnreadableError,
    asked_for,
    check,
    pairs_of,
    strictest,
)

LIMIT = {"side": "BUY", "pair": "BTCZAR", "quantity": "2", "price": "100"}
MODIFY = {"pair": "BTCZAR", "orderId": "o-1", "modifyMatchStrategy": "REPRICE"}
QUOTE = {"side": "BUY", "pair": "BTCZAR", "quoteAmount": "200"}
BASE = {"side": "SELL", "pair": "BTCZAR", "baseAmount": "2"}
NO_PRICE = "no price of BTCZAR was ever seen, so this can't be checked"


def broken(
    command: str,
    payload: object,
    *,
    last: str | None = None,
    opened: int = 0,
    exposure: OpenExposure | None = None,
    **limits: Any,
) -> Refusal | None:
    exact: dict[str, Any] = {
        name: value if name == "max_open_orders" else Decimal(value)
        for name, value in limits.items()
    }
    requests = asked_for(command, json.dumps(payload))
    return check(
        requests,
        {"BTCZAR": Limits(**exact)},
        open_orders={"BTCZAR": opened},
        last_prices={} if last is None else {"BTCZAR": Decimal(last)},
        exposure={} if exposure is None else {requests[0]: exposure},
    )


def rule(*args: Any, **options: Any) -> str | None:
    found = broken(*args, **options)
    return None if found is None else found.rule


def batch(*legs: tuple[str, object]) -> dict[str, object]:
    return {"requests": [{"type": kind, "data": data} for kind, data in legs]}


@pytest.mark.parametrize(
    ("command", "payload", "limits", "expected"),
    [
        ("PLACE_LIMIT_ORDER", LIMIT, {"max_quantity": "2"}, None),
        ("PLACE_LIMIT_ORDER", LIMIT, {"max_quantity": "1.999"}, "max_quantity"),
        ("PLACE_LIMIT_ORDER", LIMIT, {"max_value": "200"}, None),
        ("PLACE_LIMIT_ORDER", LIMIT, {"max_value": "199.99"}, "max_value"),
        ("PLACE_LIMIT_ORDER", LIMIT, {"max_price_deviation": "0.05", "last": "105"}, None),
        ("PLACE_LIMIT_ORDER", LIMIT, {"max_price_deviation": "0.05", "last": "96"}, None),
        (
            "PLACE_LIMIT_ORDER",
            LIMIT,
            {"max_price_deviation": "0.05", "last": "106"},
            "max_price_deviation",
        ),
        (
            "PLACE_LIMIT_ORDER",
            LIMIT,
            {"max_price_deviation": "0.05", "last": "95"},
            "max_price_deviation",
        ),
        ("PLACE_MARKET_ORDER", QUOTE, {"max_value": "200"}, None),
        ("PLACE_MARKET_ORDER", QUOTE, {"max_value": "199"}, "max_value"),
        ("PLACE_MARKET_ORDER", QUOTE, {"max_quantity": "2", "last": "100"}, None),
        ("PLACE_MARKET_ORDER", QUOTE, {"max_quantity": "1", "last": "100"}, "max_quantity"),
        ("PLACE_MARKET_ORDER", BASE, {"max_quantity": "1"}, "max_quantity"),
        ("PLACE_MARKET_ORDER", BASE, {"max_value": "200", "last": "100"}, None),
        ("PLACE_MARKET_ORDER", BASE, {"max_value": "200", "last": "101"}, "max_value"),
        ("CANCEL_ORDER", {"pair": "BTCZAR", "orderId": "o"}, {"max_open_orders": 0}, None),
    ],
)
def test_one_order_against_one_limit(
    command: str, payload: object, limits: dict[str, Any], expected: str | None
) -> None:
    assert rule(command, payload, **limits) == expected


@pytest.mark.parametrize(
    ("command", "payload", "limit"),
    [
        ("PLACE_LIMIT_ORDER", LIMIT, {"max_price_deviation": "0.5"}),
        ("PLACE_MARKET_ORDER", BASE, {"max_value": "1000000"}),
        ("PLACE_MARKET_ORDER", QUOTE, {"max_quantity": "1000000"}),
        ("MODIFY_ORDER", MODIFY | {"newPrice": "1"}, {"max_price_deviation": "0.5"}),
    ],
)
def test_without_a_price_ever_seen_nothing_passes_that_needs_one(
    command: str, payload: object, limit: dict[str, Any]
) -> None:
    assert broken(command, payload, **limit) == Refusal(next(iter(limit)), NO_PRICE)


def test_a_change_counts_with_what_it_makes_of_the_order() -> None:
    old = OpenExposure(quantity=Decimal(3), price=Decimal(100))
    dearer = MODIFY | {"newPrice": "110"}
    assert rule("MODIFY_ORDER", dearer, exposure=old, max_value="330") is None
    assert rule("MODIFY_ORDER", dearer, exposure=old, max_value="329") == "max_value"
    larger = MODIFY | {"newTotalQuantity": "5"}
    assert rule("MODIFY_ORDER", larger, exposure=old, max_value="500") is None
    assert rule("MODIFY_ORDER", larger, exposure=old, max_value="499") == "max_value"
    assert rule("MODIFY_ORDER", larger, max_quantity="4") == "max_quantity"
    assert rule("MODIFY_ORDER", dearer, max_quantity="1") is None


def test_a_change_of_an_unknown_order_is_not_passed_unchecked() -> None:
    found = broken("MODIFY_ORDER", MODIFY | {"newPrice": "1"}, max_value="1000000")
    assert found is not None
    assert found.rule == "max_value"
    assert "isn't known" in found.message
    both = MODIFY | {"newPrice": "1", "newTotalQuantity": "1"}
    assert broken("MODIFY_ORDER", both, max_value="1") is None


def test_the_new_order_counts_among_the_open_ones_if_it_may_rest() -> None:
    assert rule("PLACE_LIMIT_ORDER", LIMIT, opened=1, max_open_orders=2) is None
    assert rule("PLACE_LIMIT_ORDER", LIMIT, opened=2, max_open_orders=2) == "max_open_orders"
    passing = LIMIT | {"timeInForce": "IOC"}
    assert rule("PLACE_LIMIT_ORDER", passing, opened=2, max_open_orders=2) is None
    assert rule("PLACE_MARKET_ORDER", BASE, opened=2, max_open_orders=2) is None
    assert rule("MODIFY_ORDER", MODIFY, opened=2, max_open_orders=2) is None


def test_the_legs_of_a_batch_are_orders_of_their_own_and_counted_together() -> None:
    two = batch(("PLACE_LIMIT", LIMIT), ("PLACE_LIMIT", LIMIT))
    assert rule("PLACE_BATCH_ORDERS", two, max_value="200") is None
    assert rule("PLACE_BATCH_ORDERS", two, opened=0, max_open_orders=2) is None
    assert rule("PLACE_BATCH_ORDERS", two, opened=1, max_open_orders=2) == "max_open_orders"
    large = batch(("PLACE_LIMIT", LIMIT), ("PLACE_MARKET", BASE | {"baseAmount": "3"}))
    assert rule("PLACE_BATCH_ORDERS", large, max_quantity="2") == "max_quantity"
    change = batch(("MODIFY_ORDER", MODIFY | {"newTotalQuantity": "3"}))
    assert rule("PLACE_BATCH_ORDERS", change, max_quantity="2") == "max_quantity"


def test_a_pair_without_limits_is_free_whatever_the_others_have() -> None:
    assert rule("PLACE_LIMIT_ORDER", LIMIT | {"pair": "ETHZAR"}, max_quantity="1") is None


def test_small_letters_don_t_slip_past_a_limit() -> None:
    assert rule("PLACE_LIMIT_ORDER", LIMIT | {"pair": "btczar"}, max_quantity="1") == "max_quantity"
    assert pairs_of("PLACE_LIMIT_ORDER", json.dumps(LIMIT | {"pair": "btczar"})) == {"BTCZAR"}


def test_of_two_rows_the_stricter_value_holds_each_for_itself() -> None:
    own = Limits(max_quantity=Decimal(5), max_open_orders=3)
    every = Limits(Decimal(2), Decimal(9), 7, None)
    assert strictest([own, every]) == Limits(Decimal(2), Decimal(9), 3, None)
    assert strictest([]) == Limits()


def test_values_are_compared_exactly() -> None:
    order = LIMIT | {"quantity": "0." + "0" * 40 + "1", "price": "1" + "0" * 40 + ".1"}
    exactly = Decimal(order["quantity"]).as_tuple().digits
    assert exactly == (1,)
    value = "0.1" + "0" * 40 + "1"
    assert rule("PLACE_LIMIT_ORDER", order, max_value=value) is None
    assert rule("PLACE_LIMIT_ORDER", order, max_value=value[:-1]) == "max_value"


@pytest.mark.parametrize(
    ("command", "payload"),
    [
        ("PLACE_LIMIT_ORDER", "no json"),
        ("PLACE_LIMIT_ORDER", '{"pair":"X","price":1}'),
        ("PLACE_LIMIT_ORDER", '{"pair":"X","price":"1,5"}'),
        ("PLACE_BATCH_ORDERS", '{"requests":5}'),
        ("PLACE_BATCH_ORDERS", '{"requests":[{"type":"WHAT","data":{}}]}'),
        ("PLACE_LIMIT_ORDER", '{"a":' * 100_000),
    ],
)
def test_what_can_t_be_read_is_reported(command: str, payload: str) -> None:
    with pytest.raises(UnreadableError):
        asked_for(command, payload)


AMOUNTS = st.decimals("0.001", "1000", places=3)


@given(AMOUNTS, AMOUNTS, AMOUNTS, AMOUNTS)
def test_a_stricter_limit_never_lets_more_through(
    quantity: Decimal, price: Decimal, one: Decimal, other: Decimal
) -> None:
    order = LIMIT | {"quantity": str(quantity), "price": str(price)}
    for name in ("max_quantity", "max_value"):
        loose, strict = max(one, other), min(one, other)
        if rule("PLACE_LIMIT_ORDER", order, **{name: loose}) == name:
            assert rule("PLACE_LIMIT_ORDER", order, **{name: strict}) == name
