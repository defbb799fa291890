from __future__ import annotations

import tracemalloc
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import Connection

from recorder.database.columns import sqlite_time
from recorder.database.engine import Database, in_unit
from recorder.errors import LogDamaged
from recorder.log.sql import read
from recorder.log.sql.read import accounts, event_at, events_after, read_page, stream_events
from recorder.timestamps import time_text, time_us, to_us
from tests.log.drafts import frame, run_sql, write


def positions(
    database: Database,
    after: int,
    *,
    up_to: int | None = None,
    limit: int = 99,
    types: set[str] | None = None,
) -> list[int]:
    def unit(connection: Connection) -> list[int]:
        found = events_after(connection, "main", after, up_to=up_to, limit=limit, types=types)
        return [event.position for event in found]

    return in_unit(database.reader, unit)


def test_events_are_read_behind_a_position_up_to_another_and_so_many(database: Database) -> None:
    write(database, *(frame(str(number)) for number in range(10)))
    assert positions(database, 0) == [*range(1, 11)]
    assert positions(database, 4, up_to=7) == [5, 6, 7]
    assert positions(database, 4, limit=2) == [5, 6]
    assert positions(database, 10) == []


def test_other_types_are_passed_by(database: Database) -> None:
    write(database, frame(kind="A"), frame(kind="B"), frame(kind="C"), frame(kind="A"))
    assert positions(database, 0, types={"A", "C"}) == [1, 3, 4]
    assert positions(database, 0, types=set()) == []


def test_another_accounts_events_are_not_ours(database: Database) -> None:
    write(database, frame(account="main"), frame(account="maine"), frame(account="mai"))
    assert positions(database, 0) == [1]


def test_one_event_is_found_by_its_position(database: Database) -> None:
    written = write(database, frame("a"), frame("b"))
    assert in_unit(database.reader, event_at, "main", 2) == written[1]
    assert in_unit(database.reader, event_at, "main", 3) is None


def test_accounts_are_listed_once_and_sorted(database: Database) -> None:
    write(database, *(frame(account=name) for name in ("b", "a", "ü", "b", "main")))
    assert in_unit(database.reader, accounts) == ["a", "b", "main", "ü"]


def test_a_stream_yields_every_event_once_and_in_order(database: Database) -> None:
    count = 2 * read.PAGE_ROWS + 3
    written = write(database, *(frame(str(number)) for number in range(count)))
    streamed = in_unit(database.reader, lambda c: tuple(stream_events(c, "main")))
    assert streamed == written
    tail = in_unit(database.reader, lambda c: list(stream_events(c, "main", 5, up_to=8)))
    assert [event.position for event in tail] == [6, 7, 8]


def test_a_page_ends_behind_the_payload_that_fills_it(database: Database) -> None:
    big = "x" * (read.PAGE_BYTES // 2)
    write(database, *(frame(payload) for payload in ("small", big, big, big, "small")))
    found = in_unit(database.reader, read_page, "main", 0)
    assert ([event.position for event in found.events], found.is_last) == ([1, 2, 3], False)
    rest = in_unit(database.reader, read_page, "main", 3)
    assert ([event.position for event in rest.events], rest.is_last) == ([4, 5], True)


def test_a_payload_beyond_the_page_still_comes(database: Database) -> None:
    write(database, frame("x" * (read.PAGE_BYTES + 1)), frame("next"))
    streamed = in_unit(
        database.reader, lambda c: [len(event.payload) for event in stream_events(c, "main")]
    )
    assert streamed == [read.PAGE_BYTES + 1, 4]


def test_a_log_of_big_payloads_is_streamed_in_bounded_memory(database: Database) -> None:
    megabyte = 1_000_000
    for _ in range(6):
        write(database, *(frame("x" * megabyte) for _ in range(8)))
    tracemalloc.start()
    seen = in_unit(database.reader, lambda c: sum(1 for _ in stream_events(c, "main")))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert seen == 48
    # A page being read, the page before it, and what the driver holds of both.
    assert peak < 4 * read.PAGE_BYTES < 48 * megabyte


def test_an_unreadable_time_is_damage(sqlite: Database) -> None:
    write(sqlite, frame())
    run_sql(sqlite, "DROP TRIGGER events_no_update", "UPDATE events SET received_at = 'yesterday'")
    with pytest.raises(LogDamaged, match="event 1 of account 'main'"):
        positions(sqlite, 0)


TIMES = st.datetimes(timezones=st.just(UTC))


@given(moment=TIMES)
def test_the_text_of_a_time_is_the_columns_own(moment: datetime) -> None:
    text = time_text(to_us(moment))
    assert text == sqlite_time(moment)
    assert time_us(text) == to_us(moment)


@given(this=TIMES, later=st.timedeltas(timedelta(microseconds=1), timedelta(days=1)))
def test_texts_of_times_sort_as_the_times(this: datetime, later: timedelta) -> None:
    try:
        after = this + later
    except OverflowError:
        return
    assert time_text(to_us(this)) < time_text(to_us(after))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "2026-03-01",
        "2026-03-01 12:00:00",
        "2026-03-01 12:00:00.12345",
        "2026-03-01 12:00:00.1234567",
        "2026-03-01T12:00:00.123456",
        "2026-03-01 12:00:00,123456",
        "2026-13-01 12:00:00.123456",
        "2026-03-01 12:00:00.-12345",
        "2026-03-01 12:00:00.١٢٣٤٥٦",
        "20260301T120000+0000.123456",
    ],
)
def test_any_other_text_is_no_time(text: str) -> None:
    with pytest.raises(ValueError, match=r"time|isoformat|month"):
        time_us(text)
