"""Members are read exactly, by the first of their names, and the fast ways read as the slow."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal, localcontext

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from recorder.exchange.amounts import AmountError, _parse_unusual, canonical_amount, parse_amount
from recorder.exchange.fields import (
    TEXT_CHARS_MAX,
    FieldError,
    Fields,
    _decode_slowly,
    decode_object,
    encode_value,
)

digits = st.text("0123456789", min_size=1, max_size=40)
#: Any decimal of up to 40 digits, with the point anywhere among them or nowhere.
decimals = st.builds(
    lambda sign, whole, place: f"{sign}{whole[:place]}{'.' * (place > 0)}{whole[place:]}",
    st.sampled_from(["", "-"]),
    digits,
    st.integers(0, 39),
).filter(lambda text: not text.endswith("."))
#: Texts that look like amounts, and are often none.
like_amounts = st.text("0123456789.,-+eE_ \n٣", max_size=60)

scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=8)
)
json_values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner),
    max_leaves=15,
)


def fields(text: str) -> Fields:
    """Return the members of a JSON text."""
    return Fields(decode_object(text), "data.")


def amount_or_error(read: object, text: str) -> tuple[str, str]:
    """Return what a way to read amounts makes of the text, as something to compare."""
    assert callable(read)
    try:
        return "amount", repr(read(text))
    except AmountError as error:
        return "error", str(error)


def object_or_error(read: object, text: str) -> tuple[str, str]:
    """Return what a way to decode makes of the text: its members in the digits of the wire."""
    assert callable(read)
    try:
        return "object", encode_value(read(text))
    except FieldError as error:
        return "error", str(error)


# Amounts


@given(decimals)
@example("0.00000786")
@example("-0.000000000000000000000000000000000000001")
@example("9" * 40)
def test_a_decimal_of_forty_digits_survives_exactly(text: str) -> None:
    amount = parse_amount(text)
    exponent = len(text.partition(".")[2])
    assert amount.as_tuple() == (
        int(text.startswith("-")),
        tuple(map(int, re.sub("[-.]", "", text).lstrip("0") or "0")),
        -exponent,
    )


@given(decimals)
def test_the_canonical_text_is_of_the_same_value_and_its_own(text: str) -> None:
    canonical = canonical_amount(parse_amount(text))
    assert parse_amount(canonical) == parse_amount(text)
    assert canonical_amount(parse_amount(canonical)) == canonical
    assert re.fullmatch(r"-?(0|[1-9][0-9]*)(\.[0-9]*[1-9])?", canonical)
    assert canonical != "-0"


@given(decimals, st.integers(1, 5))
def test_equal_amounts_have_equal_texts(text: str, zeros: int) -> None:
    longer = text + ("" if "." in text else ".") + "0" * zeros
    assert canonical_amount(parse_amount(longer)) == canonical_amount(parse_amount(text))


@given(like_amounts | decimals | st.text())
@example("1" * 41)
@example("1\n")
@example("٣")
@example("-1,234.5")
def test_a_plain_amount_is_read_as_with_every_check(text: str) -> None:
    assert amount_or_error(parse_amount, text) == amount_or_error(_parse_unusual, text)


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("0.00000786", "0.00000786"),
        ("7.86E-6", "0.00000786"),
        ("6.00E-7", "0.0000006"),
        ("1E+2", "100"),
        ("1.50", "1.5"),
        ("-0.00", "0"),
        ("+5", "5"),
        (" 5 ", "5"),
        ("114,953", "114953"),
        ("-1,234,567.80", "-1234567.8"),
    ],
)
def test_an_amount_has_one_text(text: str, canonical: str) -> None:
    assert canonical_amount(parse_amount(text)) == canonical


@pytest.mark.parametrize(
    "text",
    [
        "",
        "-",
        ".",
        "1.2.3",
        "1_000",
        "٣",
        "NaN",
        "-Infinity",
        "0x10",
        "1,00",
        "1234,567",
        "1.0,000",
        "1,2e5",
        "--5,000",
    ],
)
def test_what_is_no_finite_decimal_is_refused(text: str) -> None:
    with pytest.raises(AmountError):
        parse_amount(text)


@pytest.mark.parametrize("value", [1.5, True, None, [], b"1"])
def test_only_what_has_all_its_digits_is_an_amount(value: object) -> None:
    with pytest.raises(AmountError, match="must be a decimal string"):
        parse_amount(value)


@pytest.mark.parametrize("text", ["1E+200", "1E-201", "1" * 201, "0." + "0" * 200 + "1"])
def test_more_digits_than_any_asset_has_are_refused(text: str) -> None:
    with pytest.raises(AmountError, match="more than 200 digits"):
        parse_amount(text)


def test_the_precision_of_arithmetic_does_not_touch_an_amount() -> None:
    with localcontext(prec=3):
        assert str(parse_amount("1.23456789")) == "1.23456789"
        assert canonical_amount(parse_amount("1.23456789")) == "1.23456789"


# Decoding


@given(st.dictionaries(st.text(max_size=4), json_values), st.booleans(), st.booleans())
def test_an_object_is_decoded_fast_as_slowly(
    value: dict[str, object], escaped: bool, spaced: bool
) -> None:
    text = json.dumps(value, ensure_ascii=escaped, indent=1 if spaced else None)
    assert object_or_error(decode_object, text) == object_or_error(_decode_slowly, text)


@given(st.text() | st.text('{}[]":,.-+0123456789eEnultrfas\\ \n\x00\x7f', max_size=30))
def test_any_text_is_decoded_or_refused_fast_as_slowly(text: str) -> None:
    assert object_or_error(decode_object, text) == object_or_error(_decode_slowly, text)


@pytest.mark.parametrize(
    "number",
    ["0", "-0", "-0 ", "-0.0", "7", "1.50", "1e5", "1E+400", "-1.0e-300", "9" * 50, "9" * 5000],
)
def test_a_number_keeps_its_digits(number: str) -> None:
    decoded = decode_object(f'{{"a":{number},"b":[{number}]}}')
    plain = number.strip()
    assert encode_value(decoded) == f'{{"a":{plain},"b":[{plain}]}}'
    assert Fields(decoded).text("a") == plain


@pytest.mark.parametrize(
    "text",
    ["[]", "1", "", "{", '{"a":01}', '{"a":1.}', '{"a":"\x01"}', "\ufeff{}", "{}x", '{"a":"\\x"}'],
)
def test_what_is_no_json_object_is_refused_in_the_same_words(text: str) -> None:
    with pytest.raises(FieldError) as refused:
        decode_object(text)
    assert object_or_error(_decode_slowly, text) == ("error", str(refused.value))


def test_a_lone_surrogate_is_decoded_and_refused_where_it_is_read() -> None:
    read = fields('{"a":"\\ud800","b":"é"}')
    assert read.text("b") == "é"
    with pytest.raises(FieldError, match=r"data\.a is not a text that a database can hold"):
        read.text("a")


# Members


def test_the_first_name_that_is_there_is_taken() -> None:
    read = fields('{"new":null,"old":"b","older":"c"}')
    assert read.find("new", "old", "older") == "b"
    assert read.text("new", "old") == "b"
    assert read.find("new") is None
    assert read.find("newest", "newer") is None


def test_an_empty_text_is_absent_and_hides_the_other_names() -> None:
    read = fields('{"new":"","old":"1"}')
    assert read.text("new", "old") is None
    assert read.amount("new", "old") is None
    assert read.time("new", "old") is None
    assert read.pair("new", "old") is None


def test_an_error_names_the_member_by_its_first_name() -> None:
    read = fields('{"old":[]}')
    with pytest.raises(FieldError, match=r"^data\.new is not a text$"):
        read.text("new", "old")
    with pytest.raises(FieldError, match=r"^data\.new: an amount must be a decimal string"):
        read.amount("new", "old")
    with pytest.raises(FieldError, match=r"^data\.absent is missing$"):
        read.required_text("absent", "gone")
    with pytest.raises(FieldError, match=r"^data\.absent is missing$"):
        read.required_amount("absent")
    with pytest.raises(FieldError, match=r"^data\.absent is missing$"):
        read.required_flag("absent")


def test_an_inner_object_knows_where_it_stands() -> None:
    with pytest.raises(FieldError, match=r"^data\.a\.b is missing$"):
        fields('{"a":{}}').inner("a").inner("b")


@given(st.text(max_size=20))
def test_a_text_comes_as_it_is(text: str) -> None:
    read = fields(json.dumps({"a": text}))
    if "\x00" in text:
        with pytest.raises(FieldError, match="a database can hold"):
            read.text("a")
    else:
        assert read.text("a") == (text or None)


def test_a_text_without_end_is_refused() -> None:
    assert fields(json.dumps({"a": "x" * TEXT_CHARS_MAX})).text("a") == "x" * TEXT_CHARS_MAX
    with pytest.raises(FieldError, match="a database can hold"):
        fields(json.dumps({"a": "x" * (TEXT_CHARS_MAX + 1)})).text("a")


@pytest.mark.parametrize("number", ["0.1", "1", "123456789012345678901234567890", "1.10", "5e-8"])
def test_a_number_is_as_exact_as_a_text(number: str) -> None:
    read = fields(f'{{"number":{number},"text":"{number}"}}')
    assert repr(read.amount("number")) == repr(read.amount("text")) == repr(Decimal(number))


def test_a_whole_number_has_at_most_eighteen_digits() -> None:
    assert fields('{"a":999999999999999999}').whole("a") == 10**18 - 1
    assert fields('{"a":"12.0"}').whole("a") == 12
    for text in ('{"a":1000000000000000000}', '{"a":0.5}'):
        with pytest.raises(FieldError, match=r"data\.a is not a whole number"):
            fields(text).whole("a")


@pytest.mark.parametrize(
    ("reported", "flag"),
    [("true", True), ('"true"', True), ('"FALSE"', False), ("false", False), ("null", None)],
)
def test_a_flag_may_be_a_text(reported: str, flag: bool | None) -> None:
    assert fields(f'{{"a":{reported}}}').flag("a") is flag


@pytest.mark.parametrize("reported", ["0", "1", '"yes"', '""', "[]"])
def test_nothing_else_is_a_flag(reported: str) -> None:
    with pytest.raises(FieldError, match=r"data\.a is not true or false"):
        fields(f'{{"a":{reported}}}').flag("a")


@pytest.mark.parametrize("word", ["None", "null", ""])
def test_a_reason_that_explains_nothing_is_none(word: str) -> None:
    assert fields(json.dumps({"a": word})).reason("a") is None


# Times


@given(st.datetimes())
def test_a_time_is_read_to_the_microsecond_with_or_without_its_zone(moment: datetime) -> None:
    for text in (moment.isoformat() + "Z", moment.isoformat(), moment.isoformat(sep=" ")):
        assert fields(json.dumps({"a": text})).time("a") == moment.replace(tzinfo=UTC)


@given(st.datetimes())
def test_a_time_as_the_exchange_writes_it_is_in_utc(moment: datetime) -> None:
    whole_ms = moment.replace(microsecond=moment.microsecond // 1000 * 1000)
    read = fields(json.dumps({"a": whole_ms.isoformat(timespec="milliseconds") + "Z"})).time("a")
    assert read == whole_ms.replace(tzinfo=UTC)
    assert read.tzinfo is UTC


@given(st.datetimes().filter(lambda moment: 1 < moment.year < 9999), st.integers(-720, 840))
def test_a_time_of_another_zone_is_turned_to_utc(moment: datetime, minutes: int) -> None:
    local = moment.replace(tzinfo=timezone(timedelta(minutes=minutes)))
    read = fields(json.dumps({"a": local.isoformat()})).time("a")
    assert read == local
    assert read.tzinfo is UTC


@pytest.mark.parametrize(
    ("text", "microsecond"),
    [
        ("2023-03-12T03:28:36.6Z", 600_000),
        ("2023-03-12T03:28:36.600Z", 600_000),
        ("2023-03-12T03:28:36.123456789Z", 123_456),
        ("2023-03-12T03:28:36.9999999", 999_999),
        ("2023-03-12T03:28:36Z", 0),
    ],
)
def test_what_is_finer_than_a_microsecond_is_cut_off(text: str, microsecond: int) -> None:
    moment = datetime(2023, 3, 12, 3, 28, 36, microsecond, tzinfo=UTC)
    assert fields(json.dumps({"a": text})).time("a") == moment


@pytest.mark.parametrize(
    "text",
    [
        "2016-12-31T23:59:60.250Z",
        "2016-12-31T23:59:60.250000",
        "2017-01-01T01:59:60.25+02:00",
        "2016-12-31 18:29:60.250-05:30",
    ],
)
def test_a_leap_second_is_the_second_behind_it(text: str) -> None:
    moment = datetime(2017, 1, 1, 0, 0, 0, 250_000, tzinfo=UTC)
    assert fields(json.dumps({"a": text})).time("a") == moment
    whole = text.replace(".250000", "").replace(".250", "").replace(".25", "")
    assert fields(json.dumps({"a": whole})).time("a") == moment.replace(microsecond=0)


@pytest.mark.parametrize(
    "text",
    [
        "2016-12-31T23:58:60Z",
        "2016-12-31T23:59:60+02:00",
        "2016-12-31T23:59:61Z",
        "9999-12-31T23:59:60Z",
        "2023-02-30T00:00:00.000Z",
        "2023-02-28T24:00:01Z",
        "0000-01-01T00:00:00Z",
        "0001-01-01T00:00:00+05:00",
        "yesterday",
        "1678591716600",
    ],
)
def test_what_is_no_time_is_refused(text: str) -> None:
    with pytest.raises(FieldError, match=r"data\.a is not an ISO-8601 time but"):
        fields(json.dumps({"a": text})).time("a")
