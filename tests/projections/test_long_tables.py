"""What is asked while commands go out and gaps are healed doesn't grow with what there ever was."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import Connection, event

from recorder.cli.orders import live_orders
from recorder.database.engine import Database, in_unit
from recorder.gaps.sql.backfill import Period, warnings_of
from recorder.outbox.sql.dispatch import first_unsettled
from recorder.outbox.sql.limits import count_open_orders
from recorder.outbox.sql.queue import queued
from recorder.reconciliation.sql.reconciliation import orders_window
from tests.log.drafts import NOW

HOUR = Period(NOW - timedelta(hours=1), NOW)


def plans(database: Database, unit: Callable[[Connection], object], table: str) -> list[str]:
    """Return how SQLite, which has no statistics, goes about a unit's questions to a table."""
    asked: list[tuple[str, Any]] = []

    def run(connection: Connection) -> list[str]:
        @event.listens_for(connection, "before_cursor_execute")
        def note(_c: object, _k: object, statement: str, values: Any, *_: object) -> None:
            asked.append((statement, values))

        unit(connection)
        event.remove(connection, "before_cursor_execute", note)
        return [
            str(row[3])
            for statement, values in asked
            for row in connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", values)
            if f" {table} " in f"{row[3]} "
        ]

    return in_unit(database.reader, run)


@pytest.mark.parametrize(("table", "time"), [("trades", "traded_at"), ("ledger", "event_at")])
def test_what_a_gap_left_open_is_looked_for_in_its_own_time(
    sqlite: Database, table: str, time: str
) -> None:
    asked = plans(sqlite, lambda c: warnings_of(c, "main", 1, 2, HOUR), table)
    # The fills of an order are looked up by its id.
    found = [each for each in asked if "order_id=?" not in each]

    assert len(found) == 2
    assert f"(account=? AND {time}>? AND {time}<?)" in found[0]
    assert f"(account=? AND {time}=?)" in found[1]


@pytest.mark.parametrize(
    "unit",
    [
        lambda c: count_open_orders(c, "main", "BTCZAR"),
        lambda c: orders_window(c, "main", 1, 2, ()),
        lambda c: c.execute(live_orders("main")).all(),
    ],
)
def test_orders_that_are_open_are_found_without_those_that_ended(
    sqlite: Database, unit: Callable[[Connection], object]
) -> None:
    found = plans(sqlite, unit, "orders")

    assert found
    assert all("INDEX orders_live" in plan for plan in found), found


def test_what_is_queued_is_found_without_what_was_sent(sqlite: Database) -> None:
    found = plans(sqlite, lambda c: queued(c, "main", NOW, 5), "outbox")

    assert any("INDEX outbox_queued" in plan for plan in found), found
    (asked,) = plans(sqlite, lambda c: first_unsettled(c, "main"), "outbox")
    assert "INDEX outbox_in_order" in asked
