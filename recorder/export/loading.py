"""Puts an exported log into a database that has nothing of its accounts: all of it, or nothing.

One transaction takes every event and ends only when every digest, every file and every head was
found as the manifest has it. A process that dies in the middle, a disk that fills up, a file that
turns out to be damaged at its end: each leaves the database as it was.
"""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from sqlalchemy import Connection, literal, select, text

from recorder.database.engine import Database, in_unit
from recorder.database.schema import metadata
from recorder.errors import ConfigurationError
from recorder.export.manifest import Manifest
from recorder.export.reading import OnProgress, Reading
from recorder.log.rules.event import EMPTY_HEAD, Head
from recorder.log.sql.append import write_chained

#: What a person may have set before there is a log.
_MAY_STAND = frozenset({"controls", "limits"})


def require_from_the_start(folder: Path, manifest: Manifest) -> None:
    """Raise ConfigurationError unless every log of the export begins with its first event."""
    for account, stretch in manifest.log.items():
        if stretch.after.head() != EMPTY_HEAD:
            raise ConfigurationError(
                f"{folder} holds the log of account {account!r} from position"
                f" {stretch.after.position + 1} on; only a log from its start can be imported"
            )


def load(
    database: Database, folder: Path, manifest: Manifest, on_progress: OnProgress
) -> dict[str, Head]:
    """Write the log as it is, and return its heads by account. Durable when it returns.

    The tables that fold from it stay empty: a recorder that starts folds them, or `rebuild`. Raises
    ExportDamaged, FilesFailed, ConfigurationError where something of an account stands already,
    LeaseLost where a recorder came in between, or what the database raises; nothing was written
    then.
    """
    require_from_the_start(folder, manifest)
    return in_unit(database.writer, _load, folder, manifest, on_progress)


def _load(
    connection: Connection, folder: Path, manifest: Manifest, on_progress: OnProgress
) -> dict[str, Head]:
    if connection.dialect.name == "postgresql":
        # Between two batches it waits for the files, which may lie on something slow.
        connection.execute(text("SET LOCAL idle_in_transaction_session_timeout = 0"))
        connection.execute(text("SET LOCAL statement_timeout = 0"))
    _require_nothing_of(connection, manifest.log)
    reading = Reading(folder, manifest)
    for batch in reading.batches(on_progress):
        write_chained(connection, batch)
    return reading.heads


def _require_nothing_of(connection: Connection, accounts: Collection[str]) -> None:
    for name, table in sorted(metadata.tables.items()):
        if name in _MAY_STAND:
            continue
        chosen = table.c.account.in_(sorted(accounts))
        found = connection.execute(select(table.c.account, literal(1)).where(chosen).limit(1))
        row = found.first()
        if row is not None:
            raise ConfigurationError(
                f"the database has rows of account {row.account!r} in {name};"
                " an import wants an account that has none: give it another database"
            )
