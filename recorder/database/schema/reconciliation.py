"""Reconciliation: what a person asks for, each comparison with the exchange, and what differed."""

from __future__ import annotations

from sqlalchemy import Column, FetchedValue, Index, Integer, Text, text

from recorder.database.columns import Flag, UtcTime
from recorder.database.schema.base import Long, table

#: Comparisons that were asked for, one row each; a plain INSERT asks.
reconciliation_requests = table(
    "reconciliation_requests",
    Column("request_id", Text, FetchedValue(), nullable=False),
    Column("requested_by", Text, FetchedValue(), nullable=False),
    Column("requested_at", UtcTime, FetchedValue(), nullable=False),
    # From here on the daemon's: the comparison that was made for it.
    Column("reconciliation_id", Long),
    Column("updated_at", UtcTime),
    key=("request_id",),
)

#: Folded from the log: each comparison.
reconciliations = table(
    "reconciliations",
    # The position of the note that began it.
    Column("reconciliation_id", Long, nullable=False),
    # schedule or person.
    Column("asked_by", Text, nullable=False),
    Column("request_id", Text),
    # The period of the histories that were compared; null where none was.
    Column("from_at", UtcTime),
    Column("until_at", UtcTime),
    # running, clean, differing or incomplete; the reason says what could not be compared.
    Column("state", Text, nullable=False),
    Column("is_open", Flag, nullable=False),
    Column("reason", Text),
    # How many balances and open orders were compared, rows of histories read, answers got.
    Column("balances", Integer),
    Column("open_orders", Integer),
    Column("history_rows", Integer),
    Column("answers", Integer, nullable=False),
    Column("differences", Integer, nullable=False),
    Column("started_at", UtcTime, nullable=False),
    Column("ended_at", UtcTime),
    Column("last_position", Long, nullable=False),
    key=("reconciliation_id",),
)

#: Folded from the log: each value that differed, and how that ended. None is ever taken away.
differences = table(
    "differences",
    # The position of the note about it.
    Column("difference_id", Long, nullable=False),
    Column("reconciliation_id", Long, nullable=False),
    Column("list", Text, nullable=False),
    # The currency, or the exchange's id of the order, fill, transaction or transfer.
    Column("key", Text, nullable=False),
    Column("field", Text, nullable=False),
    Column("ours", Text),
    Column("theirs", Text),
    # The event our value is from, and the answer that says otherwise.
    Column("position", Long),
    Column("answer_position", Long),
    # open, or how it ended: gone, found_again, filled_in.
    Column("state", Text, nullable=False),
    Column("is_open", Flag, nullable=False),
    Column("ended_position", Long),
    Column("found_at", UtcTime, nullable=False),
    Column("ended_at", UtcTime),
    key=("difference_id",),
)
Index("differences_reconciliation_id", differences.c.account, differences.c.reconciliation_id)
Index(
    "differences_open",
    differences.c.account,
    differences.c.difference_id,
    postgresql_where=text("is_open"),
    sqlite_where=text("is_open = 1"),
)
