from __future__ import annotations

import io
from datetime import UTC, datetime

import pytest
from rich.console import Console

from recorder.cli.demo import queue_next
from recorder.cli.demo_screen import one_line, read_view, screen
from recorder.database.engine import Database, in_unit
from tests.cli.scene import ESCAPES, ask, balance, fold, own, record_scene, start_notes
from tests.log.drafts import frame, write


def drawn(database: Database, width: int, height: int) -> list[str]:
    view = in_unit(database.reader, read_view, "main")
    console = Console(file=io.StringIO(), width=width, height=height, record=True)
    console.print(screen(view, datetime.now(UTC), "reported last"))
    return console.export_text().splitlines()


@pytest.mark.parametrize(("width", "height"), [(70, 20), (80, 24), (200, 60)])
def test_the_screen_fits_and_shows_the_newest_events(
    database: Database, width: int, height: int
) -> None:
    own(database)
    write(database, *start_notes(), balance("BTC", "0.00002887"))
    fold(database)
    write(database, *(frame(kind=f"KIND-{number}") for number in range(60)))

    lines = drawn(database, width, height)

    assert len(lines) <= height
    assert max(map(len, lines)) <= width
    assert any("KIND-59" in line for line in lines)
    assert any("BTC" in line and "0.00002887" in line for line in lines)
    assert lines[-1].rstrip() == "reported last"


def test_a_table_that_is_longer_than_its_panel_shows_how_many_rows_are_left(
    database: Database,
) -> None:
    own(database)
    write(database, *start_notes(), *(balance(f"COIN{number:02}", "1") for number in range(12)))
    fold(database)

    shown = [line for line in drawn(database, 80, 24) if "COIN" in line]
    (left,) = (line for line in drawn(database, 80, 24) if "more" in line)

    assert f"… {12 - len(shown)} more" in left
    assert not any("more" in line for line in drawn(database, 120, 80))


def test_the_screen_shows_nothing_of_the_exchanges_raw(database: Database) -> None:
    own(database)
    write(database, *start_notes(), balance(ESCAPES, "1"), frame(ESCAPES, kind=ESCAPES))
    fold(database)

    lines = drawn(database, 200, 40)

    assert "\x1b" not in "".join(lines)
    assert "\u202e" not in "".join(lines)


def test_the_line_counts_what_the_tables_hold(database: Database) -> None:
    written = record_scene(database)

    line = one_line(in_unit(database.reader, read_view, "main"), 7.4)

    assert f"7 s  position {len(written):>5}  balances 3  open orders 1  outbox: empty" in line


def test_the_trader_knows_prices_from_the_tables_and_queues_what_the_schema_takes(
    database: Database, database_url: str
) -> None:
    record_scene(database)
    trade = '{"type":"NEW_ACCOUNT_TRADE","currencyPairSymbol":"BTCZAR","data":{"price":"1000000",'
    trade += '"quantity":"0.1","currencyPair":"BTCZAR","tradedAt":"2026-03-12T03:28:36.600Z",'
    trade += '"side":"buy","orderId":"o-1","id":"t-1"}}'

    first = in_unit(database.writer, queue_next, "main", 1)
    write(database, frame(trade, kind="NEW_ACCOUNT_TRADE"))
    fold(database)
    for step in range(1, 6):
        assert in_unit(database.writer, queue_next, "main", step) is not None

    assert first is not None
    assert first.startswith("PLACE_MARKET_ORDER")
    rows = ask(database_url, "outbox").rows
    assert [row["command"] for row in rows] == [
        "PLACE_MARKET_ORDER",
        *["PLACE_LIMIT_ORDER"] * 4,
        "CANCEL_ORDER",
    ]
    assert '"price":"970000"' in rows[1]["payload"]
