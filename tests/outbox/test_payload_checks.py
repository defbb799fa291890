"""Each field of each request, those inside a batch included, is checked by the database itself."""

from __future__ import annotations

import json
import re

import pytest

from recorder.database.engine import Database
from recorder.errors import Refused
from recorder.exchange.commands import parse_command
from tests.log.drafts import run_sql
from tests.queries.orders import CANCEL, LIMIT, MARKET, MODIFY, VALID, queue

COMMANDS = {
    "PLACE_LIMIT": ("PLACE_LIMIT_ORDER", LIMIT),
    "PLACE_MARKET": ("PLACE_MARKET_ORDER", MARKET),
    "CANCEL_ORDER": ("CANCEL_ORDER", CANCEL),
    "MODIFY_ORDER": ("MODIFY_ORDER", MODIFY),
}
AMOUNT = 'must be a positive decimal in a string, like "0.001"'
FLAG = "must be true or false"
NAME = "must be 1 to 50 letters, digits or dashes"
PAIR = "must be 1 to 40 letters, digits, dashes or underscores"
FORCE = 'timeInForce must be "GTC", "FOK" or "IOC"'
NO_STRATEGY: dict[str, object] = {"modifyMatchStrategy": "KEEP"}

#: Request type, what is changed in a valid one (None: left out), and what is reported of it.
WRONG: list[tuple[str, dict[str, object], str]] = [
    ("PLACE_LIMIT", {"customerOrderId": "my order"}, f"customerOrderId {NAME}"),
    ("PLACE_LIMIT", {"customerOrderId": "a_b"}, f"customerOrderId {NAME}"),
    ("PLACE_LIMIT", {"customerOrderId": "é"}, f"customerOrderId {NAME}"),
    ("PLACE_LIMIT", {"customerOrderId": "x" * 51}, f"customerOrderId {NAME}"),
    ("PLACE_LIMIT", {"customerOrderId": "a\n"}, f"customerOrderId {NAME}"),
    ("CANCEL_ORDER", {"orderId": None, "customerOrderId": "#"}, f"customerOrderId {NAME}"),
    ("CANCEL_ORDER", {"orderId": "o 1"}, "orderId must be 1 to 64 letters"),
    ("CANCEL_ORDER", {"pair": "BTC/ZAR"}, f"pair {PAIR}"),
    ("PLACE_MARKET", {"pair": "P" * 41}, f"pair {PAIR}"),
    ("PLACE_LIMIT", {"timeInForce": "gtc"}, FORCE),
    ("PLACE_MARKET", {"timeInForce": 1}, FORCE),
    ("PLACE_LIMIT", {"postOnly": "true"}, f"postOnly {FLAG}"),
    ("PLACE_LIMIT", {"postOnlyReprice": 1}, f"postOnlyReprice {FLAG}"),
    ("PLACE_MARKET", {"reduceOnly": 0}, f"reduceOnly {FLAG}"),
    ("PLACE_MARKET", {"allowMargin": {}}, f"allowMargin {FLAG}"),
    ("PLACE_LIMIT", {"quantity": "9" * 65}, f"quantity {AMOUNT}"),
    ("MODIFY_ORDER", {"newPrice": "-1"}, f"newPrice {AMOUNT}"),
    ("MODIFY_ORDER", {"newPrice": 5}, f"newPrice {AMOUNT}"),
    ("MODIFY_ORDER", {"newTotalQuantity": "0"}, f"newTotalQuantity {AMOUNT}"),
    ("MODIFY_ORDER", NO_STRATEGY, 'modifyMatchStrategy must be "RETAIN_ORIGINAL"'),
    (
        "MODIFY_ORDER",
        {"newPrice": None},
        "at least one of newPrice, newRemainingQuantity and newTotalQuantity must be given",
    ),
    (
        "MODIFY_ORDER",
        {"newTotalQuantity": "1", "newRemainingQuantity": "1"},
        "at most one of newRemainingQuantity and newTotalQuantity must be given",
    ),
]
#: Of a batch's requests also what 0004 reports of whole commands.
WRONG_INSIDE: list[tuple[str, dict[str, object], str]] = [
    ("PLACE_LIMIT", {"side": "buy"}, 'side must be "BUY" or "SELL"'),
    ("PLACE_LIMIT", {"side": None}, 'side must be "BUY" or "SELL"'),
    ("PLACE_LIMIT", {"pair": None}, f"pair {PAIR}"),
    ("PLACE_LIMIT", {"price": 1000000}, f"price {AMOUNT}"),
    ("PLACE_LIMIT", {"price": None}, f"price {AMOUNT}"),
    ("PLACE_LIMIT", {"price": ["1"]}, f"price {AMOUNT}"),
    ("PLACE_MARKET", {"quoteAmount": "5"}, "exactly one of baseAmount and quoteAmount"),
    ("PLACE_MARKET", {"baseAmount": None}, "exactly one of baseAmount and quoteAmount"),
    ("CANCEL_ORDER", {"customerOrderId": "c"}, "exactly one of orderId and customerOrderId"),
    ("MODIFY_ORDER", {"orderId": None}, "exactly one of orderId and customerOrderId"),
]


def changed(valid: dict[str, object], change: dict[str, object]) -> dict[str, object]:
    return {name: value for name, value in (valid | change).items() if value is not None}


def batch(*requests: object) -> dict[str, object]:
    return {"requests": list(requests)}


@pytest.mark.parametrize(("kind", "change", "message"), WRONG)
def test_a_field_of_a_command_is_named_by_the_refusal(
    database: Database, kind: str, change: dict[str, object], message: str
) -> None:
    command, valid = COMMANDS[kind]
    with pytest.raises(Refused, match=re.escape(message)):
        queue(database, command, changed(dict(valid), change))
    assert run_sql(database, "SELECT * FROM outbox") == []


@pytest.mark.parametrize(("kind", "change", "message"), WRONG + WRONG_INSIDE)
def test_a_field_inside_a_batch_is_named_by_the_refusal(
    database: Database, kind: str, change: dict[str, object], message: str
) -> None:
    wrong = {"type": kind, "data": changed(dict(COMMANDS[kind][1]), change)}
    fine = {"type": "CANCEL_ORDER", "data": CANCEL}
    with pytest.raises(Refused, match=re.escape(f"requests[].data.{message}")):
        queue(database, "PLACE_BATCH_ORDERS", batch(fine, wrong))


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        (5, "requests[] must be objects"),
        ("PLACE_LIMIT", "requests[] must be objects"),
        (None, "requests[] must be objects"),
        ([], "requests[] must be objects"),
        ({}, "requests[].type must be one of PLACE_LIMIT, PLACE_MARKET, MODIFY_ORDER"),
        ({"type": "PLACE_LIMIT_ORDER", "data": LIMIT}, "requests[].type must be one of"),
        ({"type": "PLACE_STOP_LIMIT", "data": LIMIT}, "requests[].type must be one of"),
        ({"type": ["PLACE_LIMIT"], "data": LIMIT}, "requests[].type must be one of"),
        ({"type": "PLACE_LIMIT"}, "requests[].data must be an object"),
        ({"type": "PLACE_LIMIT", "data": "x"}, "requests[].data must be an object"),
        ({"type": "PLACE_LIMIT", "data": [LIMIT]}, "requests[].data must be an object"),
    ],
)
def test_a_request_of_a_batch_has_a_type_and_data(
    database: Database, request_: object, message: str
) -> None:
    with pytest.raises(Refused, match=re.escape(message)):
        queue(
            database, "PLACE_BATCH_ORDERS", batch({"type": "PLACE_LIMIT", "data": LIMIT}, request_)
        )


FINE: list[tuple[str, dict[str, object]]] = [
    ("PLACE_LIMIT", {"customerOrderId": "x" * 50, "timeInForce": "IOC", "postOnly": False}),
    ("PLACE_LIMIT", {"customerOrderId": "a-B-9", "reduceOnly": True, "allowMargin": True}),
    ("PLACE_MARKET", {"baseAmount": None, "quoteAmount": "10.50"}),
    ("PLACE_MARKET", {"timeInForce": "FOK"}),
    ("CANCEL_ORDER", {"orderId": None, "customerOrderId": "mine"}),
    ("MODIFY_ORDER", {"newTotalQuantity": "2", "modifyMatchStrategy": "REPRICE"}),
    ("MODIFY_ORDER", {"newPrice": None, "newRemainingQuantity": "2"}),
    ("PLACE_LIMIT", {"somethingNew": {"a": [1]}}),
]


@pytest.mark.parametrize(("kind", "change"), FINE)
def test_what_can_be_sent_is_taken_alone_and_in_a_batch(
    database: Database, kind: str, change: dict[str, object]
) -> None:
    command, valid = COMMANDS[kind]
    answer = changed(dict(valid), change)
    queue(database, command, answer)
    queue(database, "PLACE_BATCH_ORDERS", batch({"type": kind, "data": answer}))
    kept = run_sql(
        database, "SELECT payload FROM outbox WHERE status = 'queued' ORDER BY outbox_id"
    )
    assert [json.loads(str(text)) for (text,) in kept] == [
        answer,
        batch({"type": kind, "data": answer}),
    ]


def test_twenty_requests_go_into_one_batch(database: Database) -> None:
    queue(database, "PLACE_BATCH_ORDERS", batch(*[{"type": "PLACE_LIMIT", "data": LIMIT}] * 20))
    ((text,),) = run_sql(database, "SELECT payload FROM outbox WHERE status = 'queued'")
    assert len(json.loads(str(text))["requests"]) == 20


@pytest.mark.parametrize(("kind", "change", "message"), WRONG)
def test_the_database_refuses_nothing_that_the_recorder_would_send(
    kind: str, change: dict[str, object], message: str
) -> None:
    command, valid = COMMANDS[kind]
    with pytest.raises(Refused):
        parse_command(command, json.dumps(changed(dict(valid), change)))


@pytest.mark.parametrize("column", ["attempts", "in_order"])
def test_a_new_command_has_no_attempts_and_order_is_a_flag(sqlite: Database, column: str) -> None:
    with pytest.raises(Refused, match=column):
        run_sql(
            sqlite,
            f"INSERT INTO outbox (account, command, payload, {column})"
            " VALUES ('main', 'CANCEL_ORDER', :payload, 2)",
            payload=json.dumps(VALID["CANCEL_ORDER"]),
        )
