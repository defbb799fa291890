"""Reads what the books of a period are made of: balances at both ends, and movements between.

A period is one of the log (by positions: what was reported in it) or one of the exchange's time
(what happened in it, whenever it was reported). Each end belongs to the period before it. Every
read costs what the period holds, not what the log holds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

from attrs import frozen
from sqlalchemy import ColumnElement, Connection, Function, and_, case, func, or_, select

from recorder.database.columns import Amount
from recorder.database.schema import balance_history, balances, events, fold_failures, gaps
from recorder.database.schema import balance_movements as movements
from recorder.database.schema import projections as checkpoints
from recorder.projections.rules.books import (
    Basis,
    Explained,
    Line,
    Reported,
    Step,
    drifts,
    is_in_flight,
    merge,
    passing,
)

#: The exchange's frames about one change come within a short time. So much on both sides of an end
#: is looked at to find what was in flight there: by the exchange's time, or in events.
FLIGHT = timedelta(seconds=5)
FLIGHT_EVENTS = 200
FLIGHT_STEPS_MAX = 200
#: Folded from the log different from each other: books are read up to where both are.
SOURCES = ("balances", "ledger")
#: An inferred statement has no time of the exchange's, and one that it gave none to neither.
UNDATED = or_(balance_history.c.basis == "inferred_zero", balance_history.c.updated_at.is_(None))


@frozen
class Snapshot:
    """The first complete snapshot: from there on, what wasn't named isn't held."""

    position: int
    at: datetime


@frozen
class Period:
    """From just behind one end up to the other: both positions, or both times.

    Nothing behind position ``as_of`` is read, so that all tables are equally far.
    """

    begin: int | datetime
    end: int | datetime
    as_of: int

    @property
    def is_by_position(self) -> bool:
        """True for a period of the log."""
        return isinstance(self.begin, int)


def folded_up_to(connection: Connection, account: str) -> int:
    """Return the position up to which balances and ledger are both folded; 0 if one isn't."""
    wanted = select(checkpoints.c.position).where(
        checkpoints.c.account == account, checkpoints.c.projection.in_(SOURCES)
    )
    found = list(connection.execute(wanted).scalars())
    return min(found) if len(found) == len(SOURCES) else 0


def first_snapshot(connection: Connection, account: str) -> Snapshot | None:
    """Return the first snapshot that named all balances, or None."""
    ended = gaps.join(
        events,
        and_(events.c.account == gaps.c.account, events.c.position == gaps.c.first_position_after),
    )
    wanted = (
        select(events.c.position, events.c.received_at)
        .select_from(ended)
        .where(
            gaps.c.account == account,
            events.c.type == "SNAPSHOT_COMPLETE",
            events.c.origin == "noted",
            # The note is ours, written by one function: its words are known.
            events.c.payload.like('%"balances":true%'),
        )
        .order_by(gaps.c.account, gaps.c.gap_id)
        .limit(1)
    )
    row = connection.execute(wanted).first()
    return None if row is None else Snapshot(row.position, row.received_at)


def time_of_position(connection: Connection, account: str, position: int) -> datetime | None:
    """Return when the event was recorded, by the clock on the wall; None if there is none."""
    wanted = select(events.c.received_at).where(
        events.c.account == account, events.c.position == position
    )
    found: datetime | None = connection.execute(wanted).scalar_one_or_none()
    return found


def explain(
    connection: Connection, account: str, period: Period, *, currency: str | None = None
) -> list[Explained]:
    """Return every currency that was ever reported or that moved, or only the one asked for.

    That one may be unknown: then nothing is returned. Movements of which the exchange named no
    currency come last.
    """
    snapshot = first_snapshot(connection, account)
    lines = _lines(connection, account, period, currency)
    held = select(balances.c.currency).where(balances.c.account == account)
    known = set(connection.execute(held).scalars())
    names = known | (lines.keys() - {None})
    if currency is not None:
        names &= {currency}
    found = [
        _explained(connection, account, period, name, lines.get(name, []), snapshot)
        for name in sorted(str(each) for each in names)
    ]
    if None in lines:
        nowhere = Reported(None, Basis.UNKNOWN)
        found.append(Explained(None, nowhere, nowhere, merge(lines[None])))
    return found


def unread(connection: Connection, account: str, period: Period) -> int:
    """Return how many events of the period could not be folded, at least in part."""
    failed = and_(
        fold_failures.c.account == account,
        fold_failures.c.projection.in_(SOURCES),
        up_to(fold_failures.c.position, period.as_of),
    )
    if isinstance(period.begin, int):
        inside = and_(
            fold_failures.c.position > period.begin, fold_failures.c.position <= period.end
        )
        wanted = select(func.count()).where(failed, inside)
    else:
        reported = and_(
            events.c.account == fold_failures.c.account,
            events.c.position == fold_failures.c.position,
            events.c.received_at > period.begin,
            events.c.received_at <= period.end,
        )
        wanted = (
            select(func.count()).select_from(fold_failures.join(events, reported)).where(failed)
        )
    count: int = connection.execute(wanted).scalar_one()
    return count


# Balances


def _explained(
    connection: Connection,
    account: str,
    period: Period,
    currency: str,
    lines: Sequence[Line],
    snapshot: Snapshot | None,
) -> Explained:
    opening, closing = (
        _reported(connection, account, currency, end, period.as_of, snapshot)
        for end in (period.begin, period.end)
    )
    reported = Explained(currency, opening, closing, merge(lines))
    residual = reported.residual
    if not residual:
        return reported
    near = [
        _passing(connection, account, currency, end, period.as_of, snapshot)
        for end in (period.begin, period.end)
    ]
    return Explained(currency, opening, closing, reported.lines, is_in_flight(residual, *near))


def _reported(
    connection: Connection,
    account: str,
    currency: str,
    end: int | datetime,
    as_of: int,
    snapshot: Snapshot | None,
) -> Reported:
    """Return the balance at an end, as the last statement up to it has it."""
    if isinstance(end, int):
        found = _last_reported(connection, account, currency, min(end, as_of))
    else:
        found = _last_true(connection, account, currency, end, as_of)
    if found is not None:
        return found
    named_by = None
    if snapshot is not None and snapshot.position <= as_of:
        named_by = snapshot.position if isinstance(end, int) else snapshot.at
    if named_by is not None and named_by <= end:  # type: ignore[operator]
        return Reported(Decimal(0), Basis.NOT_NAMED)
    return Reported(None, Basis.UNKNOWN)


def _last_reported(
    connection: Connection, account: str, currency: str, position: int
) -> Reported | None:
    history = balance_history.c
    row = connection.execute(
        select(history.total, history.basis, history.position, history.received_at)
        .where(
            history.account == account,
            history.currency == currency,
            history.position <= position,
        )
        .order_by(history.position.desc())
        .limit(1)
    ).first()
    return None if row is None else Reported(row[0], Basis(row[1]), row[2], row[3])


def _last_true(
    connection: Connection, account: str, currency: str, moment: datetime, as_of: int
) -> Reported | None:
    """Return the statement of the latest time up to a moment; see `last_true`."""
    row = last_true(connection, account, currency, moment, as_of)
    if row is None:
        return None
    return Reported(row["total"], Basis(row["basis"]), row["position"], row["at"])


def up_to(position: ColumnElement[int], as_of: int) -> ColumnElement[bool]:
    """Return what leaves out what was reported behind a position.

    Written so that no index is used for it: SQLite would read the account's whole key.
    """
    return position + 0 <= as_of


def last_true(
    connection: Connection, account: str, currency: str, moment: datetime, as_of: int
) -> Mapping[str, Any] | None:
    """Return the row of `balance_history` of the latest time up to a moment, with that time as at.

    Of equal times it is the one reported later. A statement has the exchange's time, one that is
    inferred or has none the time we received of it.
    """
    history = balance_history.c
    mine = and_(
        history.account == account, history.currency == currency, up_to(history.position, as_of)
    )
    found = []
    for at, condition in (
        (history.updated_at, history.basis != "inferred_zero"),
        (history.received_at, UNDATED),
    ):
        wanted = (
            select(balance_history, at.label("at"))
            .where(mine, condition, at <= moment)
            .order_by(at.desc(), history.position.desc())
            .limit(1)
        )
        found += list(connection.execute(wanted).mappings())
    latest = sorted(found, key=lambda each: (each["at"], each["position"]))[-1:]
    return dict(latest[0]) if latest else None


# Movements


def _lines(
    connection: Connection, account: str, period: Period, currency: str | None
) -> dict[str | None, list[Line]]:
    found: dict[str | None, list[Line]] = {}
    m = movements.c
    for within in inside(period):
        is_late = m.received_at > period.end if not period.is_by_position else m.position < 0
        is_assumed = and_(m.leg == "fee", m.fee_basis == "assumed")
        wanted = (
            select(
                m.currency,
                m.kind,
                exact_sum(connection, m.amount),
                func.count(),
                _count_if(m.source == "backfill"),
                _count_if(m.amount.is_(None)),
                _count_if(is_late),
                exact_sum(connection, case((is_assumed, m.amount))),
            )
            .where(m.account == account, up_to(m.position, period.as_of), *within)
            .group_by(m.currency, m.kind)
        )
        if currency is not None:
            wanted = wanted.where(m.currency == currency)
        for name, kind, *sums in connection.execute(wanted):
            # The sum of no amount is null.
            values: list[Any] = [Decimal(0) if each is None else each for each in sums]
            found.setdefault(name, []).append(Line(kind, *values))
    return found


def inside(period: Period) -> list[tuple[ColumnElement[bool], ...]]:
    """Return what reports a period's movements: one set of conditions for each index."""
    m, begin, end = movements.c, period.begin, period.end
    if period.is_by_position:
        return [(m.position > begin, m.position <= end)]
    return [
        (m.at > begin, m.at <= end),
        # The exchange gave no time: when we received of it has to do.
        (m.at.is_(None), m.received_at > begin, m.received_at <= end),
    ]


def exact_sum(connection: Connection, amount: ColumnElement[Any]) -> Function[Any]:
    """Return the SQL sum of amounts that is exact on this database; null of none."""
    name = "exact_sum" if connection.dialect.name == "sqlite" else "sum"
    return Function(name, amount, type_=Amount())


def _count_if(condition: ColumnElement[bool]) -> ColumnElement[int]:
    return func.coalesce(func.sum(case((condition, 1), else_=0)), 0)


# What is in flight


def _passing(
    connection: Connection,
    account: str,
    currency: str,
    end: int | datetime,
    as_of: int,
    snapshot: Snapshot | None,
) -> set[Decimal]:
    """Return the drifts, relative to that at an end, which hold on both sides near it."""
    if isinstance(end, int):
        spans = (max(end - FLIGHT_EVENTS, 0), end), (end, end + FLIGHT_EVENTS)
    else:
        spans = (end - FLIGHT, end), (end, end + FLIGHT)  # type: ignore[assignment]
    series = []
    for low, high in spans:
        stands = _reported(connection, account, currency, low, as_of, snapshot).total
        steps = _steps(connection, account, currency, low, high, as_of)
        if len(steps) > FLIGHT_STEPS_MAX:
            return {Decimal(0)}
        series.append(drifts(stands, steps))
    return passing(*series)


def _steps(
    connection: Connection, account: str, currency: str, low: Any, high: Any, as_of: int
) -> list[Step]:
    """Return movements and statements between two near ends; a few too many if there are many."""
    m, history = movements.c, balance_history.c
    is_by_position = isinstance(low, int)
    moved_at = m.position if is_by_position else m.at
    reported_at = history.position if is_by_position else history.updated_at
    moved = select(moved_at, m.position, m.amount).where(
        m.account == account,
        m.currency == currency,
        up_to(m.position, as_of),
        moved_at > low,
        moved_at <= high,
    )
    reported = select(reported_at, history.position, history.total).where(
        history.account == account,
        history.currency == currency,
        up_to(history.position, as_of),
        reported_at > low,
        reported_at <= high,
    )
    if not is_by_position:
        reported = reported.where(history.basis != "inferred_zero")
    enough = FLIGHT_STEPS_MAX + 1
    steps = [
        Step((at, position), moved=amount)
        for at, position, amount in connection.execute(moved.limit(enough))
    ]
    steps += [
        Step((at, position), total=total)
        for at, position, total in connection.execute(reported.limit(enough))
    ]
    return steps
