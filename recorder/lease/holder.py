"""Names of lease holders, and whether a holder's process is still running.

A holder names its host, boot, process and start time, so that the next start after a crash on the
same host need not wait for the lease to run out.
"""

from __future__ import annotations

import os
import socket
from pathlib import Path


def this_holder() -> str:
    """Return this process's name in a lease: host, boot, process and the moment it started."""
    pid = os.getpid()
    return "/".join((socket.gethostname(), _boot_id(), str(pid), _started(pid)))


def is_dead(holder: str) -> bool:
    """Return whether the holder is provably gone: a process of this host and boot that ended.

    A holder on another host, or one whose name can't be read, isn't provably dead.
    """
    parts = _parts_here(holder)
    if parts is None:
        return False
    if parts[1] != _boot_id():
        return True
    return _started(int(parts[2])) != parts[3]


def is_alive_here(holder: str) -> bool:
    """Return whether the holder is provably a running process of this host, asleep or not."""
    parts = _parts_here(holder)
    return parts is not None and not is_dead(holder)


def pid_here(holder: str) -> int:
    """Return the holder's process id on this machine; 0 for one of another machine."""
    parts = _parts_here(holder)
    return 0 if parts is None else int(parts[2])


def _parts_here(holder: str) -> list[str] | None:
    """Return a holder's parts if it is of this host."""
    parts = holder.split("/")
    if len(parts) != 4 or parts[0] != socket.gethostname() or not parts[2].isdigit():
        return None
    return parts


def _boot_id() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return "unknown-boot"


def _started(pid: int) -> str:
    """Return when a process started, in the kernel's ticks; empty if it runs no more."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return "" if not _is_running(pid) else "unknown-start"
    # The name of the program is in parentheses and may hold anything. Behind it come the state,
    # which also marks processes that ended and were not reaped, and 19 fields on the start.
    fields = stat.rpartition(")")[2].split()
    return "" if fields[0] in "ZX" else fields[19]


def _is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
