"""Takes the lease of each account, at once or when its owner is gone, and keeps it.

What makes a second owner harmless is not a clock: it is the epoch in every claim, and the key
(account, position) in the log, of which the taking itself uses up one. Clocks decide how soon an
account changes hands, and they can be wrong. So owner and waiting process each use a monotonic
clock of their own, and nothing that the other's clock reported:

- The owner trusts its lease for less than it lasts, from the *start* of its last good renewal
  (`LeaseKeeper.is_trusted`). When that runs out it stops sending, and goes on trying to renew.
- A waiting process has seen the same renewal no earlier than that, and waits for the whole time
  from there (`Contender`). So the owner has stopped before the other begins.

A wall clock that jumps changes neither. It may only speed up a taking by a process that has not
watched for so long: on PostgreSQL the server's clock decides whether a lease has run out, on SQLite
the machine's, unless the holder runs on this machine. An early taking costs the old owner the
account; it never makes two of them.

All accounts are taken in one transaction or none is, so that no process holds half of them while it
waits. The same transaction writes LEASE_TAKEN into each log: from its COMMIT on the old owner can
append nothing. What the old owner appended before is read here as the head.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from functools import partial

import trio
from attrs import define, field, frozen
from sqlalchemy import Connection

from recorder.clock import Clock
from recorder.errors import LeaseHeld, LeaseLost, StorageUnavailable
from recorder.gaps.sql.gaps import last_frame_time
from recorder.lease.holder import is_alive_here, is_dead
from recorder.lease.sql import Lease, has_run_out, renew, take
from recorder.log.rules.event import Head, Note, noted
from recorder.log.sql.append import append, read_head
from recorder.log.sql.read import event_at
from recorder.outbox.sql.queue import ensure_control
from recorder.timestamps import to_us
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
WAIT_MIN_S = 0.01


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
                # One that took long is trusted for so much less.
                spent_s = (self.clock.monotonic_ns() - tried_ns) / 1e9
                await trio.sleep(max(WAIT_MIN_S, self.ttl_s / RENEWALS_PER_TTL - spent_s))
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
            log.debug("%s: the lease could not be renewed yet: %s", self.account, error)
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
            await trio.sleep(RETRY_S if is_reported_once else max(left_s, WAIT_MIN_S))


#: While an account is another's, its lease is looked at this often.
LOOK_S = 1.0


@frozen
class Owned:
    """An account that is ours now: where its log ends, and what we know of the time before."""

    lease: Lease
    head: Head
    #: When the last event before this taking came in; None in an empty log.
    last_event_us: int | None
    #: When the last frame before it came in; None where there was none.
    last_frame_us: int | None
    #: The monotonic time just before the lease was taken.
    started_ns: int


@define(eq=False)
class Contender:
    """Judges whether a lease may be taken over, over repeated looks at it.

    It may, once it has stood unchanged for as long as it lasts by our own monotonic clock. Before
    that, the clock by which it was written may decide; but not of a holder that runs on this
    machine, whose clock may have jumped.
    """

    clock: Clock
    is_alive: Callable[[str], bool] = is_alive_here
    _seen: dict[str, tuple[int, datetime, int]] = field(factory=dict)

    def is_over(self, lease: Lease, now: datetime) -> bool:
        """Return whether the lease is free."""
        now_ns = self.clock.monotonic_ns()
        seen = self._seen.get(lease.account)
        if seen is None or seen[:2] != (lease.epoch, lease.renewed_at):
            seen = self._seen[lease.account] = (lease.epoch, lease.renewed_at, now_ns)
        if now_ns - seen[2] >= lease.ttl.total_seconds() * 1e9:
            return True
        return has_run_out(lease, now) and not self.is_alive(lease.holder)


@frozen
class Claimant:
    """Who takes: under which name, by which clocks, and whether it waits for its turn."""

    holder: str
    ttl_s: float
    clock: Clock
    #: The time for the lease; None where the database's own clock gives it.
    lease_now: Callable[[], datetime | None]
    #: The time for everything else.
    now: Callable[[], datetime]
    runner: UnitRunner
    #: Wait for as long as it takes. Without it, for one life of a lease.
    standby: bool = False
    #: Whether a holder is provably gone, and whether it provably runs.
    is_dead: Callable[[str], bool] = is_dead
    is_alive: Callable[[str], bool] = is_alive_here

    async def take(self, accounts: Sequence[str], stop: trio.Event) -> dict[str, Owned] | None:
        """Take all accounts; None if ``stop`` was set before that. Raises LeaseHeld."""
        contender = Contender(self.clock, self.is_alive)
        give_up_at = trio.current_time() + self.ttl_s + 1
        reported = ""
        while not stop.is_set():
            started_ns = self.clock.monotonic_ns()
            try:
                taken = await self.runner.run(
                    partial(take_accounts, sorted(accounts), self, contender, started_ns)
                )
            except LeaseHeld as error:
                if not self.standby and trio.current_time() >= give_up_at:
                    raise
                reported = self._report(str(error), reported)
            except LeaseLost as error:
                # The old owner appended meanwhile; the next look sees what.
                log.info("not taken yet: %s", error)
            except StorageUnavailable as error:
                if not self.standby:
                    raise
                reported = self._report(str(error), reported)
            else:
                self._log_taken(taken, after_waiting=bool(reported))
                return taken
            with trio.move_on_after(min(LOOK_S, self.ttl_s / 4)):
                await stop.wait()
        return None

    def _report(self, held: str, reported: str) -> str:
        """Report once what is waited for; return what was reported, but for the times in it."""
        what = held.partition(" until ")[0]
        if what != reported and self.standby:
            log.warning("%s; waiting as standby until its owner is gone", what)
        elif what != reported:
            log.warning("%s; waiting %.0f s whether it lapses", held, self.ttl_s + 1)
        return what

    def _log_taken(self, taken: dict[str, Owned], *, after_waiting: bool) -> None:
        if after_waiting:
            for account, owned in taken.items():
                log.warning("%s: taken over, with epoch %d", account, owned.lease.epoch)


def take_accounts(
    accounts: Sequence[str],
    claimant: Claimant,
    contender: Contender,
    started_ns: int,
    connection: Connection,
) -> dict[str, Owned]:
    """Take the leases of all accounts and note it in their logs. Raises LeaseHeld."""
    return {
        account: _take_account(connection, account, claimant, contender, started_ns)
        for account in accounts
    }


def _take_account(
    connection: Connection,
    account: str,
    claimant: Claimant,
    contender: Contender,
    started_ns: int,
) -> Owned:
    lease = take(
        connection,
        account,
        holder=claimant.holder,
        now=claimant.lease_now(),
        ttl=timedelta(seconds=claimant.ttl_s),
        dead=claimant.is_dead,
        over=contender.is_over,
    )
    ensure_control(connection, account, claimant.now())
    head = read_head(connection, account)
    last = event_at(connection, account, head.position)
    facts = {"holder": lease.holder, "epoch": lease.epoch}
    note = noted(account, claimant.clock.wall_us(), Note.LEASE_TAKEN, facts)
    appended = append(connection, {account: head}, [note])
    frame_at = last_frame_time(connection, account)
    return Owned(
        lease,
        appended.heads[account],
        last.received_us if last else None,
        None if frame_at is None else to_us(frame_at),
        started_ns,
    )
