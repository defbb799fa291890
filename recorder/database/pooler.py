"""Finds a connection pooler that shares one server connection among several of ours.

Where it lends a server for one transaction at a time, settings, prepared statements, advisory locks
and LISTEN don't stay, or are found by another program. The pooler can't be asked, but it can be
seen: the process id that it gave us is not the server's, and the server changes from one
transaction to the next, or serves another connection of ours at the same time.
"""

from __future__ import annotations

import select
from collections.abc import Callable
from typing import Any

import psycopg

from recorder.errors import ConfigurationError, StorageUnavailable

#: A pooler that gives each transaction the next server has changed it after so many.
ASKED_IN_TURN = 4
#: How long a second server connection is waited for, in seconds.
SECOND_WITHIN_S = 5.0
_ASK = "SELECT pg_backend_pid()"
SHARED = (
    "the database URL leads to a connection pooler in transaction or statement mode, in which"
    " settings and prepared statements don't stay; give the recorder a pool in session mode, or"
    " PostgreSQL's direct address"
)


def refuse_transaction_pooler(
    connection: psycopg.Connection[Any], connect: Callable[[], psycopg.Connection[Any]]
) -> None:
    """Raise ConfigurationError where a pooler lends ``connection`` a server per transaction.

    ``connect`` opens another connection to the same address. Raises StorageUnavailable where the
    pooler has no second server for it, so that nothing is known.
    """
    try:
        server = _server_of(connection)
        is_shared = server != connection.info.backend_pid and _is_shared(
            connection, server, connect
        )
    except psycopg.errors.ProtocolViolation as error:
        # It takes no BEGIN.
        raise ConfigurationError(f"{SHARED} (nothing was written)") from error
    if is_shared:
        raise ConfigurationError(f"{SHARED} (nothing was written)")


def _is_shared(
    connection: psycopg.Connection[Any],
    server: int,
    connect: Callable[[], psycopg.Connection[Any]],
) -> bool:
    if any(_server_of(connection) != server for _ in range(ASKED_IN_TURN)):
        return True
    with connect() as other:
        # The last server that was let go is the first to be given out again.
        is_shared = _begin(other) == server or _server_of(connection) != server
        other.rollback()
    return is_shared


def _server_of(connection: psycopg.Connection[Any]) -> int:
    """Return the process id of the server in a transaction of its own."""
    row = connection.execute(_ASK).fetchone()
    connection.rollback()
    assert row is not None
    return int(row[0])


def _begin(connection: psycopg.Connection[Any]) -> int:
    """Begin a transaction and return the server's process id, within `SECOND_WITHIN_S`."""
    driver = connection.pgconn
    driver.send_query(f"BEGIN; {_ASK}".encode())
    found = b""
    while True:
        while driver.is_busy():
            if not select.select([driver.socket], [], [], SECOND_WITHIN_S)[0]:
                driver.finish()
                raise StorageUnavailable(
                    "a connection pooler stands before PostgreSQL, and has no second server"
                    " connection to give; the recorder needs a pool in session mode with at least"
                    " a dozen, or PostgreSQL's direct address"
                )
            driver.consume_input()
        result = driver.get_result()
        if result is None:
            return int(found)
        found = result.get_value(0, 0) or found if result.ntuples else found
