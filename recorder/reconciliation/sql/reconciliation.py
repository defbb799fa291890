"""Requests, windows and results of comparisons with the exchange."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime, timedelta
from itertools import chain
from typing import Any

from attrs import fields, frozen
from sqlalchemy import (
    ColumnElement,
    Connection,
    Row,
    and_,
    exists,
    func,
    insert,
    not_,
    or_,
    select,
    true,
    update,
)

from recorder.database.schema import (
    backfill_runs,
    backfills,
    balance_history,
    balances,
    differences,
    gaps,
    order_history,
    orders,
    reconciliation_requests,
    reconciliations,
)
from recorder.log.sql.read import event_at
from recorder.projections.rules.diffing import Difference, Held, OpenState
from recorder.projections.rules.order_statements import is_live
from recorder.projections.rules.reconciliations import CLEAN, DIFFERING

#: The folds that must have reached an answer before it is compared.
FOLDS = ("balances", "open_orders", "orders", "trades", "ledger", "transfers", "connections")
#: Orders in one query.
CHUNK = 500


@frozen
class Reconciliation:
    """A row of `reconciliations`."""

    reconciliation_id: int
    requested_by: str
    state: str
    reason: str | None
    started_at: datetime
    ended_at: datetime | None
    from_at: datetime | None
    until_at: datetime | None
    balances: int | None
    open_orders: int | None
    history_rows: int | None
    differences: int


def next_request(connection: Connection, account: str) -> str | None:
    """Return the oldest request that no comparison was made for yet."""
    of = reconciliation_requests.c
    wanted = (
        select(of.request_id)
        .where(of.account == account, of.reconciliation_id.is_(None))
        .order_by(of.requested_at, of.request_id)
        .limit(1)
    )
    return connection.execute(wanted).scalar_one_or_none()


def request(connection: Connection, account: str, by: str) -> str:
    """Request a comparison; return the id of the request."""
    of = reconciliation_requests
    new = insert(of).values(account=account, requested_by=by).returning(of.c.request_id)
    return str(connection.execute(new).scalar_one())


def mark_taken(
    connection: Connection,
    positions: Sequence[int],
    *,
    account: str,
    request_id: str,
    now: datetime,
) -> None:
    """Note on a request which comparison is made for it: the one of the first of these events."""
    of = reconciliation_requests.c
    taken = update(reconciliation_requests).where(
        of.account == account, of.request_id == request_id
    )
    connection.execute(taken.values(reconciliation_id=positions[0], updated_at=now))


def unfinished(connection: Connection, account: str) -> list[int]:
    """Return the comparisons that no note has ended."""
    of = reconciliations.c
    wanted = select(of.reconciliation_id).where(of.account == account, of.is_open)
    return [int(each) for each in connection.execute(wanted).scalars()]


def why_not_now(connection: Connection, account: str, *, is_backfilled: bool) -> str | None:
    """Return why our state isn't known now, or what was missed isn't fetched yet; None if it is."""
    if _has_gap(connection, account, gaps.c.state == "open"):
        return "there is no connection whose snapshot is complete"
    of = gaps.c
    is_of_gap = and_(backfill_runs.c.account == of.account, backfill_runs.c.gap_id == of.gap_id)
    is_waiting = or_(
        not_(exists().where(is_of_gap)), exists().where(is_of_gap, backfill_runs.c.is_open)
    )
    if is_backfilled and _has_gap(connection, account, of.state == "closed", is_waiting):
        return "what an earlier gap hid is still being fetched"
    return None


def was_cut(connection: Connection, account: str, since: int) -> bool:
    """Return whether the connection was lost behind this position."""
    of = gaps.c
    lost = or_(of.gap_id > since, of.state == "open", of.last_loss_position > since)
    return _has_gap(connection, account, lost)


def _has_gap(connection: Connection, account: str, *conditions: ColumnElement[bool]) -> bool:
    wanted = select(gaps.c.gap_id).where(gaps.c.account == account, *conditions).limit(1)
    return connection.execute(wanted).first() is not None


def balances_window(
    connection: Connection, account: str, first: int, last: int
) -> dict[str, list[Held]]:
    """Return what each balance was at ``first``, and everything it became up to ``last``."""
    h, other = balance_history, balance_history.alias()
    latest = (
        select(func.max(other.c.position))
        .where(
            other.c.account == balances.c.account,
            other.c.currency == balances.c.currency,
            other.c.position <= first,
        )
        .correlate(balances)
        .scalar_subquery()
    )
    columns = (h.c.currency, h.c.available, h.c.reserved, h.c.total, h.c.position)
    at_first = and_(
        h.c.account == balances.c.account,
        h.c.currency == balances.c.currency,
        h.c.position == latest,
    )
    held = select(*columns).select_from(balances.join(h, at_first))
    since = select(*columns).where(h.c.account == account, h.c.position.between(first + 1, last))
    rows = [
        *connection.execute(held.where(balances.c.account == account)),
        *connection.execute(since.order_by(h.c.position)),
    ]
    window: dict[str, list[Held]] = {}
    for row in rows:
        held_then = Held(row.available, row.reserved, row.total, row.position)
        window.setdefault(row.currency, []).append(held_then)
    return window


def orders_window(
    connection: Connection, account: str, first: int, last: int, named: Collection[str]
) -> dict[str, list[OpenState]]:
    """Return how orders stood at ``first`` and since: those live, changed since, or named."""
    h = order_history.c
    live = (
        select(orders.c.order_id)
        # Without statistics SQLite would rather walk through all orders there ever were.
        .with_hint(orders, "INDEXED BY orders_live", "sqlite")
        .where(orders.c.account == account, orders.c.live)
    )
    changed = select(h.order_id).where(h.account == account, h.position.between(first + 1, last))
    found = (connection.execute(each).scalars() for each in (live, changed))
    ordered = sorted({*named, *chain.from_iterable(found)})
    window: dict[str, list[OpenState]] = {}
    for start in range(0, len(ordered), CHUNK):
        transitions = (
            select(h.order_id, h.position, h.state, h.price, h.remaining_quantity)
            .where(h.account == account, h.order_id.in_(ordered[start : start + CHUNK]))
            .where(h.position <= last, h.applied)
            .order_by(h.order_id, h.position)
        )
        for order_id, position, state, price, remaining in connection.execute(transitions):
            passed = window.setdefault(order_id, [])
            if position <= first:
                passed.clear()
            passed.append(OpenState(state, is_live(state), price, remaining, position))
    return window


def history_since(
    connection: Connection, account: str, until: datetime, longest: timedelta
) -> datetime | None:
    """Return from when on the histories are to be compared: after the last comparison.

    None where nothing was recorded yet.
    """
    of = reconciliations.c
    compared = of.state.in_((CLEAN, DIFFERING))
    last = select(func.max(of.until_at)).where(of.account == account, compared)
    before = connection.execute(last).scalar_one()
    first = event_at(connection, account, 1)
    if first is None:
        return None
    return max(each for each in (before, first.received_at, until - longest) if each is not None)


def request_history(
    connection: Connection,
    _: Sequence[int],
    *,
    account: str,
    run_id: int,
    since: datetime,
    until: datetime,
) -> None:
    """Request a period from the back-fill, for a comparison."""
    row = {
        "account": account,
        "backfill_id": history_request(run_id),
        "from_at": since,
        "until_at": until,
        "requested_by": f"reconciliation {run_id}",
    }
    connection.execute(insert(backfills).values(row))


def history_request(run_id: int) -> str:
    """Return the id of a comparison's request to the back-fill."""
    return f"reconciliation-{run_id}"


def open_differences(connection: Connection, account: str) -> list[tuple[int, Difference]]:
    """Return (id, difference) of every difference that hasn't ended, the oldest first."""
    of = differences.c
    wanted = select(differences).where(of.account == account, of.is_open).order_by(of.difference_id)
    return [(row.difference_id, _difference(row)) for row in connection.execute(wanted)]


def _difference(row: Row[Any]) -> Difference:
    return Difference(**{each.name: row._mapping[each.name] for each in fields(Difference)})


def reconciliation_of(
    connection: Connection, account: str, request_id: str
) -> Reconciliation | None:
    """Return the comparison that was made for a request, once its table has it."""
    of = reconciliation_requests.c
    wanted = select(of.reconciliation_id).where(of.account == account, of.request_id == request_id)
    run_id = connection.execute(wanted).scalar_one_or_none()
    found = _read(connection, account, reconciliations.c.reconciliation_id == run_id)
    return found[0] if found else None


def latest(connection: Connection, account: str, limit: int) -> list[Reconciliation]:
    """Return the last comparisons, the newest first."""
    return _read(connection, account, true(), limit)


def _read(
    connection: Connection, account: str, condition: ColumnElement[bool], limit: int = 1
) -> list[Reconciliation]:
    of = reconciliations.c
    columns = (of[each.name] for each in fields(Reconciliation))
    wanted = select(*columns).where(of.account == account, condition)
    rows = connection.execute(wanted.order_by(of.reconciliation_id.desc()).limit(limit))
    return [Reconciliation(**row) for row in rows.mappings()]


def differences_of(
    connection: Connection, account: str, reconciliation_id: int
) -> list[dict[str, object]]:
    """Return the rows of `differences` that a comparison found."""
    of = differences.c
    wanted = select(differences).where(
        of.account == account, of.reconciliation_id == reconciliation_id
    )
    return [dict(row) for row in connection.execute(wanted.order_by(of.difference_id)).mappings()]
