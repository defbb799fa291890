"""Positions and conditional orders in real tables: exact, whole, and quick to look up."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal

import attrs
import pytest
from hypothesis import HealthCheck, given, settings

from recorder.database.engine import Database
from recorder.log.rules.event import Draft
from recorder.projections.rules.futures import Futures
from recorder.projections.sql.rebuild import check
from recorder.projections.sql.tables import Memory
from tests.log.drafts import run_sql, write
from tests.projections.test_futures import STEPS, position, reduction
from tests.projections.test_tables import rows_of, step

TABLES = [table.name for table in Futures.tables]


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(drafts=STEPS.filter(bool))
def test_the_batches_make_no_difference_and_neither_does_a_rebuild(
    database: Database, drafts: Sequence[Draft]
) -> None:
    [(taken,)] = run_sql(database, "SELECT count(DISTINCT account) FROM events")
    tables = []
    for way, size in (("whole", 100), ("two", 2), ("one", 1)):
        account = f"{way}-{taken}"
        write(database, *(attrs.evolve(draft, account=account) for draft in drafts))
        memory, position_ = Memory(), 0
        while position_ < len(drafts):
            done = step(database, Futures(), memory, up_to=len(drafts), limit=size, account=account)
            position_ = done.position
            if size == 2:
                memory = Memory()
        tables.append(rows_of(database, account, [*TABLES, "fold_failures"]))
        assert check(database, account, Futures(), lambda _: None).differences == []
    assert tables[0] == tables[1] == tables[2]


def test_amounts_are_exact_in_the_tables(database: Database) -> None:
    exact = "123456789012345678.000000000000000001"
    write(database, position(exact), reduction(realisedPnl=f"-{exact}"))
    step(database, Futures())
    asked = "SELECT quantity, closed_pnl FROM position_history ORDER BY position DESC LIMIT 1"
    [row] = run_sql(database, asked)
    assert [Decimal(str(value)) for value in row] == [Decimal(exact), Decimal(f"-{exact}")]


def test_a_frame_that_can_not_be_folded_is_named_and_the_next_is_folded(database: Database) -> None:
    broken = attrs.evolve(position(), payload='{"type":"OPEN_POSITION_UPDATE","data":{}}')
    write(database, position("1", "01"), broken, position("2", "02"))
    done = step(database, Futures())
    assert [failure.position for failure in done.failures] == [2]
    assert run_sql(database, "SELECT projection, position FROM fold_failures") == [("futures", 2)]
    [(quantity,)] = run_sql(database, "SELECT quantity FROM positions")
    assert Decimal(str(quantity)) == 2


@pytest.mark.parametrize(
    ("table", "key"),
    [("position_history", "position_id"), ("conditional_order_history", "order_id")],
)
@pytest.mark.parametrize("up_to", ["position", "received_at"])
def test_the_latest_line_at_or_before_a_moment_is_one_look_into_an_index(
    sqlite: Database, table: str, key: str, up_to: str
) -> None:
    asked = (
        f"SELECT * FROM {table} WHERE account = 'main' AND {key} = 'x' AND {up_to} <= '9'"
        f" ORDER BY {up_to} DESC LIMIT 1"
    )
    plan = str(run_sql(sqlite, f"EXPLAIN QUERY PLAN {asked}"))
    assert "SEARCH" in plan
    assert f"account=? AND {key}=? AND {up_to}<?" in plan
    assert "TEMP B-TREE" not in plan
