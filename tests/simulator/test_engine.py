"""What the exchange does with commands, in which order it reports so, and what it refuses."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from recorder.simulator.engine import ANSWERS, Exchange
from tests.simulator.scene import LIMIT, Frame, HandClock, command, new_exchange, types


def place(exchange: Exchange, **changed: Any) -> list[Frame]:
    return exchange.command(command("PLACE_LIMIT_ORDER", **{**LIMIT, **changed}))


def rest(exchange: Exchange, **changed: Any) -> str:
    """Place an order that rests, and return its id."""
    order_id: str = place(exchange, postOnly=True, **changed)[0]["data"]["orderId"]
    return order_id


def status_of(frames: list[Frame]) -> str:
    (reported,) = (each["data"] for each in frames if each["type"] == "ORDER_STATUS_UPDATE")
    return f"{reported['orderStatusType']}: {reported['failedReason']}".removesuffix(": ")


def test_a_snapshot_has_every_held_currency_and_then_the_open_orders_even_if_there_are_none() -> (
    None
):
    exchange = new_exchange(balances={"ZAR": Decimal(5), "BTC": Decimal(0), "ETH": Decimal(1)})

    *balances, orders = exchange.snapshot()

    assert [each["data"]["currency"]["shortName"] for each in balances] == ["ZAR", "ETH"]
    assert orders == {"type": "OPEN_ORDERS_UPDATE", "data": []}


def test_a_post_only_order_that_rests_is_answered_taken_listed_and_gets_no_status() -> None:
    frames = place(new_exchange(), postOnly=True, customerOrderId="mine")

    assert types(frames) == [
        "PLACE_LIMIT_WS_RESPONSE",
        "ORDER_PROCESSED",
        "OPEN_ORDERS_UPDATE",
        "BALANCE_UPDATE",
    ]
    assert frames[0]["clientMsgId"] == "m1"
    assert frames[0]["data"] == {
        "orderId": frames[1]["data"]["orderId"],
        "customerOrderId": "mine",
    }
    assert frames[2]["data"][0]["type"] == "post-only limit"
    assert frames[3]["data"]["reserved"] == "1000"


def test_another_limit_order_that_rests_is_reported_as_placed() -> None:
    assert status_of(place(new_exchange())) == "Placed"


def test_a_fill_is_reported_as_trade_status_transaction_balances_and_list() -> None:
    exchange = new_exchange()
    order_id = rest(exchange)

    frames = exchange.fill(order_id, Decimal("0.0004"))

    assert types(frames) == [
        "NEW_ACCOUNT_TRADE",
        "ORDER_STATUS_UPDATE",
        "NEW_ACCOUNT_HISTORY_RECORD",
        "BALANCE_UPDATE",
        "BALANCE_UPDATE",
        "OPEN_ORDERS_UPDATE",
    ]
    assert status_of(frames) == "Partially Filled"
    assert frames[1]["data"]["executedQuantity"] == "0.0004"
    assert frames[1]["data"]["remainingQuantity"] == "0.0006"
    assert frames[-1]["data"][0]["quantity"] == "0.0006"
    assert frames[-1]["data"][0]["filledPercentage"] == "40.00"


def test_a_market_order_for_an_amount_of_money_spends_no_more_than_that() -> None:
    exchange = new_exchange()

    frames = exchange.command(
        command("PLACE_MARKET_ORDER", side="BUY", pair="BTCZAR", quoteAmount="1000")
    )

    assert status_of(frames) == "Filled"
    (row,) = exchange.account.books.ledger
    assert row.debit is not None
    assert Decimal(999) < row.debit[1] <= Decimal(1000)
    assert row.fee is not None
    assert row.fee[1] == exchange.trading.trades[0].quantity * exchange.config.taker_fee


def test_a_maker_pays_no_fee_and_a_taker_does() -> None:
    exchange = new_exchange()
    exchange.fill(rest(exchange), Decimal("0.001"))
    place(exchange, price="2000000")

    resting, taking = exchange.trading.trades
    assert resting.fee == 0
    assert taking.fee == taking.quantity * exchange.config.taker_fee
    assert taking.price < 2_000_000


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"postOnly": True, "price": "2000000"}, "Post only cancelled as it would have matched"),
        ({"quantity": "0.00000001"}, "Minimum order size not met"),
        ({"quantity": "500"}, "Insufficient Balance"),
        ({"timeInForce": "FOK"}, "Fill or kill cancelled as it would not have matched fully"),
    ],
)
def test_what_the_engine_refuses_is_answered_and_then_failed(
    changed: dict[str, object], reason: str
) -> None:
    exchange = new_exchange()

    frames = place(exchange, **changed)

    assert types(frames) == ["PLACE_LIMIT_WS_RESPONSE", "ORDER_PROCESSED", "ORDER_STATUS_UPDATE"]
    assert frames[1]["data"]["success"] is False
    assert frames[1]["data"]["failureReason"] == reason
    assert status_of(frames) == f"Failed: {reason}"
    assert exchange.open_orders() == []


def test_a_customer_order_id_is_unique_among_open_orders_only() -> None:
    exchange = new_exchange()
    first = rest(exchange, customerOrderId="mine")

    assert status_of(place(exchange, customerOrderId="mine")).startswith("Failed: Duplicate")
    exchange.command(command("CANCEL_LIMIT_ORDER", pair="BTCZAR", orderId=first))

    assert status_of(place(exchange, customerOrderId="mine")) == "Placed"


def test_what_an_immediate_order_cant_get_at_once_is_cancelled_and_a_patient_ones_rest_rests() -> (
    None
):
    exchange = new_exchange(depth=100)
    crossing = {"price": "2000000", "quantity": "0.003"}

    immediate = place(exchange, timeInForce="IOC", **crossing)
    assert [each["data"]["orderStatusType"] for each in immediate if "STATUS" in each["type"]] == [
        "Partially Filled",
        "Cancelled",
    ]
    assert place(exchange, timeInForce="FOK", **crossing)[1]["data"]["success"] is False
    place(exchange, **crossing)

    (resting,) = exchange.open_orders()
    assert (resting.status, resting.remaining) == ("Partially Filled", Decimal("0.002"))


def test_a_cancel_is_answered_and_then_happens() -> None:
    exchange = new_exchange()
    rest(exchange, customerOrderId="mine")

    frames = exchange.command(command("CANCEL_LIMIT_ORDER", pair="BTCZAR", customerOrderId="mine"))

    assert types(frames) == [
        "CANCEL_ORDER_WS_RESPONSE",
        "ORDER_STATUS_UPDATE",
        "BALANCE_UPDATE",
        "OPEN_ORDERS_UPDATE",
    ]
    # Cancelled by name: the answer has no orderId.
    assert frames[0]["data"] == {"requested": True, "customerOrderId": "mine"}
    assert status_of(frames) == "Cancelled"
    assert frames[2]["data"]["reserved"] == "0"


def test_a_cancel_of_what_isnt_there_is_requested_and_then_fails() -> None:
    frames = new_exchange().command(
        command("CANCEL_LIMIT_ORDER", pair="BTCZAR", orderId="no-such-order")
    )

    assert types(frames) == ["CANCEL_ORDER_WS_RESPONSE", "FAILED_CANCEL_ORDER"]
    assert frames[1]["data"]["orderId"] == "no-such-order"


def modify(exchange: Exchange, order_id: str, **change: str) -> list[Frame]:
    given = {"modifyMatchStrategy": "RETAIN_ORIGINAL", **change}
    return exchange.command(command("MODIFY_ORDER", pair="BTCZAR", orderId=order_id, **given))


def test_a_modification_keeps_the_order_and_changes_what_is_reserved() -> None:
    exchange = new_exchange()
    order_id = rest(exchange)

    frames = modify(exchange, order_id, newPrice="900000", newTotalQuantity="0.002")

    assert types(frames) == [
        "MODIFY_ORDER_WS_RESPONSE",
        "MODIFY_ORDER_OUTCOME",
        "ORDER_STATUS_UPDATE",
        "BALANCE_UPDATE",
        "OPEN_ORDERS_UPDATE",
    ]
    sent, outcome = frames[0]["data"], frames[1]["data"]
    assert sent["modifyRequestId"] == outcome["modifyRequestId"]
    assert (outcome["success"], outcome["orderId"]) == (True, order_id)
    assert status_of(frames) == "Order Modified"
    assert frames[3]["data"]["reserved"] == "1800"


@pytest.mark.parametrize(
    ("strategy", "status", "price"),
    [("RETAIN_ORIGINAL", "Placed", 1_000_000), ("REPRICE", "Order Modified", 1_200_600)],
)
def test_a_modification_that_would_match_leaves_the_order_or_finds_a_price_beside_the_market(
    strategy: str, status: str, price: int
) -> None:
    exchange = new_exchange()
    order_id = rest(exchange)

    frames = modify(exchange, order_id, newPrice="2000000", modifyMatchStrategy=strategy)

    assert frames[1]["data"]["success"] is (strategy == "REPRICE")
    (order,) = exchange.open_orders()
    assert (order.status, order.price) == (status, Decimal(price))


def test_a_modification_that_would_match_may_cancel_the_order() -> None:
    exchange = new_exchange()
    order_id = rest(exchange)

    frames = modify(exchange, order_id, newPrice="2000000", modifyMatchStrategy="CANCEL_ORIGINAL")

    assert frames[1]["data"]["success"] is False
    assert status_of(frames) == "Cancelled"


@pytest.mark.parametrize(
    "change", [{"newRemainingQuantity": "500"}, {"newTotalQuantity": "0.00000001"}]
)
def test_a_modification_that_cant_be_leaves_everything_as_it_was(change: dict[str, str]) -> None:
    exchange = new_exchange()
    order_id = rest(exchange)
    before = exchange.snapshot()

    frames = modify(exchange, order_id, **change)

    assert types(frames) == ["MODIFY_ORDER_WS_RESPONSE", "MODIFY_ORDER_OUTCOME"]
    assert frames[1]["data"]["success"] is False
    assert exchange.snapshot() == before


def test_a_batch_is_carried_out_in_its_order_and_one_bad_request_spoils_no_other() -> None:
    exchange = new_exchange()

    answer, *after = exchange.command(
        command(
            "BATCH_ORDERS",
            requests=[
                {"type": "PLACE_LIMIT", "data": {**LIMIT, "customerOrderId": "a"}},
                {"type": "PLACE_LIMIT", "data": {**LIMIT, "side": "buy"}},
                {"type": "PLACE_LIMIT_ORDER", "data": LIMIT},
                {"type": "CANCEL_ORDER", "data": {"pair": "BTCZAR", "customerOrderId": "a"}},
            ],
        )
    )

    outcomes = answer["data"]["outcomes"]
    assert [each["accepted"] for each in outcomes] == [True, False, False, True]
    assert outcomes[0]["customerOrderId"] == "a"
    assert outcomes[1]["error"]["code"] == -11
    assert exchange.open_orders() == []
    assert types(after).count("ORDER_STATUS_UPDATE") == 2


def test_over_its_rate_a_command_is_refused_until_the_next_second_and_others_are_not() -> None:
    exchange = new_exchange(rates_per_s={"PLACE_LIMIT_ORDER": 2, "CANCEL_LIMIT_ORDER": 1})
    place(exchange)
    place(exchange)

    (refused,) = place(exchange)

    assert refused == {
        "type": "RATE_LIMIT_EXCEEDED",
        "data": {"requestType": "PLACE_LIMIT_ORDER"},
        "clientMsgId": "m1",
    }
    cancel = command("CANCEL_LIMIT_ORDER", pair="BTCZAR", orderId="x")
    assert types(exchange.command(cancel))[0] == "CANCEL_ORDER_WS_RESPONSE"
    clock = exchange.clock
    assert isinstance(clock, HandClock)
    clock.pass_s(1)
    assert types(place(exchange))[0] == "PLACE_LIMIT_WS_RESPONSE"
    assert exchange.received["m1"] == 5


WRONG: list[tuple[str, object]] = [
    ("side", "buy"),
    ("side", None),
    ("pair", "BTC/ZAR"),
    ("pair", ["BTCZAR"]),
    ("quantity", 0.001),
    ("quantity", "0"),
    ("quantity", "-1"),
    ("quantity", "1e3"),
    ("quantity", "٣"),
    ("quantity", "0.000000001"),
    ("quantity", "9" * 400),
    ("price", "1000000.5"),
    ("price", "NaN"),
    ("postOnly", "true"),
    ("timeInForce", "gtc"),
    ("timeInForce", {}),
    ("customerOrderId", "with space"),
    ("customerOrderId", "x" * 51),
    ("customerOrderId", "\ud800"),
    ("allowMargin", 1),
]


@pytest.mark.parametrize(("name", "value"), WRONG)
def test_a_wrong_member_is_named_and_nothing_happens(name: str, value: object) -> None:
    exchange = new_exchange()

    (refused,) = place(exchange, **{name: value})

    assert refused["type"] == "PLACE_LIMIT_WS_RESPONSE"
    assert "data" not in refused
    assert [each["field"] for each in refused["error"]["validationErrors"]["errors"]] == [name]
    assert exchange.trading.orders.all == {}


@pytest.mark.parametrize("kind", ANSWERS)
@pytest.mark.parametrize("payload", [None, [], "text", {}, {"requests": []}, {"requests": {}}])
def test_a_payload_of_the_wrong_kind_is_refused_in_the_manner_asked_for(
    kind: str, payload: object
) -> None:
    frame = {"type": kind, "clientMsgId": "m1", "payload": payload}

    (refused,) = new_exchange().command(frame)
    assert (refused["type"], refused["clientMsgId"]) == (ANSWERS[kind][0], "m1")
    assert "error" in refused

    (refused,) = new_exchange(invalid_by="invalid").command(frame)
    assert (refused["type"], refused["clientMsgId"]) == (ANSWERS[kind][1], "m1")


@pytest.mark.parametrize("client_msg_id", [7, "", "x" * 101, "\ud800", ["m1"]])
def test_a_client_message_id_that_cant_be_echoed_is_refused(client_msg_id: object) -> None:
    exchange = new_exchange()

    (refused,) = exchange.command(
        {"type": "PLACE_LIMIT_ORDER", "clientMsgId": client_msg_id, "payload": LIMIT}
    )

    assert "clientMsgId" not in refused
    assert "error" in refused
    assert exchange.open_orders() == []


def test_the_same_seed_and_commands_give_the_same_frames() -> None:
    def run() -> list[Frame]:
        exchange = new_exchange(seed=7)
        sent = place(exchange)
        for _ in range(50):
            sent += exchange.tick()
        return sent + place(exchange, price="2000000")

    assert run() == run()


def test_an_order_cant_be_filled_at_a_worse_price_or_beyond_its_rest() -> None:
    exchange = new_exchange()
    order_id = rest(exchange)

    for quantity, price in (("0.001", "1000001"), ("0.002", None), ("0", None)):
        with pytest.raises(ValueError, match="can't fill"):
            exchange.fill(order_id, Decimal(quantity), None if price is None else Decimal(price))
    with pytest.raises(ValueError, match="no live order"):
        exchange.fill("nothing", Decimal(1))


def test_a_deposit_is_reported_at_every_confirmation_and_credited_with_the_last() -> None:
    exchange = new_exchange()

    sent = [exchange.deposit("ETH", Decimal("0.5")), exchange.tick(), exchange.tick()]

    assert [types(each) for each in sent] == [
        ["NEW_PENDING_RECEIVE"],
        ["NEW_PENDING_RECEIVE"],
        ["NEW_PENDING_RECEIVE", "NEW_ACCOUNT_HISTORY_RECORD", "BALANCE_UPDATE"],
    ]
    reported = [each[0]["data"] for each in sent]
    assert [(each["confirmations"], each["confirmed"]) for each in reported] == [
        (0, False),
        (1, False),
        (2, True),
    ]
    assert len({each["transactionHash"] for each in reported}) == 1
    assert sent[2][2]["data"]["total"] == "4.5"


def test_a_withdrawal_is_debited_at_once_and_reported_until_it_is_confirmed() -> None:
    exchange = new_exchange()

    sent = [exchange.withdraw("ZAR", Decimal(150)), exchange.tick(), exchange.tick()]

    assert types(sent[0]) == [
        "NEW_PENDING_SEND",
        "NEW_ACCOUNT_HISTORY_RECORD",
        "BALANCE_UPDATE",
        "SEND_STATUS_UPDATE",
    ]
    reported = [sent[0][3], *sent[1], *sent[2]]
    assert [each["data"]["status"] for each in reported] == [
        "SEND_BROADCASTED",
        "SEND_BROADCASTED",
        "CONFIRMED",
    ]
    assert exchange.tick() == []
    assert exchange.withdraw("ZAR", Decimal(1_000_000)) == []
