"""Lives of orders: from when until when each was open, and the number by which that is found.

Why: which orders were open at a moment is a question about intervals. Without these columns it
reads every order that ever was. `outbox_batches` lets `foreign_orders` find a batch's legs.
A running old daemon: writes orders without a life, which no question about the past then finds;
stop it first. The new one folds the orders again from the log at its start.
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None

LONG = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
TIME = sa.DateTime(timezone=True).with_variant(sa.Text(), "sqlite")
COLUMNS: dict[str, sa.types.TypeEngine[Any]] = {
    "began_at": TIME,
    "ended_at": TIME,
    "ended_position": LONG,
    "position_node": LONG,
    "time_node": LONG,
}
BATCHES = "command = 'PLACE_BATCH_ORDERS'"


def upgrade() -> None:
    for name, kind in COLUMNS.items():
        op.add_column("orders", sa.Column(name, kind))
    op.create_index(
        "orders_position_node", "orders", ["account", "position_node", "ended_position"]
    )
    op.create_index("orders_time_node", "orders", ["account", "time_node", "ended_at"])
    op.create_index(
        "outbox_batches",
        "outbox",
        ["account", "outbox_id"],
        postgresql_where=sa.text(BATCHES),
        sqlite_where=sa.text(BATCHES),
    )


def downgrade() -> None:
    op.drop_index("outbox_batches", "outbox")
    op.drop_index("orders_time_node", "orders")
    op.drop_index("orders_position_node", "orders")
    for name in reversed(COLUMNS):
        op.drop_column("orders", name)
