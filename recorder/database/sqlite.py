"""Opens SQLite's engines.

pysqlite opens transactions by its own rules and leaves SELECT outside of them, so its transactions
are switched off and ours are explicit. A unit that may write begins with ``BEGIN IMMEDIATE``, so
that it waits for a lock before it has done anything; a unit that can't write begins with ``BEGIN``.
WAL lets readers and one writer work at the same time.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable
from contextlib import suppress
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import quote

from sqlalchemy import URL, Connection, Engine, NullPool, QueuePool, create_engine, event
from sqlalchemy.dialects.sqlite.base import SQLiteCompiler

from recorder.errors import ConfigurationError
from recorder.exchange.amounts import EXACT, canonical_amount

#: The first with `->>`; json_valid, STRICT and RETURNING are older.
OLDEST = (3, 38, 0)
#: How long a statement waits for another program's lock, in milliseconds.
BUSY_TIMEOUT_MS = 5_000
#: How long a unit waits for a connection of the pool, in seconds.
POOL_TIMEOUT_S = 30
READERS_MAX = 5
#: After one huge transaction the WAL file shrinks to this many bytes again.
WAL_FILE_BYTES = 64 * 1024 * 1024
#: At this length, 80 MiB of the usual pages, a COMMIT copies the WAL into the database. A running
#: recorder copies it beside its writers instead.
WAL_PAGES_MAX = 20_480

_SETTINGS = (
    # Without it REPLACE deletes rows without firing the DELETE triggers.
    "recursive_triggers=ON",
    f"journal_size_limit={WAL_FILE_BYTES}",
)


class ExactSum:
    """The SQL function ``exact_sum``: adds amounts up exactly.

    As with SUM, nulls are left out, and the sum of none is null.
    """

    def __init__(self) -> None:
        self._total: Decimal | None = None

    def step(self, amount: str | None) -> None:
        """Take the next row's amount."""
        if amount is not None:
            total = Decimal(0) if self._total is None else self._total
            self._total = EXACT.add(total, Decimal(amount))

    def finalize(self) -> str | None:
        """Return the sum's text."""
        return None if self._total is None else canonical_amount(self._total)


def open_engines(url: URL, wal_pages_max: int) -> dict[str, Engine]:
    """Return the engines by name. Raises ConfigurationError for an old library.

    A COMMIT copies the WAL into the database once it has ``wal_pages_max`` pages, or never for 0.
    """
    if sqlite3.sqlite_version_info < OLDEST:
        oldest = ".".join(map(str, OLDEST))
        raise ConfigurationError(
            f"this Python's SQLite is {sqlite3.sqlite_version}; {oldest} or newer is needed"
        )
    assert url.database is not None
    path = Path(url.database).absolute()
    copying = f"wal_autocheckpoint={wal_pages_max}"
    engine = partial(_engine, path, copying)
    return {
        "writer": engine(_kept_open(2), "BEGIN IMMEDIATE", "synchronous=FULL"),
        # WAL keeps commits in order, so a crash loses a tail of projections, never their middle,
        # and the tail is folded again from the log.
        "projector": engine(_kept_open(2), "BEGIN IMMEDIATE", "synchronous=NORMAL"),
        "reader": engine(_kept_open(READERS_MAX), "BEGIN", "query_only=ON"),
        "scratch": engine({"poolclass": NullPool}, "BEGIN", "synchronous=FULL"),
    }


def _kept_open(size: int) -> dict[str, Any]:
    options = {"pool_size": size, "max_overflow": 0, "pool_timeout": POOL_TIMEOUT_S}
    return {"poolclass": QueuePool, **options}


class _Compiler(SQLiteCompiler):
    """Writes ``INDEXED BY``, which SQLAlchemy takes as a hint and leaves out for SQLite."""

    def get_from_hint_text(self, table: object, text: str | None) -> str | None:
        return text


def _engine(path: Path, copying: str, pool: dict[str, Any], begin: str, pragma: str) -> Engine:
    writes_at_once = begin == "BEGIN IMMEDIATE"
    engine = create_engine(
        URL.create("sqlite+pysqlite", database=str(path)),
        creator=_connector(path, may_create=writes_at_once),
        # Payloads show what an account holds, so they stay out of tracebacks.
        hide_parameters=True,
        **pool,
    )
    engine.dialect.statement_compiler = _Compiler

    @event.listens_for(engine, "connect")
    def on_connect(connection: sqlite3.Connection, _record: object) -> None:
        connection.execute(f"PRAGMA busy_timeout={BUSY_TIMEOUT_MS}")
        if writes_at_once:
            _enter_wal(connection)
        for setting in (*_SETTINGS, copying, pragma):
            connection.execute(f"PRAGMA {setting}")
        # Typed as if there were no aggregates of texts.
        connection.create_aggregate("exact_sum", 1, ExactSum)  # type: ignore[arg-type]

    @event.listens_for(engine, "begin")
    def on_begin(connection: Connection) -> None:
        # Straight to the driver: this happens with every unit.
        raw = connection.connection.driver_connection
        assert isinstance(raw, sqlite3.Connection)
        raw.execute(begin)

    return engine


def _connector(path: Path, *, may_create: bool) -> Callable[[], sqlite3.Connection]:
    uri = f"file:{quote(str(path))}?mode=rw"

    def connect() -> sqlite3.Connection:
        if may_create:
            _create_private(path)
        # No transactions of pysqlite's own. The pool gives it to one thread at a time.
        return sqlite3.connect(uri, uri=True, isolation_level=None, check_same_thread=False)

    return connect


def _create_private(path: Path) -> None:
    """Create the file for its owner alone: it holds an account. WAL files get its permissions."""
    # It exists already, or can't be created: then SQLite reports why.
    with suppress(OSError):
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))


def _enter_wal(connection: sqlite3.Connection) -> None:
    """Switch the file to WAL, for good.

    SQLite doesn't wait for the lock that the switch needs, so of two processes on a new file one is
    refused. BEGIN IMMEDIATE does wait, and after it the other process has switched.
    """
    if connection.execute("PRAGMA journal_mode").fetchone() == ("wal",):
        return
    try:
        connection.execute("PRAGMA journal_mode=WAL")
    except sqlite3.OperationalError as error:
        if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY:
            raise
        connection.execute("BEGIN IMMEDIATE")
        connection.execute("COMMIT")
        connection.execute("PRAGMA journal_mode=WAL")
