"""Tells the commander that something was queued, without reading the queue.

PostgreSQL says so itself (LISTEN on a connection of its own, whose socket trio watches); on
SQLite, ``PRAGMA data_version`` changes whenever another connection committed, and costs
microseconds. Both have a slow poll behind them, because a wake-up may be lost.
"""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Callable
from typing import Any, cast

import psycopg
import trio
from attrs import define

from recorder.storage.engine import Database

log = logging.getLogger("recorder.wakeups")

#: SQLite's data version is looked at this often while things happen, …
BUSY_POLL_S = 0.01
#: … and this often once nothing has happened for `BUSY_FOR_S`: the processor may sleep then.
IDLE_POLL_S = 0.05
BUSY_FOR_S = 1.0
#: The queue is looked at this often even if nothing was heard.
SLOW_POLL_S = 1.0
RECONNECT_S = 2.0
CHANNEL = "recorder_outbox"


@define(eq=False)
class OutboxWatch:
    """Calls ``wake`` when the outbox may have changed, and every `SLOW_POLL_S` anyway."""

    database: Database
    wake: Callable[[], None]

    async def run(self) -> None:
        """Watch for ever."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._poll_slowly)
            if self.database.dialect == "sqlite":
                nursery.start_soon(self._poll_data_version)
            else:
                nursery.start_soon(self._listen)

    async def _poll_slowly(self) -> None:
        while True:
            self.wake()
            await trio.sleep(SLOW_POLL_S)

    async def _poll_data_version(self) -> None:
        connection = await trio.to_thread.run_sync(self.database.reader.raw_connection)
        raw = connection.driver_connection
        assert isinstance(raw, sqlite3.Connection)
        try:
            seen, busy_until = None, trio.current_time()
            while True:
                version = raw.execute("PRAGMA data_version").fetchone()[0]
                if version != seen:
                    seen, busy_until = version, trio.current_time() + BUSY_FOR_S
                    self.wake()
                is_busy = trio.current_time() < busy_until
                await trio.sleep(BUSY_POLL_S if is_busy else IDLE_POLL_S)
        finally:
            connection.close()

    async def _listen(self) -> None:
        while True:
            try:
                await self._listen_once()
            except (psycopg.OperationalError, OSError) as error:
                log.warning("LISTEN broke off, the slow poll goes on meanwhile: %s", error)
            await trio.sleep(RECONNECT_S)

    async def _listen_once(self) -> None:
        connection = await trio.to_thread.run_sync(self._open_listener)
        try:
            while True:
                await trio.lowlevel.wait_readable(connection.pgconn.socket)
                connection.pgconn.consume_input()
                while connection.pgconn.notifies():
                    self.wake()
        finally:
            connection.close()

    def _open_listener(self) -> psycopg.Connection[tuple[object, ...]]:
        pooled = self.database.reader.raw_connection()
        raw: Any = pooled.driver_connection
        # Taken out of the pool for good: it sits in LISTEN for as long as the daemon lives.
        pooled.detach()
        raw.rollback()
        raw.autocommit = True
        raw.execute(f"LISTEN {CHANNEL}")
        return cast("psycopg.Connection[tuple[object, ...]]", raw)
