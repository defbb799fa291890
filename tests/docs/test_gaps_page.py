"""The page on gaps knows every cause and state, and its queries run on both databases."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from recorder.log.coverage import Cause
from recorder.projections.gaps import State
from recorder.storage.engine import Database
from tests.cli.scene import fold, record_scene
from tests.storage.drafts import frame, run_sql, write

PAGE = (Path(__file__).parents[2] / "docs" / "gaps.md").read_text(encoding="utf-8")
STATEMENTS = re.findall(r"```sql\n(.*?)```", PAGE, flags=re.DOTALL)


@pytest.mark.parametrize("word", [*Cause, *State])
def test_a_cause_and_a_state_have_a_row_in_the_page(word: str) -> None:
    assert f"\n| `{word}` |" in PAGE


def test_causes_stand_in_the_order_in_which_they_are_named() -> None:
    rows = [word for word in re.findall(r"\n\| `(\w+)` \|", PAGE) if word in list(Cause)]
    assert rows == list(Cause)


def test_the_page_has_its_queries() -> None:
    assert len(STATEMENTS) == 4


@pytest.mark.parametrize("number", range(4))
def test_a_query_of_the_page_finds_what_is_there(database: Database, number: int) -> None:
    record_scene(database)
    write(database, frame("{"))
    fold(database)
    assert run_sql(database, STATEMENTS[number])
