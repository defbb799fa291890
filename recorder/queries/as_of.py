"""Reads balances, orders, positions and conditional orders as of a position or a time.

`position_at` finds the position that a time stands for, by halving the interval between two
positions; whether it was observed is part of the answer.

There are two readings. `known_at` asks for a position of the log: each row is the last line of its
history up to there. `true_at` asks for a time: it goes by the exchange's time of each report, and
includes what was received later. VALR gives the end of a position or a conditional order no time;
such an end counts when it was received.

No reading scans a history: each row costs one or two seeks in an index of it. Orders may be
millions, so the index values of their validity intervals are looked up (about forty, however many
orders there are; see `projections.rules.validity`).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from datetime import datetime, timedelta
from typing import Any

from attrs import frozen
from sqlalchemy import Column, Connection, Table, Text, bindparam, literal, or_, select, text

from recorder.database.columns import UtcTime
from recorder.database.schema import (
    balance_history,
    balances,
    conditional_order_history,
    conditional_orders,
    events,
    foreign_orders,
    gaps,
    order_history,
    orders,
    position_history,
    positions,
)
from recorder.errors import ConfigurationError
from recorder.gaps.sql.gaps import read_known, read_unobserved, tail
from recorder.log.sql.read import head
from recorder.projections.rules.order_statements import END_UNKNOWN, OPEN, STATES, UNKNOWN, is_live
from recorder.projections.rules.positions import INFERRED, REPORTED
from recorder.projections.rules.validity import ONGOING, STEP_MAX, seconds

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


Rows = list[Mapping[str, Any]]


@frozen
class Reading:
    """How one reading chooses rows ``b`` of a table and the line ``h`` of each one's history.

    ``line`` is the SQL of the line's position, ``where`` and ``more`` are further conditions and
    columns. ``validity`` names the column of index values and the number to look up.
    """

    line: str
    order: str
    where: str = ""
    more: Mapping[str, Column[Any]] = {}
    validity: tuple[str, str] | None = None
    may_lack_line: bool = False


@frozen
class AsOfTable:
    """A table of states, its history, the column that names a row, and both readings.

    A result has the columns ``of_state`` of the table and ``of_line`` of its history, as
    ``judged`` returns them: it removes ``more`` and adds whether the row is ``certain``.
    """

    states: Table
    history: Table
    key: str
    known: Reading
    true: Reading
    of_state: Collection[str] = ()
    of_line: Collection[str] | None = None
    judged: Callable[[dict[str, Any], Any], Mapping[str, Any]] = lambda row, at: row

    def query(self, reading: Reading) -> str:
        """Return the SQL of a reading, with the parameters account, at and second."""
        names = [f"b.{name}" for name in self.of_state]
        names += [f"h.{name}" for name in self._lines]
        names += [f"{sql} AS {column.name}" for sql, column in reading.more.items()]
        line = f"h.account = b.account AND h.{self.key} = b.{self.key}"
        line += f" AND h.position = ({reading.line})"
        # CROSS JOIN keeps SQLite at this order of tables; the other one walks the whole history.
        join = (
            "LEFT JOIN {} AS h ON {} WHERE"
            if reading.may_lack_line
            else ("CROSS JOIN {} AS h WHERE {} AND")
        )
        start, where, states = "", reading.where, f"{self.states.name} AS b"
        if reading.validity is not None:
            column, number = reading.validity
            start, states = f"{index_values(number)} ", f"around AS n CROSS JOIN {states}"
            where += f" AND b.{column} = n.value"
        return (
            f"{start}SELECT {', '.join(names)} FROM {states} {join.format(self.history.name, line)}"
            f" b.account = :account{where} ORDER BY {reading.order}"
        )

    def read(self, connection: Connection, reading: Reading, **values: Any) -> Rows:
        """Return the rows of a reading, typed as the columns of the tables are."""
        columns = [self.states.c[name] for name in self.of_state]
        columns += [self.history.c[name] for name in self._lines]
        query = text(self.query(reading))
        if isinstance(values["at"], datetime):
            query = query.bindparams(bindparam("at", type_=UtcTime))
        found = connection.execute(query.columns(*columns, *reading.more.values()), values)
        return [self.judged(dict(row), values["at"]) for row in found.mappings()]

    @property
    def _lines(self) -> Collection[str]:
        return self.history.c.keys() if self.of_line is None else self.of_line


def known_at(connection: Connection, account: str, position: int, of: AsOfTable) -> Rows:
    """Return what was known of each row at a position: balances by currency, others oldest first.

    Of orders, positions and conditional orders only those are returned that counted as open. Each
    has ``certain``: of futures, whether the exchange had reported it and had not failed to name it
    since; of orders always true. A currency that was not named by then has no row.
    """
    return of.read(connection, of.known, account=account, at=position)


def true_at(connection: Connection, account: str, moment: datetime, of: AsOfTable) -> Rows:
    """Return the rows that were true at a time, as far as is known by now, ordered as `known_at`.

    Of equal times the report received later counts. An order without a report of such a time has
    the state `UNKNOWN` and no quantities. Not ``certain`` is what may have ended before: an order
    with an unknown final state, a position of which the end was inferred later. Whether an order
    was open is known in a gap too; its quantities are the last that were reported.
    """
    values = {"account": account, "at": moment, "second": seconds(moment)}
    return of.read(connection, of.true, **values)


def foreign_among(connection: Connection, account: str, order_ids: Collection[str]) -> set[str]:
    """Return those of an account's orders that no command of ours placed."""
    ours = foreign_orders.c
    query = select(ours.order_id).where(
        ours.account == account, ours.order_id.in_(sorted(set(order_ids)))
    )
    return set(connection.execute(query).scalars())


def index_values(number: str) -> str:
    """Return a WITH clause: ``around(value)`` of every validity interval that holds a number."""
    return (
        "WITH RECURSIVE steps(step) AS ("
        "SELECT CAST(1 AS BIGINT) UNION ALL"
        f" SELECT step * 2 FROM steps WHERE step < {STEP_MAX}),"
        f" around(value) AS (SELECT CAST({ONGOING} AS BIGINT) UNION ALL"
        f" SELECT CAST({number} AS BIGINT) / (step * 2) * (step * 2) + step FROM steps)"
    )


def _from(history: Table, key: str) -> str:
    return f"FROM {history.name} AS e WHERE e.account = b.account AND e.{key} = b.{key}"


def _last_known(history: Table, key: str) -> str:
    return f"SELECT max(e.position) {_from(history, key)} AND e.position <= :at"


def _reported(at: str, condition: str) -> str:
    return (
        f"SELECT * FROM (SELECT e.position, e.{at} AS at {_from(balance_history, 'currency')}"
        f" AND {condition} AND e.{at} <= :at"
        f" ORDER BY e.{at} DESC, e.position DESC LIMIT 1) AS {at}"
    )


_DATED = "e.basis <> 'inferred_zero' AND e.updated_at IS NOT NULL"
_UNDATED = "(e.basis = 'inferred_zero' OR e.updated_at IS NULL)"
BALANCES = AsOfTable(
    balances,
    balance_history,
    "currency",
    known=Reading(_last_known(balance_history, "currency"), order="h.currency"),
    # Each currency is a seek in `balance_history_updated_at` and one in `balance_history_undated`.
    true=Reading(
        f"SELECT s.position FROM ({_reported('updated_at', _DATED)}"
        f" UNION ALL {_reported('received_at', _UNDATED)}"
        ") AS s ORDER BY s.at DESC, s.position DESC LIMIT 1",
        order="h.currency",
    ),
)


def _judged_future(row: dict[str, Any], _at: object) -> Mapping[str, Any]:
    is_inferred = row.pop("next_basis", None) == INFERRED
    return {**row, "certain": row["basis"] == REPORTED and not is_inferred}


def _futures(states: Table, history: Table, key: str, is_report: str = "1 = 1") -> AsOfTable:
    """Return the readings of futures; ``is_report`` leaves out lines that report no state."""
    is_open, order = f" AND h.state = '{OPEN}'", f"b.first_position, h.{key}"
    at = f"CASE WHEN e.state = '{OPEN}' THEN coalesce(e.updated_at, e.received_at)"
    at += " ELSE e.received_at END"
    reports = f"SELECT e.{{}} {_from(history, key)} AND {is_report} AND"
    latest = f"{reports.format('position')} {at} <= :at ORDER BY {at} DESC, e.position DESC LIMIT 1"
    following = f"{reports.format('basis')} e.position > h.position AND {at} > :at"
    return AsOfTable(
        states,
        history,
        key,
        known=Reading(_last_known(history, key), order, f" AND b.first_position <= :at{is_open}"),
        true=Reading(
            latest,
            order,
            is_open,
            {f"({following} ORDER BY e.position LIMIT 1)": Column("next_basis", Text)},
        ),
        judged=_judged_future,
    )


POSITIONS = _futures(
    positions, position_history, "position_id", "e.event_type <> 'REDUCE_POSITION'"
)
CONDITIONALS = _futures(conditional_orders, conditional_order_history, "order_id")


def _judged_order(row: dict[str, Any], at: Any) -> Mapping[str, Any]:
    final, reported_at = row.pop("final_state", None), row.pop("last_reported_at", None)
    is_reported = row["state"] is not None
    may_have_ended = final == END_UNKNOWN and (reported_at is None or reported_at <= at)
    row["state"] = row["state"] if is_reported else UNKNOWN
    return {**row, "certain": is_reported and not may_have_ended}


_LIVE = "(" + ", ".join(f"'{state}'" for state in STATES if is_live(state)) + ")"
_AT = "coalesce(e.updated_at, e.received_at)"
ORDERS = AsOfTable(
    orders,
    order_history,
    "order_id",
    known=Reading(
        f"{_last_known(order_history, 'order_id')} AND e.applied",
        "b.first_position, b.order_id",
        " AND b.first_position <= :at AND (b.ended_position IS NULL OR b.ended_position > :at)"
        f" AND h.state IN {_LIVE}",
        validity=("validity_by_position", ":at"),
    ),
    true=Reading(
        # The state in a refused cancel or change is not the order's state.
        f"SELECT e.position {_from(order_history, 'order_id')} AND {_AT} <= :at"
        " AND e.event_type NOT IN ('FAILED_CANCEL_ORDER', 'MODIFY_ORDER_OUTCOME')"
        f" AND e.state IN {_LIVE} ORDER BY CASE WHEN e.updated_at IS NULL THEN 1 ELSE 0 END,"
        f" {_AT} DESC, e.position DESC LIMIT 1",
        "b.began_at, b.order_id",
        " AND b.began_at <= :at AND (b.ended_at IS NULL OR b.ended_at > :at)",
        {
            "b.state": Column("final_state", Text),
            "b.updated_at": Column("last_reported_at", UtcTime),
        },
        validity=("validity_by_time", ":second"),
        may_lack_line=True,
    ),
    of_state=(
        *("order_id", "customer_order_id", "pair", "side", "type", "time_in_force"),
        *("created_at", "source"),
    ),
    of_line=(
        *("state", "status", "price", "original_quantity", "remaining_quantity"),
        *("updated_at", "received_at", "position"),
    ),
    judged=_judged_order,
)
