"""The page on books knows every kind, and its queries report what the command reports."""

from __future__ import annotations

import random
import re
import sqlite3
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import pytest
from sqlalchemy import Connection

from recorder.database.engine import Database, in_unit
from recorder.projections.rules.books import KINDS, Basis, Explained
from recorder.projections.rules.ledger import FeeBasis
from recorder.queries.books import Period, explain
from tests.cli.scene import fold
from tests.log.drafts import run_sql, write
from tests.outbox.trading import Account

PAGE = (Path(__file__).parents[2] / "docs" / "how-to" / "explain-balances.md").read_text(
    encoding="utf-8"
)
MOVED, ON_POSTGRESQL, ON_SQLITE = re.findall(r"```sql\n(.*?)```", PAGE, flags=re.DOTALL)
BEGIN, END = 8, 1_000_000


@pytest.mark.parametrize("word", [*KINDS, *Basis, *FeeBasis])
def test_a_word_of_the_answer_is_in_the_page(word: str) -> None:
    assert f"`{word}`" in PAGE


@pytest.fixture
def account(database: Database) -> Account:
    """Record an account of which some ledger frames were lost."""
    account = Account(random.Random(6), net=True)
    account.live(80)
    numbers = [n for n, each in enumerate(account.log) if each.type == "NEW_ACCOUNT_HISTORY_RECORD"]
    for number in numbers[5::9][::-1]:
        del account.log[number]
    write(database, *account.log)
    fold(database)

    return account


def books(database: Database, period: Period) -> dict[str, Explained]:
    def unit(connection: Connection) -> list[Explained]:
        return explain(connection, "main", period)

    return {str(each.currency): each for each in in_unit(database.reader, unit)}


def test_the_sums_of_the_page_are_those_of_the_command(
    database: Database, account: Account
) -> None:
    rows = run_sql(database, MOVED.replace(":00", r"\:00"))
    assert all(row[-1] == 0 for row in rows)
    month = datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 2, 1, tzinfo=UTC)
    found = books(database, Period(*month, len(account.log)))
    lines = {(name, line.kind): line.amount for name, each in found.items() for line in each.lines}
    assert {(row[0], row[1]): _number(*row[2:5]) for row in rows} == lines
    assert len(lines) > 8


def _number(whole: object, nano: object, atto: object) -> Decimal:
    parts = (Decimal(str(part)) for part in (whole, nano, atto))
    return sum((part.scaleb(-9 * place) for place, part in enumerate(parts)), Decimal(0))


def test_the_residuals_of_the_page_are_those_of_the_command(
    database: Database, account: Account
) -> None:
    truth = books(database, Period(BEGIN, END, len(account.log)))
    assert sum(1 for each in truth.values() if each.residual) > 2
    if database.dialect == "sqlite":
        # By any program: there is nothing of ours in this connection.
        with sqlite3.connect(database.url.database or "") as connection:
            rows = [(row[0], row[1]) for row in connection.execute(ON_SQLITE)]
    else:
        rows = [(row[0], row[-1]) for row in run_sql(database, ON_POSTGRESQL)]
    reported = {name: None if amount is None else Decimal(amount) for name, amount in rows}
    listed = {name: each for name, each in truth.items() if each.opening.basis == Basis.REPORTED}
    assert len(listed) > 2
    assert {name: reported[name] for name in listed} == {
        name: each.residual for name, each in listed.items()
    }
    assert all(reported[name] is None for name in truth.keys() - listed.keys())
