"""Who owns an account: one row, one epoch.

A lease is taken for a while and renewed before that is over. Each taking raises the epoch by one,
and the epoch is what counts: a claim names it and finds nothing once another process took over. A
clock decides only how soon that may happen, never who owns the account.

Times in the table are written by one clock, where there is one: on PostgreSQL the server's, if
``now`` is None; on SQLite that of the machine. Both may jump. So what a lease lasts is the
difference of two times that were written together, and a process that waits measures it on a clock
of its own (`tasks`). A released lease needs no clock: it ends when it was last renewed.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

from attrs import frozen
from sqlalchemy import Connection, Row, Select, func, select, update
from sqlalchemy.dialects import postgresql, sqlite

from recorder.database.schema import leases
from recorder.errors import LeaseHeld


@frozen
class Lease:
    """A lease as it stands in the table. Ours, if we took it and the epoch still is the same."""

    account: str
    epoch: int
    holder: str
    taken_at: datetime
    renewed_at: datetime
    expires_at: datetime

    @property
    def ttl(self) -> timedelta:
        """How long it lasts from its last renewal, whatever time it is."""
        return self.expires_at - self.renewed_at

    @property
    def is_given_back(self) -> bool:
        """True once its owner let it go."""
        return self.expires_at <= self.renewed_at


def has_run_out(lease: Lease, now: datetime) -> bool:
    """Return whether the lease is over by the clock that it was written by."""
    return lease.expires_at <= now


def _none_is_dead(_holder: str) -> bool:
    return False


def take(
    connection: Connection,
    account: str,
    *,
    holder: str,
    now: datetime | None,
    ttl: timedelta,
    dead: Callable[[str], bool] = _none_is_dead,
    over: Callable[[Lease, datetime], bool] = has_run_out,
) -> Lease:
    """Take the account's lease until ``now + ttl``, under the next epoch.

    ``holder`` names this process so that nothing else bears the name. With ``now`` None the
    server's clock is asked (PostgreSQL only). While another's lease runs, raises LeaseHeld, unless
    ``dead(other)`` proves that process gone; ``over(lease, now)`` returns whether it is over.
    """
    now = now or _server_time(connection)
    dialect = sqlite if connection.dialect.name == "sqlite" else postgresql
    first = Lease(account, 1, holder, now, now, now + ttl)
    row = {field: getattr(first, field) for field in _FIELDS}
    create = dialect.insert(leases).values(row).on_conflict_do_nothing()
    if connection.execute(create.returning(leases.c.epoch)).one_or_none():
        return first
    held = _account_status(connection, account)
    is_free = held.is_given_back or over(held, now) or dead(held.holder)
    if not is_free:
        raise LeaseHeld(
            f"account {account!r} is held by {held.holder}"
            f" until {held.expires_at.isoformat(sep=' ', timespec='seconds')};"
            " stop that process, or wait until its lease has run out"
        )
    taken = Lease(account, held.epoch + 1, holder, now, now, now + ttl)
    # The account stays as it is: a distributed table refuses to have it written.
    values = {field: getattr(taken, field) for field in _FIELDS if field != "account"}
    connection.execute(update(leases).where(leases.c.account == account).values(values))
    return taken


def renew(
    connection: Connection, account: str, *, epoch: int, now: datetime | None, ttl: timedelta
) -> bool:
    """Hold the lease until ``now + ttl``; False if it is another's now. See `take` for None."""
    now = now or _server_time(connection)
    return _change(connection, account, epoch, renewed_at=now, expires_at=now + ttl)


def release(
    connection: Connection, account: str, *, epoch: int, now: datetime | None = None
) -> bool:
    """Let the next process take the lease at once; False if it is another's already."""
    now = now or _server_time(connection)
    # Both times, so that it is over by any clock.
    return _change(connection, account, epoch, renewed_at=now, expires_at=now)


def current(connection: Connection, account: str) -> Lease | None:
    """Return the lease, run out or not; None if it was never taken."""
    found = connection.execute(_of(account)).one_or_none()
    return None if found is None else _lease(found)


def _server_time(connection: Connection) -> datetime:
    """Return the time of the clock that is the same for all others on this server."""
    if connection.dialect.name == "sqlite":
        raise ValueError("SQLite has no clock of its own")
    # Not the transaction's: that one may have waited long for its locks.
    moment: datetime = connection.execute(select(func.clock_timestamp())).scalar_one()
    return moment


_FIELDS = ("account", "epoch", "holder", "taken_at", "renewed_at", "expires_at")


def _of(account: str) -> Select[*tuple[Any, ...]]:
    return select(*(leases.c[field] for field in _FIELDS)).where(leases.c.account == account)


def _account_status(connection: Connection, account: str) -> Lease:
    """Return the lease, locked until the transaction ends."""
    return _lease(connection.execute(_of(account).with_for_update()).one())


def _lease(row: Row[*tuple[Any, ...]]) -> Lease:
    return Lease(**row._mapping)


def _change(connection: Connection, account: str, epoch: int, **times: datetime) -> bool:
    change = update(leases).where(leases.c.account == account, leases.c.epoch == epoch)
    return connection.execute(change.values(**times)).rowcount == 1
