"""What the log folds into: balances, orders, trades, ledger, transfers."""

from __future__ import annotations

from sqlalchemy import Column, Index, Integer, Text, text

from recorder.database.columns import Amount, Flag, UtcTime
from recorder.database.schema.base import Long, table


def _item() -> Column[object]:
    """Return the place within an answer that held several rows; 0 for a frame."""
    return Column("item", Integer, nullable=False, server_default=text("0"), autoincrement=False)


def _source() -> Column[object]:
    """Return who told of it first: ``stream`` or ``backfill``."""
    return Column("source", Text, nullable=False, server_default=text("'stream'"))


def _joining() -> list[Column[object]]:
    return [
        _item(),
        # The exchange's id, or "@" and the position of a frame that had none.
        Column("natural_id", Text),
        _source(),
        # How it is told from equal ones: id, counted, alone, or undecided (see docs/backfill.md).
        Column("joined", Text, nullable=False, server_default=text("'id'")),
    ]


def _balance_amounts() -> list[Column[object]]:
    return [
        Column("available", Amount),
        Column("reserved", Amount),
        Column("total", Amount),
        Column("lend_reserved", Amount),
        Column("borrow_reserved", Amount),
        Column("borrowed_amount", Amount),
        Column("total_in_reference", Amount),
        Column("total_in_reference_weighted", Amount),
        Column("reference_currency", Text),
        # stated: a frame said so. absent: a full snapshot no longer named the currency, so the
        # amounts are zero by inference.
        Column("basis", Text, nullable=False),
        Column("updated_at", UtcTime),
    ]


balances = table(
    "balances",
    Column("currency", Text, nullable=False),
    *_balance_amounts(),
    Column("position", Long, nullable=False),
    # The connection on which the exchange last named this currency.
    Column("connection_id", Text),
    key=("currency",),
)

balance_history = table(
    "balance_history",
    Column("currency", Text, nullable=False),
    Column("position", Long, nullable=False),
    *_balance_amounts(),
    Column("received_at", UtcTime, nullable=False),
    key=("currency", "position"),
)
Index(
    "balance_history_updated_at",
    balance_history.c.account,
    balance_history.c.currency,
    balance_history.c.updated_at,
    balance_history.c.position,
)
# What the exchange gave no time of its own: few rows, or none.
Index(
    "balance_history_undated",
    balance_history.c.account,
    balance_history.c.currency,
    balance_history.c.received_at,
    balance_history.c.position,
    postgresql_where=text("basis = 'absent' OR updated_at IS NULL"),
    sqlite_where=text("basis = 'absent' OR updated_at IS NULL"),
)


def _order_terms() -> list[Column[object]]:
    return [
        Column("customer_order_id", Text),
        Column("pair", Text),
        Column("side", Text),
        Column("type", Text),
        Column("time_in_force", Text),
        Column("allow_margin", Flag),
        Column("price", Amount),
        Column("stop_price", Amount),
        Column("original_quantity", Amount),
        Column("remaining_quantity", Amount),
        # The exchange's own word, as it came.
        Column("status", Text),
        Column("created_at", UtcTime),
        Column("updated_at", UtcTime),
    ]


open_orders = table(
    "open_orders",
    Column("order_id", Text, nullable=False),
    *_order_terms(),
    Column("filled_percentage", Amount),
    Column("position", Long, nullable=False),
    key=("order_id",),
)

orders = table(
    "orders",
    Column("order_id", Text, nullable=False),
    *_order_terms(),
    # Ours: one of projections.orders.STATES.
    Column("state", Text, nullable=False),
    Column("live", Flag, nullable=False),
    # True while the last full list named it.
    Column("listed", Flag, nullable=False),
    Column("executed_quantity", Amount),
    # Of the latest execution, as the exchange stated it.
    Column("executed_price", Amount),
    # Over the executions that were seen: their quantity, the sum of price times quantity, and what
    # remained after the last of them (each execution leaves less, a repeated frame doesn't).
    Column("counted_quantity", Amount),
    Column("counted_remaining", Amount),
    Column("executed_value", Amount),
    Column("counted_fee", Amount),
    # executed_value over counted_quantity, rounded to 18 places. It and the fee are null where an
    # execution was missed: what was counted is then less than what was executed.
    Column("average_price", Amount),
    Column("fee", Amount),
    Column("fee_currency", Text),
    Column("reason", Text),
    Column("connection_id", Text),
    Column("first_position", Long, nullable=False),
    Column("last_position", Long, nullable=False),
    _source(),
    # By the exchange's time, as known by now: when it began, and when it ended if it did.
    Column("began_at", UtcTime),
    Column("ended_at", UtcTime),
    # The event behind which it was no longer live; null while it is.
    Column("ended_position", Long),
    # By which its life is found, in positions and in seconds: see projections.lives. Null where it
    # ended with the event, or in the moment, in which it began.
    Column("validity_by_position", Long),
    Column("validity_by_time", Long),
    key=("order_id",),
)
Index(
    "orders_validity_by_position",
    orders.c.account,
    orders.c.validity_by_position,
    orders.c.ended_position,
)
Index("orders_validity_by_time", orders.c.account, orders.c.validity_by_time, orders.c.ended_at)
Index(
    "orders_live",
    orders.c.account,
    orders.c.order_id,
    postgresql_where=text("live"),
    sqlite_where=text("live = 1"),
)
Index(
    "orders_executed",
    orders.c.account,
    orders.c.pair,
    orders.c.last_position,
    postgresql_where=text("executed_price IS NOT NULL"),
    sqlite_where=text("executed_price IS NOT NULL"),
)
Index("orders_customer_order_id", orders.c.account, orders.c.customer_order_id)

order_history = table(
    "order_history",
    Column("order_id", Text, nullable=False),
    Column("position", Long, nullable=False),
    Column("event_type", Text, nullable=False),
    Column("status", Text),
    Column("state", Text, nullable=False),
    # False where a newer statement stood already when this one came.
    Column("applied", Flag, nullable=False),
    Column("price", Amount),
    Column("original_quantity", Amount),
    Column("remaining_quantity", Amount),
    Column("executed_price", Amount),
    Column("executed_quantity", Amount),
    Column("executed_fee", Amount),
    Column("reason", Text),
    Column("updated_at", UtcTime),
    Column("received_at", UtcTime, nullable=False),
    key=("order_id", "position"),
)

trades = table(
    "trades",
    Column("position", Long, nullable=False),
    Column("trade_id", Text),
    Column("order_id", Text),
    Column("customer_order_id", Text),
    Column("pair", Text),
    Column("side", Text),
    Column("price", Amount),
    Column("quantity", Amount),
    Column("fee", Amount),
    Column("fee_currency", Text),
    Column("traded_at", UtcTime),
    Column("received_at", UtcTime, nullable=False),
    *_joining(),
    key=("position", "item"),
)
Index("trades_natural_id", trades.c.account, trades.c.natural_id, unique=True)
Index("trades_traded_at", trades.c.account, trades.c.traded_at)
Index("trades_trade_id", trades.c.account, trades.c.trade_id, unique=True)
Index("trades_order_id", trades.c.account, trades.c.order_id)
Index("trades_pair", trades.c.account, trades.c.pair, trades.c.position)

ledger = table(
    "ledger",
    Column("position", Long, nullable=False),
    Column("transaction_id", Text),
    Column("type", Text),
    Column("description", Text),
    Column("debit_currency", Text),
    Column("debit_value", Amount),
    Column("credit_currency", Text),
    Column("credit_value", Amount),
    Column("fee_currency", Text),
    Column("fee_value", Amount),
    Column("order_id", Text),
    Column("pair", Text),
    Column("cost_per_coin", Amount),
    Column("cost_per_coin_symbol", Text),
    # additionalInfo as JSON text, whatever its shape.
    Column("additional", Text),
    Column("event_at", UtcTime),
    Column("received_at", UtcTime, nullable=False),
    *_joining(),
    # What the row's own price proves of its fee: net (taken off what is stated) or gross.
    Column("fee_basis", Text),
    key=("position", "item"),
)
Index("ledger_natural_id", ledger.c.account, ledger.c.natural_id, unique=True)
Index("ledger_event_at", ledger.c.account, ledger.c.event_at)
Index("ledger_order_id", ledger.c.account, ledger.c.order_id)
Index("ledger_transaction_id", ledger.c.account, ledger.c.transaction_id, unique=True)

transfers = table(
    "transfers",
    Column("position", Long, nullable=False),
    Column("transfer_id", Text, nullable=False),
    Column("direction", Text, nullable=False),
    Column("currency", Text),
    Column("amount", Amount),
    Column("fee", Amount),
    Column("address", Text),
    Column("transaction_hash", Text),
    Column("network", Text),
    Column("confirmations", Integer),
    Column("confirmed", Flag),
    Column("status", Text),
    Column("reason", Text),
    Column("created_at", UtcTime),
    Column("last_position", Long, nullable=False),
    Column("received_at", UtcTime, nullable=False),
    _item(),
    _source(),
    # A deposit's, where a frame told it.
    Column("index_in_transaction", Long),
    key=("position", "item"),
)
Index("transfers_transaction_hash", transfers.c.account, transfers.c.transaction_hash)
Index("transfers_transfer_id", transfers.c.account, transfers.c.transfer_id, unique=True)
