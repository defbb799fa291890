"""What the stream reports folds alike however it is cut, and again from the log."""

from __future__ import annotations

import random

import pytest

from recorder.database.engine import Database
from recorder.log.rules.event import Draft, Note
from recorder.projections.sql.rebuild import check
from recorder.projections.sql.tables import Memory
from tests.log.drafts import run_sql, write
from tests.projections.test_fetched_folds import rows
from tests.projections.test_folds import balance, listed, named, note, status
from tests.projections.test_tables import step

NAMES = ("balances", "open_orders", "orders")
TABLES = ("balances", "balance_history", "open_orders", "orders", "order_history")
WORDS = ("Placed", "Partially Filled", "Order Modified", "Filled", "Cancelled")


def history_of(rng: random.Random) -> list[Draft]:
    """Return what two connections report of a few things: late, twice, or no longer."""

    def at() -> str:
        return f"2026-01-01T00:00:0{rng.randrange(6)}.000Z"

    def anything(connection: str) -> Draft:
        some = rng.sample(("o-1", "o-2", "o-3"), rng.randrange(4))
        remaining, done = str(rng.randrange(4)), str(rng.randint(1, 2))
        what = rng.randrange(8)
        if what < 4:
            currency, total = rng.choice(("BTC", "ETH", "ZAR")), str(rng.randrange(3))
            return balance(currency, total, rng.choice((None, at())), connection)
        if what < 6:
            return listed(*some, connection=connection, at=at())
        reported = {"executedPrice": "10", "executedQuantity": done, "executedFee": "0.1"}
        more = {"orderId": rng.choice(("o-1", "o-2")), **(reported if what == 7 else {})}
        return status(rng.choice(WORDS), remaining, at(), **more)

    drafts: list[Draft] = []
    for connection in ("c1", "c2"):
        drafts += [anything(connection) for _ in range(8)]
        ended = {"complete": True, "balances": rng.random() < 0.7}
        drafts.append(note(Note.SNAPSHOT_COMPLETE, connection, **ended))
        drafts += [anything(connection) for _ in range(12)]
    return drafts


@pytest.mark.parametrize("seed", range(8))
def test_however_they_are_cut_the_tables_are_the_same(database: Database, seed: int) -> None:
    rng = random.Random(seed)
    head = write(database, *history_of(rng))[-1].position
    seen = []
    for limit in (1, rng.randint(2, 6), 500):
        for name in NAMES:
            memory = Memory()
            while step(database, named(name), memory, up_to=head, limit=limit).position < head:
                if rng.random() < 0.3:
                    memory.forget()
        seen.append(rows(database, *TABLES))
        for name in NAMES:
            assert check(database, "main", named(name), lambda position: None).differences == []
        run_sql(database, *(f"DELETE FROM {table}" for table in TABLES))
        run_sql(database, "DELETE FROM projections", "DELETE FROM fold_failures")
    assert seen[0] == seen[1] == seen[2]
    assert all(seen[0][place] for place in (0, 1, 3, 4))
