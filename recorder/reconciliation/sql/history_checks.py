"""Holds the fills and transactions that the stream reported against the exchange's own histories.

What only a history reports, the back-fill adds. This is the other way round: what stands here with
an id that the history of its time doesn't list, or lists with other values.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from datetime import datetime
from decimal import Decimal
from typing import Any

import sqlalchemy
from attrs import frozen
from sqlalchemy import Connection, select

from recorder.database.schema import backfill_runs, events, ledger, trades
from recorder.exchange.amounts import canonical_amount
from recorder.exchange.lists import Fetched, HistoryPage, read_history
from recorder.log.rules.event import Origin
from recorder.log.sql.read import event_at
from recorder.projections.rules.diffing import WHOLE, Difference
from recorder.projections.rules.ledger import MOVED
from recorder.projections.rules.matching import BY_ID, STREAM


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


@frozen
class ReportedOtherwise:
    """What differs, with the answer that shows it; and which (list, key) were listed by any."""

    found: list[tuple[Difference, int]]
    listed: frozenset[tuple[str, str]]


def reported_otherwise(
    connection: Connection,
    account: str,
    run_id: int,
    since: datetime,
    until: datetime,
    wanted: Collection[tuple[str, str]],
) -> ReportedOtherwise:
    """Return the stream's rows of a period that the pages of a run have otherwise, or not
    at all.

    The run has read that period to its end. ``wanted`` are the (list, key) whose listing matters
    besides.
    """
    found: list[tuple[Difference, int]] = []
    seen: set[tuple[str, str]] = set()
    for each in _CHECKED:
        listed: set[str] = set()
        answer = run_id
        for answer, reported in _pages(connection, account, run_id, each):
            held = _ours(connection, account, each, reported.keys() - listed)
            found += [(one, answer) for row in held for one in _differs(each, row, reported)]
            listed |= reported.keys()
        found += [
            (one, answer) for one in _unlisted(connection, account, each, since, until, listed)
        ]
        seen |= {(name, key) for name, key in wanted if name == each.name and key in listed}
    return ReportedOtherwise(found, frozenset(seen))


def _pages(
    connection: Connection, account: str, run_id: int, of: _Checked
) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield the position of each page of the run, and its rows by id."""
    runs = backfill_runs.c
    last = (
        select(runs.last_position)
        .where(runs.account == account, runs.run_id == run_id)
        .scalar_subquery()
    )
    asked = select(events.c.position).where(
        events.c.account == account,
        events.c.position.between(run_id, last + 1),
        events.c.origin == Origin.FETCHED.value,
        events.c.type == of.kind.value,
    )
    # One payload at a time: a day's pages may be many.
    for position in connection.execute(asked.order_by(events.c.position)).scalars().all():
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
    asked = select(of.table).where(
        c.account == account,
        c.natural_id.in_(sorted(ids)),
        c.source == STREAM,
        c.matched_by == BY_ID,
    )
    return [dict(row) for row in connection.execute(asked.order_by(c.position)).mappings()]


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
    asked = select(of.table).where(
        c.account == account,
        c[of.at].between(since, until),
        c.source == STREAM,
        c.matched_by == BY_ID,
    )
    for row in connection.execute(asked.order_by(c.position, c.item)).mappings():
        if row["natural_id"] not in listed:
            ours = " ".join(_text(row[name]) or "–" for name in of.fields if row[name] is not None)
            yield Difference(of.name, row["natural_id"], WHOLE, ours, None, row["position"])


def _plain(value: object) -> object:
    return value.casefold() if isinstance(value, str) else value


def _text(value: object) -> str | None:
    return canonical_amount(value) if isinstance(value, Decimal) else str(value)
