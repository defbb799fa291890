"""Lets a refused command end the caller's transaction on SQLite, as it does on PostgreSQL.

A program that catches the error and forgets to roll back would keep the write lock, and the
recorder could write nothing. A database that was created since has it already. There is no way
back, and none is needed: an earlier recorder works with it.
"""

from __future__ import annotations

import re
from typing import Any

from alembic import op

from recorder.database.prepared import driver_connection
from recorder.database.schema_files import read_files, statements

revision = "0017"
down_revision = "0016"
branch_labels = None
depends_on = None

TRIGGER = re.compile(r"CREATE TRIGGER (\w+)")


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
    """Create the outbox and all triggers and views again, with the same rows."""
    files = read_files("sqlite")
    asked = "SELECT type, name FROM sqlite_master WHERE type IN ('trigger', 'view')"
    for kind, name in driver.execute(asked).fetchall():
        driver.execute(f"DROP {kind} {name}")
    asked = "SELECT name FROM sqlite_master WHERE type = 'index' AND tbl_name = 'outbox'"
    for (name,) in driver.execute(f"{asked} AND sql IS NOT NULL").fetchall():
        driver.execute(f"DROP INDEX {name}")
    driver.execute("ALTER TABLE outbox RENAME TO outbox_0016")
    for statement in statements(files.pop("tables")):
        if re.search(r"CREATE TABLE outbox \(|CREATE (UNIQUE )?INDEX \w+ ON outbox \(", statement):
            driver.execute(statement)
    driver.execute("INSERT INTO outbox SELECT * FROM outbox_0016")
    # A number is never given twice, also where the last rows are gone.
    driver.execute(
        "UPDATE sqlite_sequence SET seq = (SELECT max(seq) FROM sqlite_sequence"
        " WHERE name IN ('outbox', 'outbox_0016')) WHERE name = 'outbox'"
    )
    driver.execute("DROP TABLE outbox_0016")
    for text in files.values():
        for statement in statements(text):
            driver.execute(statement)
