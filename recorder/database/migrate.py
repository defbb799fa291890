"""Brings a database to the schema this program knows, or reports the command to run.

All migrations run in one transaction, so a database is at one revision or another, never between.
Two processes that open an empty database take turns: on PostgreSQL by an advisory lock, on SQLite
by BEGIN IMMEDIATE. The second one finds the work done.
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
EXPECTED = "0017"
#: Revisions that were squashed into 0016 before the first release.
RETIRED = frozenset(f"{number:04}" for number in range(1, 16))
#: Any number that no other program locks in the same database: "recorder" in ASCII.
_LOCK = int.from_bytes(b"recorder", "big")
_NEWER = "the database's schema ({}) is newer than this program's ({}); install the newer recorder"
_OLDER = "the database's schema ({}) is older than this program's ({}); run `recorder migrate`"
_RETIRED = (
    "the database's schema ({}) is one of an early recorder, which this program can't read;"
    " nothing was changed. Run `recorder export` with the recorder that wrote the database,"
    " then `recorder import` into a new one (docs/how-to/upgrade.md)"
)
_FOREIGN = "the database holds tables that aren't the recorder's; give it a database of its own"


def bring_to_current(database: Database) -> bool:
    """Migrate an empty database; return whether it was empty. Any other must be current.

    Raises SchemaMismatch, with the command to run, for an older, newer or foreign schema.
    """
    found = in_unit(database.reader if _exists(database) else database.writer, look)
    return found != EXPECTED and in_unit(database.writer, _migrate_empty)


def migrate(database: Database) -> None:
    """Bring the database to `EXPECTED`. Raises SchemaMismatch for a newer or foreign schema."""
    in_unit(database.writer, migrate_unit)


def downgrade(database: Database, revision: str) -> None:
    """Bring the database back to an older ``revision`` ("base" drops everything)."""
    in_unit(database.writer, _downgrade, revision)


def current_revision(connection: Connection) -> str | None:
    """Return the database's revision, or None before its first migration."""
    return MigrationContext.configure(connection).get_current_revision()


def look(connection: Connection) -> str | None:
    """Return the current revision, None for an empty database.

    Raises SchemaMismatch for tables that no recorder created, and for a `RETIRED` revision.
    """
    revision = current_revision(connection)
    if revision == EXPECTED or revision in _known_revisions():
        return revision
    tables = set(inspect(connection).get_table_names()) - {"alembic_version"}
    # Other programs number their revisions with Alembic too; only a recorder has these tables.
    if revision in RETIRED and "events" in tables:
        raise SchemaMismatch(_RETIRED.format(revision))
    is_ours = tables >= {"events", "leases"} if revision else not tables
    if not is_ours:
        raise SchemaMismatch(_FOREIGN)
    return revision


def migrations_path() -> Path:
    """Return the folder of the migrations: in the installed package, or beside it in a checkout."""
    package = Path(__file__).resolve().parents[1]
    installed = package / "migrations"
    return installed if installed.is_dir() else package.parent / "migrations"


def migrate_unit(connection: Connection) -> None:
    """Do what `migrate` does, in a transaction that the caller commits."""
    _take_turn(connection)
    found = look(connection)
    if found is not None and found not in _known_revisions():
        raise SchemaMismatch(_NEWER.format(found, EXPECTED))
    command.upgrade(_config(connection), EXPECTED)


def _migrate_empty(connection: Connection) -> bool:
    _take_turn(connection)
    found = look(connection)
    if found is None:
        command.upgrade(_config(connection), EXPECTED)
    elif found != EXPECTED:
        mismatch = _OLDER if found in _known_revisions() else _NEWER
        raise SchemaMismatch(mismatch.format(found, EXPECTED))
    return found is None


def _downgrade(connection: Connection, revision: str) -> None:
    _take_turn(connection)
    try:
        command.downgrade(_config(connection), revision)
    except CommandError as error:
        raise SchemaMismatch(f"can't go back to {revision!r}: {error}") from error


def _exists(database: Database) -> bool:
    """SQLite's reader creates no file, and an empty database is not worth an error."""
    return database.dialect != "sqlite" or Path(database.url.database or "").exists()


def _known_revisions() -> set[str]:
    return {path.name.partition("_")[0] for path in (migrations_path() / "versions").glob("*.py")}


def _take_turn(connection: Connection) -> None:
    """Wait until no other process migrates; both locks end with the transaction."""
    if connection.dialect.name == "postgresql":
        # A long log takes long to alter, and waiting for another process may too.
        connection.execute(text("SET LOCAL statement_timeout = 0"))
        connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _LOCK})


def _config(connection: Connection) -> Config:
    config = Config()
    config.set_main_option("script_location", str(migrations_path()).replace("%", "%%"))
    config.attributes["connection"] = connection
    return config
