"""The comparison with the exchange: requests, comparisons, what differed, and whose an order is.

Why: a log without a gap may still lack what the exchange never sent. `reconciliation_requests` is
where a person asks for a comparison; `reconciliations` and `differences` are folded from the log.
The view `foreign_orders` has the orders that no command of ours placed.
A running old daemon: goes on, and compares nothing.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None

LONG = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
TIME = sa.DateTime(timezone=True).with_variant(sa.Text(), "sqlite")
FLAG = sa.Boolean(create_constraint=False).with_variant(sa.Integer(), "sqlite")
SQLITE_NOW = "strftime('%Y-%m-%d %H:%M:%f000', 'now')"


def upgrade() -> None:
    is_sqlite = op.get_context().dialect.name == "sqlite"
    create_requests(is_sqlite)
    create_reconciliations()
    create_differences()
    op.execute(FOREIGN_ORDERS)
    if not is_sqlite:
        for role in present_roles():
            for grant in GRANTS[role]:
                op.execute(f"GRANT {grant} TO {role}")


def downgrade() -> None:
    op.execute("DROP VIEW foreign_orders")
    for table in ("differences", "reconciliations", "reconciliation_requests"):
        op.drop_table(table)
    op.execute("DELETE FROM projections WHERE projection = 'reconciliations'")


def create_requests(is_sqlite: bool) -> None:
    random = "(lower(hex(randomblob(16))))" if is_sqlite else "gen_random_uuid()::text"
    now, someone = (f"({SQLITE_NOW})", "'sqlite'") if is_sqlite else ("now()", "session_user")
    op.create_table(
        "reconciliation_requests",
        sa.Column("account", sa.Text, nullable=False),
        sa.Column("request_id", sa.Text, nullable=False, server_default=sa.text(random)),
        sa.Column("requested_by", sa.Text, nullable=False, server_default=sa.text(someone)),
        sa.Column("requested_at", TIME, nullable=False, server_default=sa.text(now)),
        sa.Column("reconciliation_id", LONG),
        sa.Column("updated_at", TIME),
        sa.PrimaryKeyConstraint("account", "request_id", name="reconciliation_requests_pkey"),
        sqlite_strict=True,
    )


def create_reconciliations() -> None:
    op.create_table(
        "reconciliations",
        sa.Column("account", sa.Text, nullable=False),
        sa.Column("reconciliation_id", LONG, nullable=False, autoincrement=False),
        sa.Column("asked_by", sa.Text, nullable=False),
        sa.Column("request_id", sa.Text),
        sa.Column("from_at", TIME),
        sa.Column("until_at", TIME),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("is_open", FLAG, nullable=False),
        sa.Column("reason", sa.Text),
        sa.Column("balances", sa.Integer),
        sa.Column("open_orders", sa.Integer),
        sa.Column("history_rows", sa.Integer),
        sa.Column("answers", sa.Integer, nullable=False),
        sa.Column("differences", sa.Integer, nullable=False),
        sa.Column("started_at", TIME, nullable=False),
        sa.Column("ended_at", TIME),
        sa.Column("last_position", LONG, nullable=False),
        sa.PrimaryKeyConstraint("account", "reconciliation_id", name="reconciliations_pkey"),
        sqlite_strict=True,
    )


def create_differences() -> None:
    op.create_table(
        "differences",
        sa.Column("account", sa.Text, nullable=False),
        sa.Column("difference_id", LONG, nullable=False, autoincrement=False),
        sa.Column("reconciliation_id", LONG, nullable=False),
        sa.Column("list", sa.Text, nullable=False),
        sa.Column("key", sa.Text, nullable=False),
        sa.Column("field", sa.Text, nullable=False),
        sa.Column("ours", sa.Text),
        sa.Column("theirs", sa.Text),
        sa.Column("position", LONG),
        sa.Column("answer_position", LONG),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("is_open", FLAG, nullable=False),
        sa.Column("ended_position", LONG),
        sa.Column("found_at", TIME, nullable=False),
        sa.Column("ended_at", TIME),
        sa.PrimaryKeyConstraint("account", "difference_id", name="differences_pkey"),
        sqlite_strict=True,
    )
    op.create_index(
        "differences_reconciliation_id", "differences", ["account", "reconciliation_id"]
    )
    op.create_index(
        "differences_open",
        "differences",
        ["account", "difference_id"],
        postgresql_where=sa.text("is_open"),
        sqlite_where=sa.text("is_open = 1"),
    )


# An order is ours if a command that left the house placed it: it bears that row's customerOrderId,
# or the id that the exchange gave; a batch's leg bears the batch's with two digits behind, or one
# that stands in its payload. What cancels or changes an order doesn't make it ours.
FOREIGN_ORDERS = """
    CREATE VIEW foreign_orders AS
    SELECT o.account, o.order_id, o.customer_order_id, o.pair, o.side, o.type, o.price,
        o.original_quantity, o.remaining_quantity, o.state, o.live, o.created_at, o.updated_at,
        o.first_position, o.last_position
    FROM orders AS o
    WHERE NOT EXISTS (SELECT 1 FROM outbox AS c
            WHERE c.account = o.account AND c.order_id = o.order_id
                AND c.command IN ('PLACE_LIMIT_ORDER', 'PLACE_MARKET_ORDER', 'PLACE_BATCH_ORDERS'))
        AND NOT EXISTS (SELECT 1 FROM outbox AS c
            WHERE c.account = o.account AND c.customer_order_id = o.customer_order_id
                AND c.command IN ('PLACE_LIMIT_ORDER', 'PLACE_MARKET_ORDER', 'PLACE_BATCH_ORDERS')
                AND c.status NOT IN ('queued', 'expired', 'withdrawn', 'refused'))
        AND NOT EXISTS (SELECT 1 FROM outbox AS c
            WHERE c.account = o.account AND length(o.customer_order_id) > 2
                AND c.customer_order_id
                    = substr(o.customer_order_id, 1, length(o.customer_order_id) - 2)
                AND c.command = 'PLACE_BATCH_ORDERS'
                AND c.status NOT IN ('queued', 'expired', 'withdrawn', 'refused'))
        AND NOT EXISTS (SELECT 1 FROM outbox AS c
            WHERE c.account = o.account AND c.command = 'PLACE_BATCH_ORDERS'
                AND c.payload LIKE '%"' || o.customer_order_id || '"%'
                AND c.status NOT IN ('queued', 'expired', 'withdrawn', 'refused'))
"""

GRANTS = {
    "recorder_reader": [
        "SELECT ON reconciliation_requests, reconciliations, differences, foreign_orders"
    ],
    "recorder_daemon": [
        "SELECT, INSERT, UPDATE ON reconciliation_requests",
        "SELECT, INSERT, UPDATE, DELETE ON reconciliations, differences",
        "SELECT ON foreign_orders",
    ],
}


def present_roles() -> list[str]:
    """The roles that stand; where we may not create them, somebody else can, and grant later."""
    names = sa.text("SELECT rolname FROM pg_roles WHERE rolname = ANY(:names)")
    found = op.get_bind().execute(names, {"names": list(GRANTS)})
    return sorted(found.scalars())
