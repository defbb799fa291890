"""Brings a database to the schema this program knows, or says what to run.

Migrations run in one transaction, so a database is at one revision or another, never between. Two
processes that meet an empty database take turns: on PostgreSQL by an advisory lock, on SQLite by
BEGIN IMMEDIATE. Whoever comes second finds the work done.
"""

from __future__ import annotations

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.util import CommandError
from sqlalchemy import Connection, inspect, text

from recorder.database.engine import Database, in_unit
from recorder.errors import SchemaMismatch

#: The revision whose tables this program's code names.
EXPECTED = "0015"
#: Any number will do that no other program locks in the same database: "recorder" in ASCII.
_LOCK = int.from_bytes(b"recorder", "big")
_TABLE_OF_ALEMBIC = "alembic_version"
#: Stand at every revision of ours that this program can't know: the ones to come.
_TABLES_OF_OURS = frozenset({"events", "leases"})


def bring_to_current(database: Database) -> bool:
    """Migrate an empty database; return whether it was. What isn't empty must be current.

    Raises SchemaMismatch, with the command to run, for an older, newer or foreign schema.
    """
    found = in_unit(database.reader if _exists(database) else database.writer, look)
    if found == EXPECTED:
        return False
    return in_unit(database.writer, _migrate_empty)


def migrate(database: Database) -> None:
    """Bring the database to `EXPECTED`. Raises SchemaMismatch for a newer or foreign schema."""
    in_unit(database.writer, migrate_unit)


def downgrade(database: Database, revision: str) -> None:
    """Bring the database back to an older ``revision`` ("base" drops everything)."""
    in_unit(database.writer, _downgrade, revision)


def current_revision(connection: Connection) -> str | None:
    """Return the revision the database is at, or None where nothing was migrated yet."""
    return MigrationContext.configure(connection).get_current_revision()


def look(connection: Connection) -> str | None:
    """Return the current revision, None for an empty database.

    Raises SchemaMismatch where tables stand that no migration of ours made.
    """
    revision = current_revision(connection)
    if revision == EXPECTED or revision in _known_revisions():
        return revision
    tables = set(inspect(connection).get_table_names()) - {_TABLE_OF_ALEMBIC}
    # Other programs number their revisions with alembic too; a newer recorder's tables are ours.
    is_ours = tables >= _TABLES_OF_OURS if revision else not tables
    if not is_ours:
        raise SchemaMismatch(
            "the database holds tables that aren't the recorder's; give it a database of its own"
        )
    return revision


def migrations_path() -> Path:
    """Return the folder of the migrations: in the installed package, or beside it in a checkout."""
    package = Path(__file__).resolve().parents[1]
    installed = package / "migrations"
    return installed if installed.is_dir() else package.parent / "migrations"


def _exists(database: Database) -> bool:
    """SQLite's reader creates no file, and an empty database is not worth an error."""
    return database.dialect != "sqlite" or Path(database.url.database or "").exists()


def _migrate_empty(connection: Connection) -> bool:
    _take_turn(connection)
    found = look(connection)
    if found is None:
        _upgrade(connection)
        return True
    if found != EXPECTED:
        age = "older" if found in _known_revisions() else "newer"
        do = "run `recorder migrate`" if age == "older" else "install the newer recorder"
        raise SchemaMismatch(
            f"the database's schema ({found}) is {age} than this program's ({EXPECTED}); {do}"
        )
    return False


def migrate_unit(connection: Connection) -> None:
    """Do what `migrate` does, in a transaction that somebody else commits."""
    _take_turn(connection)
    found = look(connection)
    if found is not None and found not in _known_revisions():
        raise SchemaMismatch(
            f"the database's schema ({found}) is newer than this program's ({EXPECTED});"
            " install the newer recorder"
        )
    _upgrade(connection)


def _upgrade(connection: Connection) -> None:
    command.upgrade(_config(connection), EXPECTED)


def _downgrade(connection: Connection, revision: str) -> None:
    _take_turn(connection)
    try:
        command.downgrade(_config(connection), revision)
    except CommandError as error:
        raise SchemaMismatch(f"can't go back to {revision!r}: {error}") from error


def _known_revisions() -> set[str]:
    return {path.name.partition("_")[0] for path in (migrations_path() / "versions").glob("*.py")}


def _take_turn(connection: Connection) -> None:
    """Wait for whoever else migrates; both locks end with the transaction."""
    if connection.dialect.name == "postgresql":
        # A long log takes long to alter, and waiting for another process may too.
        connection.execute(text("SET LOCAL statement_timeout = 0"))
        connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _LOCK})


def _config(connection: Connection) -> Config:
    config = Config()
    config.set_main_option("script_location", str(migrations_path()).replace("%", "%%"))
    config.attributes["connection"] = connection
    return config
