"""The one place where a database's error becomes one of ours.

The caller wants to know one thing: try again later (StorageUnavailable), look first
(CommitUncertain), stop and call the operator (StorageFailed), stop because another process owns the
account (LeaseLost), or report that the row was refused (Refused). Both databases answer with codes,
which the tables below class; only an error without a code, from before a session, is classed by
its text. Any other error
is StorageFailed: an unexpected error is not tried again for ever.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
from sqlalchemy import exc

from recorder.database.pooler import SHARED
from recorder.errors import (
    CommitUncertain,
    LeaseLost,
    RecorderError,
    Refused,
    StorageFailed,
    StorageUnavailable,
)

#: Driver errors also arrive bare: COPY runs on psycopg's own cursor, under SQLAlchemy's connection.
ForeignError = (exc.SQLAlchemyError, sqlite3.Error, psycopg.Error)

#: Constraints that only a second writer of the same account can break.
FENCES = frozenset({"events_pkey", "events_follow"})
#: How every refusal of a command by the schema begins, on both databases.
REFUSAL = "outbox: "

# What the operator can do. None: the same unit may work later.
_AWAY = None
_FULL = "free some space on the database's disk and start again"
_READ_ONLY = "the database can't be written; check its permissions, or where the URL points"
_DAMAGED = "the database is damaged; restore a copy and run `recorder verify`"
_DISK = (
    "the disk refused; check its health, quotas and limits on file sizes, and run"
    " `recorder verify` before starting again"
)
_SCHEMA = "the schema is not the one expected; run `recorder migrate`"
_ACCESS = "the database refused access; check user, password, database name, grants and search_path"
_MISSING = "the database can't be opened; check the path and its folder"
_OTHER = "the database refused"

#: SQLite's primary result codes.
_SQLITE: dict[int, str | None] = {
    sqlite3.SQLITE_BUSY: _AWAY,
    sqlite3.SQLITE_LOCKED: _AWAY,
    sqlite3.SQLITE_PROTOCOL: _AWAY,
    sqlite3.SQLITE_INTERRUPT: _AWAY,
    sqlite3.SQLITE_FULL: _FULL,
    sqlite3.SQLITE_IOERR: _DISK,
    sqlite3.SQLITE_READONLY: _READ_ONLY,
    sqlite3.SQLITE_PERM: _READ_ONLY,
    sqlite3.SQLITE_AUTH: _READ_ONLY,
    sqlite3.SQLITE_CORRUPT: _DAMAGED,
    sqlite3.SQLITE_NOTADB: _DAMAGED,
    sqlite3.SQLITE_CANTOPEN: _MISSING,
    sqlite3.SQLITE_SCHEMA: _SCHEMA,
}
#: PostgreSQL's SQLSTATEs, or their classes; the whole code decides first.
_POSTGRESQL: dict[str, str | None] = {
    "08": _AWAY,
    "25006": _READ_ONLY,
    "25P03": _AWAY,
    "25P04": _AWAY,
    "26": SHARED,
    "28": _ACCESS,
    "3D": _ACCESS,
    "3F": _ACCESS,
    "40": _AWAY,
    "42501": _ACCESS,
    "42703": _SCHEMA,
    "42704": _SCHEMA,
    "42883": _SCHEMA,
    "42P01": _SCHEMA,
    "42P05": SHARED,
    "53": _AWAY,
    "53100": _FULL,
    "55006": _AWAY,
    "55P03": _AWAY,
    "57": _AWAY,
    "57P04": _ACCESS,
    "58030": _DISK,
    "58P01": _DAMAGED,
    "58P02": _DAMAGED,
    "72": _AWAY,
    "XX001": _DAMAGED,
    "XX002": _DAMAGED,
}
#: libpq reports a failed log-in without a code; for a server that is away it has other texts.
_LOGIN_REFUSED = (
    "authentication failed",
    "does not exist",
    "no pg_hba.conf entry",
    "no password supplied",
    "permission denied for database",
)
#: How a pooler reports that it doesn't take what the URL's own ``options`` ask for.
_STARTUP_REFUSED = "unsupported startup parameter"
#: SQLite names no constraint: beginnings of its texts, and the constraint each means.
_SQLITE_CONSTRAINTS = {
    "events: position": "events_follow",
    "UNIQUE constraint failed: events.account, events.position": "events_pkey",
    "UNIQUE constraint failed: outbox.account, outbox.client_msg_id": "outbox_client_msg_id",
    "CHECK constraint failed: outbox_client_msg": "outbox_client_msg",
}
#: Constraints of the outbox whose own texts name no field.
_CLIENT_MSG_ID = {
    "outbox_client_msg_id": "a command with this client_msg_id exists already",
    "outbox_client_msg": "client_msg_id must be 1 to 100 characters",
}


@contextmanager
def translated_errors() -> Iterator[None]:
    """Raise a database's error as one of ours, with the original as its cause."""
    try:
        yield
    except ForeignError as error:
        raise translated(error) from error
    except UnicodeDecodeError as error:
        # SQLite quotes bytes it can't parse, and the driver expects its messages to be UTF-8.
        raise StorageFailed(f"{_DAMAGED} (it holds bytes that are no text)") from error


@contextmanager
def commit_errors() -> Iterator[None]:
    """Around COMMIT alone: a connection that breaks in it leaves the outcome unknown."""
    try:
        yield
    except ForeignError as error:
        if not _is_connection_lost(error):
            raise translated(error) from error
        raise CommitUncertain(
            "the connection broke during COMMIT, which may have taken effect:"
            f" {_first_line(_original(error))}"
        ) from error


def translated(error: Exception) -> RecorderError:
    """Return our error for one that a database, its driver or SQLAlchemy raised."""
    original = _original(error)
    text = _first_line(original)
    if isinstance(original, sqlite3.Error):
        return _from_sqlite(original)
    if isinstance(original, psycopg.Error):
        return _from_postgresql(original, text)
    if isinstance(error, exc.TimeoutError):
        return StorageUnavailable(f"all connections to the database are in use: {error}")
    if isinstance(error, exc.DBAPIError) and error.connection_invalidated:
        return StorageUnavailable(f"the connection to the database was lost: {text}")
    return StorageFailed(f"{_OTHER}: {text}")


def _is_connection_lost(error: Exception) -> bool:
    original = _original(error)
    if isinstance(original, psycopg.OperationalError):
        return original.sqlstate is None or original.sqlstate.startswith(("08", "57P0"))
    return isinstance(error, exc.DBAPIError) and error.connection_invalidated


def _from_sqlite(error: sqlite3.Error) -> RecorderError:
    text = str(error)
    code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF
    if code == sqlite3.SQLITE_CONSTRAINT:
        names = (name for each, name in _SQLITE_CONSTRAINTS.items() if text.startswith(each))
        return _from_constraint(text, next(names, ""), on_outbox=" outbox." in text)
    advice = _SQLITE.get(code, _OTHER)
    is_schema = text.startswith(("no such table", "no such column")) or "has no column" in text
    if advice is _OTHER and is_schema:
        advice = _SCHEMA
    if advice is _AWAY:
        return StorageUnavailable(f"the database is busy: {text}")
    return StorageFailed(f"{advice} (SQLite: {text})")


def _from_postgresql(error: psycopg.Error, text: str) -> RecorderError:
    code = error.sqlstate or ""
    if code.startswith("23"):
        on_outbox = error.diag.table_name == "outbox"
        return _from_constraint(text, error.diag.constraint_name or "", on_outbox=on_outbox)
    if _STARTUP_REFUSED in text:
        return StorageFailed(
            "a connection pooler refuses the options of the database URL; leave them out, or give"
            f" PostgreSQL's direct address ({text})"
        )
    if not code and isinstance(error, psycopg.OperationalError):
        if not any(phrase in str(error) for phrase in _LOGIN_REFUSED):
            return StorageUnavailable(f"the database can't be reached: {text}")
        code = "28"
    advice = _POSTGRESQL.get(code, _POSTGRESQL.get(code[:2], _OTHER))
    if advice is _AWAY:
        return StorageUnavailable(f"the database did not take it now: {text}")
    return StorageFailed(f"{advice} (PostgreSQL: {text})")


def _from_constraint(text: str, constraint: str, *, on_outbox: bool) -> RecorderError:
    if constraint in FENCES:
        return LeaseLost(f"another process appended to an account of this one ({text})")
    if constraint in _CLIENT_MSG_ID:
        return Refused("client_msg_id", _CLIENT_MSG_ID[constraint])
    if on_outbox or text.startswith(REFUSAL):
        return Refused("schema", text.removeprefix(REFUSAL))
    return StorageFailed(f"{_OTHER} ({text})")


def _original(error: Exception) -> BaseException:
    if isinstance(error, exc.DBAPIError) and error.orig is not None:
        return error.orig
    return error


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
