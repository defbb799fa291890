"""Finds the position of the log that a past time stands for, and whether it was observed.

Nothing here walks the log: a time becomes a position by halving the interval between two positions.
`as_of_rows` reads what was known at a position, or true at a time.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from attrs import frozen
from sqlalchemy import Connection, literal, or_, select

from recorder.database.schema import events, gaps
from recorder.errors import ConfigurationError
from recorder.gaps.sql.gaps import read_known, read_unobserved, tail
from recorder.log.sql.read import head

OBSERVED = "observed"
HEALED = "healed"
UNOBSERVED = "unobserved"


@frozen
class AsOf:
    """A position of the account's log, and when it was received by the recorder's clock.

    ``asked_at`` is the time that was asked for, None where a position was. ``observed`` reports
    whether the exchange was received then: `OBSERVED`, `UNOBSERVED`, or `HEALED` by back-fill
    since. Position 0 is a time before the log's first event, which counts as not observed.
    """

    position: int
    received_at: datetime
    asked_at: datetime | None
    observed: str

    @property
    def at(self) -> datetime:
        """The time that was asked for, or at which the position came in."""
        return self.received_at if self.asked_at is None else self.asked_at


def find_as_of(
    connection: Connection,
    account: str,
    at: int | datetime,
    *,
    now: datetime,
    is_running: bool,
    may_precede: bool = False,
) -> AsOf:
    """Return the moment that a position or an aware UTC time names.

    Raises ConfigurationError for what is behind the log's head, or not yet, and for a time before
    its first event unless that ``may_precede``: of such a time something may be known by now.
    """
    last = head(connection, account).position
    if isinstance(at, int):
        if at > last:
            raise ConfigurationError(
                f"position {at} of account {account!r} is not there yet: the head is {last}"
            )
        observed = _observed_at_position(connection, account, at)
        return AsOf(at, _received_at(connection, account, at), None, observed)
    if at > now:
        raise ConfigurationError(
            "that time is still to come: name one that has been, or leave --at out"
        )
    position = position_at(connection, account, at)
    if position is None and may_precede and last:
        return AsOf(0, at, at, UNOBSERVED)
    if position is None:
        raise ConfigurationError(
            f"nothing was known of account {account!r} at {at.isoformat()}:"
            " its log begins later, which does not mean that it held nothing"
        )
    seen = {
        _observed_at_position(connection, account, position),
        _observed_at_time(connection, account, at, is_running=is_running),
    }
    worst = next(each for each in (UNOBSERVED, HEALED, OBSERVED) if each in seen)
    return AsOf(position, _received_at(connection, account, position), at, worst)


def position_at(connection: Connection, account: str, at: datetime) -> int | None:
    """Return the last position that had come in by a time, None where the log begins later.

    A clock that was set back passes a time more than once: the latest passing counts. A clock is
    taken to run forward between two gaps; a step back of 2 s or more makes one.
    """
    last = head(connection, account).position
    begun = _begun(connection, account, at, last)
    if begun is None:
        return None
    low, high = begun
    while high - low > 1:
        middle = (low + high) // 2
        if _received_at(connection, account, middle) <= at:
            low = middle
        else:
            high = middle
    return low


def _begun(connection: Connection, account: str, at: datetime, last: int) -> tuple[int, int] | None:
    """Return the latest start of a stretch that had come in by then, and where that one ends."""
    mine = gaps.c.account == account
    # A clock is set back between the two: where exactly, the notes in between don't report.
    behind = select(gaps.c.last_position_before + 1).where(mine)
    bounds = behind.union(select(gaps.c.first_position_after).where(mine), select(literal(1)))
    wanted = select(events.c.position, events.c.received_at).where(
        events.c.account == account, events.c.position.in_(bounds)
    )
    found = connection.execute(wanted.order_by(events.c.position.desc())).all()
    end = last + 1
    for start, received_at in found:
        if received_at <= at:
            return start, end
        end = start
    return None


def _received_at(connection: Connection, account: str, position: int) -> datetime:
    wanted = select(events.c.received_at).where(
        events.c.account == account, events.c.position == position
    )
    found: datetime = connection.execute(wanted).scalar_one()
    return found


def _observed_at_position(connection: Connection, account: str, position: int) -> str:
    ends_behind = or_(gaps.c.first_position_after.is_(None), gaps.c.first_position_after > position)
    touching = (gaps.c.account == account, gaps.c.last_position_before < position, ends_behind)
    states = set(connection.execute(select(gaps.c.state).where(*touching)).scalars())
    if not states:
        return OBSERVED
    return HEALED if states == {"healed"} else UNOBSERVED


def _observed_at_time(
    connection: Connection, account: str, at: datetime, *, is_running: bool
) -> str:
    until = at + timedelta(microseconds=1)
    unobserved_intervals = [
        *read_unobserved(connection, account, at, until),
        *tail(read_known(connection, account), until, is_running=is_running),
    ]
    healed = [each.is_healed for each in unobserved_intervals if each.until_at > at]
    if not healed:
        return OBSERVED
    return HEALED if all(healed) else UNOBSERVED
