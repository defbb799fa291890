"""The SQL contract as SQLAlchemy metadata: every table, column and index.

Migrations create the tables; this module lets the code name them, and a test holds both
together on both databases. ``account`` leads every key, so that one statement distributes any
table by account.
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Column,
    FetchedValue,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    PrimaryKeyConstraint,
    Table,
    Text,
    text,
)

from recorder.storage.columns import Amount, Flag, UtcTime

metadata = MetaData()
#: BIGINT on PostgreSQL; SQLite's STRICT tables know INTEGER, which holds 64 bits as well.
Long = BigInteger().with_variant(Integer(), "sqlite")
#: STRICT SQLite tables call bytes BLOB.
Bytes = LargeBinary()


def _table(name: str, *columns: Column[object], key: tuple[str, ...]) -> Table:
    """Return a table whose primary key is ``account`` and then ``key``."""
    return Table(
        name,
        metadata,
        Column("account", Text, nullable=False),
        *columns,
        PrimaryKeyConstraint("account", *key, name=f"{name}_pkey"),
    )


events = _table(
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

projections = _table(
    "projections",
    Column("projection", Text, nullable=False),
    Column("position", Long, nullable=False),
    Column("version", Integer, nullable=False),
    Column("updated_at", UtcTime, nullable=False),
    Column("error", Text),
    key=("projection",),
)

#: Every event that a projection could not fold, written in the transaction that passed it.
fold_failures = _table(
    "fold_failures",
    Column("projection", Text, nullable=False),
    Column("position", Long, nullable=False),
    Column("reason", Text, nullable=False),
    key=("projection", "position"),
)

connections = _table(
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

gaps = _table(
    "gaps",
    Column("gap_id", Long, nullable=False),
    Column("cause", Text, nullable=False),
    Column("from_at", UtcTime),
    Column("until_at", UtcTime),
    Column("last_position_before", Long, nullable=False),
    Column("first_position_after", Long),
    Column("state", Text, nullable=False),
    Column("is_open", Flag, nullable=False),
    Column("healed_by", Text),
    key=("gap_id",),
)


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


balances = _table(
    "balances",
    Column("currency", Text, nullable=False),
    *_balance_amounts(),
    Column("position", Long, nullable=False),
    # The connection on which the exchange last named this currency.
    Column("connection_id", Text),
    key=("currency",),
)

balance_history = _table(
    "balance_history",
    Column("currency", Text, nullable=False),
    Column("position", Long, nullable=False),
    *_balance_amounts(),
    Column("received_at", UtcTime, nullable=False),
    key=("currency", "position"),
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


open_orders = _table(
    "open_orders",
    Column("order_id", Text, nullable=False),
    *_order_terms(),
    Column("filled_percentage", Amount),
    Column("position", Long, nullable=False),
    key=("order_id",),
)

orders = _table(
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
    key=("order_id",),
)
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

order_history = _table(
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

trades = _table(
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
    key=("position",),
)
Index("trades_trade_id", trades.c.account, trades.c.trade_id, unique=True)
Index("trades_order_id", trades.c.account, trades.c.order_id)
Index("trades_pair", trades.c.account, trades.c.pair, trades.c.position)

ledger = _table(
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
    key=("position",),
)
Index("ledger_transaction_id", ledger.c.account, ledger.c.transaction_id, unique=True)

transfers = _table(
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
    key=("position",),
)
Index("transfers_transfer_id", transfers.c.account, transfers.c.transfer_id, unique=True)

outbox = _table(
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
Index("outbox_order_id", outbox.c.account, outbox.c.order_id)
Index("outbox_customer_order_id", outbox.c.account, outbox.c.customer_order_id)
Index("outbox_modify_request_id", outbox.c.account, outbox.c.modify_request_id)

outbox_transitions = _table(
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
outbox_lookups = _table(
    "outbox_lookups",
    Column("outbox_id", Long, nullable=False),
    Column("seq", Integer, nullable=False),
    Column("looked_at", UtcTime, nullable=False),
    # The path with its query; it holds no secret.
    Column("asked", Text, nullable=False),
    # Of the fetched event that holds the answer; null where no answer came.
    Column("position", Long),
    Column("finding", Text, nullable=False),
    Column("said", Text, nullable=False),
    key=("outbox_id", "seq"),
)

controls = _table(
    "controls",
    Column("trading", Text, nullable=False),
    Column("reason", Text),
    Column("changed_by", Text, FetchedValue(), nullable=False),
    Column("changed_at", UtcTime, FetchedValue(), nullable=False),
    key=(),
)

limits = _table(
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

leases = _table(
    "leases",
    Column("epoch", Long, nullable=False),
    Column("holder", Text, nullable=False),
    Column("taken_at", UtcTime, nullable=False),
    Column("renewed_at", UtcTime, nullable=False),
    Column("expires_at", UtcTime, nullable=False),
    key=(),
)
