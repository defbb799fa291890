"""Empties SQLite's write-ahead log beside the writers instead of within them.

Left alone, SQLite copies the WAL into the database inside whichever COMMIT makes it long enough,
and syncs two files there: tens of milliseconds in which the log waits. A PASSIVE checkpoint does
the same copying from a connection of its own while others go on writing. It can't start the file
over while somebody always writes; so when the file has grown long, the little that is left is
copied with the writers held, and the file begins anew.
"""

from __future__ import annotations

import logging
import sqlite3

import trio
from attrs import define
from sqlalchemy import Connection

from recorder.storage.engine import Database
from recorder.tasks.units import UnitRunner, WriteGate

log = logging.getLogger("recorder.wal")

#: Between two looks; at 2,000 events a second the WAL grows by a few megabytes in it.
EVERY_S = 1.0
#: A WAL longer than this begins anew: 64 MB of SQLite's usual pages.
PAGES_MAX = 16_384


@define(eq=False)
class WalKeeper:
    """The checkpoints of one SQLite database. ``writers`` are the runners of all that write."""

    database: Database
    writers: tuple[UnitRunner, ...]
    gate: WriteGate

    async def run(self) -> None:
        """Keep the WAL short until cancelled; the last connection to close empties it."""
        for writer in self.writers:
            await writer.run(leave_wal_alone)
        pooled = await trio.to_thread.run_sync(self.database.reader.raw_connection)
        connection = pooled.driver_connection
        assert isinstance(connection, sqlite3.Connection)
        try:
            while True:
                await trio.sleep(EVERY_S)
                if await _checkpoint(connection, "PASSIVE") > PAGES_MAX:
                    async with self.gate.hold(urgent=True):
                        await _checkpoint(connection, "RESTART")
        finally:
            pooled.close()


def leave_wal_alone(connection: Connection) -> None:
    """Stop this connection from making checkpoints of its own."""
    connection.exec_driver_sql("PRAGMA wal_autocheckpoint=0")


async def _checkpoint(connection: sqlite3.Connection, mode: str) -> int:
    """Copy what can be copied; return the pages in the WAL. What is busy is left for the next."""

    def copy() -> int:
        try:
            _busy, pages, _copied = connection.execute(f"PRAGMA wal_checkpoint({mode})").fetchone()
        except sqlite3.OperationalError as error:
            log.debug("no checkpoint now: %s", error)
            return 0
        return int(pages)

    return await trio.to_thread.run_sync(copy)
