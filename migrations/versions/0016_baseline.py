"""Creates the whole schema from the SQL files beside this folder, in sql/<dialect>/.

Revisions 0001 to 0015 were squashed into this one before the first release; see
docs/how-to/upgrade.md for the way over. Once released the files never change: a later revision
brings its own SQL.
"""

from __future__ import annotations

from alembic import op

from recorder.database.prepared import driver_connection
from recorder.database.schema_files import CREATED, read_files, statements

revision = "0016"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    driver, dialect = driver_connection(op.get_bind()), op.get_context().dialect.name
    for text in read_files(dialect).values():
        # PostgreSQL's driver takes a whole file, SQLite's one statement at a time.
        for statement in statements(text) if dialect == "sqlite" else [text]:
            driver.execute(statement)


def downgrade() -> None:
    """Drop everything but the roles: other databases of the server may use them."""
    dialect = op.get_context().dialect.name
    created = [found for text in read_files(dialect).values() for found in CREATED.findall(text)]
    # Views before tables, tables with their triggers before the functions of these.
    for kind in ("VIEW", "TABLE", "FUNCTION"):
        for _, name in reversed([each for each in created if each[0] == kind]):
            op.execute(f"DROP {kind} {name}")
    if dialect != "sqlite":
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
