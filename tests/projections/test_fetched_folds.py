"""What was fetched folds alike on both databases, however it is cut, and again from the log."""

from __future__ import annotations

import random

import pytest

from recorder.database.engine import Database
from recorder.database.schema import metadata
from recorder.exchange.lists import Fetched
from recorder.log.rules.event import Draft
from recorder.projections.sql.rebuild import check
from recorder.projections.sql.tables import Memory
from tests.log.drafts import run_sql, write
from tests.projections.test_backfill import (
    deposit,
    fill,
    orders_page,
    page,
    pending,
    streamed,
    summary,
    transaction,
)
from tests.projections.test_folds import frame, listed, named, status
from tests.projections.test_tables import step

NAMES = ("trades", "ledger", "orders", "transfers")


def history_of(rng: random.Random) -> list[Draft]:
    """Return frames and pages about a few things, many of them equal, in any order."""
    has_ids = rng.random() < 0.5
    fills = [
        fill(f"t-{n}", price=str(rng.randint(1, 2)), at=f"2026-01-01T00:00:0{rng.randint(1, 2)}Z")
        for n in range(6)
    ]
    records = [transaction(f"x-{n}", creditValue=str(rng.randint(1, 2))) for n in range(6)]
    reported = [each if has_ids else {**each, "id": None} for each in fills if rng.random() < 0.6]
    moved = [each if has_ids else {**each, "id": None} for each in records if rng.random() < 0.6]
    drafts = [
        *streamed(*reported),
        *(frame("NEW_ACCOUNT_HISTORY_RECORD", each) for each in moved),
        *(pending(n, n % 2) for n in range(4)),
        page(Fetched.TRADES, rng.sample(fills, 4)),
        page(Fetched.TRANSACTIONS, rng.sample(records, 4)),
        page(Fetched.DEPOSITS, [deposit(2), deposit(2)]),
        page(Fetched.WITHDRAWALS, [{"uniqueId": "w", "status": "Complete", "amount": "1"}]),
        listed("o-1"),
        listed(),
        status("Partially Filled", "2", "2026-01-01T00:00:02.000Z", executedQuantity="1"),
        orders_page(
            summary("Filled", "0", "2026-01-01T00:00:03.000Z", "3"),
            summary("Placed", "3", "2026-01-01T00:00:01.000Z", orderId="o-2"),
        ),
    ]
    rng.shuffle(drafts)
    whole = [page(Fetched.TRADES, fills), page(Fetched.TRANSACTIONS, records)]
    return [*drafts, *whole, *whole]


def rows(database: Database, *names: str) -> list[list[object]]:
    found: list[list[object]] = []
    for name in names:
        columns = ", ".join(column.name for column in metadata.tables[name].columns)
        asked = f"SELECT {columns} FROM {name} WHERE account = 'main' ORDER BY 1, 2, 3"
        found.append([tuple(map(str, row)) for row in run_sql(database, asked)])
    return found


@pytest.mark.parametrize("seed", range(6))
def test_however_they_are_cut_the_tables_are_the_same(database: Database, seed: int) -> None:
    rng = random.Random(seed)
    drafts = history_of(rng)
    head = write(database, *drafts)[-1].position
    seen = []
    for limit in (1, rng.randint(2, 6), 500):
        for name in NAMES:
            memory = Memory()
            while step(database, named(name), memory, up_to=head, limit=limit).position < head:
                if rng.random() < 0.3:
                    memory.forget()
        seen.append(rows(database, *NAMES, "order_history"))
        for name in NAMES:
            assert check(database, "main", named(name), lambda position: None).differences == []
            tables = [table.name for table in named(name).tables]
            run_sql(database, *(f"DELETE FROM {table}" for table in tables))
        run_sql(database, "DELETE FROM projections", "DELETE FROM fold_failures")
    assert seen[0] == seen[1] == seen[2]
    assert len(seen[0][0]) == len(seen[0][1]) == 6
    assert run_sql(database, "SELECT count(*) FROM fold_failures") == [(0,)]
