"""Frames have the members of those that VALR published, with values of the same kinds."""

from __future__ import annotations

import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from recorder.simulator.frames import encode, plain
from tests.simulator.scene import LIMIT, Frame, command, new_exchange

PUBLISHED = Path(__file__).parents[1] / "frames"
#: Type → the published example to compare with.
EXAMPLES = {
    "BALANCE_UPDATE": "BALANCE_UPDATE.docs2025.json",
    "OPEN_ORDERS_UPDATE": "OPEN_ORDERS_UPDATE.docs2025.json",
    "ORDER_PROCESSED": "ORDER_PROCESSED.docs2025.json",
    "ORDER_STATUS_UPDATE": "ORDER_STATUS_UPDATE.docs2025.2.json",
    "NEW_ACCOUNT_TRADE": "NEW_ACCOUNT_TRADE.docs2025.json",
    "NEW_ACCOUNT_HISTORY_RECORD": "NEW_ACCOUNT_HISTORY_RECORD.docs2025.json",
    "NEW_PENDING_RECEIVE": "NEW_PENDING_RECEIVE.docs2025.json",
    "NEW_PENDING_SEND": "NEW_PENDING_SEND.rooibos.json",
    "SEND_STATUS_UPDATE": "SEND_STATUS_UPDATE.docs2025.json",
    "FAILED_CANCEL_ORDER": "FAILED_CANCEL_ORDER.docs2025.json",
    "MODIFY_ORDER_OUTCOME": "MODIFY_ORDER_OUTCOME.docs2025.json",
    "PLACE_LIMIT_WS_RESPONSE": "PLACE_LIMIT_WS_RESPONSE.docs2025.json",
    "PLACE_MARKET_WS_RESPONSE": "PLACE_MARKET_WS_RESPONSE.docs2025.fixed.json",
    "MODIFY_ORDER_WS_RESPONSE": "MODIFY_ORDER_WS_RESPONSE.docs2025.fixed.json",
    "RATE_LIMIT_EXCEEDED": "RATE_LIMIT_EXCEEDED.docs2025.json",
}


def every_type() -> dict[str, Frame]:
    """Return one frame of each type, as it goes over the wire."""
    exchange = new_exchange(rates_per_s={"PLACE_LIMIT_ORDER": 1, "PLACE_MARKET_ORDER": 1,
                                         "MODIFY_ORDER": 1, "CANCEL_LIMIT_ORDER": 1})  # fmt: skip
    limit = command("PLACE_LIMIT_ORDER", **LIMIT, customerOrderId="mine")
    market = {"side": "BUY", "pair": "BTCZAR", "quoteAmount": "1000", "customerOrderId": "other"}
    change = {
        "customerOrderId": "mine",
        "pair": "BTCZAR",
        "newPrice": "900000",
        "modifyMatchStrategy": "RETAIN_ORIGINAL",
    }
    sent = [
        *exchange.command(limit),
        *exchange.command(limit),
        *exchange.command(command("MODIFY_ORDER", **change)),
        *exchange.command(command("CANCEL_LIMIT_ORDER", pair="BTCZAR", orderId="none")),
        *exchange.deposit("ETH", Decimal("0.0005")),
        *exchange.withdraw("BTC", Decimal("0.1")),
        *exchange.command(command("PLACE_MARKET_ORDER", **market)),
        *exchange.fill(exchange.open_orders()[0].order_id, Decimal("0.0004")),
    ]
    return {frame["type"]: json.loads(encode(frame)) for frame in sent}


def shape(value: Any) -> Any:
    """Return the names and kinds of a value, and not the value."""
    if isinstance(value, dict):
        return {name: shape(each) for name, each in value.items()}
    if isinstance(value, list):
        return [shape(value[0])] if value else []
    return "number" if isinstance(value, (int, float)) and not isinstance(value, bool) else (
        type(value).__name__
    )  # fmt: skip


@pytest.mark.parametrize("kind", EXAMPLES)
def test_a_frame_has_the_members_and_kinds_of_the_published_one(kind: str) -> None:
    published = json.loads((PUBLISHED / EXAMPLES[kind]).read_text())

    assert shape(every_type()[kind]) == shape(published)


@pytest.mark.parametrize("amount", ["0", "-0", "0.10", "1E+3", "1E-18", "123456789.000000001"])
def test_amounts_are_written_exactly_and_without_exponent(amount: str) -> None:
    text = plain(Decimal(amount))

    assert Decimal(text) == Decimal(amount)
    assert "E" not in text
    assert text != "-0"


def test_a_number_in_a_frame_keeps_every_digit() -> None:
    text = encode({"amount": Decimal("0.123456789012345678"), "of": 2**60 + 1})

    assert text == '{"amount":0.123456789012345678,"of":1152921504606846977}'


def test_the_rand_goes_by_its_code_and_has_a_symbol_of_its_own() -> None:
    (reported,) = (
        each["data"]["currency"]
        for each in new_exchange().snapshot()[:-1]
        if each["data"]["currency"]["shortName"] == "ZAR"
    )

    assert reported["symbol"] == "R"
