"""What this machine gives the recorder: disk, files, limits, memory. Each look is a `Finding`.

`recorder doctor` prints them; a running recorder looks at its start and every `LOOK_EVERY_S`.
"""

from __future__ import annotations

import logging
import os
import resource
import sqlite3
import stat
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path

import trio
from attrs import frozen

from recorder.display import duration_text, size_text

log = logging.getLogger("recorder.machine")

LOOK_EVERY_S = 30.0
OK, WARNING, FAILED = "ok", "warning", "failed"

#: Below the first there is a warning; below the second the database is about to refuse.
DISK_LOW_BYTES, DISK_OUT_BYTES = 2**30, 64 * 2**20
INODES_LOW = 1_000
#: What a daemon with a few accounts opens, with room.
FILES_MIN = 256
#: The interpreter, its libraries and the tables in memory, beside the queue.
MEMORY_MIN_BYTES = 256 * 2**20
#: SQLite's locks don't work reliably there.
NETWORK_FILE_SYSTEMS = ("nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "fuse.sshfs", "ceph", "afs")
SLOW_FSYNC_S = 0.05
_TRIES = 5


@frozen
class Finding:
    """What a check found: ``level`` is ok, warning or failed; ``advice`` is what to do then."""

    check: str
    level: str
    found: str
    advice: str = ""


def look_at_disk(folder: Path) -> Finding:
    """Look at the space and the inodes that are left for the folder."""
    try:
        left = os.statvfs(folder)
    except OSError as error:
        return Finding("disk", FAILED, f"{folder}: {error.strerror}", "check the folder")
    free = left.f_bavail * left.f_frsize
    found = f"{size_text(free)} free at {folder}"
    if left.f_flag & os.ST_RDONLY:
        return Finding("disk", FAILED, f"{folder} is mounted read-only", "mount it for writing")
    if free < DISK_OUT_BYTES:
        return Finding("disk", FAILED, found, "free some space now: recording is about to stop")
    # Some file systems count none.
    if left.f_files and left.f_favail < INODES_LOW:
        inodes = f"{left.f_favail} inodes free at {folder}"
        return Finding("disk", WARNING, inodes, "delete files: none can be created soon")
    if free < DISK_LOW_BYTES:
        return Finding("disk", WARNING, found, "free some space before recording stops")
    return Finding("disk", OK, found)


def look_at_files() -> Finding:
    """Look at how many files this process may have open, and how many it has."""
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        opened = sum(1 for _ in Path("/proc/self/fd").iterdir())
    except OSError:
        opened = 0
    found = f"{opened} of {limit:,} open"
    if limit != resource.RLIM_INFINITY and limit - opened < FILES_MIN:
        return Finding("open files", WARNING, found, "raise the limit (`ulimit -n`, LimitNOFILE=)")
    return Finding("open files", OK, found)


def look_at_file_size() -> Finding:
    """Look for a limit on the size of a file that this process may write."""
    limit, _ = resource.getrlimit(resource.RLIMIT_FSIZE)
    if limit == resource.RLIM_INFINITY:
        return Finding("file size", OK, "no limit")
    advice = "lift it (`ulimit -f unlimited`): a log that reaches it stops recording"
    return Finding("file size", WARNING, f"at most {size_text(limit)}", advice)


def look_at_memory(queue_bytes: int) -> Finding:
    """Look at the memory that the control group allows, against what a full queue takes."""
    wanted = MEMORY_MIN_BYTES + 2 * queue_bytes
    allowed = min(_memory_limits(), default=None)
    if allowed is None:
        return Finding("memory", OK, "no limit")
    found = f"at most {size_text(allowed)}"
    if allowed < wanted:
        advice = f"allow {size_text(wanted)}, or lower queue_bytes: the kernel ends what goes over"
        return Finding("memory", WARNING, found, advice)
    return Finding("memory", OK, found)


def _memory_limits() -> Iterator[int]:
    """Yield the limits of this process's control group and of those above it."""
    try:
        group = Path("/proc/self/cgroup").read_text(encoding="ascii").rpartition("::")[2].strip()
    except (OSError, ValueError):
        return
    place = Path("/sys/fs/cgroup") / group.lstrip("/")
    for each in (place, *place.parents):
        try:
            limit = (each / "memory.max").read_text(encoding="ascii").strip()
        except OSError:
            continue
        if limit.isdigit():
            yield int(limit)


def look_at_file(check: str, file: Path) -> Finding:
    """Look at who may read a file that shows what an account holds, or a secret."""
    try:
        mode = stat.S_IMODE(file.stat().st_mode)
    except OSError as error:
        return Finding(check, FAILED, f"{file}: {error.strerror}", "check the path")
    if mode & 0o077:
        found = f"{file} can be read or written by others ({mode:03o})"
        return Finding(check, WARNING, found, f"chmod 600 {file}")
    return Finding(check, OK, f"{file} is its owner's alone")


def look_at_file_system(folder: Path) -> Finding:
    """Look at the kind of file system that a SQLite file is on."""
    kind = _file_system(folder)
    if kind in NETWORK_FILE_SYSTEMS:
        advice = "move the file to a local disk, or use PostgreSQL: two writers may damage it there"
        return Finding("file system", FAILED, f"{kind}, over the network", advice)
    return Finding("file system", OK, kind or "unknown")


def _file_system(folder: Path) -> str:
    try:
        lines = Path("/proc/self/mountinfo").read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError):
        return ""
    mounts = {}
    for line in lines:
        before, _, after = line.partition(" - ")
        mounts[before.split()[4]] = after.split()[0]
    above = (str(each) for each in (folder.resolve(), *folder.resolve().parents))
    return next((mounts[each] for each in above if each in mounts), "")


def time_fsync(folder: Path) -> Finding:
    """Measure how long the disk takes to keep 4 KiB for good; the middle of a few tries."""

    def sync(file: int) -> None:
        os.pwrite(file, bytes(4_096), 0)
        os.fsync(file)

    with tempfile.TemporaryFile(dir=folder) as probe:
        return timed("fsync", lambda: sync(probe.fileno()))


def time_sqlite_commit(folder: Path) -> Finding:
    """Measure a durable commit of SQLite, in a file of its own beside the database."""
    with (
        tempfile.TemporaryDirectory(dir=folder, prefix=".recorder-doctor-") as own,
        closing(sqlite3.connect(Path(own) / "probe.db", isolation_level=None)) as probe,
    ):
        probe.execute("PRAGMA journal_mode=WAL")
        probe.execute("PRAGMA synchronous=FULL")
        probe.execute("CREATE TABLE probe (value)")
        return timed("commit", lambda: probe.execute("INSERT INTO probe VALUES (1)"))


def timed(check: str, work: Callable[[], object]) -> Finding:
    """Measure work that waits for a disk: the middle of a few tries."""
    taken = []
    for _ in range(_TRIES):
        began = time.perf_counter()
        work()
        taken.append(time.perf_counter() - began)
    middle_s = statistics.median(taken)
    if middle_s >= SLOW_FSYNC_S:
        advice = "use a faster disk or network: each batch of events and each command waits for it"
        return Finding(check, WARNING, duration_text(middle_s), advice)
    return Finding(check, OK, duration_text(middle_s))


async def watch(
    looks: Sequence[Callable[[], Finding]],
    aside: Callable[[Callable[[], Finding]], Awaitable[Finding]],
) -> None:
    """Look again and again until cancelled, and log what isn't well, once, and when it changes."""
    levels: dict[str, str] = {}
    while True:
        for look in looks:
            finding = await aside(look)
            if finding.level == levels.get(finding.check, OK):
                continue
            levels[finding.check] = finding.level
            if finding.level == OK:
                log.info("%s: well again, %s", finding.check, finding.found)
            else:
                log.warning("%s: %s; %s", finding.check, finding.found, finding.advice)
        await trio.sleep(LOOK_EVERY_S)


def looks_while_running(queue_bytes: int, folder: Path | None) -> list[Callable[[], Finding]]:
    """Return what a recorder looks at; ``folder`` is that of a SQLite file."""
    looks: list[Callable[[], Finding]] = [
        look_at_files,
        look_at_file_size,
        partial(look_at_memory, queue_bytes),
    ]
    if folder is not None:
        looks += [partial(look_at_disk, folder), partial(look_at_file_system, folder)]
    return looks
