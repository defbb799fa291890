"""Takes the accounts of this process, at once or when their owner is gone.

All are taken in one transaction or none is, so that no process holds half of them while it waits.
The same transaction writes LEASE_TAKEN into each log: that uses up the next position, so that from
its COMMIT on the old owner can append nothing, however long it was asleep and whatever it knew.
What the old owner appends before that is read here as the head.

`tasks.lease` reports by which clocks a lease is over.
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
from recorder.lease.sql import Lease, has_run_out, take
from recorder.log.rules.event import Head, Note, noted
from recorder.log.sql.append import append, read_head
from recorder.log.sql.read import event_at
from recorder.outbox.sql.queue import ensure_control
from recorder.timestamps import to_us
from recorder.units import UnitRunner

log = logging.getLogger("recorder.lease")

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
    that, the clock by which it was written may report so; but not of a holder that runs on this
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
