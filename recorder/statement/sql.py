"""Reads what a statement of a period reports, beside the books: rows, heads, and what is behind.

All of it is read in one transaction, so that the tables agree. Rows that may be many are streamed.
Of orders the whole table is read, of everything else the rows of the period.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Connection, Select, and_, func, or_, select

from recorder.database.schema import (
    balance_history,
    differences,
    orders,
    outbox,
    projections,
    reconciliations,
    trades,
)
from recorder.database.schema import balance_movements as movements
from recorder.export.rows import FETCHED_ROWS
from recorder.log.rules.event import EMPTY_HEAD
from recorder.log.sql.read import event_at, head
from recorder.queries.as_of import ORDERS, foreign_among, position_at, true_at
from recorder.queries.books import UNDATED, Period, inside, up_to
from recorder.statement.rules.charts import Step
from recorder.statement.rules.report import End

OPENING, CLOSING, HEAD = "opening", "closing", "head"


def _names(text: str) -> tuple[str, ...]:
    return tuple(text.split())


#: What is read of an order; its state is what is known now.
ORDER_COLUMNS = _names(
    """
    order_id customer_order_id pair side type time_in_force price original_quantity
    remaining_quantity executed_quantity average_price fee fee_currency state status reason
    created_at began_at ended_at source first_position last_position
    """
)
#: What a statement has of an order that was open at an end of the period.
OPEN_ORDER_COLUMNS = _names(
    """
    order_id customer_order_id pair side type time_in_force price original_quantity
    remaining_quantity state status created_at updated_at source
    """
)
Rows = Iterator[Mapping[str, Any]]


def heads_of(
    connection: Connection, account: str, from_at: datetime, until_at: datetime
) -> list[End]:
    """Return where the log stood at both ends of a period by our clock, and where it stands."""
    last = head(connection, account).position
    found = []
    for name, at in ((OPENING, from_at), (CLOSING, until_at), (HEAD, None)):
        position = last if at is None else position_at(connection, account, at) or 0
        event = event_at(connection, account, position) if position else None
        if event is None:
            found.append(End(name, 0, None, EMPTY_HEAD.digest))
        else:
            found.append(End(name, position, event.received_at, event.digest))
    return found


def behind(connection: Connection, account: str, position: int) -> dict[str, int]:
    """Return the projections that stand before a position, and where."""
    wanted = select(projections.c.projection, projections.c.position).where(
        projections.c.account == account, projections.c.position < position
    )
    return {name: stands for name, stands in connection.execute(wanted)}


def movements_of(connection: Connection, account: str, period: Period) -> Rows:
    """Yield every movement of the period, by the exchange's time; those without one come last."""
    m = movements.c
    for within in inside(period):
        wanted = (
            select(*(column for column in movements.columns if column.name not in _PARTS))
            .where(m.account == account, up_to(m.position, period.as_of), *within)
            .order_by(m.at, m.received_at, m.position, m.item, m.leg, m.currency)
        )
        yield from _streamed(connection, wanted)


#: The parts of an amount are for sums in SQL.
_PARTS = frozenset({"whole", "nano", "atto"})


def orders_of(connection: Connection, account: str, period: Period) -> Rows:
    """Yield the orders that lived in the period, with `foreign` and whether they were open then.

    ``foreign`` is true of one that no command of ours placed.
    """
    o = orders.c
    began = func.coalesce(o.began_at, o.created_at)
    wanted = (
        select(*(o[name] for name in ORDER_COLUMNS))
        .where(
            o.account == account,
            o.first_position <= period.as_of,
            or_(began.is_(None), began <= period.end),
            or_(o.ended_at.is_(None), o.ended_at > period.begin),
        )
        .order_by(began, o.order_id)
    )
    limited = wanted.execution_options(yield_per=FETCHED_ROWS)
    for some in connection.execute(limited).mappings().partitions():
        foreign = foreign_among(connection, account, [row["order_id"] for row in some])
        for row in some:
            yield {**row, "foreign": row["order_id"] in foreign}


def trades_of(connection: Connection, account: str, period: Period) -> Rows:
    """Yield the fills of the period, by the exchange's time; those without one come last."""
    t = trades.c
    for at, condition in ((t.traded_at, None), (t.received_at, t.traded_at.is_(None))):
        wanted = (
            select(trades)
            .where(t.account == account, up_to(t.position, period.as_of))
            .where(at > period.begin, at <= period.end)
            .order_by(at, t.position, t.item)
        )
        yield from _streamed(connection, wanted if condition is None else wanted.where(condition))


def open_at_ends(connection: Connection, account: str, period: Period) -> list[Mapping[str, Any]]:
    """Return the orders that were open at either end, as far as is known by now."""
    found: list[Mapping[str, Any]] = []
    for name, at in ((OPENING, period.begin), (CLOSING, period.end)):
        assert isinstance(at, datetime)
        found += [{"at_end": name, **row} for row in true_at(connection, account, at, ORDERS)]
    return found


def comparisons_of(connection: Connection, account: str, period: Period) -> list[dict[str, Any]]:
    """Return the comparisons made in the period, or of histories of it, oldest first."""
    r = reconciliations
    wanted = select(r).where(*_of_period(account, period)).order_by(r.c.reconciliation_id)
    return [dict(row) for row in connection.execute(wanted).mappings()]


def differences_of(connection: Connection, account: str, period: Period) -> list[dict[str, Any]]:
    """Return what those comparisons found, and how it ended, oldest first."""
    of_one = and_(
        reconciliations.c.account == differences.c.account,
        reconciliations.c.reconciliation_id == differences.c.reconciliation_id,
    )
    wanted = (
        select(differences)
        .select_from(differences.join(reconciliations, of_one))
        .where(*_of_period(account, period))
        .order_by(differences.c.difference_id)
    )
    return [dict(row) for row in connection.execute(wanted).mappings()]


def _of_period(account: str, period: Period) -> tuple[ColumnElement[bool], ...]:
    r = reconciliations.c
    made = and_(r.started_at > period.begin, r.started_at <= period.end)
    about = and_(r.from_at < period.end, r.until_at > period.begin)
    return r.account == account, or_(made, about)


def in_doubt(connection: Connection, account: str, until_at: datetime) -> int:
    """Return how many commands queued by then were sent, without their outcome being known now."""
    wanted = select(func.count()).where(
        outbox.c.account == account,
        outbox.c.status.in_(("sending", "sent", "acknowledged", "in_doubt")),
        outbox.c.created_at <= until_at,
    )
    count: int = connection.execute(wanted).scalar_one()
    return count


def balance_steps(
    connection: Connection, account: str, currency: str, period: Period
) -> Iterator[Step]:
    """Yield the reports of a currency's total in the period, in the order of their times."""
    h = balance_history.c
    streams = []
    for at, condition in ((h.updated_at, h.basis != "inferred_zero"), (h.received_at, UNDATED)):
        wanted = (
            select(at.label("at"), h.position, h.total)
            .where(h.account == account, h.currency == currency, condition)
            .where(at > period.begin, at <= period.end, up_to(h.position, period.as_of))
            .order_by(at, h.position)
        )
        streams.append(_streamed(connection, wanted))
    for row in heapq.merge(*streams, key=lambda each: (each["at"], each["position"])):
        yield Step(row["at"], row["total"])


def _streamed(connection: Connection, wanted: Select[*tuple[Any, ...]]) -> Rows:
    limited = wanted.execution_options(yield_per=FETCHED_ROWS)
    for row in connection.execute(limited).mappings():
        yield dict(row)
