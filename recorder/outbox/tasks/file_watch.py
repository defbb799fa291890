"""Reports that a file was written to, from the moment on at which it happens: Linux's inotify.

SQLite's write-ahead log is deleted when the last connection closes and made again by the next
writer, so the folder is watched for its coming as well. What isn't Linux, and a kernel that has no
watch to spare, gets no `FileWatch` and has to poll. So does a caller that finds that writes went by
unreported, as they do where another kernel makes them (a file system over a network).
"""

from __future__ import annotations

import ctypes
import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import trio
from attrs import define

log = logging.getLogger("recorder.wakeups")

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
