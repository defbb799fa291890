"""Reads the schema's SQL files, migrations/sql/<dialect>/, in the order in which they run."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterator

from recorder.database.migrate import migrations_path

#: In the order in which they run. A file uses what the ones before it created.
FILES = (
    "tables",
    "events_append_only",
    "events_positions",
    # Before the checks: SQLite fires the newest trigger first, and a check must come first.
    "outbox_transitions",
    "outbox_insert_checks",
    "outbox_status_changes",
    "outbox_lookups",
    "controls",
    "limits",
    "notify",
    "event_json",
    "coverage",
    "balance_movements",
    "balance_statements",
    "foreign_orders",
    "roles",
)
CREATED = re.compile(r"^CREATE (TABLE|VIEW|FUNCTION) (\w+(?:\([\w ,]*\))?)", re.MULTILINE)


def read_files(dialect: str) -> dict[str, str]:
    """Return the texts of all files by their names."""
    folder = migrations_path() / "sql" / dialect
    return {name: (folder / f"{name}.sql").read_text(encoding="utf-8") for name in FILES}


def statements(text: str) -> Iterator[str]:
    """Split a file into statements; a trigger's own semicolons don't end it."""
    statement = ""
    for line in text.splitlines(keepends=True):
        statement += line
        if sqlite3.complete_statement(statement):
            yield statement
            statement = ""
