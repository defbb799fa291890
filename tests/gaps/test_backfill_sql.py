"""What is to be fetched, and how far it is, on both databases."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from attrs import evolve

from recorder.database.engine import Database, in_unit
from recorder.exchange.lists import Fetched, FuturesList
from recorder.gaps.sql.backfill import (
    Period,
    next_gap,
    next_requested,
    pending_transfers_since,
    request_period,
    requested,
    uncounted,
    unfinished,
    unhealed_within,
    warnings_of,
)
from recorder.log.rules.event import Draft, Note, noted
from recorder.timestamps import from_us, to_us
from tests.cli.scene import fold
from tests.log.drafts import NOW_US, run_sql, write
from tests.projections.test_backfill import fill, orders_page, page, summary
from tests.projections.test_folds import frame, listed, status
from tests.projections.test_futures import conditional, fetched, position, snapshot, waiting

SINCE = datetime(2026, 3, 1, 10, 0, tzinfo=UTC)
UNTIL = SINCE + timedelta(hours=1)


def test_a_closed_gap_that_was_not_fetched_is_next(database: Database) -> None:
    complete = {"complete": True, "balances": True, "open_orders": True}
    write(
        database,
        noted("main", NOW_US, Note.RECORDER_STARTED, {"epoch": 1, "last_event_at": None}),
        noted("main", NOW_US + 5, Note.SNAPSHOT_COMPLETE, complete, connection_id="c"),
        noted("main", NOW_US + 9, Note.RECORDER_STOPPED, {}),
    )
    fold(database)
    gap = in_unit(database.reader, next_gap, "main")
    assert gap is not None
    # The first gap has no beginning: it is read from the first start on.
    assert (gap.gap_id, gap.until - gap.since) == (1, timedelta(microseconds=5))
    facts = {"gap_id": 1, "from": SINCE.isoformat(), "until": UNTIL.isoformat()}
    write(database, noted("main", NOW_US, Note.BACKFILL_STARTED, facts))
    fold(database)
    # The second is still open.
    assert in_unit(database.reader, next_gap, "main") is None


def test_a_run_is_gone_on_with_where_its_last_page_ended(database: Database) -> None:
    facts = {"gap_id": None, "from": SINCE.isoformat(), "until": UNTIL.isoformat()}
    reported = {"run": 1, "list": "trades", "request": "/v1", "status": 200}
    write(
        database,
        noted("main", NOW_US, Note.BACKFILL_STARTED, facts),
        noted(
            "main", NOW_US, Note.BACKFILL_PAGE, reported | {"page": True, "rows": 3, "next": "x"}
        ),
        noted("main", NOW_US, Note.BACKFILL_PAGE, reported | {"page": False, "reason": "HTTP 500"}),
    )
    fold(database)
    run = in_unit(database.reader, unfinished, "main")
    assert run is not None
    assert (run.run_id, run.since, run.until) == (1, SINCE, UNTIL)
    assert run.lists == {"trades": ("running", "x", "HTTP 500")}
    write(
        database,
        noted(
            "main", NOW_US, Note.BACKFILL_PAGE, reported | {"page": True, "rows": 0, "next": None}
        ),
        noted("main", NOW_US, Note.BACKFILL_FINISHED, {"run": 1, "complete": True}),
    )
    fold(database)
    assert in_unit(database.reader, unfinished, "main") is None
    asked = "SELECT state, pages, answers, rows FROM backfill_runs"
    assert run_sql(database, asked) == [("complete", 2, 3, 3)]
    assert run_sql(database, "SELECT state, reason FROM backfill_lists") == [("complete", None)]


@pytest.mark.parametrize(("fills", "is_known"), [(0, False), (1, False), (2, True)])
def test_an_order_left_out_of_the_history_is_known_if_every_fill_of_it_is(
    database: Database, fills: int, *, is_known: bool
) -> None:
    reported = [fill(f"t-{number}", orderId="o-1") for number in range(fills)]
    write(
        database,
        status("Partially Filled", "1", "2026-03-01T10:00:00.000Z"),
        status("Filled", "0", "2026-02-01T10:00:00.000Z", orderId="o-before"),
        page(Fetched.TRADES, [*reported, fill("t-other", orderId="o-2")]),
    )
    fold(database)
    warnings = in_unit(database.reader, warnings_of, "main", 1, 9, Period(SINCE, UNTIL))
    assert warnings == ([] if is_known else ["what the fills of 1 orders came to is not known"])
    # All the same it is asked for again: its history may report of its fees by then.
    assert in_unit(database.reader, uncounted, "main", SINCE) == 1


@pytest.mark.parametrize("is_reported", [False, True])
def test_an_order_that_is_gone_without_an_end_is_a_doubt_until_its_history_comes(
    database: Database, *, is_reported: bool
) -> None:
    before = frame_at(listed("o-1", "o-2", at="2026-03-01T09:00:00.000Z"), SINCE)
    after = frame_at(listed("o-2", at="2026-03-01T09:00:00.000Z"), SINCE + timedelta(minutes=5))
    ended = summary("Cancelled", "3", "2026-03-01T10:01:00.000Z")
    write(database, before, after, *([orders_page(ended)] if is_reported else []))
    fold(database)
    warnings = in_unit(database.reader, warnings_of, "main", 1, 9, Period(SINCE, UNTIL))
    gone = "1 orders are gone, and the history lacks their final state"
    assert warnings == ([] if is_reported else [gone])
    later = Period(UNTIL, UNTIL + timedelta(hours=1))
    assert in_unit(database.reader, warnings_of, "main", 1, 9, later) == []


def test_what_was_pending_before_is_read_as_long_as_it_is(database: Database) -> None:
    at, long_ago = SINCE - timedelta(days=20), SINCE - timedelta(days=40)

    def reported(days: int, hash_: str, **more: object) -> Draft:
        content = {"transactionHash": hash_, "currency": "ETH", "amount": 1, "confirmations": 0}
        made = {"createdAt": (at - timedelta(days=days)).isoformat(), "confirmed": False}
        return frame("NEW_PENDING_RECEIVE", content | made | more)

    def since() -> datetime | None:
        return in_unit(database.reader, pending_transfers_since, "main", SINCE)

    sent = {"uniqueId": "w", "status": "Complete", "createdAt": long_ago.isoformat()}
    through = reported(5, "through", confirmed=True, confirmations=9)
    write(database, through, reported(80, "forgotten"), page(Fetched.WITHDRAWALS, [sent]))
    fold(database)
    assert since() is None
    write(database, reported(1, "younger"), reported(2, "older"))
    fold(database)
    assert since() == at - timedelta(days=2)
    failed = {**sent, "status": "Failed", "uniqueId": "w-2"}
    write(database, page(Fetched.WITHDRAWALS, [failed]))
    fold(database)
    assert since() == long_ago


GONE_OF_FUTURES = [
    "1 positions are gone, and no list has their final state",
    "1 conditional orders are gone, and no list has their final state",
]


@pytest.mark.parametrize("is_reported", [False, True])
def test_what_is_gone_of_futures_is_a_warning_until_a_list_reports_its_end(
    database: Database, *, is_reported: bool
) -> None:
    ends = (
        fetched(FuturesList.CLOSED_SUMMARY, position()),
        fetched(FuturesList.CONDITIONAL_HISTORY, conditional("09"), orderStatusType="Cancelled"),
    )
    write(
        database,
        frame_at(position(), SINCE - timedelta(minutes=5)),
        frame_at(conditional(), SINCE - timedelta(minutes=5)),
        frame_at(snapshot("c2"), SINCE + timedelta(minutes=5)),
        *(frame_at(each, UNTIL) for each in (waiting(), *(ends if is_reported else ()))),
    )
    fold(database)
    found = in_unit(database.reader, warnings_of, "main", 4, 9, Period(SINCE, UNTIL))
    assert found == ([] if is_reported else GONE_OF_FUTURES)
    later = Period(UNTIL + timedelta(hours=1), UNTIL + timedelta(hours=2))
    assert in_unit(database.reader, warnings_of, "main", 20, 29, later) == []


def test_a_conditional_order_that_no_list_decides_on_is_a_doubt(database: Database) -> None:
    others = [conditional(orderId=f"other-{number}") for number in range(100)]
    write(
        database,
        frame_at(conditional(), SINCE),
        frame_at(snapshot("c2"), SINCE + timedelta(minutes=5)),
        # More may stand behind a list that is as long as a page.
        frame_at(waiting(*others), UNTIL),
        # The line is lost once more: that is a gap of its own.
        frame_at(snapshot("c3"), UNTIL),
    )
    fold(database)
    warnings = in_unit(database.reader, warnings_of, "main", 3, 9, Period(SINCE, UNTIL))
    assert warnings == ["1 conditional orders may be gone, and no list proves that they aren't"]


def test_a_run_over_a_gap_that_was_not_fetched_heals_it_once_the_lists_know_of_it(
    database: Database,
) -> None:
    complete = {"complete": True, "balances": True, "open_orders": True}
    span = {"from": SINCE.isoformat(), "until": UNTIL.isoformat()}
    write(
        database,
        noted("main", NOW_US, Note.RECORDER_STARTED, {"epoch": 1, "last_event_at": None}),
        noted("main", NOW_US + 5, Note.SNAPSHOT_COMPLETE, complete, connection_id="c"),
        noted("main", NOW_US + 2_000_005, Note.BACKFILL_STARTED, {"gap_id": None, **span}),
    )
    fold(database)

    def healed(since_us: int, after_s: float) -> list[int]:
        period = Period(from_us(since_us), from_us(NOW_US + 5))
        return in_unit(database.reader, unhealed_within, "main", 3, period, after_s)

    assert healed(NOW_US, 2.0) == [1]
    # The lists are a moment behind, and a part of a gap is not the gap.
    assert healed(NOW_US, 2.1) == []
    assert healed(NOW_US + 1, 2.0) == []


def frame_at(draft: Draft, moment: datetime) -> Draft:
    return evolve(draft, received_us=to_us(moment))


def test_a_period_is_asked_for_with_a_plain_insert(database: Database) -> None:
    run_sql(
        database,
        "INSERT INTO backfills (account, from_at, until_at) VALUES"
        " ('main', '2026-03-01 10\\:00\\:00', '2026-03-01 11\\:00\\:00')"
        if database.dialect == "sqlite"
        else "INSERT INTO backfills (account, from_at, until_at) VALUES"
        " ('main', '2026-03-01 10\\:00\\:00+00', '2026-03-01 11\\:00\\:00+00')",
    )
    period = in_unit(database.reader, next_requested, "main")
    assert period is not None
    assert (period.since, period.until) == (SINCE, UNTIL)
    assert in_unit(database.reader, next_requested, "other") is None
    again = in_unit(database.writer, request_period, "main", SINCE, UNTIL, "me")
    row = in_unit(database.reader, requested, "main", again)
    assert row is not None
    assert (row.state, row.pages) == ("requested", 0)


@pytest.mark.parametrize(
    "wrong", ["'2026-03-01T10:00:00Z'", "'yesterday'", "'2026-03-02 00:00:00'"]
)
def test_sqlite_takes_no_period_that_is_none(sqlite: Database, wrong: str) -> None:
    written = wrong.replace(":", "\\:")
    with pytest.raises(Exception, match="CHECK"):
        run_sql(
            sqlite,
            "INSERT INTO backfills (account, from_at, until_at)"
            f" VALUES ('main', {written}, '2026-03-01 11\\:00\\:00')",
        )
