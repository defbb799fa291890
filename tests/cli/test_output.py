from __future__ import annotations

import io
import json
from decimal import Decimal

import pytest

from recorder.cli.output import Column, Output, shown_progress
from tests.cli.scene import ESCAPES, OPEN_ORDER_ID, Terminal

COLUMNS = (
    Column("order_id"),
    Column("price", right=True),
    Column("customer_order_id", spare=True),
)


def output(width: int, *, as_json: bool = False) -> tuple[Output, io.StringIO, io.StringIO]:
    out, err = io.StringIO(), io.StringIO()
    return Output(as_json, out, err, width), out, err


def test_a_table_that_fits_shows_every_column_with_amounts_aligned_right() -> None:
    answer, out, _ = output(120)
    rows = [
        {"order_id": "a", "price": Decimal("10.25"), "customer_order_id": "mine"},
        {"order_id": "b", "price": Decimal("1E-8"), "customer_order_id": None},
    ]

    answer.rows(COLUMNS, rows, empty="none")

    lines = [line.rstrip() for line in out.getvalue().splitlines()]
    assert lines[0].split() == ["order_id", "price", "customer_order_id"]
    assert lines[2].split() == ["a", "10.25", "mine"]
    assert lines[3].split() == ["b", "0.00000001", "–"]
    assert lines[2].index("10.25") + 5 == lines[3].index("0.00000001") + 10


def test_a_narrow_screen_loses_spare_columns_first_and_names_them() -> None:
    answer, out, _ = output(60)
    row = {"order_id": OPEN_ORDER_ID, "price": Decimal(1), "customer_order_id": "m" * 30}

    answer.rows(COLUMNS, [row], empty="none")

    assert OPEN_ORDER_ID in out.getvalue()
    assert "left out on this narrow screen: customer_order_id" in out.getvalue()
    assert max(map(len, out.getvalue().splitlines())) <= 60


def test_a_file_has_no_width_and_loses_no_column() -> None:
    out = io.StringIO()
    columns = [Column(f"column_{number}", spare=True) for number in range(40)]
    Output(False, out, io.StringIO()).rows(columns, [{"column_0": "x" * 200}], empty="")

    lines = out.getvalue().splitlines()
    assert len(lines) == 3
    assert "column_39" in lines[0] and "x" * 200 in lines[2]


def test_a_screen_too_narrow_for_any_table_gets_blocks_with_whole_ids() -> None:
    answer, out, _ = output(30)
    row = {"order_id": OPEN_ORDER_ID, "price": Decimal("2100000"), "customer_order_id": "m" * 50}

    answer.rows(COLUMNS, [row, row], empty="none")

    blocks = out.getvalue().split("\n\n")
    assert len(blocks) == 2
    assert blocks[0].splitlines() == [
        f"order_id           {OPEN_ORDER_ID}",
        "price              2100000",
        f"customer_order_id  {'m' * 50}",
    ]


def test_what_the_exchange_wrote_is_neither_markup_nor_an_escape_sequence() -> None:
    for width in (200, 20):
        answer, out, _ = output(width)

        answer.rows((Column("reason"),), [{"reason": ESCAPES + ":smile:"}], empty="none")

        assert "\x1b" not in out.getvalue()
        assert "\\x1b[31mred\\x1b[2J [bold]x[/bold] \\u202etxt:smile:" in out.getvalue()


def test_json_is_ascii_and_gives_the_exact_text_back() -> None:
    answer, out, _ = output(80, as_json=True)

    answer.rows((Column("reason"),), [{"reason": ESCAPES, "n": 1}], empty="none")

    assert out.getvalue().isascii()
    assert "\x1b" not in out.getvalue()
    assert json.loads(out.getvalue()) == {"reason": ESCAPES, "n": 1}


def test_an_empty_answer_explains_itself_outside_of_what_a_program_reads() -> None:
    answer, out, err = output(80, as_json=True)
    answer.rows(COLUMNS, [], empty="nothing yet")
    assert (out.getvalue(), err.getvalue()) == ("", "nothing yet\n")

    answer, out, err = output(80)
    answer.rows(COLUMNS, [], empty="nothing yet")
    assert (out.getvalue(), err.getvalue()) == ("nothing yet\n", "")


@pytest.mark.parametrize(("err", "is_shown"), [(Terminal(), True), (io.StringIO(), False)])
def test_a_bar_is_shown_on_a_terminal_and_nowhere_else(
    monkeypatch: pytest.MonkeyPatch, err: io.StringIO, *, is_shown: bool
) -> None:
    monkeypatch.setenv("TERM", "xterm")
    with shown_progress(err, "exporting events", 200) as step:
        step(50)
        step(200)

    assert ("exporting events" in err.getvalue()) == is_shown
    assert ("100%" in err.getvalue()) == is_shown
    assert is_shown or err.getvalue() == ""
