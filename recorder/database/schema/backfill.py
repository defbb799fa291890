"""Back-fill: what a person asks for, and how far each run of it is."""

from __future__ import annotations

from sqlalchemy import Column, FetchedValue, Index, Integer, Text

from recorder.database.columns import Flag, UtcTime
from recorder.database.schema.base import Long, table

#: Periods that were asked for, one row each; a plain INSERT asks.
backfills = table(
    "backfills",
    Column("backfill_id", Text, FetchedValue(), nullable=False),
    Column("from_at", UtcTime, nullable=False),
    Column("until_at", UtcTime, nullable=False),
    Column("requested_by", Text, FetchedValue(), nullable=False),
    Column("requested_at", UtcTime, FetchedValue(), nullable=False),
    # From here on the daemon's. asked, running, complete or incomplete.
    Column("state", Text, FetchedValue(), nullable=False),
    Column("run_id", Long),
    Column("reason", Text),
    Column("updated_at", UtcTime),
    key=("backfill_id",),
)

#: Folded from the log: each fetching of a period, for a gap or for a row of `backfills`.
backfill_runs = table(
    "backfill_runs",
    # The position of the note that began it.
    Column("run_id", Long, nullable=False),
    Column("gap_id", Long),
    Column("backfill_id", Text),
    Column("from_at", UtcTime, nullable=False),
    Column("until_at", UtcTime, nullable=False),
    # running, complete or incomplete; the reason says what is missing.
    Column("state", Text, nullable=False),
    Column("is_open", Flag, nullable=False),
    # Pages that were read, all answers, and rows in those pages.
    Column("pages", Integer, nullable=False),
    Column("answers", Integer, nullable=False),
    Column("rows", Integer, nullable=False),
    Column("reason", Text),
    Column("started_at", UtcTime, nullable=False),
    Column("ended_at", UtcTime),
    Column("last_position", Long, nullable=False),
    key=("run_id",),
)
Index("backfill_runs_gap_id", backfill_runs.c.account, backfill_runs.c.gap_id)

#: Folded from the log: how far each list of a run is.
backfill_lists = table(
    "backfill_lists",
    Column("run_id", Long, nullable=False),
    Column("list", Text, nullable=False),
    # running, complete or incomplete.
    Column("state", Text, nullable=False),
    Column("pages", Integer, nullable=False),
    Column("rows", Integer, nullable=False),
    # Rows that could not be read.
    Column("unread", Integer, nullable=False),
    # Where it is read on, as JSON text; null at its end.
    Column("next", Text),
    Column("reason", Text),
    Column("last_position", Long, nullable=False),
    key=("run_id", "list"),
)
