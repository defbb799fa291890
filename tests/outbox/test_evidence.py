"""What messages prove about commands, reported with frames as the exchange sends them."""

from __future__ import annotations

import json
from typing import Any

import pytest
from attrs import evolve, frozen
from hypothesis import given
from hypothesis import strategies as st

from recorder.exchange.commands import (
    CANCEL_ORDER,
    COMMANDS,
    MODIFY_ORDER,
    PLACE_BATCH_ORDERS,
    PLACE_LIMIT_ORDER,
    PLACE_MARKET_ORDER,
)
from recorder.exchange.messages import Unrecognised
from recorder.exchange.parsing import parse_message
from recorder.outbox.rules.evidence import REASON_CHARS_MAX, concerned, evidence, ids_learnt
from recorder.outbox.rules.states import Fact, Status, next_status

ORDER = "019a29d0-4362-7dc9-a51d-3533a4bdcf2d"
OTHER = "019a2a0f-1216-737b-9065-8138dae1e874"
REQUEST = "d561fc3a-0bb1-11ef-9dcd-5fe8909be0f6"
NAME = "mine-1"
BATCH_NAME = "0123456789abcdef0123456789abcdef"


@frozen
class OutboxRow:
    """An outbox row as judging sees it."""

    command: str
    status: str = "sent"
    payload: str = '{"newPrice": "1000.0"}'
    client_msg_id: str = "m-1"
    order_id: str | None = None
    customer_order_id: str | None = None
    modify_request_id: str | None = None
    sent_position: int | None = 5
    attempts: int = 0


def judge(
    rows: list[OutboxRow], kind: str, data: object = None, position: int = 10, **members: Any
) -> dict[int, tuple[str, str]]:
    """Return, by place in ``rows``, the status that the frame proves, and the reason."""
    frame = {"type": kind, **({} if data is None else {"data": data}), **members}
    message = parse_message(kind, json.dumps(frame))
    assert not isinstance(message, Unrecognised), message
    proved: dict[int, tuple[str, str]] = {}
    for found in evidence(message):
        for row in concerned(found, rows, position):
            target = next_status(Status(row.status), found.fact)
            if target is not None:
                # No message may report two things of one command.
                assert rows.index(row) not in proved
                proved[rows.index(row)] = (str(target), found.reason)
    return proved


def status_update(word: str, order_id: str = ORDER, name: str | None = None) -> dict[str, Any]:
    named = {} if name is None else {"customerOrderId": name}
    return {
        "orderId": order_id,
        "orderStatusType": word,
        "currencyPair": "BTCUSDT",
        "originalPrice": "1",
        "remainingQuantity": "1",
        "originalQuantity": "1",
        "orderSide": "sell",
        "orderType": "limit",
        "failedReason": "no balance" if word == "Failed" else "",
        "orderUpdatedAt": "2025-10-28T10:04:40.566Z",
        "orderCreatedAt": "2025-10-28T10:04:04.272Z",
        **named,
    }


def listed(order_id: str = ORDER, name: str | None = None) -> dict[str, Any]:
    named = {} if name is None else {"customerOrderId": name}
    return {
        "orderId": order_id,
        "side": "sell",
        "quantity": "1",
        "price": "1",
        "currencyPair": "BTCUSDT",
        "createdAt": "2025-05-30T09:40:47.525Z",
        "originalQuantity": "1",
        "filledPercentage": "0.00",
        "type": "limit",
        "status": "Placed",
        "updatedAt": "2025-05-30T09:40:47.526Z",
        "timeInForce": "GTC",
        **named,
    }


def trade(order_id: str = ORDER, name: str | None = None) -> dict[str, Any]:
    named = {} if name is None else {"customerOrderId": name}
    return {
        "price": "1",
        "quantity": "1",
        "currencyPair": "BTCUSDT",
        "tradedAt": "2025-05-30T09:40:47.525Z",
        "side": "sell",
        "orderId": order_id,
        "id": OTHER,
        **named,
    }


ACCEPTED = {0: ("accepted", "")}
ACKNOWLEDGED = {0: ("acknowledged", "")}
PLACED = OutboxRow(PLACE_LIMIT_ORDER, order_id=ORDER, customer_order_id=NAME)
CANCELS = OutboxRow(CANCEL_ORDER, order_id=ORDER)
MODIFIES = OutboxRow(MODIFY_ORDER, order_id=ORDER, modify_request_id=REQUEST)
BATCH = OutboxRow(PLACE_BATCH_ORDERS, customer_order_id=BATCH_NAME)


# Answers


@pytest.mark.parametrize(
    ("command", "kind", "data"),
    [
        (PLACE_LIMIT_ORDER, "PLACE_LIMIT_WS_RESPONSE", {"orderId": ORDER}),
        (PLACE_MARKET_ORDER, "PLACE_MARKET_WS_RESPONSE", {"orderId": ORDER}),
        (CANCEL_ORDER, "CANCEL_ORDER_WS_RESPONSE", {"requested": True, "orderId": ORDER}),
        (
            MODIFY_ORDER,
            "MODIFY_ORDER_WS_RESPONSE",
            {"modifyRequestId": REQUEST, "requested": True, "orderId": ORDER},
        ),
    ],
)
@pytest.mark.parametrize("status", ["sending", "sent", "in_doubt", "not_placed"])
def test_the_answer_proves_received_and_no_more(
    command: str, kind: str, data: dict[str, Any], status: str
) -> None:
    rows = [OutboxRow(command, status)]
    assert judge(rows, kind, data, clientMsgId="m-1") == ACKNOWLEDGED


@pytest.mark.parametrize(
    ("command", "kind"),
    [
        (PLACE_LIMIT_ORDER, "PLACE_LIMIT_WS_RESPONSE"),
        (PLACE_MARKET_ORDER, "PLACE_MARKET_WS_RESPONSE"),
        (CANCEL_ORDER, "CANCEL_ORDER_WS_RESPONSE"),
        (MODIFY_ORDER, "MODIFY_ORDER_WS_RESPONSE"),
    ],
)
def test_an_error_in_the_answer_means_rejected(command: str, kind: str) -> None:
    error = {"message": "Invalid request", "validationErrors": None}
    rows = [OutboxRow(command)]
    assert judge(rows, kind, error=error, clientMsgId="m-1") == {0: ("rejected", "Invalid request")}


@pytest.mark.parametrize("command", COMMANDS)
def test_a_rate_limit_means_not_yet(command: str) -> None:
    proved = judge(
        [OutboxRow(command)], "RATE_LIMIT_EXCEEDED", {"requestType": "X"}, clientMsgId="m-1"
    )
    assert proved == {0: ("queued", "rate limit exceeded")}


def test_a_rate_limit_speaks_of_one_sending_only() -> None:
    again = OutboxRow(PLACE_LIMIT_ORDER, attempts=1)
    data = {"requestType": "X"}
    assert judge([again], "RATE_LIMIT_EXCEEDED", data, clientMsgId="m-1") == {}
    proved = judge([again], "RATE_LIMIT_EXCEEDED", data, clientMsgId="m-1-again1")
    assert proved == {0: ("queued", "rate limit exceeded")}
    answer = {"orderId": ORDER}
    assert judge([again], "PLACE_LIMIT_WS_RESPONSE", answer, clientMsgId="m-1") == {}
    proved = judge([again], "PLACE_LIMIT_WS_RESPONSE", answer, clientMsgId="m-1-again1")
    assert proved == ACKNOWLEDGED


def test_a_name_that_two_sendings_have_settles_neither() -> None:
    rows = [
        OutboxRow(PLACE_LIMIT_ORDER, attempts=1),
        OutboxRow(PLACE_LIMIT_ORDER, client_msg_id="m-1-again1"),
    ]
    data = {"requestType": "X"}
    assert judge(rows, "RATE_LIMIT_EXCEEDED", data, clientMsgId="m-1-again1") == {}


def test_an_answer_to_another_callers_message_concerns_no_row() -> None:
    rows = [evolve(PLACED, order_id=None)]
    data = {"orderId": ORDER, "customerOrderId": NAME}
    assert judge(rows, "PLACE_LIMIT_WS_RESPONSE", data, clientMsgId="m-2") == {}


def test_a_cancel_that_was_not_requested_is_rejected() -> None:
    proved = judge([CANCELS], "CANCEL_ORDER_WS_RESPONSE", {"requested": False}, clientMsgId="m-1")
    assert proved[0][0] == "rejected"


def test_answers_teach_the_ids_that_later_frames_use() -> None:
    data = {"modifyRequestId": REQUEST, "requested": True, "orderId": ORDER}
    frame = {"type": "MODIFY_ORDER_WS_RESPONSE", "data": data, "clientMsgId": "m-1"}
    message = parse_message("MODIFY_ORDER_WS_RESPONSE", json.dumps(frame))
    assert not isinstance(message, Unrecognised)
    (found,) = evidence(message)
    row = OutboxRow(MODIFY_ORDER)
    assert ids_learnt(found, row) == {"order_id": ORDER, "modify_request_id": REQUEST}
    assert ids_learnt(found, evolve(row, order_id=OTHER)) == {"modify_request_id": REQUEST}


# Placing

EFFECTS: list[tuple[str, Any]] = [
    ("ORDER_PROCESSED", {"orderId": ORDER, "success": True, "failureReason": ""}),
    ("OPEN_ORDERS_UPDATE", [listed(OTHER), listed()]),
    ("NEW_ACCOUNT_TRADE", trade()),
    *(
        ("ORDER_STATUS_UPDATE", status_update(word))
        for word in ("Placed", "Partially Filled", "PartiallyFilled", "Filled", "Cancelled")
    ),
    ("ORDER_STATUS_UPDATE", status_update("Expired")),
]
FAILURES: list[tuple[str, Any]] = [
    ("ORDER_PROCESSED", {"orderId": ORDER, "success": False, "failureReason": "no balance"}),
    ("ORDER_STATUS_UPDATE", status_update("Failed")),
    ("FAILED_ORDER", {"orderId": ORDER, "message": "no balance"}),
]


@pytest.mark.parametrize(("kind", "data"), EFFECTS)
@pytest.mark.parametrize("status", ["sending", "sent", "acknowledged", "in_doubt", "not_placed"])
def test_any_sign_of_the_order_in_the_book_accepts_it(kind: str, data: Any, status: str) -> None:
    assert judge([evolve(PLACED, status=status)], kind, data) == ACCEPTED


@pytest.mark.parametrize(("kind", "data"), FAILURES)
@pytest.mark.parametrize("status", ["sent", "acknowledged", "in_doubt", "not_placed"])
def test_a_failed_order_is_rejected_with_its_reason(kind: str, data: Any, status: str) -> None:
    proved = judge([evolve(PLACED, status=status)], kind, data)
    assert proved == {0: ("rejected", "no balance")}


@pytest.mark.parametrize(("kind", "data"), EFFECTS + FAILURES)
def test_news_of_another_order_proves_nothing(kind: str, data: Any) -> None:
    # The list of the samples names OTHER too.
    assert judge([evolve(PLACED, order_id=REQUEST)], kind, data) == {}


def test_an_order_missing_from_the_list_proves_nothing() -> None:
    rows = [PLACED, CANCELS]
    assert judge(rows, "OPEN_ORDERS_UPDATE", []) == {}
    assert judge(rows, "OPEN_ORDERS_UPDATE", [listed(OTHER)]) == {}


@pytest.mark.parametrize(
    ("kind", "data"),
    [
        ("ORDER_PROCESSED", {"orderId": ORDER, "success": True, "customerOrderId": NAME}),
        ("ORDER_STATUS_UPDATE", status_update("Filled", name=NAME)),
        ("OPEN_ORDERS_UPDATE", [listed(name=NAME)]),
        ("NEW_ACCOUNT_TRADE", trade(name=NAME)),
    ],
)
def test_an_order_whose_answer_was_lost_is_found_by_the_callers_id(kind: str, data: Any) -> None:
    row = evolve(PLACED, status="in_doubt", order_id=None)
    assert judge([row], kind, data) == ACCEPTED


def test_the_callers_id_of_another_order_is_not_mistaken_for_ours() -> None:
    update = status_update("Filled", OTHER, NAME)
    assert judge([PLACED], "ORDER_STATUS_UPDATE", update) == {}


def test_two_rows_that_could_be_meant_are_both_left_open() -> None:
    row = evolve(PLACED, status="in_doubt", order_id=None)
    rows = [row, evolve(row, client_msg_id="m-2")]
    assert judge(rows, "ORDER_STATUS_UPDATE", status_update("Filled", name=NAME)) == {}
    rows = [row, evolve(PLACED, client_msg_id="m-2")]
    proved = judge(rows, "ORDER_STATUS_UPDATE", status_update("Filled", name=NAME))
    assert proved == {1: ("accepted", "")}


@pytest.mark.parametrize(("kind", "data"), EFFECTS + FAILURES)
def test_what_stands_in_the_log_before_the_command_is_no_evidence(kind: str, data: Any) -> None:
    rows = [PLACED, CANCELS]
    assert judge(rows, kind, data, position=5) == {}


@pytest.mark.parametrize("status", ["queued", "accepted", "rejected", "expired", "refused"])
def test_rows_that_never_went_or_have_ended_are_not_concerned(status: str) -> None:
    row = evolve(PLACED, status=status, sent_position=None)
    assert judge([row], "ORDER_PROCESSED", {"orderId": ORDER, "success": True}) == {}


def test_a_queued_row_with_the_same_callers_id_makes_nothing_ambiguous() -> None:
    lost = evolve(PLACED, status="in_doubt", order_id=None)
    queued = evolve(lost, status="queued", client_msg_id="m-2", sent_position=None)
    update = status_update("Filled", name=NAME)
    assert judge([lost, queued], "ORDER_STATUS_UPDATE", update) == ACCEPTED


# Cancelling


def test_a_cancelled_order_accepts_every_cancel_of_it() -> None:
    by_name = OutboxRow(CANCEL_ORDER, customer_order_id=NAME)
    proved = judge([CANCELS, by_name], "ORDER_STATUS_UPDATE", status_update("Cancelled", name=NAME))
    assert proved == {0: ("accepted", ""), 1: ("accepted", "")}


@pytest.mark.parametrize("word", ["Filled", "Expired"])
def test_an_order_that_ended_first_rejects_its_cancel(word: str) -> None:
    proved = judge([CANCELS], "ORDER_STATUS_UPDATE", status_update(word))
    assert proved == {0: ("rejected", f"the order ended first: {word}")}


@pytest.mark.parametrize("word", ["Placed", "Partially Filled", "Order Modified", "Active"])
def test_an_open_order_proves_nothing_about_its_cancel(word: str) -> None:
    assert judge([CANCELS], "ORDER_STATUS_UPDATE", status_update(word)) == {}


def test_a_failed_cancel_is_rejected_and_the_order_untouched() -> None:
    data = {"orderId": ORDER, "message": "An error occurred while cancelling your order."}
    assert judge([PLACED, CANCELS], "FAILED_CANCEL_ORDER", data) == {
        1: ("rejected", data["message"])
    }


def test_a_new_order_that_fails_for_its_name_does_not_touch_the_cancel_of_the_old_one() -> None:
    by_name = OutboxRow(CANCEL_ORDER, customer_order_id=NAME)
    failed = {"orderId": OTHER, "success": False, "failureReason": "x", "customerOrderId": NAME}
    assert judge([by_name], "ORDER_PROCESSED", failed) == {}
    update = status_update("Failed", OTHER, NAME)
    assert judge([by_name], "ORDER_STATUS_UPDATE", update) == {}


@pytest.mark.parametrize(("kind", "data"), [e for e in EFFECTS if e[0] != "ORDER_STATUS_UPDATE"])
def test_signs_of_life_prove_nothing_about_a_cancel_or_a_change(kind: str, data: Any) -> None:
    assert judge([CANCELS, MODIFIES], kind, data) == {}


# Modifying


@pytest.mark.parametrize("success", [True, False])
def test_the_outcome_settles_the_change_that_it_names(success: bool) -> None:
    data = {"success": success, "orderId": ORDER, "modifyRequestId": REQUEST}
    other = evolve(MODIFIES, client_msg_id="m-2", modify_request_id=OTHER)
    proved = judge([other, MODIFIES, PLACED], "MODIFY_ORDER_OUTCOME", data)
    assert {place: status for place, (status, _) in proved.items()} == {
        1: "accepted" if success else "rejected"
    }


def test_an_outcome_of_another_callers_change_is_not_taken_for_an_unanswered_one() -> None:
    data = {"success": True, "orderId": ORDER, "modifyRequestId": REQUEST}
    unanswered = evolve(MODIFIES, modify_request_id=None)
    assert judge([unanswered], "MODIFY_ORDER_OUTCOME", data) == {}
    lost = evolve(unanswered, status="in_doubt")
    assert judge([lost], "MODIFY_ORDER_OUTCOME", data) == {}
    del data["modifyRequestId"]
    assert judge([lost], "MODIFY_ORDER_OUTCOME", data) == {}
    assert judge([unanswered], "MODIFY_ORDER_OUTCOME", data) == ACCEPTED


def test_order_modified_accepts_the_only_change_that_asked_for_what_it_shows() -> None:
    update = status_update("Order Modified")
    price = update["originalPrice"]
    fitting = evolve(MODIFIES, payload=json.dumps({"newPrice": price, "newTotalQuantity": None}))
    assert judge([fitting], "ORDER_STATUS_UPDATE", update) == ACCEPTED
    assert judge([evolve(fitting, status="in_doubt")], "ORDER_STATUS_UPDATE", update) == ACCEPTED
    other = evolve(MODIFIES, payload='{"newPrice": "2"}')
    assert judge([other], "ORDER_STATUS_UPDATE", update) == {}
    assert judge([other, fitting], "ORDER_STATUS_UPDATE", update) == {1: ("accepted", "")}
    second = evolve(fitting, client_msg_id="m-2", modify_request_id=OTHER)
    assert judge([fitting, second], "ORDER_STATUS_UPDATE", update) == {}


def test_a_failed_cancel_settles_none_of_several_that_can_be_meant() -> None:
    # The first may have done what the second failed to do again.
    two = [CANCELS, evolve(CANCELS, client_msg_id="m-2")]
    data = {"orderId": ORDER, "message": "no such order"}
    assert judge(two, "FAILED_CANCEL_ORDER", data) == {}
    assert judge(two[:1], "FAILED_CANCEL_ORDER", data) == {0: ("rejected", "no such order")}


def test_a_failed_cancel_may_be_one_that_names_the_order_otherwise() -> None:
    named = OutboxRow(CANCEL_ORDER, client_msg_id="m-2", customer_order_id=NAME)
    data = {"orderId": ORDER, "message": "no such order"}
    assert judge([CANCELS, named], "FAILED_CANCEL_ORDER", data) == {}
    # What its answer reported counts as well.
    elsewhere = evolve(named, order_id=OTHER)
    proved = judge([CANCELS, elsewhere], "FAILED_CANCEL_ORDER", data)
    assert proved == {0: ("rejected", "no such order")}


@pytest.mark.parametrize(
    ("command", "payload", "is_settled"),
    [
        (
            PLACE_BATCH_ORDERS,
            {"requests": [{"type": CANCEL_ORDER, "data": {"orderId": ORDER}}]},
            False,
        ),
        (
            PLACE_BATCH_ORDERS,
            {"requests": [{"type": CANCEL_ORDER, "data": {"orderId": OTHER}}]},
            True,
        ),
        (PLACE_BATCH_ORDERS, {"requests": [{"type": "PLACE_LIMIT", "data": {}}]}, True),
    ],
)
def test_a_failed_cancel_may_be_one_of_a_batch(
    command: str, payload: object, is_settled: bool
) -> None:
    other = OutboxRow(command, client_msg_id="m-2", payload=json.dumps(payload))
    data = {"orderId": ORDER, "message": "no such order"}
    expected = {0: ("rejected", "no such order")} if is_settled else {}
    assert judge([CANCELS, other], "FAILED_CANCEL_ORDER", data) == expected
    doubtful = evolve(other, status="in_doubt")
    assert 0 in judge([CANCELS, doubtful], "FAILED_CANCEL_ORDER", data)


def test_a_cancel_that_failed_proves_nothing_about_one_in_doubt() -> None:
    data = {"orderId": ORDER, "message": "An error occurred while cancelling your order."}
    lost = evolve(CANCELS, status="in_doubt")
    again = evolve(CANCELS, client_msg_id="m-2")
    proved = judge([lost, again], "FAILED_CANCEL_ORDER", data)
    assert {place: status for place, (status, _) in proved.items()} == {1: "rejected"}
    assert judge([lost], "FAILED_CANCEL_ORDER", data) == {}


@pytest.mark.parametrize("word", ["Filled", "Cancelled", "Failed", "Expired"])
def test_the_end_of_the_order_does_not_settle_a_change(word: str) -> None:
    assert judge([MODIFIES], "ORDER_STATUS_UPDATE", status_update(word)) == {}


# Batches

TAKEN = {"accepted": True, "orderId": ORDER, "requestType": "PLACE_LIMIT"}
REFUSED = {"accepted": False, "error": {"code": -6, "message": "no balance"}}


@pytest.mark.parametrize("kind", ["BATCH_ORDERS_WS_RESPONSE", "PLACE_BATCH_WS_RESPONSE"])
def test_a_batch_with_any_request_taken_is_acknowledged(kind: str) -> None:
    data = {"outcomes": [REFUSED, TAKEN], "batchId": 1234567890123456789}
    assert judge([BATCH], kind, data, clientMsgId="m-1") == ACKNOWLEDGED


def test_a_batch_with_every_request_refused_is_rejected() -> None:
    data = {"outcomes": [REFUSED, REFUSED], "batchId": 1}
    proved = judge([BATCH], "BATCH_ORDERS_WS_RESPONSE", data, clientMsgId="m-1")
    assert proved[0][0] == "rejected"
    assert "no balance" in proved[0][1]


@pytest.mark.parametrize("kind", ["BATCH_ORDERS_WS_RESPONSE", "BATCH_ORDERS_RESPONSE"])
@pytest.mark.parametrize("place", ["data", "data.outcomes", "outcomes"])
def test_a_batchs_answer_is_read_wherever_its_outcomes_stand(kind: str, place: str) -> None:
    outcomes = [{"accepted": False, "error": {"code": -21, "message": "no such pair"}}]
    reported: dict[str, dict[str, Any]] = {
        "data": {"data": outcomes},
        "data.outcomes": {"data": {"outcomes": outcomes}},
        "outcomes": {"outcomes": outcomes},
    }
    row = OutboxRow(PLACE_BATCH_ORDERS)
    answer = "every request was refused; the first: no such pair"
    assert judge([row], kind, clientMsgId="m-1", **reported[place]) == {0: ("rejected", answer)}


@pytest.mark.parametrize(("kind", "data"), EFFECTS)
def test_an_effect_of_an_order_that_it_placed_accepts_the_batch(kind: str, data: Any) -> None:
    assert judge([evolve(BATCH, order_id=ORDER)], kind, data) == ACCEPTED


def test_a_batch_whose_answer_was_lost_is_found_by_the_id_of_any_leg() -> None:
    row = evolve(BATCH, status="in_doubt")
    data = {"orderId": ORDER, "success": True, "customerOrderId": BATCH_NAME + "07"}
    assert judge([row], "ORDER_PROCESSED", data) == ACCEPTED


@pytest.mark.parametrize(("kind", "data"), FAILURES)
def test_one_failed_order_does_not_reject_its_batch(kind: str, data: Any) -> None:
    assert judge([evolve(BATCH, order_id=ORDER)], kind, data) == {}


# Everything else


@pytest.mark.parametrize("kind", ["AUTHENTICATED", "PONG"])
def test_other_messages_prove_nothing(kind: str) -> None:
    assert evidence(parse_message(kind, json.dumps({"type": kind}))) == ()


def test_a_reason_is_kept_short() -> None:
    data = {"orderId": ORDER, "message": "x" * 10_000}
    (place,) = judge([CANCELS], "FAILED_CANCEL_ORDER", data).values()
    assert len(place[1]) <= REASON_CHARS_MAX


IDS = st.sampled_from([ORDER, OTHER, REQUEST])
ROWS = st.lists(
    st.builds(
        OutboxRow,
        command=st.sampled_from(COMMANDS),
        status=st.sampled_from([str(status) for status in Status]),
        client_msg_id=st.sampled_from(["m-1", "m-2"]),
        order_id=st.none() | IDS,
        customer_order_id=st.none() | st.sampled_from([NAME, BATCH_NAME]),
        modify_request_id=st.none() | IDS,
        sent_position=st.none() | st.integers(1, 12),
    ),
    max_size=6,
    unique=True,
)
FRAMES = st.sampled_from(
    [
        *EFFECTS,
        *FAILURES,
        ("ORDER_STATUS_UPDATE", status_update("Order Modified", name=NAME)),
        ("ORDER_STATUS_UPDATE", status_update("Cancelled", name=BATCH_NAME + "00")),
        ("FAILED_CANCEL_ORDER", {"customerOrderId": NAME, "message": "x"}),
        ("MODIFY_ORDER_OUTCOME", {"success": False, "orderId": ORDER, "modifyRequestId": REQUEST}),
    ]
)


@given(ROWS, FRAMES)
def test_no_frame_contradicts_itself_or_moves_what_is_final(
    rows: list[OutboxRow], frame: tuple[str, Any]
) -> None:
    kind, data = frame
    for place, (status, reason) in judge(rows, kind, data).items():
        row = rows[place]
        assert Status(status) is not Status(row.status)
        assert row.sent_position is None or row.sent_position < 10
        assert bool(reason) == (status == "rejected")


@given(st.sampled_from(list(Fact)), st.integers(1, 20), ROWS)
def test_evidence_of_one_placed_order_never_settles_two_orders(
    fact: Fact, position: int, rows: list[OutboxRow]
) -> None:
    data = {"orderId": ORDER, "success": True, "customerOrderId": NAME}
    message = parse_message(
        "ORDER_PROCESSED", json.dumps({"type": "ORDER_PROCESSED", "data": data})
    )
    for found in evidence(message):
        assert len(concerned(evolve(found, fact=fact), rows, position)) <= 1
