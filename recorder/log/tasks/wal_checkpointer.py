"""Checkpoints SQLite's write-ahead log beside the writers instead of within them.

Left alone, SQLite copies the WAL into the database inside whichever COMMIT makes it long enough,
and syncs two files there: tens of milliseconds in which the log waits. A PASSIVE checkpoint does
the same copying from a connection of its own while others go on writing; while the log is behind,
the processor is left to it. It can't restart the file while writers never pause; so when the
file has grown long, the little that is left is copied with the writers held, and the file begins
again.

A reader that keeps its snapshot keeps the WAL from being copied beyond it. The log never waits for
that: the file grows, as far as the disk goes, and a warning names the reader.
"""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import trio
from attrs import define

from recorder.clock import Clock
from recorder.database.blockers import sqlite_readers
from recorder.database.engine import Database
from recorder.display import size_text
from recorder.timestamps import from_us
from recorder.units import WriteGate

log = logging.getLogger("recorder.wal")

#: Between two looks; at 2,000 events a second the WAL grows by a few megabytes in it.
EVERY_S = 1.0
#: A WAL longer than this begins again: 64 MiB of SQLite's usual pages.
PAGES_MAX = 16_384
PAGE_BYTES = 4_096
#: At most so many pages are copied with the writers held.
LEFT_PAGES_MAX = 1_024
#: A snapshot that is held so long is reported; sooner where the WAL is long already.
HELD_S, HELD_WITH_LONG_WAL_S = 30.0, 5.0


class Copied(NamedTuple):
    """How many pages the WAL holds, and how many of them are in the database now."""

    pages: int
    copied: int


@define(eq=False)
class WalCheckpointer:
    """The checkpoints of one SQLite database."""

    database: Database
    gate: WriteGate
    clock: Clock
    #: True while the log is behind.
    is_log_busy: Callable[[], bool]
    #: How far the last look copied, and since when no look got further (wall clock).
    _copied: int = 0
    _held_since_us: int | None = None
    #: The WAL's length that the last warning named; 0 where none is due to be ended.
    _warned_pages: int = 0

    async def run(self) -> None:
        """Keep the WAL short until cancelled; the last connection to close empties it."""
        pooled = await trio.to_thread.run_sync(self.database.reader.raw_connection)
        connection = pooled.driver_connection
        assert isinstance(connection, sqlite3.Connection)
        try:
            # A page that is in use is left for the next look, never waited for.
            connection.execute("PRAGMA busy_timeout=0")
            while True:
                await trio.sleep(EVERY_S)
                if self.is_log_busy() and self._wal_bytes() < PAGES_MAX * PAGE_BYTES:
                    continue
                state = await trio.to_thread.run_sync(checkpoint, connection, "PASSIVE")
                if state is None:
                    continue
                self._look_for_a_reader(state)
                if state.pages > PAGES_MAX and state.pages - state.copied <= LEFT_PAGES_MAX:
                    await trio.to_thread.run_sync(self.restart_wal, connection)
        finally:
            pooled.invalidate()

    def _wal_bytes(self) -> int:
        try:
            return Path(f"{self.database.url.database}-wal").stat().st_size
        except OSError:
            return 0

    def restart_wal(self, connection: sqlite3.Connection) -> None:
        """Let the WAL begin again, if no reader is in it at this moment."""
        with self.gate.hold(urgent=True):
            checkpoint(connection, "RESTART")

    def _look_for_a_reader(self, state: Copied) -> None:
        if state.copied == state.pages or state.copied != self._copied:
            if self._warned_pages:
                log.info("the snapshot is gone, and the write-ahead log is emptied again")
            self._copied, self._held_since_us, self._warned_pages = state.copied, None, 0
            return
        now_us = self.clock.wall_us()
        if self._held_since_us is None:
            self._held_since_us = now_us
        limit_s = HELD_S if state.pages <= PAGES_MAX else HELD_WITH_LONG_WAL_S
        is_long = now_us - self._held_since_us >= limit_s * 1e6
        if is_long and state.pages > 2 * self._warned_pages:
            self._warned_pages = state.pages
            readers = sqlite_readers(str(self.database.url.database))
            log.warning(
                "a reader has held a snapshot since %s UTC (%s), so the write-ahead log can't be"
                " emptied and takes %s on the disk. Recording goes on; end that program's"
                " transaction",
                f"{from_us(self._held_since_us):%Y-%m-%d %H:%M:%S}",
                ", ".join(readers) or "the system doesn't name it",
                size_text(self._wal_bytes()),
            )


def checkpoint(connection: sqlite3.Connection, mode: str) -> Copied | None:
    """Copy what can be copied now; None while another program copies. The rest is left."""
    try:
        _busy, pages, copied = connection.execute(f"PRAGMA wal_checkpoint({mode})").fetchone()
    except sqlite3.OperationalError as error:
        log.debug("no checkpoint now: %s", error)
        return None
    # SQLite reports -1 where it could not begin.
    return None if pages < 0 else Copied(int(pages), int(copied))
