"""Names the programs that keep the database from the recorder: their locks and old snapshots.

SQLite names no process, but Linux does: one that writes holds a lock on a byte of the ``-shm``
file, and one that reads on another. PostgreSQL shows its sessions; the queries of other roles it
shows to a member of pg_read_all_stats only.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Collection, Iterator
from contextlib import suppress
from pathlib import Path

from sqlalchemy import Connection, text

from recorder.database.engine import Database, in_unit
from recorder.display import size_text
from recorder.errors import RecorderError

#: Bytes of the ``-shm`` file, as SQLite's file format documents them.
_WRITE, _READS = 120, range(123, 128)
_LOCK = re.compile(r"\d+: POSIX +ADVISORY +(READ|WRITE) +(\d+) \S+:(\d+) (\d+) (\d+)")
#: A snapshot that is older holds back vacuum, or the emptying of the write-ahead log.
OLD = "5 minutes"
_QUERY_CHARACTERS_MAX = 100
#: A write-ahead log that is longer is one that a reader keeps from being emptied.
WAL_LONG_BYTES = 80 * 2**20
#: A lock that is still held after this time isn't held in passing.
LASTING_S = 0.3

_SESSIONS = f"""
    WITH ours AS (
        SELECT pid FROM pg_stat_activity
        WHERE datname = current_database() AND application_name LIKE 'recorder%'
    ), blocking AS (
        SELECT DISTINCT unnest(pg_blocking_pids(pid)) AS pid FROM ours
    )
    SELECT a.pid, a.usename, a.application_name, a.xact_start, a.query, b.pid IS NOT NULL
    FROM pg_stat_activity AS a LEFT JOIN blocking AS b ON b.pid = a.pid
    WHERE a.datname = current_database() AND a.pid <> pg_backend_pid() AND (
        b.pid IS NOT NULL
        OR a.backend_xmin IS NOT NULL AND a.xact_start < now() - interval '{OLD}'
    )
    ORDER BY a.xact_start
"""
_PREPARED = f"""
    SELECT gid, owner, prepared FROM pg_prepared_xacts
    WHERE database = current_database() AND prepared < now() - interval '{OLD}'
    ORDER BY prepared
"""


def find_blockers(database: Database) -> list[str]:
    """Return a sentence for each program that is in the way now; none where none can be seen."""
    if database.dialect == "sqlite":
        path = str(database.url.database)
        found = [f"{name} holds the write lock" for name in sqlite_writers(path)]
        with suppress(OSError):
            length = Path(f"{path}-wal").stat().st_size
            if length > WAL_LONG_BYTES:
                held = "holds a snapshot, so the write-ahead log can't be emptied and takes"
                found += [f"{name} {held} {size_text(length)}" for name in sqlite_readers(path)]
        return found
    # A database that is away names none.
    with suppress(RecorderError):
        return in_unit(database.reader, _sessions)
    return []


def lasting_blockers(database: Database, ours: Collection[int]) -> list[str]:
    """Return the same, but for the locks that SQLite's writers hold in passing.

    ``ours`` are the process ids of recorders on this machine.
    """
    first = set(find_blockers(database))
    if database.dialect != "sqlite" or not first:
        return sorted(first)
    time.sleep(LASTING_S)
    own = tuple(f"process {pid} " for pid in ours)
    return sorted(each for each in first & set(find_blockers(database)) if not each.startswith(own))


def sqlite_writers(path: str) -> list[str]:
    """Return the other processes that hold the write lock of a SQLite file."""
    return [_process(pid) for pid, mode, byte in _locks(path) if (mode, byte) == ("WRITE", _WRITE)]


def sqlite_readers(path: str) -> list[str]:
    """Return the other processes that hold a snapshot of a SQLite file."""
    held = {pid for pid, mode, byte in _locks(path) if mode == "READ" and byte in _READS}
    return [_process(pid) for pid in sorted(held)]


def _locks(path: str) -> Iterator[tuple[int, str, int]]:
    """Yield (process id, READ or WRITE, byte) of locks that others hold on the ``-shm`` file."""
    try:
        inode = Path(f"{path}-shm").stat().st_ino
        lines = Path("/proc/locks").read_text(encoding="ascii").splitlines()
    except (OSError, ValueError):
        return
    for mode, pid, of, first, last in (
        found.groups() for found in map(_LOCK.match, lines) if found
    ):
        if int(of) == inode and int(pid) != os.getpid():
            for byte in range(int(first), int(last) + 1):
                yield int(pid), mode, byte


def _process(pid: int) -> str:
    # The name alone: a command line may hold a secret.
    try:
        return f"process {pid} ({Path(f'/proc/{pid}/comm').read_text(encoding='utf-8').strip()})"
    except (OSError, ValueError):
        return f"process {pid}" if pid > 0 else "a process of another container"


def _sessions(connection: Connection) -> list[str]:
    found = []
    for pid, role, program, since, query, is_blocking in connection.execute(text(_SESSIONS)):
        who = f"PostgreSQL's process {pid} ({program or 'no name'}, role {role})"
        what = "holds a lock that the recorder waits for" if is_blocking else "holds a snapshot"
        began = f" since {since:%Y-%m-%d %H:%M:%S} UTC" if since else ""
        shown = " ".join(str(query).split())[:_QUERY_CHARACTERS_MAX]
        found.append(f"{who} {what}{began}: {shown}")
    for name, role, since in connection.execute(text(_PREPARED)):
        found.append(
            f"the prepared transaction {name!r} of role {role} holds its locks and its snapshot"
            f" since {since:%Y-%m-%d %H:%M:%S} UTC; end it by COMMIT or ROLLBACK PREPARED"
        )
    return found
