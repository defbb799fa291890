"""The queries that the page about time travel shows report what the commands report."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest
from attrs import define
from sqlalchemy import Connection, text

from recorder.database.engine import Database, in_unit
from recorder.projections import PROJECTIONS
from recorder.projections.rules.validity import seconds
from recorder.projections.sql.tables import Memory, project
from recorder.queries import as_of
from recorder.queries.as_of import known_at, position_at, true_at
from recorder.timestamps import from_us
from tests.log.drafts import write
from tests.outbox.trading import Account

PAGE = (Path(__file__).parents[2] / "docs" / "explanation" / "time-travel.md").read_text(
    encoding="utf-8"
)
POSITION_OF, BALANCES, BALANCES_TRUE, ORDERS, ORDERS_TRUE, FUTURES = [
    block.split("```")[0] for block in PAGE.split("```sql\n")[1:]
]


@define
class Past:
    """A log that is folded, and a moment in the middle of it."""

    database: Database
    at: int
    time: Any

    def ask(self, query: str, *names: str) -> list[tuple[object, ...]]:
        """Return these columns of a query of the page."""
        is_sqlite = self.database.dialect == "sqlite"
        time = self.time.strftime("%Y-%m-%d %H:%M:%S.%f") if is_sqlite else self.time
        values = {"account": "main", "at": self.at, "time": time, "second": seconds(self.time)}

        def run(connection: Connection) -> list[tuple[object, ...]]:
            asked = {name: values[name] for name in values if f":{name}" in query}
            found = connection.execute(text(query), asked).mappings()
            return [tuple(str(row[name]) for name in names) for row in found]

        return in_unit(self.database.reader, run)

    def expect(self, rows: Any, *names: str) -> list[tuple[object, ...]]:
        assert rows
        return [tuple(str(row[name]) for name in names) for row in rows]


@pytest.fixture
def past(database: Database) -> Past:
    account = Account(random.Random(5))
    account.live(80)
    account.converse_with(account.rest())
    account.live(40)
    written = write(database, *account.log)
    for projection in PROJECTIONS:
        options: dict[str, Any] = {"up_to": len(written), "limit": 5_000, "now": from_us(0)}
        in_unit(database.projector, project, projection, Memory(), "main", **options)
    at = len(written) - 30
    return Past(database, at, written[at - 1].received_at)


def test_the_position_of_a_time(past: Past) -> None:
    found = in_unit(past.database.reader, position_at, "main", past.time)
    assert past.ask(POSITION_OF, "position") == [(str(found),)]


def test_the_balances(past: Past) -> None:
    reader, names = past.database.reader, ("currency", "position")
    known = in_unit(reader, known_at, "main", past.at, as_of.BALANCES)
    true = in_unit(reader, true_at, "main", past.time, as_of.BALANCES)
    assert past.ask(BALANCES, *names) == past.expect(known, *names)
    assert past.ask(BALANCES_TRUE, *names) == past.expect(true, *names)


def test_the_orders(past: Past) -> None:
    reader, names = past.database.reader, ("order_id", "state", "price", "position")
    known = in_unit(reader, known_at, "main", past.at, as_of.ORDERS)
    true = in_unit(reader, true_at, "main", past.time, as_of.ORDERS)
    assert past.ask(ORDERS, *names) == past.expect(known, *names)
    assert past.ask(ORDERS_TRUE, *names) == past.expect(true, *names)


def test_the_positions(past: Past) -> None:
    known = in_unit(past.database.reader, known_at, "main", past.at, as_of.POSITIONS)
    names = ("position_id", "quantity", "position")
    assert past.ask(FUTURES, *names) == past.expect(known, *names)
