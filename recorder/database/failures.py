"""The one place where a database's error becomes one of ours.

Whoever catches wants to know one thing: try again later (StorageUnavailable), look first
(CommitUncertain), stop and call a person (StorageFailed), stop because somebody else owns the
account (LeaseLost), or tell the caller that the row was refused (Refused). Both databases answer
with codes; only what they have no code for is told by its text. What is left over counts as
StorageFailed: an error nobody foresaw is not tried again for ever.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NoReturn

import psycopg
from sqlalchemy import exc

from recorder.errors import (
    CommitUncertain,
    LeaseLost,
    RecorderError,
    Refused,
    StorageFailed,
    StorageUnavailable,
)

#: Driver errors also come bare: COPY runs on psycopg's own cursor, under SQLAlchemy's connection.
ForeignError = (exc.SQLAlchemyError, sqlite3.Error, psycopg.Error)

#: Names of the constraints that only a second writer of the same account can break.
FENCES = frozenset({"events_pkey", "events_follow"})
#: How every refusal of a command by the schema begins, on both databases.
REFUSAL = "outbox: "

_ASK = {
    "full": "free some space on the database's disk and start again",
    "read-only": "the database can't be written; check its permissions, or where the URL points",
    "damaged": "the database is damaged; restore a copy and run `recorder verify`",
    "disk": "the disk refused; look at its health, quotas and limits on file sizes, and run"
    " `recorder verify` before starting again",
    "schema": "the schema is not the one expected; run `recorder migrate`",
    "access": "the database turned us away; check user, password, database name and grants",
    "missing": "the database can't be opened; check the path and its folder",
    "other": "the database refused",
}

_SQLITE_AWAY = frozenset(
    {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_PROTOCOL, sqlite3.SQLITE_INTERRUPT}
)
_SQLITE_FAILED = {
    sqlite3.SQLITE_FULL: "full",
    sqlite3.SQLITE_IOERR: "disk",
    sqlite3.SQLITE_READONLY: "read-only",
    sqlite3.SQLITE_PERM: "read-only",
    sqlite3.SQLITE_AUTH: "read-only",
    sqlite3.SQLITE_CORRUPT: "damaged",
    sqlite3.SQLITE_NOTADB: "damaged",
    sqlite3.SQLITE_CANTOPEN: "missing",
    sqlite3.SQLITE_SCHEMA: "schema",
}
#: SQLSTATE classes and codes after which the same unit may work later.
_POSTGRES_AWAY = ("08", "40", "53", "57", "55P03", "55006", "25P03", "25P04")
#: The most telling first: the first prefix that fits decides.
_POSTGRES_FAILED = {
    "53100": "full",
    "57P04": "access",
    "25006": "read-only",
    "42501": "access",
    "42": "schema",
    "3F": "schema",
    "3D": "access",
    "28": "access",
    "58030": "disk",
    "58": "damaged",
    "XX": "damaged",
}
#: libpq reports a failed log-in without a code; a server that is away says other things.
_LOGIN_REFUSED = (
    "authentication failed",
    "does not exist",
    "no pg_hba.conf entry",
    "no password supplied",
    "permission denied for database",
)


@contextmanager
def translated_errors() -> Iterator[None]:
    """Raise what the database raised as one of our errors, with the original as its cause."""
    try:
        yield
    except ForeignError as error:
        raise translated(error) from error
    except UnicodeDecodeError as error:
        # SQLite quotes what it can't make sense of, and the driver expects its words to be UTF-8.
        raise StorageFailed(f"{_ASK['damaged']} (it holds bytes that are no text)") from error


@contextmanager
def commit_errors() -> Iterator[None]:
    """Around COMMIT alone: a connection that breaks in it leaves the outcome unknown."""
    try:
        yield
    except ForeignError as error:
        if is_connection_lost(error):
            _raise_uncertain(error)
        raise translated(error) from error


def _raise_uncertain(error: Exception) -> NoReturn:
    raise CommitUncertain(
        f"the connection broke during COMMIT, which may have taken effect: {_said(error)}"
    ) from error


def is_connection_lost(error: Exception) -> bool:
    """Tell whether nobody can know what the server did last."""
    original = _original(error)
    if isinstance(original, psycopg.OperationalError):
        return original.sqlstate is None or original.sqlstate.startswith(("08", "57P0"))
    return isinstance(error, exc.DBAPIError) and error.connection_invalidated


def translated(error: Exception) -> RecorderError:
    """Return our error for what a database, its driver or SQLAlchemy raised."""
    original = _original(error)
    if isinstance(original, sqlite3.Error):
        return _from_sqlite(original)
    if isinstance(original, psycopg.Error):
        return _from_postgres(original)
    if isinstance(error, exc.TimeoutError):
        return StorageUnavailable(f"all connections to the database are in use: {error}")
    if isinstance(error, exc.DBAPIError) and error.connection_invalidated:
        return StorageUnavailable(f"the connection to the database was lost: {_said(error)}")
    return StorageFailed(f"{_ASK['other']}: {_said(error)}")


def _from_sqlite(error: sqlite3.Error) -> RecorderError:
    text = str(error)
    extended = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR)
    code = extended & 0xFF
    if code in _SQLITE_AWAY:
        return StorageUnavailable(f"the database is busy: {text}")
    if code == sqlite3.SQLITE_CONSTRAINT:
        return _from_constraint(text, _sqlite_constraint(text), on_outbox=" outbox." in text)
    if code in _SQLITE_FAILED:
        return StorageFailed(f"{_ASK[_SQLITE_FAILED[code]]} (SQLite: {text})")
    if text.startswith(("no such table", "no such column")) or "has no column" in text:
        return StorageFailed(f"{_ASK['schema']} (SQLite: {text})")
    return StorageFailed(f"{_ASK['other']} (SQLite: {text})")


def _sqlite_constraint(text: str) -> str:
    if text.startswith("events: position"):
        return "events_follow"
    if text == "UNIQUE constraint failed: events.account, events.position":
        return "events_pkey"
    if text == "UNIQUE constraint failed: outbox.account, outbox.client_msg_id":
        return "outbox_client_msg_id"
    return text.removeprefix("CHECK constraint failed: ")


def _from_postgres(error: psycopg.Error) -> RecorderError:
    code, text = error.sqlstate or "", _first_line(error)
    if code.startswith("23"):
        on_outbox = error.diag.table_name == "outbox"
        return _from_constraint(text, error.diag.constraint_name or "", on_outbox=on_outbox)
    for prefix, kind in _POSTGRES_FAILED.items():
        if code.startswith(prefix):
            return StorageFailed(f"{_ASK[kind]} (PostgreSQL: {text})")
    if code.startswith(_POSTGRES_AWAY):
        return StorageUnavailable(f"the database did not take it now: {text}")
    if not code and isinstance(error, psycopg.OperationalError):
        if any(phrase in str(error) for phrase in _LOGIN_REFUSED):
            return StorageFailed(f"{_ASK['access']} (PostgreSQL: {text})")
        return StorageUnavailable(f"the database can't be reached: {text}")
    return StorageFailed(f"{_ASK['other']} (PostgreSQL: {text})")


def _from_constraint(text: str, constraint: str, *, on_outbox: bool) -> RecorderError:
    if constraint in FENCES:
        return LeaseLost(f"another process appended to an account of this one ({text})")
    if constraint == "outbox_client_msg_id":
        return Refused("client_msg_id", "a command with this client_msg_id exists already")
    if constraint == "outbox_client_msg":
        return Refused("client_msg_id", "client_msg_id must be 1 to 100 characters")
    if on_outbox or text.startswith(REFUSAL):
        return Refused("schema", text.removeprefix(REFUSAL))
    return StorageFailed(f"{_ASK['other']} ({text})")


def _original(error: Exception) -> BaseException:
    if isinstance(error, exc.DBAPIError) and error.orig is not None:
        return error.orig
    return error


def _said(error: Exception) -> str:
    return _first_line(_original(error))


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
