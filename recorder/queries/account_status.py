"""Reads the state of an account, and lists what may be wrong with the tables now.

Rows outlive the process that wrote them: a connection that a row calls open is open only while a
running recorder holds the lease. So nothing here reads as "connected" by itself; `warnings` lists
everything that keeps a table from being the present state.

Each read is a few look-ups by key, however long the log is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from attrs import frozen
from sqlalchemy import Column, Connection, Select, func, literal_column, select, text

from recorder.database.schema import (
    connections,
    controls,
    events,
    gaps,
    leases,
    outbox,
    projections,
    reconciliations,
)
from recorder.display import duration_text, plain, short_time
from recorder.lease.holder import is_alive_here, is_dead
from recorder.lease.sql import Lease, current
from recorder.log.rules.event import Origin
from recorder.log.sql.read import accounts as accounts_with_events

#: A live connection receives a PONG at least this often, in seconds (a PING goes out after 5).
SILENT_AFTER_S = 60
#: How many events back the last frame is looked for; our own notes are rare among frames.
TAIL_EVENTS = 64
#: A checkpoint this far behind the head is no news while frames stream in.
LAG_EVENTS = 1_000
#: A table that is behind moves at least so often, in seconds: what doesn't has stopped.
STOPPED_AFTER_S = 60
#: This far behind, a table is out of date, however fast it moves.
FAR_BEHIND_EVENTS = 10_000
#: Statuses that a small partial index counts; the final ones are history and may be millions.
PENDING = ("queued", "sending", "sent", "acknowledged", "in_doubt")


#: Partial indexes, and the condition (in literals, or it doesn't apply) that each stands for.
_PENDING_INDEXES = {
    "outbox_queued": "status = 'queued'",
    "outbox_unresolved": "status IN ('sending', 'sent', 'acknowledged', 'in_doubt')",
}


@frozen
class AccountStatus:
    """What the database reports about one account. Every field is as last written, whenever that
    was.

    ``head_at`` and ``last_frame_at`` are when the last event and the last frame came in;
    ``checkpoints`` maps projections to their rows, ``pending`` outbox statuses to counts.
    """

    account: str
    position: int
    digest: bytes
    head_at: datetime | None
    last_frame_at: datetime | None
    lease: Lease | None
    connection: Mapping[str, Any] | None
    open_gap: Mapping[str, Any] | None
    gaps_open: int
    #: How many of the others are in each state: closed, healed, unverifiable.
    gaps_ended: Mapping[str, int]
    #: The last comparison with the exchange that has ended.
    reconciled: Mapping[str, Any] | None
    checkpoints: Mapping[str, Mapping[str, Any]]
    switch: Mapping[str, Any] | None
    pending: Mapping[str, int]
    #: Where no recorder ever ran for this account: the accounts that the database knows instead.
    others: Sequence[str] = ()

    def is_running(self, now: datetime) -> bool:
        """Return whether a recorder holds the account: its lease runs, and it isn't known dead."""
        lease = self.lease
        return lease is not None and lease.expires_at > now and not is_dead(lease.holder)

    def frame_age_s(self, now: datetime) -> float | None:
        """Return the seconds since the exchange was last received, or None if never (lately)."""
        return _age_s(self.last_frame_at, now)


def read_account_status(connection: Connection, account: str) -> AccountStatus:
    """Return the status of the account, in one snapshot."""
    tail = _tail(connection, account)
    lease = current(connection, account)
    open_gaps = _rows(connection, select(gaps).where(gaps.c.account == account, _is_open(gaps.c)))
    return AccountStatus(
        account=account,
        position=tail[0]["position"] if tail else 0,
        digest=bytes(tail[0]["digest"]) if tail else bytes(32),
        head_at=tail[0]["received_at"] if tail else None,
        last_frame_at=next(
            (row["received_at"] for row in tail if row["origin"] == Origin.RECEIVED), None
        ),
        lease=lease,
        connection=_last_connection(connection, account),
        open_gap=open_gaps[0] if open_gaps else None,
        gaps_open=len(open_gaps),
        gaps_ended=_gaps_ended(connection, account),
        reconciled=_last_reconciliation(connection, account),
        checkpoints=_checkpoints(connection, account),
        switch=_first(connection, select(controls).where(controls.c.account == account)),
        pending=_pending(connection, account),
        others=_others(connection, account) if lease is None else (),
    )


def _others(connection: Connection, account: str) -> list[str]:
    return [name for name in known_accounts(connection) if name != account]


def _gaps_ended(connection: Connection, account: str) -> dict[str, int]:
    asked = (
        select(gaps.c.state, func.count())
        .where(gaps.c.account == account, gaps.c.state != "open")
        .group_by(gaps.c.state)
        .order_by(gaps.c.state)
    )
    return {str(state): int(count) for state, count in connection.execute(asked)}


def _last_reconciliation(connection: Connection, account: str) -> Mapping[str, Any] | None:
    of = reconciliations.c
    asked = select(of.reconciliation_id, of.state, of.reason, of.differences, of.ended_at)
    ended = asked.where(of.account == account, ~of.is_open)
    return _first(connection, ended.order_by(of.reconciliation_id.desc()).limit(1))


def known_accounts(connection: Connection) -> list[str]:
    """Return every account that any table of ours names, also one whose events are gone."""
    found = set(accounts_with_events(connection))
    for column in (leases.c.account, controls.c.account, projections.c.account):
        found |= set(connection.execute(select(column).distinct()).scalars())
    return sorted(found)


def queued_accounts(connection: Connection) -> list[str]:
    """Return the accounts for which a command waits, also those without a recorder."""
    waiting = select(outbox.c.account).where(outbox.c.status == "queued").distinct()
    return sorted(connection.execute(waiting).scalars())


def warnings(
    status: AccountStatus, now: datetime, projection: str | None = None
) -> tuple[str, ...]:
    """Return, as sentences, why the tables may not be the present state; empty if they are.

    With ``projection``, its own lag and error are among the reasons.
    """
    name = plain(status.account)
    if status.lease is None:
        others = ", ".join(f"'{plain(other)}'" for other in status.others)
        instead = f", or set --account to one that it knows: {others}" if others else ""
        return (
            f"no recorder ever ran for account '{name}' on this database:"
            f" start one with `recorder run`{instead}",
        )
    found = [*_validity(status, now)]
    if projection is not None:
        found += _lag(status, projection)
    return tuple(found)


def _validity(status: AccountStatus, now: datetime) -> list[str]:
    assert status.lease is not None
    if is_dead(status.lease.holder):
        return ["the recorder's process is gone: this is how things stood then, not now"]
    if not status.is_running(now):
        ended = f"its lease ended {short_time(status.lease.expires_at)} UTC"
        what = f"the recorder isn't running ({ended})"
        if is_alive_here(status.lease.holder):
            what = f"the recorder's process is frozen or cut off from the database ({ended})"
        return [f"{what}: this is how things stood then, not now"]
    connection = status.connection
    if connection is None:
        return ["the recorder has not been connected to the exchange yet"]
    if not connection["is_open"]:
        since = connection["closed_at"]
        when = f" since {short_time(since)} UTC" if since else ""
        why = f" ({plain(connection['close_reason'])})" if connection["close_reason"] else ""
        return [f"there is no connection to the exchange{when}{why}"]
    if connection["state"] != "authenticated":
        return ["the connection to the exchange isn't authenticated yet"]
    return [*_silence(status, now), *_gap(status)]


def _silence(status: AccountStatus, now: datetime) -> list[str]:
    age_s = status.frame_age_s(now)
    if age_s is None or age_s > SILENT_AFTER_S:
        since = "lately" if age_s is None else f"for {duration_text(age_s)}"
        return [f"nothing was received from the exchange {since}"]
    return []


def _gap(status: AccountStatus) -> list[str]:
    if status.open_gap is None:
        return []
    since = status.open_gap["from_at"]
    when = f" since {short_time(since)} UTC" if since else ""
    return [f"a gap is open{when}: the snapshot that ends it isn't complete"]


def _lag(status: AccountStatus, projection: str) -> list[str]:
    checkpoint = status.checkpoints.get(projection)
    if checkpoint is None:
        return [f"the projection '{projection}' has folded nothing yet"]
    found = []
    behind = status.position - checkpoint["position"]
    if behind > LAG_EVENTS:
        found.append(f"the table is {behind:,} events behind the log")
    if checkpoint["error"]:
        found.append(
            f"an event could not be folded into it, or only in part: {plain(checkpoint['error'])}"
            " (all such events are in fold_failures)"
        )
    return found


def tables_behind(status: AccountStatus, now: datetime) -> tuple[str, ...]:
    """Return, as sentences, which tables a running recorder does not keep up with its log."""
    if not status.is_running(now):
        return ()
    found = []
    for name, row in status.checkpoints.items():
        behind, age_s = status.position - row["position"], _age_s(row["updated_at"], now)
        if behind > FAR_BEHIND_EVENTS:
            found.append(f"the table '{name}' is {behind:,} events behind the log")
        elif behind > 0 and age_s is not None and age_s > STOPPED_AFTER_S:
            found.append(
                f"the table '{name}' stands still at position {row['position']:,}"
                f" for {duration_text(age_s)}"
            )
    return tuple(found)


def as_of(status: AccountStatus, projection: str) -> tuple[int, datetime | None]:
    """Return the position up to which a table stands, and when that was last moved."""
    checkpoint = status.checkpoints.get(projection)
    if checkpoint is None:
        return 0, None
    return checkpoint["position"], checkpoint["updated_at"]


def _tail(connection: Connection, account: str) -> list[Mapping[str, Any]]:
    columns = (events.c.position, events.c.digest, events.c.received_at, events.c.origin)
    return _rows(
        connection,
        select(*columns)
        .where(events.c.account == account)
        .order_by(events.c.position.desc())
        .limit(TAIL_EVENTS),
    )


def _last_connection(connection: Connection, account: str) -> Mapping[str, Any] | None:
    return _first(
        connection,
        select(connections)
        .where(connections.c.account == account)
        .order_by(connections.c.first_position.desc())
        .limit(1),
    )


def _checkpoints(connection: Connection, account: str) -> dict[str, Mapping[str, Any]]:
    found = _rows(
        connection,
        select(projections)
        .where(projections.c.account == account)
        .order_by(projections.c.projection),
    )
    return {row["projection"]: row for row in found}


def _pending(connection: Connection, account: str) -> dict[str, int]:
    """Count what isn't final yet, by status."""
    counted: dict[str, int] = dict.fromkeys(PENDING, 0)
    for index, condition in _PENDING_INDEXES.items():
        # Without statistics SQLite would rather search an index over all rows there ever were.
        through = f" INDEXED BY {index}" if connection.dialect.name == "sqlite" else ""
        grouped: Select[*tuple[Any, ...]] = (
            select(literal_column("status"), func.count())
            .select_from(text(f"outbox{through}"))
            .where(literal_column("account") == account, text(condition))
            .group_by(literal_column("status"))
        )
        counted |= {status: number for status, number in connection.execute(grouped)}
    return counted


def _is_open(columns: Any) -> Column[bool]:
    found: Column[bool] = columns.is_open
    return found


def _rows(connection: Connection, statement: Select[*tuple[Any, ...]]) -> list[Mapping[str, Any]]:
    return [dict(row) for row in connection.execute(statement).mappings()]


def _first(connection: Connection, statement: Select[*tuple[Any, ...]]) -> Mapping[str, Any] | None:
    found = connection.execute(statement).mappings().one_or_none()
    return None if found is None else dict(found)


def _age_s(moment: datetime | None, now: datetime) -> float | None:
    return None if moment is None else max((now - moment).total_seconds(), 0.0)
