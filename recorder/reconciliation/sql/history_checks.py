"""Compares the rows that the stream reported with the exchange's own histories of a period.

`reported_otherwise` finds what we hold with an id that the history of its time doesn't list, or
lists with other values. `filled_in` is the other direction: what a history reports and no frame
had, which the back-fill has added.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any, NamedTuple

import sqlalchemy
from attrs import frozen
from sqlalchemy import Connection, Select, select

from recorder.database.schema import backfill_runs, events, ledger, order_history, trades, transfers
from recorder.exchange.amounts import canonical_amount
from recorder.exchange.lists import Fetched, HistoryPage, read_history
from recorder.log.rules.event import Origin
from recorder.log.sql.read import event_at
from recorder.projections.rules.diffing import WHOLE, Difference
from recorder.projections.rules.ledger import MOVED
from recorder.projections.rules.matching import BACKFILL, BY_ID, STREAM


class FoundDifference(NamedTuple):
    """What differs, and the position of the answer that shows it."""

    difference: Difference
    answer_position: int


@frozen
class ReportedOtherwise:
    """What differs; and which (list, key) were listed by any answer."""

    found: list[FoundDifference]
    listed: frozenset[tuple[str, str]]


@frozen
class _Checked:
    """A table, and the history of it. ``fields`` are columns, with their names in a history row."""

    table: sqlalchemy.Table
    at: str
    kind: Fetched
    row_id: str
    fields: Mapping[str, str]

    @property
    def name(self) -> str:
        return str(self.table.name)


_TRADE = ("pair", "side", "price", "quantity", "fee", "fee_currency")
#: As long as the id is one and the same, these are: what only one side reports is no difference.
_CHECKED = (
    _Checked(trades, "traded_at", Fetched.TRADES, "trade_id", {each: each for each in _TRADE}),
    _Checked(
        ledger,
        "event_at",
        Fetched.TRANSACTIONS,
        "transaction_id",
        {"type": "transaction_type"} | {each: each for each in MOVED},
    ),
)
#: Of each table that a back-fill adds rows to: its time, its id, and what is shown of a row.
_ADDED: Mapping[sqlalchemy.Table, tuple[str, str, Sequence[str]]] = {
    trades: ("traded_at", "trade_id", ("pair", "side", "price", "quantity")),
    ledger: (
        "event_at",
        "transaction_id",
        ("type", "debit_value", "debit_currency", "credit_value", "credit_currency"),
    ),
    transfers: ("created_at", "transfer_id", ("direction", "amount", "currency")),
}


def filled_in(
    connection: Connection, account: str, run_id: int, since: datetime, until: datetime
) -> list[FoundDifference]:
    """Return what a back-fill's answers reported, of this period, that no frame had reported."""
    (last,) = connection.execute(_last_position(account, run_id)).one()
    found = []
    for table, (at, row_id, shown) in _ADDED.items():
        wanted = select(table).where(
            table.c.account == account,
            table.c.position.between(run_id, last),
            table.c.source == BACKFILL,
            table.c[at].between(since, until),
        )
        for row in connection.execute(wanted.order_by(table.c.position)).mappings():
            texts = (_text(row[name]) for name in shown if row[name] is not None)
            reported = " ".join(texts)
            difference = Difference(table.name, str(row[row_id]), WHOLE, None, reported, None)
            found.append(FoundDifference(difference, row["position"]))
    return found + _orders_changed(connection, account, (run_id, last), since, until)


def _orders_changed(
    connection: Connection,
    account: str,
    run: tuple[int, int],
    since: datetime,
    until: datetime,
) -> list[FoundDifference]:
    h = order_history.c
    wanted = select(order_history).where(
        h.account == account,
        h.position.between(*run),
        h.event_type == Fetched.ORDER_HISTORY.value,
        h.applied,
        h.updated_at.between(since, until),
    )
    found = []
    for row in connection.execute(wanted.order_by(h.position, h.order_id)).all():
        earlier = select(h.state, h.position).where(
            h.account == account, h.order_id == row.order_id, h.position < row.position, h.applied
        )
        before = connection.execute(earlier.order_by(h.position.desc()).limit(1)).one_or_none()
        ours, position = (None, None) if before is None else before
        difference = Difference("orders", row.order_id, "state", ours, row.state, position)
        found.append(FoundDifference(difference, row.position))
    return found


def reported_otherwise(
    connection: Connection,
    account: str,
    run_id: int,
    since: datetime,
    until: datetime,
    keys: Collection[tuple[str, str]],
) -> ReportedOtherwise:
    """Return the stream's rows of a period that the pages of a run have otherwise, or lack.

    The run has read that period to its end. ``keys`` are the (list, key) whose listing matters too.
    """
    found: list[FoundDifference] = []
    seen: set[tuple[str, str]] = set()
    for each in _CHECKED:
        listed: set[str] = set()
        answer = run_id
        for answer, reported in _pages(connection, account, run_id, each):
            for row in _ours(connection, account, each, reported.keys() - listed):
                found += [FoundDifference(one, answer) for one in _differs(each, row, reported)]
            listed |= reported.keys()
        unlisted = _unlisted(connection, account, each, since, until, listed)
        found += [FoundDifference(one, answer) for one in unlisted]
        seen |= {(name, key) for name, key in keys if name == each.name and key in listed}
    return ReportedOtherwise(found, frozenset(seen))


def _pages(
    connection: Connection, account: str, run_id: int, of: _Checked
) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield the position of each page of the run, and its rows by id."""
    last = _last_position(account, run_id).scalar_subquery()
    wanted = select(events.c.position).where(
        events.c.account == account,
        events.c.position.between(run_id, last + 1),
        events.c.origin == Origin.FETCHED.value,
        events.c.type == of.kind.value,
    )
    # One payload at a time: a day's pages may be many.
    for position in connection.execute(wanted.order_by(events.c.position)).scalars().all():
        event = event_at(connection, account, position)
        page = None if event is None else read_history(of.kind.value, event.payload)
        rows = [row for _, row in page.rows] if isinstance(page, HistoryPage) else []
        yield position, {str(getattr(row, of.row_id)): row for row in rows}


def _ours(
    connection: Connection, account: str, of: _Checked, ids: Collection[str]
) -> list[Mapping[str, Any]]:
    if not ids:
        return []
    c = of.table.c
    wanted = _streamed(account, of).where(c.natural_id.in_(sorted(ids)))
    return [dict(row) for row in connection.execute(wanted.order_by(c.position)).mappings()]


def _differs(
    of: _Checked, row: Mapping[str, Any], reported: Mapping[str, Any]
) -> Iterable[Difference]:
    for column, name in of.fields.items():
        ours, theirs = row[column], getattr(reported[row["natural_id"]], name)
        if None not in (ours, theirs) and _plain(ours) != _plain(theirs):
            values = _text(ours), _text(theirs)
            yield Difference(of.name, row["natural_id"], column, *values, row["position"])


def _unlisted(
    connection: Connection,
    account: str,
    of: _Checked,
    since: datetime,
    until: datetime,
    listed: Collection[str],
) -> Iterable[Difference]:
    c = of.table.c
    wanted = _streamed(account, of).where(c[of.at].between(since, until))
    for row in connection.execute(wanted.order_by(c.position, c.item)).mappings():
        if row["natural_id"] not in listed:
            ours = " ".join(_text(row[name]) for name in of.fields if row[name] is not None)
            yield Difference(of.name, row["natural_id"], WHOLE, ours, None, row["position"])


def _streamed(account: str, of: _Checked) -> Select[Any]:
    c = of.table.c
    return select(of.table).where(c.account == account, c.source == STREAM, c.matched_by == BY_ID)


def _last_position(account: str, run_id: int) -> Select[Any]:
    runs = backfill_runs.c
    return select(runs.last_position).where(runs.account == account, runs.run_id == run_id)


def _plain(value: object) -> object:
    return value.casefold() if isinstance(value, str) else value


def _text(value: object) -> str:
    return canonical_amount(value) if isinstance(value, Decimal) else str(value)
