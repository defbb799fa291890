"""Published frames are read or refused with a reason, and any text is searched for its type."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from recorder.exchange.frames import DEEP, DEEP_CHARS_MAX, DEEPEST, TYPE_CHARS_MAX, frame_type
from recorder.exchange.messages import CommandResponse, Message, Unrecognised
from recorder.exchange.parsing import parse_message

FRAMES = Path(__file__).parents[1] / "frames"
with (FRAMES / "INDEX.tsv").open(encoding="utf-8", newline="") as index:
    PUBLISHED = list(csv.DictReader(index, delimiter="\t"))
NAMES = sorted(row["file"] for row in PUBLISHED)
BROKEN = [name for name in NAMES if name.endswith(".asis.txt")]
SENT_BY_US = [row["file"] for row in PUBLISHED if row["direction"] == "client"]
OF_ANOTHER_CHANNEL = [name for name in NAMES if name.startswith("TRADE-CHANNEL.")]
READABLE = sorted({*NAMES} - {*BROKEN} - {*SENT_BY_US} - {*OF_ANOTHER_CHANNEL})
#: Every type that has a reader of its own, one that has it by its ending, and one by its beginning.
TYPES = sorted(
    {name.partition(".")[0] for name in READABLE}
    | {"SUBSCRIBED", "UNSUPPORTED", "NEW_WS_RESPONSE", "INVALID_PLACE_LIMIT_REQUEST"}
)


def text_of(name: str) -> str:
    """Return the text of a published frame."""
    return (FRAMES / name).read_text(encoding="utf-8")


def read(type_: str, text: str) -> Message:
    """Return the message, of which the type must be the one that was asked for."""
    message = parse_message(type_, text)
    assert message.type == type_
    return message


def refused(type_: str, text: str) -> str:
    """Return why the frame can't be read."""
    message = read(type_, text)
    assert isinstance(message, Unrecognised)
    return message.reason


def test_every_frame_is_in_the_index() -> None:
    there = {path.name for path in FRAMES.iterdir() if path.is_file()}
    assert sorted(there - {"INDEX.tsv"}) == NAMES


@pytest.mark.parametrize("name", READABLE)
def test_every_published_frame_of_the_account_channel_is_read(name: str) -> None:
    text = text_of(name)
    assert frame_type(text) == name.partition(".")[0]
    assert not isinstance(read(frame_type(text), text), Unrecognised)


@pytest.mark.parametrize("name", BROKEN)
def test_a_frame_that_was_published_without_its_comma_is_no_valid_json(name: str) -> None:
    text = text_of(name)
    assert frame_type(text) == ""
    assert refused(name.partition(".")[0], text).startswith(
        "no valid JSON: Expecting ',' delimiter"
    )


@pytest.mark.parametrize("name", [*OF_ANOTHER_CHANNEL, *SENT_BY_US])
def test_a_frame_that_the_account_channel_never_sends_is_of_an_unknown_type(name: str) -> None:
    text = text_of(name)
    assert refused(frame_type(text), text) == "unknown type"


@pytest.mark.parametrize(
    ("type_", "text", "reason"),
    [
        ("", "{}", "no JSON object with a type"),
        ("NEW_THING", '{"type":"NEW_THING"}', "unknown type"),
        ("PONG", "[]", "no JSON object"),
        ("PONG", '{"a":NaN}', "no valid JSON: NaN is no JSON number"),
        ("PONG", "", "no valid JSON: Expecting value: line 1 column 1 (char 0)"),
        ("PONG", "[" * 100_000, "the JSON is nested too deeply"),
        ("BALANCE_UPDATE", "{}", "data is missing"),
        ("BALANCE_UPDATE", '{"data":"all"}', "data is not a JSON object but 'all'"),
        ("BALANCE_UPDATE", '{"data":[]}', "data is not a JSON object"),
        ("BALANCE_UPDATE", '{"data":{}}', "data.currency names no currency"),
        ("BALANCE_UPDATE", '{"data":{"currency":{}}}', "data.currency names no currency"),
        ("BALANCE_UPDATE", '{"data":{"currency":true}}', "data.currency is not a text but True"),
        (
            "BALANCE_UPDATE",
            '{"data":{"currency":{"shortName":[]}}}',
            "data.currency.shortName is not a text",
        ),
        (
            "BALANCE_UPDATE",
            '{"data":{"currency":"BTC","available":"much"}}',
            "data.available: not a decimal number: 'much'",
        ),
        (
            "BALANCE_UPDATE",
            '{"data":{"currency":"BTC","available":"1,00"}}',
            "data.available: not a decimal number: '1,00'",
        ),
        (
            "BALANCE_UPDATE",
            '{"data":{"currency":"BTC","total":1e999}}',
            "data.total: more than 200 digits on one side of the point",
        ),
        (
            "BALANCE_UPDATE",
            '{"data":{"currency":"BTC","total":false}}',
            "data.total: an amount must be a decimal string, not bool",
        ),
        (
            "BALANCE_UPDATE",
            '{"data":{"currency":"BTC","reserved":"x"}}',
            "data.reserved: not a decimal number: 'x'",
        ),
        ("OPEN_ORDERS_UPDATE", '{"data":{}}', "data holds no list of orders"),
        ("OPEN_ORDERS_UPDATE", '{"data":[7]}', "data[0] is no JSON object"),
        ("OPEN_ORDERS_UPDATE", '{"data":[{"orderId":"a"},{}]}', "data[1].orderId is missing"),
        ("ORDER_PROCESSED", '{"data":{"success":true}}', "data.orderId is missing"),
        ("ORDER_PROCESSED", '{"data":{"orderId":"a"}}', "data.success is missing"),
        (
            "ORDER_PROCESSED",
            '{"data":{"orderId":"a","success":1}}',
            "data.success is not true or false",
        ),
        ("ORDER_STATUS_UPDATE", '{"data":{"orderId":"a"}}', "data.orderStatusType is missing"),
        ("NEW_ACCOUNT_TRADE", '{"data":{"price":"1"}}', "data.quantity is missing"),
        ("NEW_ACCOUNT_HISTORY_RECORD", '{"data":{}}', "data.transactionType is missing"),
        ("NEW_PENDING_RECEIVE", '{"data":{}}', "data.transactionHash is missing"),
        (
            "NEW_PENDING_RECEIVE",
            '{"data":{"transactionHash":"a","indexInTx":1.5}}',
            "data.indexInTx is not a whole number",
        ),
        ("NEW_PENDING_SEND", '{"data":{}}', "data.uniqueId is missing"),
        ("SEND_STATUS_UPDATE", '{"data":{"uniqueId":"a"}}', "data.status is missing"),
        ("POSITION_CLOSED", '{"data":{}}', "data.pair is missing"),
        (
            "REMOVE_CONDITIONAL_ORDER",
            '{"data":{"orderId":"a\\u0000"}}',
            "data.orderId is not a text that a database can hold",
        ),
        (
            "BATCH_ORDERS_WS_RESPONSE",
            '{"data":{"outcomes":[1]}}',
            "data.outcomes is no list of objects",
        ),
        (
            "BATCH_ORDERS_WS_RESPONSE",
            '{"data":{"outcomes":[{"accepted":true},{}]}}',
            "data.outcomes[1].accepted is missing",
        ),
    ],
)
def test_what_cannot_be_read_names_the_member(type_: str, text: str, reason: str) -> None:
    # pytest would print the 100,000 brackets of one of them.
    assert refused(type_, text) == reason, text[:100]


values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["data", "orders", "orderId", "currency", "error", "outcomes", "success"]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@given(st.sampled_from(TYPES), st.text() | values.map(json.dumps))
def test_no_text_makes_the_parser_raise(type_: str, text: str) -> None:
    read(type_, text)


@given(st.sampled_from(READABLE), st.data())
def test_no_published_frame_with_another_value_makes_the_parser_raise(
    name: str, data: st.DataObject
) -> None:
    frame = json.loads(text_of(name))
    holder = frame["data"] if isinstance(frame.get("data"), dict) else frame
    holder[data.draw(st.sampled_from(sorted(holder)))] = data.draw(values)
    read(name.partition(".")[0], json.dumps(frame))


@given(st.text(min_size=1, max_size=TYPE_CHARS_MAX).filter(lambda kind: "\x00" not in kind), values)
@example("BALANCE_UPDATE", {"type": "another"})
def test_the_type_is_found_wherever_it_stands(kind: str, data: object) -> None:
    assert frame_type(json.dumps({"type": kind, "data": data})) == kind
    assert frame_type(json.dumps({"data": data, "type": kind}, ensure_ascii=False)) == kind


@pytest.mark.parametrize(
    "text",
    [
        "",
        "PONG",
        "[]",
        "{}",
        '"PONG"',
        '{"type":null}',
        '{"type":7}',
        '{"type":["PONG"]}',
        '{"data":{"type":"PONG"}}',
        '{"type":"PONG"',
        '{"type":"PONG"} {}',
        '{"type":"PO\\u0000NG"}',
        '{"type":"\\ud800"}',
        '{"type":"PONG","a":NaN,"b":"\\ud800"}',
        '{"type":"' + "x" * (TYPE_CHARS_MAX + 1) + '"}',
        "[" * 100_000,
        "\ud800",
    ],
    ids=lambda text: ascii(text[:40]),
)
def test_a_frame_without_a_type_that_a_database_can_hold_has_none(text: str) -> None:
    assert frame_type(text) == ""


def test_a_lone_surrogate_elsewhere_does_not_hide_the_type() -> None:
    assert frame_type('{"data":"\\ud800","type":"ERROR"}') == "ERROR"


HISTORY = "NEW_ACCOUNT_HISTORY_RECORD"


def in_deep(calls: int, text: str) -> str:
    return in_deep(calls - 1, text) if calls else frame_type(text)


@pytest.mark.parametrize("levels", [600, 900, 960, 985, 995, 1_100, 9_000])
def test_a_type_does_not_depend_on_who_asks_for_it_or_on_nesting(levels: int) -> None:
    deep = "[" * levels + '{"a":"]\\"[","type":"NO"}' + "]" * levels
    frame = f'{{"a":{deep},"type":"BALANCE_UPDATE","b":{{"c":{deep}}}}} '
    assert {in_deep(calls, frame) for calls in (0, 10, 50, 200)} == {"BALANCE_UPDATE"}
    for broken in (
        frame[:-2],
        frame + "[]",
        frame.replace('"NO"', "NO"),
        frame.replace(":", "", 1),
    ):
        assert {in_deep(calls, broken) for calls in (0, 10, 50, 200)} == {""}


def test_a_frame_has_one_meaning_for_every_reader() -> None:
    def read(calls: int, levels: int) -> Message:
        if calls:
            return read(calls - 1, levels)
        deep = '{"a":[' * (levels // 2) + "]}" * (levels // 2)
        data = f'{{"id":"t","transactionType":{{"type":"X"}},"additionalInfo":{deep}}}'
        return parse_message(HISTORY, f'{{"type":"{HISTORY}","data":{data}}}')

    for levels in (10, 100, DEEP - 4, DEEP, 400, 600, 900, 980, 990, 2_000):
        kinds = {type(read(calls, levels)).__name__ for calls in (0, 10, 50, 200)}
        is_read = levels < DEEP
        assert kinds == {"NewAccountHistoryRecord" if is_read else "Unrecognised"}, levels


def test_a_type_is_not_looked_for_in_endless_nesting() -> None:
    for levels in (DEEPEST + 1, DEEP_CHARS_MAX):
        assert frame_type('{"type":"X","a":' + "[" * levels + "]" * levels + "}") == ""


@given(st.text())
def test_no_text_makes_the_search_for_a_type_raise(text: str) -> None:
    assert isinstance(frame_type(text), str)


@pytest.mark.parametrize("type_", ["PLACE_LIMIT_WS_RESPONSE", "NEW_ACCOUNT_HISTORY_RECORD"])
def test_nesting_that_no_recursion_bears_is_unrecognised_not_raised(type_: str) -> None:
    deep = "[" * 990 + "]" * 990
    frames = [
        f'{{"type":"{type_}","error":{{"validationErrors":{deep}}}}}',
        f'{{"type":"{type_}","data":{{"transactionType":{{"type":"X"}},"additionalInfo":{deep}}}}}',
    ]
    for frame in frames:
        assert isinstance(parse_message(type_, frame), Message)


def test_words_that_no_database_holds_are_made_plain() -> None:
    frame = '{"type":"INVALID_PLACE_LIMIT_REQUEST","clientMsgId":"m","message":"\\ud800 a\\u0000b"}'
    answer = parse_message("INVALID_PLACE_LIMIT_REQUEST", frame)
    assert isinstance(answer, CommandResponse)
    assert answer.error is not None
    assert answer.error.message == "? a\ufffdb"


@pytest.mark.parametrize(
    ("type_", "text", "reason"),
    [
        (
            "BALANCE_UPDATE",
            '{"data":{"currency":"BTC","borrowReserved":"x"}}',
            "data.borrowCollateralReserved: not a decimal number: 'x'",
        ),
        (
            "BALANCE_UPDATE",
            '{"data":{"currency":"BTC","updatedAt":"2023-02-30T00:00:00.000Z"}}',
            "data.updatedAt is not an ISO-8601 time but '2023-02-30T00:00:00.000Z'",
        ),
        (
            "NEW_PENDING_RECEIVE",
            '{"data":{"transactionHash":"a","confirmations":1.5}}',
            "data.confirmations is not a whole number",
        ),
    ],
)
def test_a_detail_that_cannot_be_read_is_named_beside_the_rest(
    type_: str, text: str, reason: str
) -> None:
    message = parse_message(type_, text)
    assert not isinstance(message, Unrecognised)
    assert message.unreadable == (reason,)
