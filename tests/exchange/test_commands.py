"""Commands: what is refused and by what name, and that the frame keeps the caller's own text."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recorder.errors import ConfigurationError, Refused
from recorder.exchange.commands import (
    CANCEL_ORDER,
    COMMANDS,
    MODIFY_ORDER,
    PLACE_BATCH_ORDERS,
    PLACE_LIMIT_ORDER,
    PLACE_MARKET_ORDER,
    RULES,
    Encoded,
    WireNames,
    batch_of_leg,
    encode_command,
    generated_customer_order_id,
    parse_command,
)

FALLBACK = "0123456789abcdef0123456789abcdef"
LIMIT = {"side": "BUY", "pair": "BTCZAR", "quantity": "0.001", "price": "1000000"}
MARKET = {"side": "SELL", "pair": "BTCZAR", "baseAmount": "0.001"}
CANCEL = {"pair": "BTCZAR", "orderId": "019a29d0-4362-7dc9-a51d-3533a4bdcf2d"}
MODIFY = {**CANCEL, "modifyMatchStrategy": "RETAIN_ORIGINAL", "newPrice": "1"}
BATCH = {
    "requests": [
        {"type": "PLACE_LIMIT", "data": LIMIT},
        {"type": "CANCEL_ORDER", "data": CANCEL},
    ]
}
GOOD: dict[str, dict[str, Any]] = {
    PLACE_LIMIT_ORDER: LIMIT,
    PLACE_MARKET_ORDER: MARKET,
    CANCEL_ORDER: CANCEL,
    MODIFY_ORDER: MODIFY,
    PLACE_BATCH_ORDERS: BATCH,
}


def encoded(command: str, payload: object, **options: Any) -> Encoded:
    text = payload if isinstance(payload, str) else json.dumps(payload)
    return encode_command(command, text, options.get("client_msg_id", "m-1"), WireNames(), FALLBACK)


def refusal(command: str, payload: object) -> Refused:
    text = payload if isinstance(payload, str) else json.dumps(payload)
    with pytest.raises(Refused) as refused:
        parse_command(command, text)
    # It is stored on the row: any database must take it.
    assert str(refused.value).isprintable()
    str(refused.value).encode()
    return refused.value


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_a_payload_that_passes(command: str) -> None:
    assert parse_command(command, json.dumps(GOOD[command])).command == command


def test_an_unknown_command_is_refused() -> None:
    assert refusal("CANCEL_ON_DISCONNECT", {}).rule == "command"
    assert refusal("\ud800\x00", {}).rule == "command"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "null",
        "[]",
        '"x"',
        "1",
        "{",
        "{}x",
        '{"a":NaN}',
        '{"a":-Infinity}',
        '{"a":1,}',
        '{"side":"BUY","side":"SELL"}',
        '{"x":{"a":1,"a":1}}',
        '{"a":"\\ud800"}',
        '{"a":"\ud800"}',
        '{"a":' + "[" * 100_000 + "]" * 100_000 + "}",
        '{"a":"' + "x" * 70_000 + '"}',
        "\ufeff{}",
    ],
)
@pytest.mark.parametrize("command", [PLACE_LIMIT_ORDER, PLACE_BATCH_ORDERS])
def test_what_is_no_object_that_can_be_sent_is_refused(command: str, text: str) -> None:
    assert refusal(command, text).rule == "payload"


@pytest.mark.parametrize(
    ("command", "name"),
    [
        (PLACE_LIMIT_ORDER, "side"),
        (PLACE_LIMIT_ORDER, "pair"),
        (PLACE_LIMIT_ORDER, "quantity"),
        (PLACE_LIMIT_ORDER, "price"),
        (PLACE_MARKET_ORDER, "side"),
        (PLACE_MARKET_ORDER, "pair"),
        (PLACE_MARKET_ORDER, "baseAmount"),
        (CANCEL_ORDER, "pair"),
        (CANCEL_ORDER, "orderId"),
        (MODIFY_ORDER, "pair"),
        (MODIFY_ORDER, "orderId"),
        (MODIFY_ORDER, "modifyMatchStrategy"),
        (MODIFY_ORDER, "newPrice"),
    ],
)
@pytest.mark.parametrize("absence", ["left out", "null"])
def test_a_missing_field_is_named(command: str, name: str, absence: str) -> None:
    payload = dict(GOOD[command])
    if absence == "null":
        payload[name] = None
    else:
        del payload[name]
    refused = refusal(command, payload)
    assert refused.rule == name
    assert name in str(refused)


@pytest.mark.parametrize(
    "amount",
    [
        1,
        0.001,
        True,
        ["1"],
        {},
        "",
        "0",
        "0.000",
        "-1",
        "+1",
        "1e5",
        "1E-7",
        "1,000",
        " 1",
        "1\n",
        ".5",
        "5.",
        "01",
        "1.2.3",
        "NaN",
        "Infinity",
        "٣",
        "１",
        "1" * 65,
        "0x10",
        "1_000",
        "\x00",
    ],
)
@pytest.mark.parametrize(
    ("command", "name"),
    [
        (PLACE_LIMIT_ORDER, "quantity"),
        (PLACE_LIMIT_ORDER, "price"),
        (PLACE_MARKET_ORDER, "baseAmount"),
        (MODIFY_ORDER, "newPrice"),
    ],
)
def test_an_amount_is_a_positive_plain_decimal_string(
    command: str, name: str, amount: object
) -> None:
    refused = refusal(command, {**GOOD[command], name: amount})
    assert refused.rule == name


@pytest.mark.parametrize(
    ("command", "name", "value"),
    [
        (PLACE_LIMIT_ORDER, "side", "buy"),
        (PLACE_LIMIT_ORDER, "side", 1),
        (PLACE_LIMIT_ORDER, "pair", ""),
        (PLACE_LIMIT_ORDER, "pair", "BTC/ZAR"),
        (PLACE_LIMIT_ORDER, "timeInForce", "GTD"),
        (PLACE_LIMIT_ORDER, "timeInForce", "gtc"),
        (PLACE_LIMIT_ORDER, "postOnly", "true"),
        (PLACE_LIMIT_ORDER, "reduceOnly", 1),
        (PLACE_LIMIT_ORDER, "customerOrderId", ""),
        (PLACE_LIMIT_ORDER, "customerOrderId", "a" * 51),
        (PLACE_LIMIT_ORDER, "customerOrderId", "a_b"),
        (PLACE_LIMIT_ORDER, "customerOrderId", "a\n"),
        (PLACE_LIMIT_ORDER, "customerOrderId", 7),
        (PLACE_MARKET_ORDER, "quoteAmount", "10"),
        (CANCEL_ORDER, "customerOrderId", "x"),
        (CANCEL_ORDER, "orderId", ""),
        (MODIFY_ORDER, "modifyMatchStrategy", "retain_original"),
        (MODIFY_ORDER, "newTotalQuantity", "0"),
        (MODIFY_ORDER, "customerOrderId", "x"),
    ],
)
def test_a_field_that_can_not_be_is_refused(command: str, name: str, value: object) -> None:
    assert name in str(refusal(command, {**GOOD[command], name: value}))


def test_a_modification_states_one_quantity_at_most() -> None:
    both = {**MODIFY, "newRemainingQuantity": "1", "newTotalQuantity": "2"}
    assert "at most one of newRemainingQuantity, newTotalQuantity" in str(
        refusal(MODIFY_ORDER, both)
    )
    for name in ("newRemainingQuantity", "newTotalQuantity"):
        parse_command(MODIFY_ORDER, json.dumps({**MODIFY, name: "1", "newPrice": None}))


@pytest.mark.parametrize(
    ("requests", "rule"),
    [
        (None, "requests"),
        ({}, "requests"),
        ([], "requests"),
        ([{"type": "CANCEL_ORDER", "data": CANCEL}] * 21, "requests"),
        ([7], "requests[0]"),
        ([{"type": "PLACE_STOP_LIMIT", "data": LIMIT}], "requests[0].type"),
        ([{"type": ["PLACE_LIMIT"], "data": LIMIT}], "requests[0].type"),
        ([{"type": "PLACE_LIMIT"}], "requests[0].data"),
        ([{"type": "CANCEL_ORDER", "data": CANCEL}, {"type": "PLACE_LIMIT", "data": {}}],
         "requests[1].data.side"),
        ([{"type": "PLACE_MARKET", "data": {"side": "BUY", "pair": "BTCZAR"}}],
         "requests[0].data.baseAmount"),
        ([{"type": "MODIFY_ORDER", "data": MODIFY}, {"type": "PLACE_LIMIT", "data": LIMIT}],
         "requests"),
        ([{"type": "PLACE_LIMIT", "data": {**LIMIT, "customerOrderId": "a"}}] * 2, "requests"),
    ],
)  # fmt: skip
def test_a_batch_is_refused_at_the_request_that_is_wrong(requests: object, rule: str) -> None:
    assert refusal(PLACE_BATCH_ORDERS, {"requests": requests}).rule == rule


def test_a_batch_of_twenty_passes() -> None:
    batch = {"requests": [{"type": "PLACE_LIMIT", "data": LIMIT}] * 20}
    ids = encoded(PLACE_BATCH_ORDERS, batch).customer_order_ids
    assert len(set(ids)) == 20
    assert all(re.fullmatch("[0-9A-Za-z]{1,50}", name or "") for name in ids)


def test_every_published_command_passes() -> None:
    frames = Path(__file__).parent.parent / "frames"
    ours = {rule.wire_type: command for command, rule in RULES.items()}
    seen = set()
    for path in sorted(frames.glob("*.json")):
        text = path.read_text(encoding="utf-8")
        frame = json.loads(text)
        # "<" stands where an author left a blank to fill in.
        if frame.get("type") not in ours or "payload" not in frame or "<" in text:
            continue
        command = ours[frame["type"]]
        try:
            parse_command(command, json.dumps(frame["payload"]))
        except Refused as refused:
            assert (path.name, refused.rule) in {
                # Both samples contradict what the exchange's own texts report elsewhere.
                ("BATCH_ORDERS.docs2025.json", "requests"),
                ("MODIFY_ORDER.rooibos.json", "modifyMatchStrategy"),
                # Its author cut the id.
                ("CANCEL_LIMIT_ORDER.blake.json", "orderId"),
            }
        seen.add(command)
    assert seen == set(COMMANDS)


def test_the_frame_has_wire_name_message_id_and_payload() -> None:
    made = encoded(CANCEL_ORDER, CANCEL, client_msg_id='a"\u2028b')
    assert json.loads(made.text) == {
        "type": "CANCEL_LIMIT_ORDER",
        "clientMsgId": 'a"\u2028b',
        "payload": CANCEL,
    }
    assert made.order_id == CANCEL["orderId"]
    assert made.customer_order_id is None


def test_an_order_without_a_customer_order_id_gets_the_fallback() -> None:
    for payload in (LIMIT, {**LIMIT, "customerOrderId": None}):
        made = encoded(PLACE_LIMIT_ORDER, payload)
        assert json.loads(made.text)["payload"] == {**LIMIT, "customerOrderId": FALLBACK}
        assert made.customer_order_ids == (FALLBACK,)
        assert made.customer_order_id == FALLBACK


def test_the_callers_own_customer_order_id_stays() -> None:
    made = encoded(PLACE_MARKET_ORDER, {**MARKET, "customerOrderId": "mine-1"})
    assert json.loads(made.text)["payload"]["customerOrderId"] == "mine-1"
    assert made.customer_order_id == "mine-1"


def test_a_cancel_or_a_change_is_given_no_id_of_its_own() -> None:
    for command in (CANCEL_ORDER, MODIFY_ORDER):
        assert json.loads(encoded(command, GOOD[command]).text)["payload"] == GOOD[command]
    by_name = {"pair": "BTCZAR", "customerOrderId": "mine-1"}
    assert encoded(CANCEL_ORDER, by_name).customer_order_id == "mine-1"


def test_each_placed_leg_of_a_batch_gets_its_own_id_and_leads_back_to_the_batch() -> None:
    own = {**LIMIT, "customerOrderId": "mine"}
    made = encoded(
        PLACE_BATCH_ORDERS,
        {
            "note": [1.50],
            "requests": [
                {"type": "PLACE_LIMIT", "data": own},
                {"type": "CANCEL_ORDER", "data": CANCEL},
                {"type": "PLACE_MARKET", "data": MARKET, "extra": 1e2},
            ],
        },
    )
    assert made.customer_order_ids == ("mine", None, FALLBACK + "02")
    assert (made.customer_order_id, made.order_id) == (FALLBACK, None)
    assert batch_of_leg(FALLBACK + "02") == FALLBACK
    requests = json.loads(made.text)["payload"]["requests"]
    assert requests[1] == {"type": "CANCEL_ORDER", "data": CANCEL}
    assert requests[2]["data"] == {**MARKET, "customerOrderId": FALLBACK + "02"}


@pytest.mark.parametrize("name", ["mine", FALLBACK, FALLBACK + "20", FALLBACK + "0", "a-" * 17])
def test_another_id_leads_to_no_batch(name: str) -> None:
    assert batch_of_leg(name) is None


AMOUNT_TEXTS = st.from_regex(r"(0|[1-9][0-9]{0,20})(\.[0-9]{1,30})?", fullmatch=True).filter(
    lambda text: bool(text.strip("0."))
)
NAMES = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), max_size=8)
EXTRAS = st.recursive(
    st.none()
    | st.booleans()
    | NAMES.map(json.dumps)
    | st.sampled_from(["1.50", "1E+2", "12345678901234567890123", "1e999999"]),
    lambda children: st.lists(children, max_size=3).map(
        lambda parts: "[ " + " , ".join(map(_json_text, parts)) + " ]"
    ),
    max_leaves=5,
).map(lambda value: _json_text(value))


def _json_text(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value)


@given(AMOUNT_TEXTS, AMOUNT_TEXTS, st.dictionaries(NAMES, EXTRAS, max_size=3))
def test_every_value_goes_out_in_the_text_in_which_it_was_queued(
    quantity: str, price: str, extras: dict[str, str]
) -> None:
    known = set(RULES[PLACE_LIMIT_ORDER].checks)
    members = {
        "side": '"BUY"',
        "pair": '"BTC\\u005aAR"',
        "quantity": json.dumps(quantity),
        "price": json.dumps(price),
    } | {name: text for name, text in extras.items() if name not in known}
    spaced = " ,".join(f"{json.dumps(key)} : {text}" for key, text in members.items())
    payload = "{ " + spaced + " }"
    made = encoded(PLACE_LIMIT_ORDER, payload)
    written = ",".join(f"{json.dumps(key)}:{text}" for key, text in members.items())
    assert made.text == (
        '{"type":"PLACE_LIMIT_ORDER","clientMsgId":"m-1","payload":'
        f'{{{written},"customerOrderId":"{FALLBACK}"}}}}'
    )


JSON_VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=10)
    | st.sampled_from(["BUY", "BTCZAR", "1", "PLACE_LIMIT", "RETAIN_ORIGINAL", "\ud800"]),
    lambda children: (
        st.lists(children, max_size=4)
        | st.dictionaries(
            st.sampled_from([*LIMIT, *MARKET, *MODIFY, "requests", "type", "data", "\ud800"]),
            children,
            max_size=6,
        )
    ),
    max_leaves=20,
)


@given(st.sampled_from(COMMANDS), JSON_VALUES | st.text().map(str))
def test_no_payload_raises_anything_but_a_refusal(command: str, payload: object) -> None:
    text = payload if isinstance(payload, str) else json.dumps(payload)
    try:
        made = encode_command(command, text, "m", WireNames(), FALLBACK)
    except Refused as refused:
        str(refused).encode()
        assert refused.rule
    else:
        made.text.encode()
        assert json.loads(made.text)["type"] == RULES[command].wire_type


@given(st.sampled_from(COMMANDS), st.data())
def test_one_field_gone_bad_never_passes_as_something_else(
    command: str, data: st.DataObject
) -> None:
    payload = dict(GOOD[command])
    name = data.draw(st.sampled_from(sorted(payload)))
    payload[name] = data.draw(st.integers() | st.lists(st.integers()) | st.just(""))
    refusal(command, payload)


@given(st.text(max_size=20), st.integers(1, 2**63), st.text(max_size=20))
def test_a_generated_id_is_the_same_each_time_and_fits_everywhere(
    account: str, outbox_id: int, client_msg_id: str
) -> None:
    made = generated_customer_order_id(account, outbox_id, client_msg_id)
    assert made == generated_customer_order_id(account, outbox_id, client_msg_id)
    assert re.fullmatch("[0-9A-Za-z]{32}", made)
    assert made != generated_customer_order_id(account, outbox_id + 1, client_msg_id)


def test_parts_of_a_generated_id_do_not_run_into_each_other() -> None:
    assert generated_customer_order_id("a", 11, "b") != generated_customer_order_id("a", 1, "1b")


def test_wire_names_are_the_exchanges_unless_configured() -> None:
    assert WireNames().of(CANCEL_ORDER) == "CANCEL_LIMIT_ORDER"
    assert WireNames().of(PLACE_BATCH_ORDERS) == "BATCH_ORDERS"
    named = WireNames({CANCEL_ORDER: "CANCEL_ORDER"})
    assert named.of(CANCEL_ORDER) == "CANCEL_ORDER"
    assert named.of(PLACE_LIMIT_ORDER) == "PLACE_LIMIT_ORDER"


@pytest.mark.parametrize("names", [{"NO_SUCH": "X"}, {CANCEL_ORDER: ""}, {CANCEL_ORDER: 'a"b'}])
def test_wire_names_that_can_not_be_used_are_refused(names: dict[str, str]) -> None:
    with pytest.raises(ConfigurationError):
        WireNames(names)
