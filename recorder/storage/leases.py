"""Who owns an account: one row, one epoch.

A lease is taken for a while and renewed before that is over. Each taking raises the epoch by one,
and the epoch is what counts: a claim names it and finds nothing once another process took over. A
clock decides only how soon that may happen, never who owns the account.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

from attrs import frozen
from sqlalchemy import Connection, Row, Select, select, update
from sqlalchemy.dialects import postgresql, sqlite

from recorder.errors import LeaseHeld
from recorder.storage.schema import leases


@frozen
class Lease:
    """A lease as it stands in the table. Ours, if we took it and the epoch still is the same."""

    account: str
    epoch: int
    holder: str
    taken_at: datetime
    renewed_at: datetime
    expires_at: datetime


def _nobody_is_dead(_holder: str) -> bool:
    return False


def take(
    connection: Connection,
    account: str,
    *,
    holder: str,
    now: datetime,
    ttl: timedelta,
    dead: Callable[[str], bool] = _nobody_is_dead,
) -> Lease:
    """Take the account's lease until ``now + ttl``, under the next epoch.

    ``holder`` names this process so that nothing else bears the name. While another's lease runs,
    raises LeaseHeld, unless ``dead(other)`` proves that process gone.
    """
    dialect = sqlite if connection.dialect.name == "sqlite" else postgresql
    first = Lease(account, 1, holder, now, now, now + ttl)
    row = {field: getattr(first, field) for field in _FIELDS}
    create = dialect.insert(leases).values(row).on_conflict_do_nothing()
    if connection.execute(create.returning(leases.c.epoch)).one_or_none():
        return first
    standing = _standing(connection, account)
    if standing.expires_at > now and not dead(standing.holder):
        raise LeaseHeld(
            f"account {account!r} is held by {standing.holder}"
            f" until {standing.expires_at.isoformat(sep=' ', timespec='seconds')};"
            " stop that process, or wait until its lease has run out"
        )
    taken = Lease(account, standing.epoch + 1, holder, now, now, now + ttl)
    values = {field: getattr(taken, field) for field in _FIELDS}
    connection.execute(update(leases).where(leases.c.account == account).values(values))
    return taken


def renew(
    connection: Connection, account: str, *, epoch: int, now: datetime, ttl: timedelta
) -> bool:
    """Hold the lease until ``now + ttl``; False if it is another's now."""
    return _change(connection, account, epoch, renewed_at=now, expires_at=now + ttl)


def release(connection: Connection, account: str, *, epoch: int, now: datetime) -> bool:
    """Let the next process take the lease at once; False if it is another's already."""
    return _change(connection, account, epoch, expires_at=now)


def current(connection: Connection, account: str) -> Lease | None:
    """Return the lease as it stands, run out or not; None if nobody ever took it."""
    found = connection.execute(_of(account)).one_or_none()
    return None if found is None else _lease(found)


_FIELDS = ("account", "epoch", "holder", "taken_at", "renewed_at", "expires_at")


def _of(account: str) -> Select[*tuple[Any, ...]]:
    return select(*(leases.c[field] for field in _FIELDS)).where(leases.c.account == account)


def _standing(connection: Connection, account: str) -> Lease:
    """Return the lease, locked until the transaction ends."""
    return _lease(connection.execute(_of(account).with_for_update()).one())


def _lease(row: Row[*tuple[Any, ...]]) -> Lease:
    return Lease(**row._mapping)


def _change(connection: Connection, account: str, epoch: int, **times: datetime) -> bool:
    change = update(leases).where(leases.c.account == account, leases.c.epoch == epoch)
    return connection.execute(change.values(**times)).rowcount == 1
