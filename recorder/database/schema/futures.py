"""What the log folds into of futures: positions, and the conditional orders beside them."""

from __future__ import annotations

from sqlalchemy import Column, Index, Integer, Text, text

from recorder.database.columns import Amount, Flag, UtcTime
from recorder.database.schema.base import Long, table


def _position_values() -> list[Column[object]]:
    return [
        Column("pair", Text),
        Column("side", Text),
        Column("quantity", Amount),
        Column("realised_pnl", Amount),
        Column("unrealised_pnl", Amount),
        Column("average_entry_price", Amount),
        Column("session_average_entry_price", Amount),
        Column("total_session_entry_quantity", Amount),
        Column("total_session_value", Amount),
        Column("leverage_tier", Integer),
        # open, closed, or end_unknown: no longer held, and nobody has told how it ended.
        Column("state", Text, nullable=False),
        # stated: the exchange said so. unconfirmed: a list that was asked for did not name it.
        # absent: it was left out where it would have been named, so it is no longer held.
        Column("basis", Text, nullable=False),
        Column("created_at", UtcTime),
        Column("updated_at", UtcTime),
    ]


positions = table(
    "positions",
    Column("position_id", Text, nullable=False),
    *_position_values(),
    Column("is_open", Flag, nullable=False),
    # The exchange's time of the latest reduction: what is not newer can't open it again.
    Column("reduced_at", UtcTime),
    # The connection on which the exchange last named this position.
    Column("connection_id", Text),
    Column("first_position", Long, nullable=False),
    Column("position", Long, nullable=False),
    key=("position_id",),
)
Index(
    "positions_open",
    positions.c.account,
    positions.c.position_id,
    postgresql_where=text("is_open"),
    sqlite_where=text("is_open = 1"),
)

position_history = table(
    "position_history",
    Column("position_id", Text, nullable=False),
    Column("position", Long, nullable=False),
    Column("event_type", Text, nullable=False),
    *_position_values(),
    # Of a REDUCE_POSITION: what it closed, and at which price, result (fees taken off) and fees.
    Column("closed_quantity", Amount),
    Column("close_price", Amount),
    Column("closed_pnl", Amount),
    Column("closed_fees", Amount),
    Column("close_type", Text),
    Column("initial_margin_fraction_at_close", Amount),
    Column("closed_at", UtcTime),
    Column("received_at", UtcTime, nullable=False),
    key=("position_id", "position"),
)
Index(
    "position_history_received_at",
    position_history.c.account,
    position_history.c.position_id,
    position_history.c.received_at,
    position_history.c.position,
)


def _conditional_values() -> list[Column[object]]:
    return [
        Column("customer_order_id", Text),
        Column("pair", Text),
        Column("trigger_order_side", Text),
        Column("trigger_order_type", Text),
        Column("trigger_type", Text),
        Column("conditional_type", Text),
        Column("position_side", Text),
        Column("position_id", Text),
        # Zero, as VALR writes it, stands for the whole position.
        Column("quantity", Amount),
        Column("take_profit_trigger_price", Amount),
        Column("take_profit_place_price", Amount),
        Column("stop_loss_trigger_price", Amount),
        Column("stop_loss_place_price", Amount),
        Column("allow_margin", Flag),
        Column("linked_order_id", Text),
        # The exchange's own word, where a REST list told it.
        Column("status", Text),
        # open, removed (why: reason), end_unknown, or the end that a history told.
        Column("state", Text, nullable=False),
        # As of positions; unconfirmed also: not named since the account was connected anew.
        Column("basis", Text, nullable=False),
        Column("reason", Text),
        Column("created_at", UtcTime),
        Column("updated_at", UtcTime),
    ]


conditional_orders = table(
    "conditional_orders",
    Column("order_id", Text, nullable=False),
    *_conditional_values(),
    Column("is_open", Flag, nullable=False),
    Column("connection_id", Text),
    Column("first_position", Long, nullable=False),
    Column("last_position", Long, nullable=False),
    key=("order_id",),
)
Index(
    "conditional_orders_open",
    conditional_orders.c.account,
    conditional_orders.c.order_id,
    postgresql_where=text("is_open"),
    sqlite_where=text("is_open = 1"),
)

conditional_order_history = table(
    "conditional_order_history",
    Column("order_id", Text, nullable=False),
    Column("position", Long, nullable=False),
    Column("event_type", Text, nullable=False),
    *_conditional_values(),
    Column("received_at", UtcTime, nullable=False),
    key=("order_id", "position"),
)
Index(
    "conditional_order_history_received_at",
    conditional_order_history.c.account,
    conditional_order_history.c.order_id,
    conditional_order_history.c.received_at,
    conditional_order_history.c.position,
)
