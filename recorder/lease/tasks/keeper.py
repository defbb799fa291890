"""Keep the account's lease while the process runs, and wait for one that is taken.

What makes a second owner harmless is not a clock: it is the epoch in every claim, and the key
(account, position) in the log, of which the taking itself uses up one (`standby`). Clocks decide
how soon an account changes hands, and they are hostile. So owner and waiting process each use a
monotonic clock of their own, and by nothing that the other's clock reported:

- The owner trusts its lease for less than it lasts, from the *start* of its last good renewal
  (`LeaseKeeper.is_trusted`). When that runs out it stops sending, and goes on trying to renew.
- A waiting process has seen the same renewal no earlier than that, and waits for the whole time
  from there (`standby.Contender`). So the owner has stopped before the other begins.

A wall clock that jumps changes neither of the two. It may only speed up a taking by a process that
has not watched for so long: on PostgreSQL the server's own clock reports that a lease has run out,
on SQLite the machine's does, unless the holder runs on this machine. What was taken too early
costs the old owner the account; it never makes two of them.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import datetime, timedelta

import trio
from attrs import define, field

from recorder.clock import Clock
from recorder.errors import LeaseLost, StorageUnavailable
from recorder.lease.sql import renew
from recorder.units import UnitRunner

log = logging.getLogger("recorder.lease")

#: Renewals per life of a lease: two may fail before it is no longer trusted.
RENEWALS_PER_TTL = 4
#: The owner trusts its lease for this part of its life: the rest is for clocks that run unevenly
#: and for what lies between a look at the clock and the byte on the wire.
TRUSTED_PART = 0.8
#: After a renewal that failed the next try comes so soon, or with the next turn if that is sooner.
RETRY_S = 1.0
#: Less than this is not waited for: a clock may stand still between two looks at it.
LOOK_S = 0.01


@define(eq=False)
class LeaseKeeper:
    """Renews one account's lease. ``started_ns`` is the monotonic time before it was taken."""

    account: str
    epoch: int
    ttl_s: float
    runner: UnitRunner
    clock: Clock
    #: The time for the table; None where the database's own clock gives it.
    now: Callable[[], datetime | None]
    started_ns: int
    #: Called when the lease is trusted again after it wasn't.
    on_trusted: Callable[[], None] = lambda: None
    _why: str = field(default="no renewal came through")

    @property
    def trusted_s(self) -> float:
        """The seconds for which the lease may still be trusted; negative once it isn't."""
        since_ns = self.clock.monotonic_ns() - self.started_ns
        return self.ttl_s * TRUSTED_PART - since_ns / 1e9

    def is_trusted(self) -> bool:
        """Return whether the account is surely ours at this moment. From any thread."""
        return self.trusted_s > 0

    async def run(self) -> None:
        """Renew for ever. Raises LeaseLost when another process took the account over."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._warn_when_it_runs_out)
            await self._renew()

    async def _renew(self) -> None:
        while True:
            tried_ns = self.clock.monotonic_ns()
            if await self._renew_once():
                self._trust_since(tried_ns)
                await trio.sleep(self.ttl_s / RENEWALS_PER_TTL)
            else:
                await trio.sleep(min(RETRY_S, self.ttl_s / RENEWALS_PER_TTL))

    async def _renew_once(self) -> bool:
        try:
            kept = await self.runner.run(
                renew,
                self.account,
                epoch=self.epoch,
                now=self.now(),
                ttl=timedelta(seconds=self.ttl_s),
            )
        except StorageUnavailable as error:
            self._why = str(error)
            log.warning("%s: the lease could not be renewed yet: %s", self.account, error)
            return False
        if not kept:
            asleep = "" if self.is_trusted() else self._silence()
            raise LeaseLost(
                f"another process took the account {self.account!r} over{asleep};"
                " this one sends and appends nothing more"
            )
        return True

    def _silence(self) -> str:
        silent_s = (self.clock.monotonic_ns() - self.started_ns) / 1e9
        return (
            f" after this one had not renewed its lease for {silent_s:.1f} s"
            " (it was stopped, asleep or cut off from the database)"
        )

    def _trust_since(self, time_ns: int) -> None:
        was_trusted = self.is_trusted()
        self.started_ns = time_ns
        if not was_trusted and self.is_trusted():
            log.warning("%s: the lease is renewed; commands go out again", self.account)
            self.on_trusted()

    async def _warn_when_it_runs_out(self) -> None:
        text = "%s: the lease was not renewed in time, so no command is sent until it is: %s"
        is_reported_once = False
        while True:
            left_s = self.trusted_s
            if left_s <= 0 and not is_reported_once:
                log.error(text, self.account, self._why)
            is_reported_once = left_s <= 0
            await trio.sleep(RETRY_S if is_reported_once else max(left_s, LOOK_S))
