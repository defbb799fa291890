"""The queue, its story, and what governs it: the switch, limits, leases."""

from __future__ import annotations

from sqlalchemy import Column, FetchedValue, Index, Integer, Text, text

from recorder.database.columns import Amount, Flag, UtcTime
from recorder.database.schema.base import Long, table

outbox = table(
    "outbox",
    # The database's own default wherever a caller leaves a column out: see the migrations.
    Column("outbox_id", Long, FetchedValue(), nullable=False, autoincrement=False),
    Column("client_msg_id", Text, FetchedValue(), nullable=False),
    Column("command", Text, nullable=False),
    Column("payload", Text, nullable=False),
    Column("priority", Integer, FetchedValue(), nullable=False),
    Column("not_before", UtcTime),
    Column("expires_at", UtcTime),
    Column("created_at", UtcTime, FetchedValue(), nullable=False),
    Column("created_by", Text, FetchedValue(), nullable=False),
    Column("status", Text, FetchedValue(), nullable=False),
    # From here on the daemon's: a caller leaves them out.
    Column("reason", Text),
    Column("epoch", Long),
    Column("connection_id", Text),
    Column("customer_order_id", Text),
    Column("order_id", Text),
    Column("modify_request_id", Text),
    Column("sent_position", Long),
    Column("acknowledged_position", Long),
    Column("resolved_position", Long),
    Column("updated_at", UtcTime),
    # The caller's: wait for every earlier command of the pair. And how often a rate limit came.
    Column("in_order", Flag, FetchedValue(), nullable=False),
    Column("attempts", Integer, FetchedValue(), nullable=False),
    # The command that this one, a person's act, is the resend of.
    Column("requeue_of", Long),
    key=("outbox_id",),
)
Index("outbox_client_msg_id", outbox.c.account, outbox.c.client_msg_id, unique=True)
Index(
    "outbox_queued",
    outbox.c.account,
    outbox.c.priority,
    outbox.c.outbox_id,
    postgresql_where=text("status = 'queued'"),
    sqlite_where=text("status = 'queued'"),
)
#: Commands whose fate is not yet final: a few rows among millions.
Index(
    "outbox_unresolved",
    outbox.c.account,
    outbox.c.outbox_id,
    postgresql_where=text("status IN ('sending', 'sent', 'acknowledged', 'in_doubt')"),
    sqlite_where=text("status IN ('sending', 'sent', 'acknowledged', 'in_doubt')"),
)
Index(
    "outbox_in_order",
    outbox.c.account,
    outbox.c.outbox_id,
    postgresql_where=text("status = 'queued' AND in_order"),
    sqlite_where=text("status = 'queued' AND in_order = 1"),
)
#: What a late frame may overturn.
Index(
    "outbox_not_placed",
    outbox.c.account,
    outbox.c.outbox_id,
    postgresql_where=text("status = 'not_placed'"),
    sqlite_where=text("status = 'not_placed'"),
)
Index(
    "outbox_requeue_of",
    outbox.c.account,
    outbox.c.requeue_of,
    postgresql_where=text("requeue_of IS NOT NULL"),
    sqlite_where=text("requeue_of IS NOT NULL"),
)
# Whose legs bear names of their own, which their orders are known by.
Index(
    "outbox_batches",
    outbox.c.account,
    outbox.c.outbox_id,
    postgresql_where=text("command = 'PLACE_BATCH_ORDERS'"),
    sqlite_where=text("command = 'PLACE_BATCH_ORDERS'"),
)
Index("outbox_order_id", outbox.c.account, outbox.c.order_id)
Index("outbox_customer_order_id", outbox.c.account, outbox.c.customer_order_id)
Index("outbox_modify_request_id", outbox.c.account, outbox.c.modify_request_id)

outbox_transitions = table(
    "outbox_transitions",
    Column("outbox_id", Long, nullable=False),
    Column("seq", Integer, nullable=False),
    Column("from_status", Text),
    Column("to_status", Text, nullable=False),
    Column("reason", Text),
    # Also what tells a REPLACE from an INSERT on SQLite: it outlives the row.
    Column("client_msg_id", Text, nullable=False),
    Column("changed_at", UtcTime, nullable=False),
    Column("changed_by", Text, nullable=False),
    key=("outbox_id", "seq"),
)
Index(
    "outbox_transitions_client_msg_id",
    outbox_transitions.c.account,
    outbox_transitions.c.client_msg_id,
    unique=True,
    postgresql_where=text("seq = 1"),
    sqlite_where=text("seq = 1"),
)

#: Every question asked about a command whose fate was open, and what the answer said.
outbox_lookups = table(
    "outbox_lookups",
    Column("outbox_id", Long, nullable=False),
    Column("seq", Integer, nullable=False),
    Column("looked_at", UtcTime, nullable=False),
    # The path with its query; it holds no secret.
    Column("request", Text, nullable=False),
    # Of the fetched event that holds the answer; null where no answer came.
    Column("position", Long),
    Column("finding", Text, nullable=False),
    Column("answer", Text, nullable=False),
    key=("outbox_id", "seq"),
)

controls = table(
    "controls",
    Column("trading", Text, nullable=False),
    Column("reason", Text),
    Column("changed_by", Text, FetchedValue(), nullable=False),
    Column("changed_at", UtcTime, FetchedValue(), nullable=False),
    key=(),
)

limits = table(
    "limits",
    # A pair, or '*': then each value holds for every pair.
    Column("pair", Text, nullable=False),
    Column("max_quantity", Amount),
    Column("max_value", Amount),
    Column("max_open_orders", Integer),
    # A fraction: 0.05 is 5 % above or below the last price seen.
    Column("max_price_deviation", Amount),
    Column("changed_by", Text, FetchedValue(), nullable=False),
    Column("changed_at", UtcTime, FetchedValue(), nullable=False),
    key=("pair",),
)

leases = table(
    "leases",
    Column("epoch", Long, nullable=False),
    Column("holder", Text, nullable=False),
    Column("taken_at", UtcTime, nullable=False),
    Column("renewed_at", UtcTime, nullable=False),
    Column("expires_at", UtcTime, nullable=False),
    key=(),
)
