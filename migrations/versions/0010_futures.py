"""Positions of futures and conditional orders, as they stand and as they were.

Why: frames about them were in the log and in no table. The projection that folds them begins at
position 1, so what was recorded before this migration fills the tables too.
A running old daemon: sees no difference; it folds nothing into them.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None

LONG = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
TIME = sa.DateTime(timezone=True).with_variant(sa.Text(), "sqlite")
FLAG = sa.Boolean(create_constraint=False).with_variant(sa.Integer(), "sqlite")
AMOUNT = sa.Numeric().with_variant(sa.Text(), "sqlite")

TABLES = ("positions", "position_history", "conditional_orders", "conditional_order_history")
GRANTS = {
    "recorder_reader": f"SELECT ON {', '.join(TABLES)}",
    "recorder_daemon": f"SELECT, INSERT, UPDATE, DELETE ON {', '.join(TABLES)}",
}

# A fold without a checkpoint takes its first step in a transaction that writes, and this one passes
# by nearly all of the log: on SQLite the log would wait for it. With a checkpoint it reads beside.
BEGIN_AT_THE_BEGINNING = """
    INSERT INTO projections (account, projection, position, version, updated_at)
    SELECT account, 'futures', 0, 1, updated_at FROM projections WHERE projection = 'balances'
"""


def upgrade() -> None:
    create_positions()
    create_conditionals()
    # "The latest row of each at or before a time" is one step into these.
    index_history("position_history", "position_id")
    index_history("conditional_order_history", "order_id")
    op.execute(BEGIN_AT_THE_BEGINNING)
    if op.get_context().dialect.name == "postgresql":
        for role in present_roles():
            op.execute(f"GRANT {GRANTS[role]} TO {role}")


def downgrade() -> None:
    """Drop the tables; their grants go with them, and what they held is folded again."""
    for table in reversed(TABLES):
        op.drop_table(table)
    # Whoever comes back must not believe that the new tables are filled already.
    op.execute("DELETE FROM projections WHERE projection = 'futures'")
    op.execute("DELETE FROM fold_failures WHERE projection = 'futures'")


def create(name: str, *columns: sa.Column[object], key: tuple[str, ...]) -> None:
    op.create_table(
        name,
        sa.Column("account", sa.Text, nullable=False),
        *columns,
        sa.PrimaryKeyConstraint("account", *key, name=f"{name}_pkey"),
        sqlite_strict=True,
    )


def create_positions() -> None:
    create(
        "positions",
        sa.Column("position_id", sa.Text, nullable=False),
        *position_values(),
        sa.Column("is_open", FLAG, nullable=False),
        sa.Column("reduced_at", TIME),
        sa.Column("connection_id", sa.Text),
        sa.Column("first_position", LONG, nullable=False),
        sa.Column("position", LONG, nullable=False),
        key=("position_id",),
    )
    index_open("positions", "position_id")
    create(
        "position_history",
        sa.Column("position_id", sa.Text, nullable=False),
        sa.Column("position", LONG, nullable=False),
        sa.Column("event_type", sa.Text, nullable=False),
        *position_values(),
        sa.Column("closed_quantity", AMOUNT),
        sa.Column("close_price", AMOUNT),
        sa.Column("closed_pnl", AMOUNT),
        sa.Column("closed_fees", AMOUNT),
        sa.Column("close_type", sa.Text),
        sa.Column("initial_margin_fraction_at_close", AMOUNT),
        sa.Column("closed_at", TIME),
        sa.Column("received_at", TIME, nullable=False),
        key=("position_id", "position"),
    )


def create_conditionals() -> None:
    create(
        "conditional_orders",
        sa.Column("order_id", sa.Text, nullable=False),
        *conditional_values(),
        sa.Column("is_open", FLAG, nullable=False),
        sa.Column("connection_id", sa.Text),
        sa.Column("first_position", LONG, nullable=False),
        sa.Column("last_position", LONG, nullable=False),
        key=("order_id",),
    )
    index_open("conditional_orders", "order_id")
    create(
        "conditional_order_history",
        sa.Column("order_id", sa.Text, nullable=False),
        sa.Column("position", LONG, nullable=False),
        sa.Column("event_type", sa.Text, nullable=False),
        *conditional_values(),
        sa.Column("received_at", TIME, nullable=False),
        key=("order_id", "position"),
    )


def index_open(table: str, key: str) -> None:
    op.create_index(
        f"{table}_open",
        table,
        ["account", key],
        postgresql_where=sa.text("is_open"),
        sqlite_where=sa.text("is_open = 1"),
    )


def index_history(table: str, key: str) -> None:
    columns = ["account", key, "received_at", "position"]
    op.create_index(f"{table}_received_at", table, columns)


def position_values() -> list[sa.Column[object]]:
    return [
        sa.Column("pair", sa.Text),
        sa.Column("side", sa.Text),
        sa.Column("quantity", AMOUNT),
        sa.Column("realised_pnl", AMOUNT),
        sa.Column("unrealised_pnl", AMOUNT),
        sa.Column("average_entry_price", AMOUNT),
        sa.Column("session_average_entry_price", AMOUNT),
        sa.Column("total_session_entry_quantity", AMOUNT),
        sa.Column("total_session_value", AMOUNT),
        sa.Column("leverage_tier", sa.Integer),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("basis", sa.Text, nullable=False),
        sa.Column("created_at", TIME),
        sa.Column("updated_at", TIME),
    ]


def conditional_values() -> list[sa.Column[object]]:
    return [
        sa.Column("customer_order_id", sa.Text),
        sa.Column("pair", sa.Text),
        sa.Column("trigger_order_side", sa.Text),
        sa.Column("trigger_order_type", sa.Text),
        sa.Column("trigger_type", sa.Text),
        sa.Column("conditional_type", sa.Text),
        sa.Column("position_side", sa.Text),
        sa.Column("position_id", sa.Text),
        sa.Column("quantity", AMOUNT),
        sa.Column("take_profit_trigger_price", AMOUNT),
        sa.Column("take_profit_place_price", AMOUNT),
        sa.Column("stop_loss_trigger_price", AMOUNT),
        sa.Column("stop_loss_place_price", AMOUNT),
        sa.Column("allow_margin", FLAG),
        sa.Column("linked_order_id", sa.Text),
        sa.Column("status", sa.Text),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("basis", sa.Text, nullable=False),
        sa.Column("reason", sa.Text),
        sa.Column("created_at", TIME),
        sa.Column("updated_at", TIME),
    ]


def present_roles() -> list[str]:
    """The roles that stand; where we may not create them, somebody else can, and grant later."""
    names = sa.text("SELECT rolname FROM pg_roles WHERE rolname = ANY(:names)")
    found = op.get_bind().execute(names, {"names": list(GRANTS)})
    return sorted(found.scalars())
