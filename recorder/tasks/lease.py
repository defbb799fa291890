"""Keeps the account's lease for as long as the process lives.

The lease row says to people and to other daemons who owns the account; what makes a second owner
harmless is the epoch in every claim and the key (account, position) in the log. A holder names its
host, boot and process, so that the next start after a crash on the same host need not wait for the
lease to lapse.
"""

from __future__ import annotations

import logging
import os
import socket
from datetime import timedelta
from pathlib import Path

import trio
from attrs import define

from recorder.clock import Clock
from recorder.errors import LeaseLost, StorageUnavailable
from recorder.log.event import from_us
from recorder.storage.leases import renew
from recorder.tasks.units import UnitRunner

log = logging.getLogger("recorder.lease")

#: Renewals per life of a lease: two may fail before it lapses.
RENEWALS_PER_TTL = 3


@define(eq=False)
class LeaseKeeper:
    """Renews one account's lease."""

    account: str
    epoch: int
    ttl_s: float
    runner: UnitRunner
    clock: Clock

    async def run(self) -> None:
        """Renew for ever. Raises LeaseLost when another process took the account over."""
        while True:
            await trio.sleep(self.ttl_s / RENEWALS_PER_TTL)
            try:
                kept = await self.runner.run(
                    renew,
                    self.account,
                    epoch=self.epoch,
                    now=from_us(self.clock.wall_us()),
                    ttl=timedelta(seconds=self.ttl_s),
                )
            except StorageUnavailable as error:
                log.warning("%s: the lease could not be renewed yet: %s", self.account, error)
                continue
            if not kept:
                raise LeaseLost(f"another process took the account {self.account!r} over")


def this_holder() -> str:
    """Return this process's name in a lease: host, boot, process and the moment it started."""
    pid = os.getpid()
    return "/".join((socket.gethostname(), _boot_id(), str(pid), _started(pid)))


def is_dead(holder: str) -> bool:
    """Tell whether the holder is provably gone: a process of this host and boot that ended.

    A holder on another host, or one whose name can't be read, isn't provably dead.
    """
    parts = holder.split("/")
    if len(parts) != 4 or parts[0] != socket.gethostname() or not parts[2].isdigit():
        return False
    if parts[1] != _boot_id():
        return True
    return _started(int(parts[2])) != parts[3]


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
    # which tells of processes that ended and that nobody has reaped, and 19 fields on the start.
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
