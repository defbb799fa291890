"""Checkpoints SQLite's write-ahead log beside the writers instead of within them.

Left alone, SQLite copies the WAL into the database inside whichever COMMIT makes it long enough,
and syncs two files there: tens of milliseconds in which the log waits. A PASSIVE checkpoint does
the same copying from a connection of its own while others go on writing; while the log is behind,
the processor is left to it. It can't restart the file while writers never pause; so when the
file has grown long, the little that is left is copied with the writers held, and the file begins
again.
"""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Callable
from pathlib import Path

import trio
from attrs import define

from recorder.database.engine import Database
from recorder.units import WriteGate

log = logging.getLogger("recorder.wal")

#: Between two looks; at 2,000 events a second the WAL grows by a few megabytes in it.
EVERY_S = 1.0
#: A WAL longer than this begins again: 64 MB of SQLite's usual pages, less than `WAL_PAGES_MAX`.
PAGES_MAX = 16_384
PAGE_BYTES = 4_096


@define(eq=False)
class WalCheckpointer:
    """The checkpoints of one SQLite database."""

    database: Database
    gate: WriteGate
    #: True while the log is behind.
    is_log_busy: Callable[[], bool]

    async def run(self) -> None:
        """Keep the WAL short until cancelled; the last connection to close empties it."""
        pooled = await trio.to_thread.run_sync(self.database.reader.raw_connection)
        connection = pooled.driver_connection
        assert isinstance(connection, sqlite3.Connection)
        try:
            while True:
                await trio.sleep(EVERY_S)
                if self.is_log_busy() and self._wal_bytes() < PAGES_MAX * PAGE_BYTES:
                    continue
                if await trio.to_thread.run_sync(_checkpoint, connection, "PASSIVE") > PAGES_MAX:
                    await trio.to_thread.run_sync(self.restart_wal, connection)
        finally:
            pooled.close()

    def _wal_bytes(self) -> int:
        try:
            return Path(f"{self.database.url.database}-wal").stat().st_size
        except OSError:
            return 0

    def restart_wal(self, connection: sqlite3.Connection) -> None:
        with self.gate.hold(urgent=True):
            _checkpoint(connection, "RESTART")


def _checkpoint(connection: sqlite3.Connection, mode: str) -> int:
    """Copy what can be copied; return the pages in the WAL. What is busy is left for the next."""
    try:
        _busy, pages, _copied = connection.execute(f"PRAGMA wal_checkpoint({mode})").fetchone()
    except sqlite3.OperationalError as error:
        log.debug("no checkpoint now: %s", error)
        return 0
    return int(pages)
