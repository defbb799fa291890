"""The page on gaps knows every cause and state, and its queries run on both databases."""

from __future__ import annotations

import re
from decimal import Decimal
from pathlib import Path

import pytest

from recorder.database.engine import Database
from recorder.log.rules.coverage import Cause
from recorder.projections.rules.gaps import State
from recorder.timestamps import from_us
from tests.cli.scene import ask, fold, now_us, own, record_scene
from tests.cli.test_gaps import HOUR_US, history
from tests.log.drafts import frame, run_sql, write

PAGE = (Path(__file__).parents[2] / "docs" / "reference" / "gaps.md").read_text(encoding="utf-8")
STATEMENTS = re.findall(r"```sql\n(.*?)```", PAGE, flags=re.DOTALL)


@pytest.mark.parametrize("word", [*Cause, *State])
def test_a_cause_and_a_state_have_a_row_in_the_page(word: str) -> None:
    assert f"\n| `{word}` |" in PAGE


def test_causes_stand_in_the_order_in_which_they_are_named() -> None:
    rows = [word for word in re.findall(r"\n\| `(\w+)` \|", PAGE) if word in list(Cause)]
    assert rows == list(Cause)


def test_the_page_has_its_queries() -> None:
    assert len(STATEMENTS) == 6


def of(database: Database) -> list[str]:
    """Return the queries of the page that are written for this database."""
    other = {"sqlite": "-- PostgreSQL", "postgresql": "-- SQLite"}[database.dialect]
    return [statement for statement in STATEMENTS if not statement.startswith(other)]


def test_a_query_of_the_page_finds_what_is_there(database: Database) -> None:
    record_scene(database)
    write(database, frame("{"))
    fold(database)
    statements = of(database)
    assert len(statements) == 5
    for statement in statements:
        # It was recorded in March.
        asked = statement.replace("2026-02-01", "2026-04-01")
        assert run_sql(database, asked.replace(":", r"\:"))


def test_the_seconds_of_a_period_are_those_of_the_command(
    database: Database, database_url: str
) -> None:
    begun = now_us() - 2 * HOUR_US
    own(database, ended=True)
    write(database, *history(begun))
    fold(database)
    (query,) = [each for each in of(database) if "AS begins" in each]
    # From the middle of a gap to the middle of another, to the microsecond.
    since, until = from_us(begun + 4_999_999), from_us(begun + 1_230_000_003)
    for named, moment in (("2026-01-01", since), ("2026-02-01", until)):
        time_text_ = moment.strftime("%Y-%m-%d %H:%M:%S.%f")
        query = query.replace(f"{named} 00:00:00.000000", time_text_)

    rows = run_sql(database, query.replace(":", r"\:"))

    seconds = {(kind, cause): Decimal(str(us)).scaleb(-6) for kind, cause, us in rows}
    period = ("--from", since.isoformat(), "--to", until.isoformat())
    (reported,) = ask(database_url, "gaps", *period).rows
    assert seconds == {
        ("observed", None): Decimal(reported["observed_s"]),
        **{
            ("unobserved", each["cause"]): Decimal(each["unobserved_s"])
            for each in reported["causes"]
        },
    }
    assert sum(seconds.values()) == Decimal("1225.000004")
