"""The SQL contract as SQLAlchemy metadata: every table, column and index.

Migrations create the tables; this package lets the code name them, and a test holds both
together on both databases. ``account`` leads every key, so that one statement distributes any
table by account.
"""

from __future__ import annotations

from recorder.database.schema.backfill import backfill_lists, backfill_runs, backfills
from recorder.database.schema.base import metadata
from recorder.database.schema.commands import (
    controls,
    leases,
    limits,
    outbox,
    outbox_lookups,
    outbox_transitions,
)
from recorder.database.schema.futures import (
    conditional_order_history,
    conditional_orders,
    position_history,
    positions,
)
from recorder.database.schema.log import connections, events, fold_failures, gaps, projections
from recorder.database.schema.reconciliation import (
    differences,
    reconciliation_requests,
    reconciliations,
)
from recorder.database.schema.state import (
    balance_history,
    balances,
    ledger,
    open_orders,
    order_history,
    orders,
    trades,
    transfers,
)

__all__ = [
    "backfill_lists",
    "backfill_runs",
    "backfills",
    "balance_history",
    "balances",
    "conditional_order_history",
    "conditional_orders",
    "connections",
    "controls",
    "differences",
    "events",
    "fold_failures",
    "gaps",
    "leases",
    "ledger",
    "limits",
    "metadata",
    "open_orders",
    "order_history",
    "orders",
    "outbox",
    "outbox_lookups",
    "outbox_transitions",
    "position_history",
    "positions",
    "projections",
    "reconciliation_requests",
    "reconciliations",
    "trades",
    "transfers",
]
