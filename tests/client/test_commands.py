"""A command that can be made can be queued and sent; what can't reports which field is wrong."""

from __future__ import annotations

import json
from collections.abc import Mapping
from decimal import Decimal, localcontext
from typing import Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recorder.client import (
    CancelOrder,
    Command,
    ModifyOrder,
    PlaceBatchOrders,
    PlaceLimitOrder,
    PlaceMarketOrder,
    Refused,
)
from recorder.client.commands import _wire_name
from recorder.exchange.commands import RULES, parse_command

CLASSES = (PlaceLimitOrder, PlaceMarketOrder, CancelOrder, ModifyOrder)
LIMIT: Mapping[str, Any] = {"side": "BUY", "pair": "BTCZAR", "quantity": "0.001", "price": 100}
MODIFY: Mapping[str, Any] = {
    "pair": "BTCZAR",
    "order_id": "o-1",
    "modify_match_strategy": "REPRICE",
}


def limit(**changed: Any) -> PlaceLimitOrder:
    return PlaceLimitOrder(**{**LIMIT, **changed})


def modify(**changed: Any) -> ModifyOrder:
    return ModifyOrder(**{**MODIFY, **changed})


@pytest.mark.parametrize("kind", CLASSES)
def test_a_class_has_the_fields_that_the_rules_know(kind: type[attrs.AttrsInstance]) -> None:
    command: str = kind.command  # type: ignore[attr-defined]
    rule = RULES[command]
    assert {_wire_name(at.name) for at in attrs.fields(kind)} == set(rule.checks)
    without_default = {at.name for at in attrs.fields(kind) if at.default is attrs.NOTHING}
    assert {_wire_name(name) for name in without_default} == rule.required


EVERYTHING: list[tuple[Command, dict[str, object]]] = [
    (
        limit(
            post_only=True,
            post_only_reprice=False,
            time_in_force="GTC",
            reduce_only=False,
            allow_margin=True,
            customer_order_id="mine-1",
        ),
        {
            "side": "BUY",
            "pair": "BTCZAR",
            "quantity": "0.001",
            "price": "100",
            "postOnly": True,
            "postOnlyReprice": False,
            "timeInForce": "GTC",
            "reduceOnly": False,
            "allowMargin": True,
            "customerOrderId": "mine-1",
        },
    ),
    (
        PlaceMarketOrder(side="SELL", pair="ETHZAR", quote_amount=Decimal("50.00")),
        {"side": "SELL", "pair": "ETHZAR", "quoteAmount": "50.00"},
    ),
    (
        CancelOrder(pair="BTCZAR", customer_order_id="mine-1"),
        {"pair": "BTCZAR", "customerOrderId": "mine-1"},
    ),
    (
        modify(new_price="1.50", new_total_quantity=2),
        {
            "pair": "BTCZAR",
            "modifyMatchStrategy": "REPRICE",
            "orderId": "o-1",
            "newPrice": "1.50",
            "newTotalQuantity": "2",
        },
    ),
    (
        PlaceBatchOrders(requests=[limit(), CancelOrder(pair="BTCZAR", order_id="o-1")]),
        {
            "requests": [
                {
                    "type": "PLACE_LIMIT",
                    "data": {
                        "side": "BUY",
                        "pair": "BTCZAR",
                        "quantity": "0.001",
                        "price": "100",
                    },
                },
                {"type": "CANCEL_ORDER", "data": {"pair": "BTCZAR", "orderId": "o-1"}},
            ]
        },
    ),
]


@pytest.mark.parametrize(("command", "payload"), EVERYTHING)
def test_the_payload_is_what_valr_reads(command: Command, payload: dict[str, object]) -> None:
    assert command.payload() == payload
    assert json.loads(command.payload_text()) == payload
    assert parse_command(command.command, command.payload_text()).command == command.command


digits = st.text("0123456789", min_size=1, max_size=30)


@given(st.builds(lambda whole, places: f"{int(whole)}.{places}", digits, digits))
def test_an_amount_keeps_its_digits_and_its_places(text: str) -> None:
    if not text.strip("0."):
        return
    # The caller's own precision must not matter.
    with localcontext() as context:
        context.prec = 3
        for given_as in (text, Decimal(text)):
            payload = limit(quantity=given_as, price="0.0010").payload_text()
            assert f'"quantity":"{text}","price":"0.0010"' in payload


@given(st.decimals(min_value=Decimal("1e-20"), max_value=Decimal("1e20"), places=None))
def test_an_amount_is_the_same_number_in_plain_notation(amount: Decimal) -> None:
    try:
        text = str(limit(price=amount).payload()["price"])
    except Refused as error:
        assert "longer than" in str(error)
        return
    assert Decimal(text) == amount
    assert "e" not in text.lower()


@pytest.mark.parametrize(
    ("amount", "text"),
    [("1e3", "1000"), (Decimal("1E+3"), "1000"), (Decimal("6.0E-7"), "0.00000060"), (7, "7")],
)
def test_an_exponent_is_written_out(amount: Any, text: str) -> None:
    assert limit(price=amount).payload()["price"] == text


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: limit(price=0.1), r"^price must be a Decimal, an int or a str, not the float 0.1"),
        (lambda: modify(new_price=2.0), "^new_price must be .* not the float 2.0: a float holds"),
        (lambda: limit(quantity=True), "^quantity must be a Decimal, an int or a str, not bool"),
        (lambda: limit(quantity=[1]), "^quantity must be a Decimal, an int or a str, not list"),
        (lambda: limit(pair=5), "^pair must be a str or a bool, not int"),
        (lambda: PlaceBatchOrders(requests=5), "^requests must be a list of commands, not int"),  # type: ignore[arg-type]
        (lambda: PlaceBatchOrders(requests=[limit(), {}]), r"^requests\[1\] must be .* not dict"),  # type: ignore[list-item]
        (lambda: PlaceLimitOrder("BUY", "BTCZAR", 1, 2), "positional"),  # type: ignore[call-arg]
        (lambda: PlaceLimitOrder(side="BUY", pair="BTCZAR", price=1), "quantity"),  # type: ignore[call-arg]
    ],
)
def test_a_value_of_the_wrong_type_is_a_type_error_with_the_field(make: Any, message: str) -> None:
    with pytest.raises(TypeError, match=message):
        make()


@pytest.mark.parametrize(
    ("make", "rule", "message"),
    [
        (lambda: limit(price=0), "price", "price must be a positive decimal"),
        (lambda: limit(price="-1"), "price", "price must be a positive decimal .* not '-1'"),
        (lambda: limit(price="1,000"), "price", "price must be a positive decimal"),
        (lambda: limit(price=" 1"), "price", "price must be a positive decimal"),
        (lambda: limit(price="١"), "price", "price must be a positive decimal"),
        (lambda: limit(price=Decimal("NaN")), "price", "price must be .* not 'NaN'"),
        (lambda: limit(price=Decimal("Infinity")), "price", "price must be a positive"),
        (lambda: limit(price=Decimal("1E+999999999")), "price", "price must be a positive"),
        (lambda: limit(price=10**5000), "price", "price is longer than 64"),
        (lambda: limit(price=None), "price", "price is missing"),
        (lambda: limit(side="buy"), "side", "side must be one of BUY, SELL, not 'buy'"),
        (lambda: limit(pair="orderId!"), "pair", "pair must match .* not 'orderId!'"),
        (lambda: limit(time_in_force="GTD"), "time_in_force", "^time_in_force must be one of"),
        (lambda: limit(post_only="yes"), "post_only", "^post_only must be true or false"),
        (
            lambda: limit(post_only_reprice="yes"),
            "post_only_reprice",
            "^post_only_reprice must be true or false",
        ),
        (
            lambda: limit(customer_order_id="a_b"),
            "customer_order_id",
            "^customer_order_id must match .* not 'a_b'",
        ),
        (
            lambda: PlaceMarketOrder(side="BUY", pair="BTCZAR"),
            "base_amount",
            "exactly one of base_amount, quote_amount must be given",
        ),
        (
            lambda: CancelOrder(pair="BTCZAR", order_id="o", customer_order_id="c"),
            "order_id",
            "exactly one of order_id, customer_order_id must be given",
        ),
        (lambda: modify(), "new_price", "at least one of new_price, new_remaining_quantity, new_t"),
        (lambda: PlaceBatchOrders(requests=[]), "requests", "a list of 1 to 20"),
        (lambda: PlaceBatchOrders(requests=[limit()] * 21), "requests", "a list of 1 to 20"),
        (
            lambda: PlaceBatchOrders(requests=[limit(), modify(new_price=1)]),
            "requests",
            "must not mix PLACE and MODIFY_ORDER",
        ),
        (
            lambda: PlaceBatchOrders(requests=[limit(customer_order_id="c")] * 2),
            "requests",
            "two orders of one batch have the same customer_order_id",
        ),
    ],
)
def test_what_can_not_be_sent_is_refused_as_python_spells_it(
    make: Any, rule: str, message: str
) -> None:
    with pytest.raises(Refused, match=message) as refused:
        make()
    assert refused.value.rule == rule


def test_a_command_can_not_be_changed() -> None:
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        limit().price = Decimal(2)  # type: ignore[misc]
    assert attrs.evolve(limit(), price="2.0").payload()["price"] == "2.0"
