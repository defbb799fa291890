"""What a back-fill has to fetch, how far it is, and what it left open."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any, NamedTuple

from attrs import field, fields, frozen
from sqlalchemy import (
    Column,
    ColumnElement,
    Connection,
    FromClause,
    and_,
    exists,
    func,
    insert,
    not_,
    or_,
    select,
    update,
)

from recorder.database.schema import (
    backfill_lists,
    backfill_runs,
    backfills,
    conditional_orders,
    events,
    fold_failures,
    gaps,
    ledger,
    orders,
    positions,
    trades,
    transfers,
)
from recorder.exchange.amounts import EXACT
from recorder.log.rules.event import Origin
from recorder.projections.rules.backfills import RUNNING
from recorder.projections.rules.matching import ALONE, UNDECIDED
from recorder.projections.rules.order_statements import END_UNKNOWN
from recorder.projections.rules.positions import UNCONFIRMED
from recorder.projections.rules.transfers import COMPLETE as TRANSFER_COMPLETE

REQUESTED = "requested"
#: The folds of fetched pages, and the fold of the notes about them.
FOLDS = ("backfills", "ledger", "orders", "trades", "transfers")
#: A transfer that is pending for longer is not waited for: not all of VALR's words for a failed
#: one are known.
PENDING_LONGEST = timedelta(days=90)
#: The fold of positions and conditional orders.
FUTURES_FOLD = ("futures",)


class ListState(NamedTuple):
    """How far a list of a run is: its state, where it is read on, and what is wrong with it."""

    state: str = RUNNING
    next: str | None = None
    reason: str | None = None


@frozen
class Period:
    """What is to be fetched: for a gap, for a request, or the rest of an unfinished run.

    ``run_id`` is None before it began. ``lists`` has the state of each list that has begun.
    """

    since: datetime
    until: datetime
    gap_id: int | None = None
    backfill_id: str | None = None
    run_id: int | None = None
    lists: Mapping[str, ListState] = field(factory=dict)


@frozen
class Requested:
    """A row of `backfills`, with what its run has fetched so far."""

    backfill_id: str
    from_at: datetime
    until_at: datetime
    state: str
    reason: str | None
    run_id: int | None
    pages: int
    rows: int


def unfinished(connection: Connection, account: str) -> Period | None:
    """Return the oldest run that has begun and not ended."""
    run = backfill_runs.c
    wanted = select(backfill_runs).where(run.account == account, run.is_open).order_by(run.run_id)
    row = connection.execute(wanted.limit(1)).one_or_none()
    if row is None:
        return None
    lists = lists_of(connection, account, row.run_id)
    return Period(row.from_at, row.until_at, row.gap_id, row.backfill_id, row.run_id, lists)


def lists_of(connection: Connection, account: str, run_id: int) -> dict[str, ListState]:
    """Return how far each list of a run is that has begun."""
    of = backfill_lists.c
    wanted = select(of.list, of.state, of.next, of.reason, of.unread).where(
        of.account == account, of.run_id == run_id
    )
    reported = {}
    for row in connection.execute(wanted):
        reason = f"{row.unread} rows could not be read" if row.unread else row.reason
        reported[row.list] = ListState(row.state, row.next, reason)
    return reported


def next_gap(connection: Connection, account: str) -> Period | None:
    """Return the newest closed gap that no run was for: it matters most."""
    run = exists().where(
        backfill_runs.c.account == account, backfill_runs.c.gap_id == gaps.c.gap_id
    )
    # The first gap has no beginning; the account's record begins with its first start.
    noted = and_(events.c.account == gaps.c.account, events.c.position == gaps.c.gap_id)
    wanted = (
        select(gaps.c.gap_id, gaps.c.unobserved_from, events.c.received_at, gaps.c.unobserved_until)
        .join(events, noted)
        .where(gaps.c.account == account, gaps.c.state == "closed", ~run)
        .order_by(gaps.c.gap_id.desc())
        .limit(1)
    )
    row = connection.execute(wanted).one_or_none()
    if row is None:
        return None
    gap_id, since, noted_at, until = row
    return Period(since or noted_at, until or noted_at, gap_id=gap_id)


def unhealed_within(
    connection: Connection, account: str, run_id: int, period: Period, after_s: float
) -> list[int]:
    """Return the gaps of a period that a run over it heals, if it reads everything.

    These are unverifiable gaps, and closed ones, which may have no run of their own. The latter
    must have closed ``after_s`` before this run began, because the lists are a little behind.
    """
    of = gaps.c
    run = and_(backfill_runs.c.account == account, backfill_runs.c.run_id == run_id)
    began = connection.execute(select(backfill_runs.c.started_at).where(run)).scalar_one()
    is_ripe = of.unobserved_until <= began - timedelta(seconds=after_s)
    inside = (of.unobserved_from >= period.since, of.unobserved_until <= period.until)
    may_heal = or_(of.state == "unverifiable", and_(of.state == "closed", is_ripe))
    wanted = select(of.gap_id).where(of.account == account, may_heal, *inside)
    return [int(each) for each in connection.execute(wanted.order_by(of.gap_id)).scalars()]


def pending_transfers_since(
    connection: Connection, account: str, before: datetime
) -> datetime | None:
    """Return when the oldest transfer was made that isn't known to be complete; None if all are."""
    of = transfers.c
    is_confirmed = and_(of.confirmed.is_not(None), of.confirmed)
    is_pending = (not_(is_confirmed), func.coalesce(of.status, "") != TRANSFER_COMPLETE)
    wanted = select(func.min(of.created_at)).where(
        of.account == account, of.created_at >= before - PENDING_LONGEST, *is_pending
    )
    found: datetime | None = connection.execute(wanted).scalar_one()
    return found


def last_answers(connection: Connection, account: str, run_id: int) -> list[int]:
    """Return the position of each list's last answer: the one after the note about it."""
    of = backfill_lists.c
    wanted = select(of.last_position).where(of.account == account, of.run_id == run_id)
    return sorted(int(each) + 1 for each in connection.execute(wanted).scalars())


def has_futures(connection: Connection, account: str) -> bool:
    """Return whether a position or a conditional order was ever reported."""
    return _has_any(connection, lambda of: of.account == account)


def is_unconfirmed(connection: Connection, account: str) -> bool:
    """Return whether a list left out a position or a conditional order that counts as open."""
    return _has_any(
        connection,
        lambda of: and_(of.account == account, of.is_open, of.basis == UNCONFIRMED),
    )


def _has_any(connection: Connection, condition: Callable[[Any], ColumnElement[bool]]) -> bool:
    found = (exists().where(condition(table.c)) for table in (positions, conditional_orders))
    return bool(connection.execute(select(or_(*found))).scalar_one())


def conditionals_without_end(connection: Connection, account: str) -> list[str]:
    """Return the pairs of conditional orders that are open or whose final state is unknown."""
    of = conditional_orders.c
    unknown = or_(of.is_open, of.state == END_UNKNOWN)
    wanted = select(of.pair).where(of.account == account, unknown, of.pair.is_not(None)).distinct()
    return sorted(str(pair) for pair in connection.execute(wanted).scalars())


def next_requested(connection: Connection, account: str) -> Period | None:
    """Return the oldest requested period that no run has begun."""
    of = backfills.c
    wanted = (
        select(backfills)
        .where(of.account == account, of.state == REQUESTED)
        .order_by(of.requested_at, of.backfill_id)
        .limit(1)
    )
    row = connection.execute(wanted).one_or_none()
    return None if row is None else Period(row.from_at, row.until_at, backfill_id=row.backfill_id)


def request_period(
    connection: Connection, account: str, from_at: datetime, until_at: datetime, by: str
) -> str:
    """Request a period; return the id of the request."""
    row = {"account": account, "from_at": from_at, "until_at": until_at, "requested_by": by}
    done = connection.execute(insert(backfills).values(row).returning(backfills.c.backfill_id))
    return str(done.scalar_one())


def requested(connection: Connection, account: str, backfill_id: str) -> Requested | None:
    """Return how far a request is; None where there is none of that id."""
    run, of = backfill_runs.c, backfills.c
    counts = (func.coalesce(count, 0).label(count.name) for count in (run.pages, run.rows))
    names = [each.name for each in fields(Requested)][:-2]
    wanted = (
        select(*(of[name] for name in names), *counts)
        .outerjoin_from(
            backfills, backfill_runs, and_(run.account == of.account, run.run_id == of.run_id)
        )
        .where(of.account == account, of.backfill_id == backfill_id)
    )
    row = connection.execute(wanted).mappings().one_or_none()
    return None if row is None else Requested(**row)


def mark(
    connection: Connection,
    positions: Sequence[int],
    *,
    account: str,
    backfill_id: str,
    now: datetime,
    state: str,
    reason: str | None,
) -> None:
    """Note on a request how its run is; one that begins is named by the first of these events."""
    of = backfills.c
    row: dict[str, Any] = {"state": state, "reason": reason, "updated_at": now}
    if state == RUNNING:
        row["run_id"] = positions[0]
    mine = and_(of.account == account, of.backfill_id == backfill_id)
    connection.execute(update(backfills).where(mine).values(row))


def uncounted(connection: Connection, account: str, since: datetime) -> int:
    """Return how many orders changed since then for which the sum of the fills is unknown."""
    return _count(connection, orders, _uncounted(account, since))


def _uncounted(account: str, since: datetime) -> ColumnElement[bool]:
    of = orders.c
    executed = func.coalesce(of.executed_quantity, Decimal(0))
    counted = func.coalesce(of.counted_quantity, Decimal(0))
    return and_(
        of.account == account, of.updated_at >= since, executed != Decimal(0), counted != executed
    )


def _unexplained(connection: Connection, account: str, since: datetime) -> int:
    """Return how many of them have fills that ``trades`` lacks too.

    A history may leave out orders that are still open; their fills have a history of their own.
    """
    of_order = and_(trades.c.account == orders.c.account, trades.c.order_id == orders.c.order_id)
    wanted = (
        select(orders.c.order_id, orders.c.executed_quantity, trades.c.quantity)
        .outerjoin(trades, of_order)
        .where(_uncounted(account, since))
    )
    missing: dict[str, Decimal] = {}
    for order_id, executed, quantity in connection.execute(wanted):
        rest = missing.get(order_id, executed)
        missing[order_id] = EXACT.subtract(rest, quantity or Decimal(0))
    return sum(rest != 0 for rest in missing.values())


def warnings_of(
    connection: Connection, account: str, run_id: int, until: int, period: Period
) -> list[str]:
    """Return what a run's answers, which are events up to ``until``, leave open in its period."""
    failed = (
        fold_failures.c.account == account,
        fold_failures.c.projection.in_([*FOLDS, *FUTURES_FOLD]),
        _is_event(account, fold_failures.c.position),
        events.c.position.between(run_id, until),
        events.c.origin == Origin.FETCHED.value,
    )
    gone = (
        orders.c.account == account,
        orders.c.state == END_UNKNOWN,
        _is_event(account, orders.c.ended_position),
        events.c.received_at.between(period.since, period.until),
    )
    unconfirmed = "the stream reported {} %s without an id that the history doesn't confirm"
    counts = {
        "{} answers could not be folded, or only in part": _count(
            connection, fold_failures, *failed
        ),
        unconfirmed % "fills": _unconfirmed(connection, account, trades.c.traded_at, period),
        unconfirmed % "transactions": _unconfirmed(connection, account, ledger.c.event_at, period),
        "{} orders are gone, and the history lacks their final state": _count(
            connection, orders, *gone
        ),
        "what the fills of {} orders came to is not known": _unexplained(
            connection, account, period.since
        ),
        **_warnings_of_futures(connection, account, (run_id, until), period),
    }
    return [text.format(count) for text, count in counts.items() if count]


def _warnings_of_futures(
    connection: Connection, account: str, run: tuple[int, int], period: Period
) -> dict[str, int]:
    """Return what the lists of a run, which are events between these, leave open of futures."""
    counts: dict[str, int] = {}
    for table, reported, what in (
        (positions, positions.c.position, "positions"),
        (conditional_orders, conditional_orders.c.last_position, "conditional orders"),
    ):
        of, mine = table.c, (table.c.account == account, _is_event(account, reported))
        # A connection that is lost during the run makes a gap of its own.
        by_list = and_(reported.between(*run), events.c.origin == Origin.FETCHED.value)
        in_gap = events.c.received_at.between(period.since, period.until)
        gone = (*mine, of.state == END_UNKNOWN, or_(in_gap, by_list))
        unsure = (*mine, of.is_open, of.basis == UNCONFIRMED, or_(reported < run[0], by_list))
        counts |= {
            f"{{}} {what} are gone, and no list has their final state": _count(
                connection, table, *gone
            ),
            f"{{}} {what} may be gone, and no list proves that they aren't": _count(
                connection, table, *unsure
            ),
        }
    return counts


def _unconfirmed(connection: Connection, account: str, at: Column[datetime], period: Period) -> int:
    """Count the rows of a period, by the exchange's time or where it gave none by ours.

    Two queries, because one query would read every row of the account.
    """
    of = at.table.c
    marks = or_(of.matched_by == ALONE, of.matched_by == UNDECIDED)
    dated = at.between(period.since, period.until)
    undated = and_(at.is_(None), of.received_at.between(period.since, period.until))
    times = (dated, undated)
    return sum(_count(connection, at.table, of.account == account, marks, each) for each in times)


def _is_event(account: str, position: ColumnElement[Any]) -> ColumnElement[bool]:
    return and_(events.c.account == account, events.c.position == position)


def _count(connection: Connection, table: FromClause, *conditions: ColumnElement[bool]) -> int:
    wanted = select(func.count()).select_from(table).where(*conditions)
    return int(connection.execute(wanted).scalar_one())
