"""Reads the gaps of an account, and since when and until when it was observed."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from attrs import frozen
from sqlalchemy import ColumnElement, Connection, func, or_, select

from recorder.database.schema import events, gaps
from recorder.log.rules.coverage import Cause, Unobserved
from recorder.log.rules.event import Origin


@frozen
class Known:
    """What bounds an account's timeline.

    ``since`` is when recording began; None where no recorder ever started. ``last_frame_at`` is
    the last known good time. ``is_open``: a gap is open.
    """

    since: datetime | None
    last_frame_at: datetime | None
    is_open: bool


def last_frame_time(connection: Connection, account: str) -> datetime | None:
    """Return when the last frame was received; our own events prove nothing of the exchange."""
    last = (
        select(events.c.received_at)
        .where(events.c.account == account, events.c.origin == Origin.RECEIVED.value)
        .order_by(events.c.position.desc())
        .limit(1)
    )
    found: datetime | None = connection.execute(last).scalar_one_or_none()
    return found


def read_known(connection: Connection, account: str) -> Known:
    """Return since when the account is recorded, and when its last frame was received."""
    mine = gaps.c.account == account
    since = connection.execute(select(func.min(gaps.c.unobserved_from)).where(mine)).scalar_one()
    opened = select(gaps.c.gap_id).where(mine, gaps.c.is_open).limit(1)
    is_open = connection.execute(opened).first() is not None
    last_frame_at = last_frame_time(connection, account)
    if since is not None and last_frame_at is not None and not is_open:
        # After a clock was set back, the last frame may be earlier than the first start.
        since = min(since, last_frame_at)
    return Known(since, last_frame_at, is_open)


def read_unobserved(
    connection: Connection, account: str, from_at: datetime, until_at: datetime
) -> list[Unobserved]:
    """Return the intervals of a period in which something may have been missed.

    An open gap reaches to the period's end.
    """
    columns = (gaps.c.unobserved_from, gaps.c.unobserved_until, gaps.c.cause, gaps.c.state)
    wanted = select(*columns).where(*_touching(account, from_at, until_at))
    has_length = or_(
        gaps.c.unobserved_until.is_(None), gaps.c.unobserved_from < gaps.c.unobserved_until
    )
    return [
        Unobserved(
            row.unobserved_from, row.unobserved_until or until_at, row.cause, row.state == "healed"
        )
        for row in connection.execute(wanted.where(has_length))
    ]


def tail(known: Known, until_at: datetime, *, is_running: bool) -> list[Unobserved]:
    """Return the time after the last frame, which is in no gap yet.

    While a recorder runs, the next PONG confirms it; while none runs, it is not observed.
    """
    if known.last_frame_at is None or known.is_open or known.last_frame_at >= until_at:
        return []
    cause = Cause.UNCONFIRMED if is_running else Cause.NOT_RUNNING
    return [Unobserved(known.last_frame_at, until_at, cause.value)]


def read_gaps(
    connection: Connection,
    account: str,
    from_at: datetime,
    until_at: datetime,
    *,
    limit: int | None = None,
) -> list[Mapping[str, Any]]:
    """Return the gaps that touch a period, oldest first: all, or the newest ``limit``."""
    wanted = select(gaps).where(*_touching(account, from_at, until_at))
    newest = wanted.order_by(gaps.c.gap_id.desc()).limit(limit)
    found: list[Mapping[str, Any]] = [dict(row) for row in connection.execute(newest).mappings()]
    return found[::-1]


def count_gaps(
    connection: Connection, account: str, from_at: datetime, until_at: datetime
) -> list[tuple[str, str, int]]:
    """Return (cause, state, number) of the gaps that touch a period."""
    wanted = (
        select(gaps.c.cause, gaps.c.state, func.count())
        .where(*_touching(account, from_at, until_at))
        .group_by(gaps.c.cause, gaps.c.state)
        .order_by(gaps.c.cause, gaps.c.state)
    )
    return [(cause, state, number) for cause, state, number in connection.execute(wanted)]


def _touching(
    account: str, from_at: datetime, until_at: datetime
) -> tuple[ColumnElement[bool], ...]:
    ends_later = or_(gaps.c.unobserved_until.is_(None), gaps.c.unobserved_until >= from_at)
    return gaps.c.account == account, gaps.c.unobserved_from < until_at, ends_later
