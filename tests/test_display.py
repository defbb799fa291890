from __future__ import annotations

import json
from datetime import UTC, datetime
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recorder.display import (
    duration_text,
    iso_time,
    json_value,
    plain,
    plain_lines,
    shown,
    size_text,
)
from tests.cli.scene import ESCAPES


@given(st.text(st.characters()))
def test_nothing_unprintable_is_left_in_a_plain_text(text: str) -> None:
    assert plain(text).isprintable()


@given(st.text(st.characters(categories=["L", "N", "P", "S"])))
def test_a_printable_text_stays_as_it_is(text: str) -> None:
    assert plain(text) == text


def test_escape_sequences_direction_marks_and_half_characters_are_shown_as_escapes() -> None:
    assert plain(ESCAPES) == "\\x1b[31mred\\x1b[2J [bold]x[/bold] \\u202etxt"
    assert plain("a\nb\x00\ud800") == "a\\nb\\x00\\ud800"


def test_our_own_messages_keep_their_lines() -> None:
    assert plain_lines("wrong:\n  \x1b[2J") == "wrong:\n  \\x1b[2J"


def test_amounts_are_shown_exactly_and_without_an_exponent() -> None:
    assert shown(Decimal("0.000000000000000001")) == "0.000000000000000001"
    assert shown(Decimal("1E+3")) == "1000"
    assert json_value(Decimal("100.50")) == "100.5"


def test_what_is_null_is_shown_neither_as_zero_nor_as_a_word() -> None:
    assert shown(None) == "–"
    assert json_value(None) is None


def test_times_are_shown_in_utc_with_microseconds() -> None:
    moment = datetime(2026, 1, 2, 3, 4, 5, 6, tzinfo=UTC)

    assert iso_time(moment) == "2026-01-02T03:04:05.000006Z"
    assert shown(moment) == "2026-01-02 03:04:05.000006"


def test_values_inside_of_lists_and_objects_are_made_ready_for_json() -> None:
    value = {"amounts": (Decimal("1.10"), None), "digest": b"\x01", "on": True}

    assert json.dumps(json_value(value)) == '{"amounts": ["1.1", null], "digest": "01", "on": true}'


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-1, "0 s"),
        (0, "0 s"),
        (Decimal("0.000001"), "under 1 ms"),
        (0.25, "0.25 s"),
        (0.5, "0.5 s"),
        (Decimal("1.5"), "1.5 s"),
        (12, "12 s"),
        (Decimal("0.999999"), "0.999 s"),
        (59.97, "59.9 s"),
        (119, "1 min 59 s"),
        (3_599.7, "59 min 59 s"),
        (7_300, "2 h 1 min"),
        (79_860, "22 h 11 min"),
        (86_399, "23 h 59 min"),
        (259_200, "3 days"),
        (259_260, "3 days"),
        (90_000, "1 day 1 h"),
    ],
)
def test_a_duration_is_shown_in_its_two_largest_units_and_never_rounded_up(
    seconds: float, text: str
) -> None:
    assert duration_text(seconds) == text


def test_a_size_is_shown_in_its_largest_unit() -> None:
    sizes = (0, 512, 1_024, 64 * 2**20, 3 * 2**29)
    assert [size_text(n) for n in sizes] == ["0 bytes", "512 bytes", "1 KiB", "64 MiB", "1.5 GiB"]
