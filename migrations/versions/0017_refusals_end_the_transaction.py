"""Lets a refused command end the caller's transaction on SQLite, as it does on PostgreSQL.

A program that catches the error and forgets to roll back would keep the write lock, and the
recorder could write nothing. A database that was created since has it already. There is no way
back, and none is needed: an earlier recorder works with it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from alembic import op

from recorder.database.prepared import driver_connection
from recorder.database.schema_files import read_files, statements

revision = "0017"
down_revision = "0016"
branch_labels = None
depends_on = None

TRIGGER = re.compile(r"^CREATE TRIGGER (\w+)", re.MULTILINE)


def upgrade() -> None:
    driver = driver_connection(op.get_bind())
    if op.get_context().dialect.name == "sqlite":
        table = "SELECT sql FROM sqlite_master WHERE name = 'outbox'"
        if "ON CONFLICT ROLLBACK" not in driver.execute(table).fetchone()[0]:
            rebuild(driver)
        return
    known = "SELECT 1 FROM pg_constraint WHERE conname = 'outbox_client_msg_id'"
    if driver.execute(known).fetchone() is None:
        driver.execute(
            "ALTER TABLE outbox ADD CONSTRAINT outbox_client_msg_id"
            " UNIQUE USING INDEX outbox_client_msg_id"
        )


def downgrade() -> None:
    """Leave it as it is."""


def rebuild(driver: Any) -> None:
    """Create the outbox and our triggers again, with the same rows. What others created stays."""
    files = read_files("sqlite")
    ours = {name: text for text in files.values() for name, text in triggers_of(text)}
    asked = "SELECT name, tbl_name, sql FROM sqlite_master WHERE type = 'trigger'"
    found = driver.execute(asked).fetchall()
    for name in {name for name, table, _ in found if name in ours or table == "outbox"}:
        driver.execute(f'DROP TRIGGER "{name}"')
    asked = "SELECT name, sql FROM sqlite_master WHERE type = 'index' AND tbl_name = 'outbox'"
    indexes = driver.execute(f"{asked} AND sql IS NOT NULL").fetchall()
    for name, _ in indexes:
        driver.execute(f'DROP INDEX "{name}"')
    # Views go on naming the outbox, and not the table that is renamed here.
    driver.execute("PRAGMA legacy_alter_table = ON")
    driver.execute("ALTER TABLE outbox RENAME TO outbox_0016")
    driver.execute("PRAGMA legacy_alter_table = OFF")
    for statement in statements(files["tables"]):
        if "CREATE TABLE outbox (" in statement:
            driver.execute(statement)
    driver.execute("INSERT INTO outbox SELECT * FROM outbox_0016")
    # A number is never given twice, also where the last rows are gone.
    driver.execute(
        "UPDATE sqlite_sequence SET seq = (SELECT max(seq) FROM sqlite_sequence"
        " WHERE name IN ('outbox', 'outbox_0016')) WHERE name = 'outbox'"
    )
    driver.execute("DROP TABLE outbox_0016")
    # Its place is taken by the key of the same name.
    theirs = [sql for name, table, sql in found if table == "outbox" and name not in ours]
    kept = [sql for name, sql in indexes if name != "outbox_client_msg_id"]
    for statement in (*kept, *ours.values(), *theirs):
        driver.execute(statement)


def triggers_of(text: str) -> Iterator[tuple[str, str]]:
    for statement in statements(text):
        if named := TRIGGER.search(statement):
            yield named[1], statement
