"""What is to be fetched, how far that is, and what it left open."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

from attrs import field, frozen
from sqlalchemy import (
    ColumnElement,
    Connection,
    Table,
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
    projections,
    trades,
    transfers,
)
from recorder.exchange.amounts import EXACT
from recorder.projections.rules.backfills import COMPLETE, INCOMPLETE, RUNNING
from recorder.projections.rules.matching import ALONE, UNDECIDED
from recorder.projections.rules.order_states import END_UNKNOWN
from recorder.projections.rules.positions import UNCONFIRMED
from recorder.projections.rules.transfers import COMPLETE as THROUGH

REQUESTED = "requested"
#: What folds fetched pages, and what folds the notes about them.
FOLDS = ("backfills", "ledger", "orders", "trades", "transfers")
#: A transfer that was pending for so long is waited for no more: VALR's words for a failed one are
#: not all known.
PENDING_LONGEST = timedelta(days=90)
#: What folds positions and conditional orders.
FUTURES_FOLD = ("futures",)


@frozen
class Period:
    """What is to be fetched: for a gap, for a person, or to be gone on with.

    ``run_id`` is None before it began. ``lists`` has (state, where it is read on, reason) of each
    list that has begun.
    """

    since: datetime
    until: datetime
    gap_id: int | None = None
    backfill_id: str | None = None
    run_id: int | None = None
    lists: Mapping[str, tuple[str, str | None, str | None]] = field(factory=dict)


@frozen
class Asked:
    """A row of `backfills`."""

    backfill_id: str
    from_at: datetime
    until_at: datetime
    state: str
    reason: str | None
    run_id: int | None
    pages: int
    rows: int


def fold_position(connection: Connection, account: str, names: Sequence[str] = FOLDS) -> int:
    """Return the position up to which all of these folds stand."""
    ours = (projections.c.account == account, projections.c.projection.in_(names))
    asked = select(func.count(), func.min(projections.c.position)).where(*ours)
    count, position = connection.execute(asked).one()
    return int(position) if count == len(names) else 0


def unfinished(connection: Connection, account: str) -> Period | None:
    """Return the oldest run that has begun and not ended."""
    run = backfill_runs.c
    asked = select(backfill_runs).where(run.account == account, run.is_open).order_by(run.run_id)
    row = connection.execute(asked.limit(1)).one_or_none()
    if row is None:
        return None
    return Period(
        row.from_at,
        row.until_at,
        row.gap_id,
        row.backfill_id,
        row.run_id,
        lists_of(connection, account, row.run_id),
    )


def lists_of(
    connection: Connection, account: str, run_id: int
) -> dict[str, tuple[str, str | None, str | None]]:
    """Return (state, where it is read on, reason) of each list of a run that has begun."""
    of = backfill_lists.c
    asked = select(of.list, of.state, of.next, of.reason, of.unread).where(
        of.account == account, of.run_id == run_id
    )
    reported = {}
    for row in connection.execute(asked):
        reason = f"{row.unread} rows could not be read" if row.unread else row.reason
        reported[row.list] = (row.state, row.next, reason)
    return reported


def next_gap(connection: Connection, account: str) -> Period | None:
    """Return the newest gap that is closed and that no run was for: it matters most now."""
    run = exists().where(
        backfill_runs.c.account == account, backfill_runs.c.gap_id == gaps.c.gap_id
    )
    # The first gap has no beginning; what is known of the account begins with its first start.
    noted = and_(events.c.account == gaps.c.account, events.c.position == gaps.c.gap_id)
    asked = (
        select(gaps.c.gap_id, gaps.c.unobserved_from, events.c.received_at, gaps.c.unobserved_until)
        .join(events, noted)
        .where(gaps.c.account == account, gaps.c.state == "closed", ~run)
        .order_by(gaps.c.gap_id.desc())
        .limit(1)
    )
    row = connection.execute(asked).one_or_none()
    if row is None:
        return None
    gap_id, since, noted_at, until = row
    return Period(since or noted_at, until or noted_at, gap_id=gap_id)


def unhealed_within(
    connection: Connection, account: str, run_id: int, period: Period, after_s: float
) -> list[int]:
    """Return the gaps of a period that a run over it heals, if it reads everything.

    Those that could not be verified so far, and those without a run: their own run may
    never come. Of these only what was closed ``after_s`` before this run began, because the lists
    are a moment behind.
    """
    of = gaps.c
    run = and_(backfill_runs.c.account == account, backfill_runs.c.run_id == run_id)
    began = connection.execute(select(backfill_runs.c.started_at).where(run)).scalar_one()
    is_ripe = of.unobserved_until <= began - timedelta(seconds=after_s)
    inside = (of.unobserved_from >= period.since, of.unobserved_until <= period.until)
    may_heal = or_(of.state == "unverifiable", and_(of.state == "closed", is_ripe))
    asked = select(of.gap_id).where(of.account == account, may_heal, *inside)
    return [int(each) for each in connection.execute(asked.order_by(of.gap_id)).scalars()]


def pending_transfers_since(
    connection: Connection, account: str, before: datetime
) -> datetime | None:
    """Return when the oldest transfer was made that isn't known to be through; None if all are."""
    of = transfers.c
    is_confirmed = and_(of.confirmed.is_not(None), of.confirmed)
    is_pending = (not_(is_confirmed), func.coalesce(of.status, "") != THROUGH)
    asked = select(func.min(of.created_at)).where(
        of.account == account, of.created_at >= before - PENDING_LONGEST, *is_pending
    )
    found: datetime | None = connection.execute(asked).scalar_one()
    return found


def last_answers(connection: Connection, account: str, run_id: int) -> list[int]:
    """Return where the last answer of each list of a run stands: right behind the note about it."""
    of = backfill_lists.c
    asked = select(of.last_position).where(of.account == account, of.run_id == run_id)
    return sorted(int(each) + 1 for each in connection.execute(asked).scalars())


def has_futures(connection: Connection, account: str) -> bool:
    """Return whether a position or a conditional order was ever reported."""
    asked = [
        exists().where(table.c.account == account) for table in (positions, conditional_orders)
    ]
    return bool(connection.execute(select(or_(*asked))).scalar_one())


def is_unconfirmed(connection: Connection, account: str) -> bool:
    """Return whether a list left out a position or a conditional order that counts as open."""
    asked = [
        exists().where(table.c.account == account, table.c.is_open, table.c.basis == UNCONFIRMED)
        for table in (positions, conditional_orders)
    ]
    return bool(connection.execute(select(or_(*asked))).scalar_one())


def ended_conditionals(connection: Connection, account: str) -> list[str]:
    """Return the pairs of conditional orders whose final state is unknown."""
    of = conditional_orders.c
    unknown = or_(of.is_open, of.state == END_UNKNOWN)
    asked = select(of.pair).where(of.account == account, unknown, of.pair.is_not(None)).distinct()
    return sorted(str(pair) for pair in connection.execute(asked).scalars())


def next_asked(connection: Connection, account: str) -> Period | None:
    """Return the oldest requested period that no run has begun."""
    of = backfills.c
    asked = (
        select(backfills)
        .where(of.account == account, of.state == REQUESTED)
        .order_by(of.requested_at, of.backfill_id)
        .limit(1)
    )
    row = connection.execute(asked).one_or_none()
    return None if row is None else Period(row.from_at, row.until_at, backfill_id=row.backfill_id)


def ask(
    connection: Connection, account: str, from_at: datetime, until_at: datetime, by: str
) -> str:
    """Ask for a period; return the id of the request."""
    reported = {"account": account, "from_at": from_at, "until_at": until_at, "requested_by": by}
    done = connection.execute(insert(backfills).values(reported).returning(backfills.c.backfill_id))
    return str(done.scalar_one())


def asked_for(connection: Connection, account: str, backfill_id: str) -> Asked | None:
    """Return what became of a request, with what its run has fetched so far."""
    run = and_(
        backfill_runs.c.account == backfills.c.account, backfill_runs.c.run_id == backfills.c.run_id
    )
    wanted = (
        select(backfills, backfill_runs.c.pages, backfill_runs.c.rows)
        .outerjoin(backfill_runs, run)
        .where(backfills.c.account == account, backfills.c.backfill_id == backfill_id)
    )
    row = connection.execute(wanted).mappings().one_or_none()
    if row is None:
        return None
    return Asked(
        row["backfill_id"],
        row["from_at"],
        row["until_at"],
        row["state"],
        row["reason"],
        row["run_id"],
        row["pages"] or 0,
        row["rows"] or 0,
    )


def mark_begun(
    connection: Connection,
    positions: Sequence[int],
    *,
    account: str,
    backfill_id: str,
    now: datetime,
) -> None:
    """Note on a request that its run begins with the first of these events."""
    reported = {"state": RUNNING, "run_id": positions[0], "updated_at": now}
    _mark(connection, account, backfill_id, reported)


def mark_ended(
    connection: Connection,
    _: Sequence[int],
    *,
    account: str,
    backfill_id: str,
    reason: str | None,
    now: datetime,
) -> None:
    """Note on a request how its run ended."""
    state = COMPLETE if reason is None else INCOMPLETE
    _mark(connection, account, backfill_id, {"state": state, "reason": reason, "updated_at": now})


def _mark(connection: Connection, account: str, backfill_id: str, reported: dict[str, Any]) -> None:
    row = (backfills.c.account == account) & (backfills.c.backfill_id == backfill_id)
    connection.execute(update(backfills).where(row).values(reported))


def uncounted(connection: Connection, account: str, since: datetime) -> int:
    """Return how many orders changed since then for which the sum of the fills is unknown."""
    asked = select(func.count()).select_from(orders).where(_uncounted(account, since))
    return int(connection.execute(asked).scalar_one())


def _uncounted(account: str, since: datetime) -> ColumnElement[bool]:
    of = orders.c
    executed = func.coalesce(of.executed_quantity, Decimal(0))
    counted = func.coalesce(of.counted_quantity, Decimal(0))
    return and_(
        of.account == account, of.updated_at >= since, executed != Decimal(0), counted != executed
    )


def _unexplained(connection: Connection, account: str, since: datetime) -> int:
    """Return of how many of them ``trades`` doesn't have every fill either.

    A history may leave out orders that are still open; their fills have a history of their own.
    """
    of_order = and_(trades.c.account == orders.c.account, trades.c.order_id == orders.c.order_id)
    asked = (
        select(orders.c.order_id, orders.c.executed_quantity, trades.c.quantity)
        .outerjoin(trades, of_order)
        .where(_uncounted(account, since))
    )
    lacking: dict[str, Decimal] = {}
    for order_id, executed, quantity in connection.execute(asked):
        rest = lacking.get(order_id, executed)
        lacking[order_id] = EXACT.subtract(rest, quantity or Decimal(0))
    return sum(rest != 0 for rest in lacking.values())


def warnings_of(
    connection: Connection, account: str, run_id: int, until: int, period: Period
) -> list[str]:
    """Return what a run's answers, which are events up to ``until``, leave open in its period."""
    found = []
    failed = select(func.count()).where(
        fold_failures.c.account == account,
        fold_failures.c.projection.in_([*FOLDS, *FUTURES_FOLD]),
        events.c.account == account,
        events.c.position == fold_failures.c.position,
        events.c.position.between(run_id, until),
        events.c.origin == "fetched",
    )
    if count := connection.execute(failed).scalar_one():
        found.append(f"{count} answers could not be folded")
    for table, at, what in (
        (trades, trades.c.traded_at, "fills"),
        (ledger, ledger.c.event_at, "transactions"),
    ):
        if count := _unconfirmed(connection, account, table, at, period):
            found.append(
                f"the stream reported {count} {what} without an id that the history doesn't confirm"
            )
    gone = select(func.count()).where(
        orders.c.account == account,
        orders.c.state == END_UNKNOWN,
        events.c.account == account,
        events.c.position == orders.c.ended_position,
        events.c.received_at.between(period.since, period.until),
    )
    if count := connection.execute(gone).scalar_one():
        found.append(f"{count} orders are gone, and the history lacks their final state")
    if count := _unexplained(connection, account, period.since):
        found.append(f"what the fills of {count} orders came to is not known")
    return found + _warnings_of_futures(connection, account, (run_id, until), period)


def _warnings_of_futures(
    connection: Connection, account: str, run: tuple[int, int], period: Period
) -> list[str]:
    """Return what the lists of a run, which are events between these, leave open of futures."""
    found = []
    for table, reported, what in (
        (positions, positions.c.position, "positions"),
        (conditional_orders, conditional_orders.c.last_position, "conditional orders"),
    ):
        at = and_(events.c.account == account, events.c.position == reported)
        counted = select(func.count()).select_from(table.join(events, at))
        counted = counted.where(table.c.account == account)
        # A line that is lost during the run makes a gap of its own.
        by_list = and_(reported.between(*run), events.c.origin == "fetched")
        in_gap = events.c.received_at.between(period.since, period.until)
        gone = counted.where(table.c.state == END_UNKNOWN, or_(in_gap, by_list))
        if count := connection.execute(gone).scalar_one():
            found.append(f"{count} {what} are gone, and no list has their final state")
        unsure = (table.c.is_open, table.c.basis == UNCONFIRMED, or_(reported < run[0], by_list))
        doubted = counted.where(*unsure)
        if count := connection.execute(doubted).scalar_one():
            found.append(f"{count} {what} may be gone, and no list reports that they aren't")
    return found


def _unconfirmed(
    connection: Connection, account: str, table: Table, at: ColumnElement[datetime], period: Period
) -> int:
    """Count the rows of a period, by the exchange's time or where it gave none by ours.

    They are two questions: asked as one, each row there ever was would be looked at.
    """
    marks = or_(table.c.matched_by == ALONE, table.c.matched_by == UNDECIDED)
    asked = select(func.count()).where(table.c.account == account, marks)
    dated = asked.where(at.between(period.since, period.until))
    undated = asked.where(at.is_(None), table.c.received_at.between(period.since, period.until))
    return sum(int(connection.execute(each).scalar_one()) for each in (dated, undated))
