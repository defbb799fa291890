"""Creates the whole schema from the SQL files beside this folder, in sql/<dialect>/.

Revisions 0001 to 0015 were squashed into this one before the first release; see
docs/how-to/upgrade.md
for the way over. Once released the files never change: a later revision brings its own SQL.
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterator
from pathlib import Path

from alembic import op

from recorder.database.prepared import driver_connection

revision = "0016"
down_revision = None
branch_labels = None
depends_on = None

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


def upgrade() -> None:
    driver = driver_connection(op.get_bind())
    for text in read_files():
        # PostgreSQL's driver takes a whole file, SQLite's one statement at a time.
        for statement in statements(text) if is_sqlite() else [text]:
            driver.execute(statement)


def downgrade() -> None:
    """Drop everything but the roles: other databases of the server may use them."""
    created = [found for text in read_files() for found in CREATED.findall(text)]
    # Views before tables, tables with their triggers before the functions of these.
    for kind in ("VIEW", "TABLE", "FUNCTION"):
        for _, name in reversed([each for each in created if each[0] == kind]):
            op.execute(f"DROP {kind} {name}")
    if not is_sqlite():
        op.execute(REVOKE)


REVOKE = """
    DO $$ DECLARE
        role_name text;
    BEGIN
        FOR role_name IN SELECT rolname FROM pg_roles
            WHERE rolname IN ('recorder_reader', 'recorder_daemon')
        LOOP
            EXECUTE format('REVOKE SELECT ON alembic_version FROM %I', role_name);
        END LOOP;
    END $$
"""


def is_sqlite() -> bool:
    return op.get_context().dialect.name == "sqlite"


def read_files() -> list[str]:
    folder = Path(__file__).parents[1] / "sql" / op.get_context().dialect.name
    return [(folder / f"{name}.sql").read_text(encoding="utf-8") for name in FILES]


def statements(text: str) -> Iterator[str]:
    """Split a file into statements; a trigger's own semicolons don't end it."""
    statement = ""
    for line in text.splitlines(keepends=True):
        statement += line
        if sqlite3.complete_statement(statement):
            yield statement
            statement = ""
