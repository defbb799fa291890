"""Reads what an export writes: stretches of the log, and the other tables as of one moment."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from datetime import datetime
from typing import Any

import sqlalchemy
from attrs import frozen
from sqlalchemy import ColumnElement, Connection, Row, Select, func, select

from recorder.database.schema import events, metadata
from recorder.errors import ConfigurationError, LogDamaged
from recorder.log.rules.event import EMPTY_HEAD, Head
from recorder.log.sql.read import event_at, head

#: Rows that a server-side cursor brings at once.
FETCHED_ROWS = 1_000
#: The tables that can be exported, the log among them.
TABLES = tuple(sorted(map(str, metadata.tables)))
#: The one among them that is the log.
LOG = str(events.name)
#: When a row of a table became what it is, where that isn't `received_at`.
_TIMES = {
    "connections": "opened_at",
    "gaps": "from_at",
    "outbox": "created_at",
    "outbox_lookups": "looked_at",
    "outbox_transitions": "changed_at",
}
#: A projection's `position` is how far it is, not where a row comes from.
_WITHOUT_POSITION = frozenset({"projections"})


@frozen
class Period:
    """What is wanted: positions from and up to and including, or times from and before; or all."""

    since: int | datetime | None = None
    until: int | datetime | None = None


@frozen
class LogStretch:
    """A part of one account's log: behind ``after``, up to position ``last``."""

    account: str
    after: Head
    last: int


def log_stretch(connection: Connection, account: str, period: Period) -> LogStretch:
    """Return the stretch of the log that a period names, as the log stands now.

    A stretch has no hole. So where it is named by times and the clock was set back meanwhile, it
    also holds events of other times: it goes from the first event of the period to the last.
    """
    after = _position_before(connection, account, period.since)
    last = _last_position(connection, account, period.until)
    before = EMPTY_HEAD if after == 0 else _head_at(connection, account, after)
    return LogStretch(account, before, max(last, before.position))


def _position_before(connection: Connection, account: str, since: int | datetime | None) -> int:
    end = head(connection, account).position
    if since is None:
        return 0
    if isinstance(since, int):
        return min(max(since - 1, 0), end)
    first = connection.execute(
        select(events.c.position)
        .where(events.c.account == account, events.c.received_at >= since)
        .order_by(events.c.position)
        .limit(1)
    ).scalar_one_or_none()
    return end if first is None else first - 1


def _last_position(connection: Connection, account: str, until: int | datetime | None) -> int:
    end = head(connection, account).position
    if until is None:
        return end
    if isinstance(until, int):
        return min(until, end)
    last = connection.execute(
        select(events.c.position)
        .where(events.c.account == account, events.c.received_at < until)
        .order_by(events.c.position.desc())
        .limit(1)
    ).scalar_one_or_none()
    return last or 0


def _head_at(connection: Connection, account: str, position: int) -> Head:
    event = event_at(connection, account, position)
    if event is None:
        raise LogDamaged(
            f"event {position} of account {account!r} is missing; run `recorder verify`"
        )
    return Head(position, event.digest)


def day_column(table: sqlalchemy.Table) -> sqlalchemy.Column[Any] | None:
    """Return the column by whose day a table is cut, None where its rows belong to no day."""
    name = _TIMES.get(table.name, "received_at")
    return table.c.get(name)


def require_period(table: sqlalchemy.Table, period: Period) -> None:
    """Raise ConfigurationError if the table's rows have nothing to select a period by."""
    limits = [each for each in (period.since, period.until) if each is not None]
    if any(isinstance(each, int) for each in limits) and _position_column(table) is None:
        raise ConfigurationError(f"rows of {table.name} have no position: leave --from and --to")
    if any(isinstance(each, datetime) for each in limits) and day_column(table) is None:
        raise ConfigurationError(f"rows of {table.name} have no time: leave --from and --to")


def count_rows(
    connection: Connection, table: sqlalchemy.Table, accounts: Collection[str], period: Period
) -> int:
    """Return how many rows `stream_rows` will yield in this transaction."""
    counted = select(func.count()).select_from(table).where(*_chosen(table, accounts, period))
    return connection.execute(counted).scalar_one()


def stream_rows(
    connection: Connection, table: sqlalchemy.Table, accounts: Collection[str], period: Period
) -> Iterator[Row[*tuple[Any, ...]]]:
    """Yield the accounts' rows by day and key, those without a time last, in bounded memory."""
    statement = _ordered(table).where(*_chosen(table, accounts, period))
    yield from connection.execute(statement.execution_options(yield_per=FETCHED_ROWS))


def _ordered(table: sqlalchemy.Table) -> Select[*tuple[Any, ...]]:
    time = day_column(table)
    order: list[ColumnElement[Any]] = [] if time is None else [time.is_(None), time]
    return select(*table.c).order_by(*order, *table.primary_key)


def _position_column(table: sqlalchemy.Table) -> sqlalchemy.Column[Any] | None:
    return None if table.name in _WITHOUT_POSITION else table.c.get("position")


def _chosen(
    table: sqlalchemy.Table, accounts: Collection[str], period: Period
) -> list[ColumnElement[bool]]:
    chosen: list[ColumnElement[bool]] = [table.c.account.in_(sorted(accounts))]
    positions, times = _position_column(table), day_column(table)
    if isinstance(period.since, int) and positions is not None:
        chosen.append(positions >= period.since)
    if isinstance(period.until, int) and positions is not None:
        chosen.append(positions <= period.until)
    if isinstance(period.since, datetime) and times is not None:
        chosen.append(times >= period.since)
    if isinstance(period.until, datetime) and times is not None:
        chosen.append(times < period.until)
    return chosen
