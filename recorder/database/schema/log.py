"""The log, how far each fold of it is, and what the notes in it say of connections and gaps."""

from __future__ import annotations

from sqlalchemy import Column, Integer, Text

from recorder.database.columns import Flag, UtcTime
from recorder.database.schema.base import Bytes, Long, table

events = table(
    "events",
    Column("position", Long, nullable=False),
    Column("received_at", UtcTime, nullable=False),
    Column("elapsed_ns", Long),
    Column("connection_id", Text),
    Column("origin", Text, nullable=False),
    Column("type", Text, nullable=False),
    Column("payload", Text, nullable=False),
    Column("encoding", Text, nullable=False),
    Column("digest", Bytes, nullable=False),
    key=("position",),
)

projections = table(
    "projections",
    Column("projection", Text, nullable=False),
    Column("position", Long, nullable=False),
    Column("version", Integer, nullable=False),
    Column("updated_at", UtcTime, nullable=False),
    Column("error", Text),
    key=("projection",),
)

#: Every event that a projection could not fold, written in the transaction that passed it.
fold_failures = table(
    "fold_failures",
    Column("projection", Text, nullable=False),
    Column("position", Long, nullable=False),
    Column("reason", Text, nullable=False),
    key=("projection", "position"),
)

connections = table(
    "connections",
    Column("connection_id", Text, nullable=False),
    Column("opened_at", UtcTime),
    Column("authenticated_at", UtcTime),
    Column("closed_at", UtcTime),
    Column("close_code", Integer),
    Column("close_reason", Text),
    Column("closed_by", Text),
    Column("last_frame_at", UtcTime),
    Column("frame_count", Long),
    Column("state", Text, nullable=False),
    Column("is_open", Flag, nullable=False),
    Column("first_position", Long, nullable=False),
    Column("last_position", Long, nullable=False),
    key=("connection_id",),
)

gaps = table(
    "gaps",
    Column("gap_id", Long, nullable=False),
    Column("cause", Text, nullable=False),
    Column("from_at", UtcTime),
    Column("until_at", UtcTime),
    Column("last_position_before", Long, nullable=False),
    Column("first_position_after", Long),
    Column("state", Text, nullable=False),
    Column("is_open", Flag, nullable=False),
    # Positions of the answers that healed it.
    Column("healed_by", Text),
    # What counts as blind, on the clock that stood when it closed; never in the wrong order.
    Column("unobserved_from", UtcTime),
    Column("unobserved_until", UtcTime),
    Column("evidence", Text),
    # All losses while it was open, their causes in the order of their last time, and the last one.
    Column("losses", Long),
    Column("causes", Text),
    Column("last_loss", Text),
    Column("last_loss_position", Long),
    # Why it is healed or unverifiable, and by which event.
    Column("verdict", Text),
    Column("verdict_at", UtcTime),
    Column("verdict_position", Long),
    key=("gap_id",),
)
