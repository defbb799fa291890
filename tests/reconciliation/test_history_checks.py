"""What the stream reported, held against the pages of the exchange's own histories."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from recorder.database.engine import Database, in_unit
from recorder.exchange.lists import Fetched
from recorder.log.rules.event import Note, noted
from recorder.reconciliation.sql.history_checks import reported_otherwise
from tests.cli.scene import fold
from tests.log.drafts import NOW_US, write
from tests.projections.test_backfill import fill, page, streamed, transaction
from tests.projections.test_folds import frame

SINCE = datetime.fromisoformat("2026-01-01T00:00:00Z")
UNTIL = SINCE + timedelta(hours=1)


def differences(database: Database, *reported: Any, listed: Any, wanted: Any = ()) -> Any:
    """Return what differs once the stream has reported and a run has listed."""
    run = {"gap_id": None, "from": SINCE.isoformat(), "until": UNTIL.isoformat()}
    asked = {"run": len(reported) + 1, "list": "trades", "request": "/v1", "status": 200}
    read = noted("main", NOW_US, Note.BACKFILL_PAGE, asked | {"page": True, "rows": 1})
    begun = noted("main", NOW_US, Note.BACKFILL_STARTED, run)
    write(database, *reported, begun, *(each for one in listed for each in (read, one)))
    fold(database)
    return in_unit(
        database.reader, reported_otherwise, "main", len(reported) + 1, SINCE, UNTIL, list(wanted)
    )


def test_what_both_report_alike_or_only_one_side_has_is_no_difference(database: Database) -> None:
    pages = [
        page(Fetched.TRADES, [fill("t-1", side="BUY"), fill("t-2", fee=None)]),
        page(Fetched.TRANSACTIONS, [transaction("x-1")]),
    ]
    record = frame("NEW_ACCOUNT_HISTORY_RECORD", transaction("x-1"))
    found = differences(database, *streamed(fill("t-1"), fill("t-2")), record, listed=pages)
    assert found.found == []


def test_what_no_page_lists_or_one_lists_otherwise_is_a_difference(database: Database) -> None:
    reported = [
        *streamed(fill("t-1"), fill("t-2", price="7")),
        frame("NEW_ACCOUNT_HISTORY_RECORD", transaction("x-1", creditValue="3")),
        frame("NEW_ACCOUNT_HISTORY_RECORD", transaction("x-2")),
    ]
    pages = [
        page(Fetched.TRADES, [fill("t-2", price="8")]),
        page(Fetched.TRADES, []),
        page(Fetched.TRANSACTIONS, [transaction("x-1", creditValue="4")]),
    ]
    found = differences(
        database, *reported, listed=pages, wanted=[("trades", "t-2"), ("trades", "t-1")]
    )

    assert [(d.list, d.key, d.field, d.ours, d.theirs, d.position) for d, _ in found.found] == [
        ("trades", "t-2", "price", "7", "8", 2),
        ("trades", "t-1", "row", found.found[1][0].ours, None, 1),
        ("ledger", "x-1", "credit_value", "3", "4", 3),
        ("ledger", "x-2", "row", found.found[3][0].ours, None, 4),
    ]
    # Each with the answer that shows it: that it isn't listed, the last one of its list.
    assert [answer for _, answer in found.found] == [7, 9, 11, 11]
    assert found.listed == {("trades", "t-2")}


def test_what_the_period_does_not_hold_need_not_be_listed(database: Database) -> None:
    reported = streamed(fill("t-1", at="2025-12-31T23:59:59.999Z"), fill("t-2", id=None))
    found = differences(database, *reported, listed=[page(Fetched.TRADES, [])])
    assert found.found == []
