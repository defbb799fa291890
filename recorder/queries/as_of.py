"""Finds a moment of the past, by position or by time, and what was held then.

There are two readings: what was known then, which asks for a position, and what was true then as
far as is known by now, which asks for a time. Nothing here walks the log: a time becomes a position
by halving between two positions, and each currency's row is one seek, or two, in an index of
`balance_history`.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from attrs import frozen
from sqlalchemy import Connection, TextualSelect, bindparam, literal, or_, select, text

from recorder.database.columns import UtcTime
from recorder.database.schema import balance_history, events, gaps
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


def balances_known_at(
    connection: Connection, account: str, position: int
) -> list[Mapping[str, Any]]:
    """Return the row of each currency as of a position of the log, by currency.

    A currency that had not been named by then has no row.
    """
    return [dict(row) for row in connection.execute(_known(account, position)).mappings()]


def balances_true_at(
    connection: Connection, account: str, moment: datetime
) -> list[Mapping[str, Any]]:
    """Return of each currency the statement of the latest time up to a moment, by currency.

    A statement counts at the exchange's time, one that has none or is inferred when it came in; of
    equal times it is the one reported later. All that is folded by now is asked, however late it
    came. A currency without a statement of such a time has no row.
    """
    query = text(BALANCES_TRUE).bindparams(bindparam("at", type_=UtcTime))
    found = connection.execute(
        query.columns(*balance_history.c), {"account": account, "at": moment}
    )
    return [dict(row) for row in found.mappings()]


def _statements(at: str, condition: str) -> str:
    return (
        f"SELECT * FROM (SELECT e.position, e.{at} AS at FROM balance_history AS e"
        " WHERE e.account = b.account AND e.currency = b.currency"
        f" AND {condition} AND e.{at} <= :at"
        f" ORDER BY e.{at} DESC, e.position DESC LIMIT 1) AS {at}"
    )


_HISTORY = ", ".join(f"h.{column.name}" for column in balance_history.c)
_DATED = "e.basis <> 'inferred_zero' AND e.updated_at IS NOT NULL"
_UNDATED = "(e.basis = 'inferred_zero' OR e.updated_at IS NULL)"
#: Each currency is a seek in `balance_history_updated_at` and one in `balance_history_undated`.
BALANCES_TRUE = (
    f"SELECT {_HISTORY} FROM balances AS b CROSS JOIN balance_history AS h"
    " WHERE b.account = :account AND h.account = b.account AND h.currency = b.currency"
    " AND h.position = (SELECT s.position FROM ("
    f"{_statements('updated_at', _DATED)} UNION ALL {_statements('received_at', _UNDATED)}"
    ") AS s ORDER BY s.at DESC, s.position DESC LIMIT 1)"
    " ORDER BY h.currency"
)


def _known(account: str, position: int) -> TextualSelect:
    # CROSS JOIN keeps SQLite at this order: the other one walks the whole history.
    query = text(
        f"SELECT {_HISTORY} FROM balances AS b CROSS JOIN balance_history AS h"
        " WHERE b.account = :account AND h.account = b.account AND h.currency = b.currency"
        " AND h.position = (SELECT max(e.position) FROM balance_history AS e"
        " WHERE e.account = b.account AND e.currency = b.currency AND e.position <= :at)"
        " ORDER BY h.currency"
    )
    return query.bindparams(account=account, at=position).columns(*balance_history.c)


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
