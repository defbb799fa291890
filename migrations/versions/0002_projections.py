"""The current-state tables: what the projections make of the log.

Why: people ask what stands now, in SQL, without folding a log themselves. Nothing in these tables
is a source of its own: `recorder rebuild` makes them again.
A running old daemon: appends on and sees no difference; it has no projectors.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

LONG = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
TIME = sa.DateTime(timezone=True).with_variant(sa.Text(), "sqlite")
FLAG = sa.Boolean(create_constraint=False).with_variant(sa.Integer(), "sqlite")
#: Exact on both: NUMERIC without scale, and canonical decimal text where NUMERIC is a float.
AMOUNT = sa.Numeric().with_variant(sa.Text(), "sqlite")

TABLES = (
    "projections",
    "fold_failures",
    "connections",
    "gaps",
    "balances",
    "balance_history",
    "open_orders",
    "orders",
    "order_history",
    "trades",
    "ledger",
    "transfers",
)


def create(name: str, *columns: sa.Column[object], key: tuple[str, ...]) -> None:
    op.create_table(
        name,
        sa.Column("account", sa.Text, nullable=False),
        *columns,
        sa.PrimaryKeyConstraint("account", *key, name=f"{name}_pkey"),
        sqlite_strict=True,
    )


def upgrade() -> None:
    create_bookkeeping()
    create_sessions()
    create_balances()
    create_orders()
    create_records()


def downgrade() -> None:
    for table in reversed(TABLES):
        op.drop_table(table)


def create_bookkeeping() -> None:
    create(
        "projections",
        sa.Column("projection", sa.Text, nullable=False),
        sa.Column("position", LONG, nullable=False),
        sa.Column("version", sa.Integer, nullable=False),
        sa.Column("updated_at", TIME, nullable=False),
        sa.Column("error", sa.Text),
        key=("projection",),
    )
    create(
        "fold_failures",
        sa.Column("projection", sa.Text, nullable=False),
        sa.Column("position", LONG, nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        key=("projection", "position"),
    )


def create_sessions() -> None:
    create(
        "connections",
        sa.Column("connection_id", sa.Text, nullable=False),
        sa.Column("opened_at", TIME),
        sa.Column("authenticated_at", TIME),
        sa.Column("closed_at", TIME),
        sa.Column("close_code", sa.Integer),
        sa.Column("close_reason", sa.Text),
        sa.Column("closed_by", sa.Text),
        sa.Column("last_frame_at", TIME),
        sa.Column("frame_count", LONG),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("is_open", FLAG, nullable=False),
        sa.Column("first_position", LONG, nullable=False),
        sa.Column("last_position", LONG, nullable=False),
        key=("connection_id",),
    )
    create(
        "gaps",
        sa.Column("gap_id", LONG, nullable=False),
        sa.Column("cause", sa.Text, nullable=False),
        sa.Column("from_at", TIME),
        sa.Column("until_at", TIME),
        sa.Column("last_position_before", LONG, nullable=False),
        sa.Column("first_position_after", LONG),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("is_open", FLAG, nullable=False),
        sa.Column("healed_by", sa.Text),
        key=("gap_id",),
    )


def balance_amounts() -> list[sa.Column[object]]:
    return [
        sa.Column("available", AMOUNT),
        sa.Column("reserved", AMOUNT),
        sa.Column("total", AMOUNT),
        sa.Column("lend_reserved", AMOUNT),
        sa.Column("borrow_reserved", AMOUNT),
        sa.Column("borrowed_amount", AMOUNT),
        sa.Column("total_in_reference", AMOUNT),
        sa.Column("total_in_reference_weighted", AMOUNT),
        sa.Column("reference_currency", sa.Text),
        sa.Column("basis", sa.Text, nullable=False),
        sa.Column("updated_at", TIME),
    ]


def create_balances() -> None:
    create(
        "balances",
        sa.Column("currency", sa.Text, nullable=False),
        *balance_amounts(),
        sa.Column("position", LONG, nullable=False),
        sa.Column("connection_id", sa.Text),
        key=("currency",),
    )
    create(
        "balance_history",
        sa.Column("currency", sa.Text, nullable=False),
        sa.Column("position", LONG, nullable=False),
        *balance_amounts(),
        sa.Column("received_at", TIME, nullable=False),
        key=("currency", "position"),
    )


def order_terms() -> list[sa.Column[object]]:
    return [
        sa.Column("customer_order_id", sa.Text),
        sa.Column("pair", sa.Text),
        sa.Column("side", sa.Text),
        sa.Column("type", sa.Text),
        sa.Column("time_in_force", sa.Text),
        sa.Column("allow_margin", FLAG),
        sa.Column("price", AMOUNT),
        sa.Column("stop_price", AMOUNT),
        sa.Column("original_quantity", AMOUNT),
        sa.Column("remaining_quantity", AMOUNT),
        sa.Column("status", sa.Text),
        sa.Column("created_at", TIME),
        sa.Column("updated_at", TIME),
    ]


def create_orders() -> None:
    create(
        "open_orders",
        sa.Column("order_id", sa.Text, nullable=False),
        *order_terms(),
        sa.Column("filled_percentage", AMOUNT),
        sa.Column("position", LONG, nullable=False),
        key=("order_id",),
    )
    create(
        "orders",
        sa.Column("order_id", sa.Text, nullable=False),
        *order_terms(),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("live", FLAG, nullable=False),
        sa.Column("listed", FLAG, nullable=False),
        sa.Column("executed_quantity", AMOUNT),
        sa.Column("executed_price", AMOUNT),
        sa.Column("counted_quantity", AMOUNT),
        sa.Column("counted_remaining", AMOUNT),
        sa.Column("executed_value", AMOUNT),
        sa.Column("counted_fee", AMOUNT),
        sa.Column("average_price", AMOUNT),
        sa.Column("fee", AMOUNT),
        sa.Column("fee_currency", sa.Text),
        sa.Column("reason", sa.Text),
        sa.Column("connection_id", sa.Text),
        sa.Column("first_position", LONG, nullable=False),
        sa.Column("last_position", LONG, nullable=False),
        key=("order_id",),
    )
    op.create_index(
        "orders_live",
        "orders",
        ["account", "order_id"],
        postgresql_where=sa.text("live"),
        sqlite_where=sa.text("live = 1"),
    )
    op.create_index("orders_customer_order_id", "orders", ["account", "customer_order_id"])
    create(
        "order_history",
        sa.Column("order_id", sa.Text, nullable=False),
        sa.Column("position", LONG, nullable=False),
        sa.Column("event_type", sa.Text, nullable=False),
        sa.Column("status", sa.Text),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("applied", FLAG, nullable=False),
        sa.Column("price", AMOUNT),
        sa.Column("original_quantity", AMOUNT),
        sa.Column("remaining_quantity", AMOUNT),
        sa.Column("executed_price", AMOUNT),
        sa.Column("executed_quantity", AMOUNT),
        sa.Column("executed_fee", AMOUNT),
        sa.Column("reason", sa.Text),
        sa.Column("updated_at", TIME),
        sa.Column("received_at", TIME, nullable=False),
        key=("order_id", "position"),
    )


def create_records() -> None:
    create_trades()
    create_ledger()
    create_transfers()


def create_trades() -> None:
    create(
        "trades",
        sa.Column("position", LONG, nullable=False),
        sa.Column("trade_id", sa.Text),
        sa.Column("order_id", sa.Text),
        sa.Column("customer_order_id", sa.Text),
        sa.Column("pair", sa.Text),
        sa.Column("side", sa.Text),
        sa.Column("price", AMOUNT),
        sa.Column("quantity", AMOUNT),
        sa.Column("fee", AMOUNT),
        sa.Column("fee_currency", sa.Text),
        sa.Column("traded_at", TIME),
        sa.Column("received_at", TIME, nullable=False),
        key=("position",),
    )
    # Unique where stated: that is how a fill that is told twice stands once.
    op.create_index("trades_trade_id", "trades", ["account", "trade_id"], unique=True)
    op.create_index("trades_order_id", "trades", ["account", "order_id"])


def create_ledger() -> None:
    create(
        "ledger",
        sa.Column("position", LONG, nullable=False),
        sa.Column("transaction_id", sa.Text),
        sa.Column("type", sa.Text),
        sa.Column("description", sa.Text),
        sa.Column("debit_currency", sa.Text),
        sa.Column("debit_value", AMOUNT),
        sa.Column("credit_currency", sa.Text),
        sa.Column("credit_value", AMOUNT),
        sa.Column("fee_currency", sa.Text),
        sa.Column("fee_value", AMOUNT),
        sa.Column("order_id", sa.Text),
        sa.Column("pair", sa.Text),
        sa.Column("cost_per_coin", AMOUNT),
        sa.Column("cost_per_coin_symbol", sa.Text),
        sa.Column("additional", sa.Text),
        sa.Column("event_at", TIME),
        sa.Column("received_at", TIME, nullable=False),
        key=("position",),
    )
    op.create_index("ledger_transaction_id", "ledger", ["account", "transaction_id"], unique=True)


def create_transfers() -> None:
    create(
        "transfers",
        sa.Column("position", LONG, nullable=False),
        sa.Column("transfer_id", sa.Text, nullable=False),
        sa.Column("direction", sa.Text, nullable=False),
        sa.Column("currency", sa.Text),
        sa.Column("amount", AMOUNT),
        sa.Column("fee", AMOUNT),
        sa.Column("address", sa.Text),
        sa.Column("transaction_hash", sa.Text),
        sa.Column("network", sa.Text),
        sa.Column("confirmations", sa.Integer),
        sa.Column("confirmed", FLAG),
        sa.Column("status", sa.Text),
        sa.Column("reason", sa.Text),
        sa.Column("created_at", TIME),
        sa.Column("last_position", LONG, nullable=False),
        sa.Column("received_at", TIME, nullable=False),
        key=("position",),
    )
    op.create_index("transfers_transfer_id", "transfers", ["account", "transfer_id"], unique=True)
