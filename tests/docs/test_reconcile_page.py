"""The page on reconciling knows every state, and its queries run on both databases."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from recorder.database.engine import Database
from recorder.log.rules.event import Draft, Note, noted
from recorder.projections.rules import reconciliations as fold_of
from tests.cli.scene import fold, record_scene
from tests.log.drafts import run_sql, write

DOCS = Path(__file__).parents[2] / "docs"
PAGE = (DOCS / "explanation" / "reconciliation.md").read_text(encoding="utf-8")
TASK = (DOCS / "how-to" / "reconcile.md").read_text(encoding="utf-8")
STATEMENTS = re.findall(r"```sql\n(.*?)```", TASK, flags=re.DOTALL)
STATES = (
    *(fold_of.RUNNING, fold_of.CLEAN, fold_of.DIFFERING, fold_of.INCOMPLETE),
    *(fold_of.OPEN, fold_of.GONE, fold_of.FOUND_AGAIN, fold_of.FILLED_IN),
)


@pytest.mark.parametrize("word", STATES)
def test_a_state_has_a_row_in_the_page(word: str) -> None:
    assert f"\n| `{word}` |" in PAGE


def test_the_page_has_its_queries() -> None:
    assert len(STATEMENTS) == 5


def test_the_queries_of_the_page_find_what_is_there(database: Database) -> None:
    record_scene(database)
    fold(database)
    run_sql(database, STATEMENTS[0])
    assert run_sql(database, "SELECT account FROM reconciliation_requests") == [("main",)]
    for state, found in (("clean", []), ("differing", ["open", "filled_in"])):
        (run,) = write(database, note(Note.RECONCILIATION_STARTED, {"requested_by": "person"}))
        for each in found:
            facts = {"list": "balances", "key": "ZAR", "field": "total", "ours": "1", "theirs": "2"}
            ended = {"ended": None if each == "open" else each, "answer_position": 3}
            write(database, note(Note.DIFFERENCE_FOUND, {"run": run.position, **facts, **ended}))
        write(database, note(Note.RECONCILIATION_FINISHED, {"run": run.position, "state": state}))
    fold(database)
    for number, statement in enumerate(STATEMENTS[1:], 1):
        assert run_sql(database, statement), number


def note(kind: Note, facts: dict[str, object]) -> Draft:
    return noted("main", 1_767_225_600_000_000, kind, facts)
