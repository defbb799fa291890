"""Wakes the commander when something was queued, without reading the queue.

PostgreSQL notifies (LISTEN on a connection of its own, whose socket trio watches). On SQLite the
kernel reports a write to the write-ahead log (inotify, `FileWatch`). That is in the middle of a
COMMIT, so after each write ``PRAGMA data_version`` is read until another connection's commit has
changed it; that costs microseconds. Our own commits change it as well, so the next question is
whether a command of this account is queued, and whether one was added or the switch changed since.
Indexes answer it. Only then is the commander woken.

Where the kernel doesn't report writes (another system, no watch left, a network file system), the
data version is polled. A slow poll stands behind all of it, because a wake-up may be lost.
"""

from __future__ import annotations

import ctypes
import logging
import os
import sqlite3
import sys
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import psycopg
import trio
from attrs import define, frozen

from recorder.database.engine import Database
from recorder.errors import StorageUnavailable

log = logging.getLogger("recorder.wakeups")

#: After a write to the WAL SQLite's data version is looked at this often …
LOOK_S = 0.0005
#: (or this, while the commander is busy and reads the queue again anyway)
BUSY_LOOK_S = 0.005
#: (and all the time for so long, where what is written isn't ours)
ALERT_S = 0.002
#: … until it has changed, and nothing was written since for so long.
LOOK_ON_S = 0.01
#: The net under the kernel's word: the data version is looked at this often anyway.
UNTOLD_LOOK_S = 0.25
#: After so many commits in a row without a notification, the kernel is taken to send none.
UNTOLD_MAX = 4
#: Polling: the data version is looked at this often while things happen, …
BUSY_POLL_S = 0.01
#: … and this often once nothing has happened for `BUSY_FOR_S`: the processor may sleep then.
IDLE_POLL_S = 0.05
BUSY_FOR_S = 1.0
#: The queue is looked at this often even if nothing was received.
SLOW_POLL_S = 1.0
RECONNECT_S = 2.0
CHANNEL = "recorder_outbox"

_DATA_VERSION = "PRAGMA data_version"
#: Whether a command is queued, the newest one, the switch, and, while one waits in strict order,
#: how far the commands' histories are. All of it from indexes.
_QUEUE = """
SELECT EXISTS (SELECT 1 FROM outbox INDEXED BY outbox_queued
        WHERE account = :account AND status = 'queued'),
    (SELECT max(outbox_id) FROM outbox),
    (SELECT trading FROM controls WHERE account = :account),
    CASE WHEN EXISTS (SELECT 1 FROM outbox INDEXED BY outbox_in_order
            WHERE account = :account AND status = 'queued' AND in_order = 1)
        THEN (SELECT max(rowid) FROM outbox_transitions) END
"""


@define(eq=False)
class CommitLook:
    """Looks from the event loop whether another process committed, and whether that may be a
    command.

    Each look takes microseconds, and none waits for a lock: one that would have to counts as yes.
    """

    connection: sqlite3.Connection
    account: str
    _version: int | None = None
    _queue: tuple[object, ...] | None = None

    def is_new(self) -> bool:
        """Return whether another connection committed since the last call."""
        version: int | None
        try:
            (version,) = self.connection.execute(_DATA_VERSION).fetchone()
        except sqlite3.OperationalError:
            version = None
        was, self._version = self._version, version
        return version is None or version != was

    def is_worth_waking(self) -> bool:
        """Return whether the commander should look: a command is queued, and something is new.

        A position that was changed by hand is not seen here but by the slow poll.
        """
        try:
            queue = self.connection.execute(_QUEUE, {"account": self.account}).fetchone()
        except sqlite3.OperationalError:
            queue = None
        was, self._queue = self._queue, queue
        return queue is None or (bool(queue[0]) and queue != was)


@frozen
class Urgency:
    """How much a wake-up is worth at this moment."""

    #: Whether who is woken waits for it. If not, it looks by itself before it waits.
    is_waited_for: Callable[[], bool] = lambda: True
    #: Whether this process is writing: on SQLite no other process is then.
    is_writing: Callable[[], bool] = lambda: False


ALWAYS_URGENT = Urgency()
Wake = Callable[[], None]
#: (account, database, wake, urgency) → watches for ever.
WatchOutbox = Callable[[str, Database, Wake, Urgency], Awaitable[None]]


async def watch_outbox(account: str, database: Database, wake: Wake, urgency: Urgency) -> None:
    """Wake when the outbox may have changed, as soon as the database lets us receive of it."""
    await OutboxWatch(account, database, wake, urgency).run()


async def poll_outbox(_account: str, _database: Database, wake: Wake, _: Urgency) -> None:
    """Wake every `SLOW_POLL_S`, without a look: for simulations on a mock clock."""
    while True:
        wake()
        await trio.sleep(SLOW_POLL_S)


@define(eq=False)
class OutboxWatch:
    """Calls ``wake`` when the outbox may have changed, and every `SLOW_POLL_S` anyway."""

    account: str
    database: Database
    wake: Wake
    urgency: Urgency = ALWAYS_URGENT

    async def run(self) -> None:
        """Watch for ever."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(poll_outbox, self.account, self.database, self.wake, self.urgency)
            if self.database.dialect == "sqlite":
                nursery.start_soon(self._look_for_commits)
            else:
                nursery.start_soon(self._listen)

    async def _look_for_commits(self) -> None:
        raw = await trio.to_thread.run_sync(_open_looker, self.database)
        try:
            look = CommitLook(raw, self.account)
            with watching(_wal_of(self.database)) as watch:
                if watch is not None:
                    await self._follow(watch, look)
            await self._poll(look)
        finally:
            raw.close()

    async def _follow(self, watch: FileWatch, look: CommitLook) -> None:
        """Look at each notification of the kernel; return if it sends none."""
        untold = 0
        while untold < UNTOLD_MAX:
            with trio.move_on_after(UNTOLD_LOOK_S) as nap:
                await watch.changed()
            if not nap.cancelled_caught:
                untold = 0
                await self._look_on(watch, look)
            elif self._look(look) and not watch.take():
                untold += 1
        log.warning(
            "%s: the system reports no writes to %s; polling from now on",
            self.account,
            watch.path,
        )

    async def _look_on(self, watch: FileWatch, look: CommitLook) -> None:
        """Look again and again, until what was written is committed, and nothing more comes."""
        written_at = seen_at = trio.current_time()
        is_seen = self._look(look)
        if not is_seen and self.urgency.is_waited_for() and not self.urgency.is_writing():
            # Another process is in the middle of a COMMIT, and no sleep is as short as that.
            while not is_seen and trio.current_time() < written_at + ALERT_S:
                await trio.lowlevel.checkpoint()
                is_seen = self._look(look)
        while (now := trio.current_time()) < max(written_at, seen_at) + LOOK_ON_S or (
            # The writer may still be syncing; or has rolled back, and then nothing comes.
            not is_seen and now < written_at + UNTOLD_LOOK_S
        ):
            await trio.sleep(LOOK_S if self.urgency.is_waited_for() else BUSY_LOOK_S)
            if watch.take():
                written_at, is_seen = trio.current_time(), False
            if self._look(look):
                seen_at, is_seen = trio.current_time(), True

    async def _poll(self, look: CommitLook) -> None:
        busy_until = trio.current_time()
        while True:
            if self._look(look):
                busy_until = trio.current_time() + BUSY_FOR_S
            is_busy = trio.current_time() < busy_until
            await trio.sleep(BUSY_POLL_S if is_busy else IDLE_POLL_S)

    def _look(self, look: CommitLook) -> bool:
        """Wake the commander if there is a reason; return whether another process committed."""
        is_new = look.is_new()
        if is_new and look.is_worth_waking():
            self.wake()
        return is_new

    async def _listen(self) -> None:
        while True:
            try:
                await self._listen_once()
            except (psycopg.OperationalError, OSError, StorageUnavailable) as error:
                log.debug("LISTEN broke off, the slow poll goes on meanwhile: %s", error)
            await trio.sleep(RECONNECT_S)

    async def _listen_once(self) -> None:
        connection = await trio.to_thread.run_sync(self._open_listener)
        try:
            # A command that was queued before LISTEN caused no notification here.
            self.wake()
            while True:
                await trio.lowlevel.wait_readable(connection.pgconn.socket)
                connection.pgconn.consume_input()
                while reported := connection.pgconn.notifies():
                    # One channel serves all accounts of the database; it names the account.
                    if reported.extra.decode() in (self.account, ""):
                        self.wake()
        finally:
            connection.close()

    def _open_listener(self) -> psycopg.Connection[tuple[object, ...]]:
        pooled = self.database.reader.raw_connection()
        raw: Any = pooled.driver_connection
        # Taken out of the pool for good: it sits in LISTEN while the daemon runs.
        pooled.detach()
        raw.rollback()
        raw.autocommit = True
        raw.execute(f"LISTEN {CHANNEL}")
        return cast("psycopg.Connection[tuple[object, ...]]", raw)


def _wal_of(database: Database) -> Path:
    path = Path(database.url.database or "").absolute()
    return path.with_name(f"{path.name}-wal")


def _open_looker(database: Database) -> sqlite3.Connection:
    """Open a connection that the event loop may use: it never waits."""
    pooled = database.reader.raw_connection()
    raw = pooled.driver_connection
    assert isinstance(raw, sqlite3.Connection)
    pooled.detach()
    raw.execute("PRAGMA busy_timeout=0")
    return raw


# From <sys/inotify.h>.
_IN_MODIFY = 0x2
_IN_MOVED_TO = 0x80
_IN_CREATE = 0x100
_READ_BYTES = 65_536


@define(eq=False)
class FileWatch:
    """Watches one file, whether it stands now or comes later."""

    path: Path
    _libc: ctypes.CDLL
    _fd: int

    async def changed(self) -> None:
        """Return once the file was written to, or made, since the last call that reported so."""
        while not self.take():
            await trio.lowlevel.wait_readable(self._fd)

    def take(self) -> bool:
        """Return whether the file was written to, or made, since this was asked last."""
        try:
            reported = os.read(self._fd, _READ_BYTES)
        except BlockingIOError:
            return False
        if os.fsencode(self.path.name) in reported:
            # It is another file of that name now. Watching the same one twice changes nothing.
            self.watch_file()
        return True

    def watch_file(self) -> None:
        """Watch the file that bears the name at present, if there is one."""
        self._libc.inotify_add_watch(self._fd, os.fsencode(self.path), _IN_MODIFY)

    def watch_folder(self) -> None:
        """Watch for a file of the name to come. Raises OSError where there is no watch to spare."""
        folder = os.fsencode(self.path.parent)
        if self._libc.inotify_add_watch(self._fd, folder, _IN_CREATE | _IN_MOVED_TO) < 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number), str(self.path.parent))


@contextmanager
def watching(path: Path) -> Iterator[FileWatch | None]:
    """Yield a watch of the file; None where there can be none."""
    try:
        watch = _open(path)
    except (OSError, AttributeError) as error:
        log.info("can't watch %s for writes and polls instead: %s", path, error)
        watch = None
    try:
        yield watch
    finally:
        if watch is not None:
            os.close(watch._fd)


def _open(path: Path) -> FileWatch:
    if sys.platform != "linux":
        raise OSError(f"no inotify on {sys.platform}")
    libc = ctypes.CDLL(None, use_errno=True)
    fd = libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
    if fd < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    watch = FileWatch(path, libc, fd)
    try:
        watch.watch_folder()
    except OSError:
        os.close(fd)
        raise
    watch.watch_file()
    return watch
