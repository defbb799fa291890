"""The page on the outbox has every status, and every refusal that the schema's triggers raise."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from recorder.outbox.rules.states import Status

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "reference" / "outbox.md").read_text(encoding="utf-8")
SQL = ROOT / "migrations" / "sql"


def refusals(dialect: str, file: str) -> set[str]:
    """Return the texts of a file after which a row is refused, the list of commands left out."""
    text = (SQL / dialect / f"{file}.sql").read_text(encoding="utf-8")
    if dialect == "sqlite":
        found = re.findall(r"RAISE\(ROLLBACK,\s+'outbox: ([^']+)'", text)
    else:
        found = re.findall(r"(?:THEN|ELSE|:=|format\()\s*'([^']*\w [^']*)'", text)
    # What is raised inside a batch is explained once for all fields.
    plain = (message.removeprefix("requests[].data.") for message in found)
    return {re.sub(r"one of [A-Z].*", "one of", message) for message in plain}


INSERTS = refusals("sqlite", "outbox_insert_checks") | refusals(
    "postgresql", "outbox_insert_checks"
)
CHANGES = {
    message.removesuffix("; see docs/reference/outbox.md")
    for file in ("outbox_status_changes", "outbox_transitions")
    for message in refusals("sqlite", file)
}


@pytest.mark.parametrize("status", list(Status))
def test_a_status_has_a_row_in_the_page(status: Status) -> None:
    assert f"\n| `{status.value}` |" in PAGE


@pytest.mark.parametrize("message", sorted(INSERTS | CHANGES))
def test_a_refusal_is_explained(message: str) -> None:
    field, _, rest = message.partition(" must be ")
    # One row explains the same mistake in several fields.
    assert message in PAGE or (field in PAGE and f"must be {rest}" in PAGE) or by_column(message)


def by_column(message: str) -> bool:
    """Return whether one row explains it for this column among others."""
    column, _, rest = message.partition(" ")
    return f"`{column}`" in PAGE and f"`… {rest}`" in PAGE


def test_every_trigger_was_looked_at() -> None:
    assert len(CHANGES) >= 14
    assert len(INSERTS) >= 45


def test_both_dialects_refuse_a_field_in_the_same_words() -> None:
    """The texts themselves differ: only SQLite has bytes that are no text, and times as texts."""
    own = re.compile(r"UTF-8|in_order|YYYY|years 1 to 9999|outbox_id exists")
    sqlite = {each for each in refusals("sqlite", "outbox_insert_checks") if not own.search(each)}
    postgresql = refusals("postgresql", "outbox_insert_checks")
    for message in sqlite:
        field, _, must = message.partition(" ")
        assert message in postgresql or must in postgresql, (field, must)
