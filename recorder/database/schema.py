"""The SQL contract as SQLAlchemy metadata: every table, column and index, and the views read here.

Migrations create the tables; this module lets the code name them. What each column means is beside
it in migrations/sql/sqlite/tables.sql, and a test holds both equal on both databases. ``account``
leads every key, so that one statement distributes any table by account.

A column is a name and a kind; ``!`` is NOT NULL. A default may follow, or ``filled``: the database
fills in what a caller leaves out.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

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
    TableClause,
    Text,
    UniqueConstraint,
    column,
    text,
)
from sqlalchemy import table as table_clause

from recorder.database.columns import Amount, Flag, UtcTime

metadata = MetaData()
#: BIGINT on PostgreSQL; SQLite's STRICT tables know INTEGER, which holds 64 bits as well.
Long = BigInteger().with_variant(Integer(), "sqlite")
KINDS: dict[str, Any] = {
    "text": Text,
    "long": Long,
    "integer": Integer,
    "amount": Amount,
    "time": UtcTime,
    "flag": Flag,
    "bytes": LargeBinary,
}


def table(definition: str) -> Table:
    """Return the table of a ``name (key): columns``.

    Both the key and the columns begin with ``account``, which isn't spelled out.
    """
    heading, columns = definition.split(":")
    name, *key = re.findall(r"\w+", heading)
    primary = PrimaryKeyConstraint("account", *key, name=f"{name}_pkey")
    return Table(name, metadata, *_columns(f"account text!, {columns}"), primary)


def _columns(columns: str) -> Iterator[Column[Any]]:
    for each in columns.split(","):
        name, kind, *default = each.split()
        filled: Any = FetchedValue() if default == ["filled"] else None
        if default and filled is None:
            filled = text(*default)
        is_required = kind.endswith("!")
        yield Column(name, KINDS[kind.rstrip("!")], server_default=filled, nullable=not is_required)


def index(on: Table, definition: str, *, unique: bool = False) -> None:
    """Add the index of a ``name (columns) WHERE condition``; ``account`` is its first column.

    The table's name is put before the index's. In the condition, which is SQLite's, flags are
    ``= 1``; PostgreSQL's need no such thing.
    """
    heading, _, where = definition.partition(" WHERE ")
    name, *columns = re.findall(r"\w+", heading)
    flags = {each.name for each in on.c if isinstance(each.type, Flag)}
    plain = re.sub(r"(\w+) = 1", lambda each: each[1 if each[1] in flags else 0], where)
    Index(
        f"{on.name}_{name}",
        *(on.c[each] for each in ("account", *columns)),
        unique=unique,
        sqlite_where=text(where) if where else None,
        postgresql_where=text(plain) if where else None,
    )


def view(name: str, columns: str) -> TableClause:
    """Return a view, which is no part of the tables' metadata."""
    return table_clause(name, *(column(each.name, each.type) for each in _columns(columns)))


BALANCE = """
    available amount, reserved amount, total amount, lend_reserved amount, borrow_reserved amount,
    borrowed_amount amount, total_in_reference amount, total_in_reference_weighted amount,
    reference_currency text, basis text!, updated_at time
"""
ORDER = """
    customer_order_id text, pair text, side text, type text, time_in_force text,
    allow_margin flag, price amount, stop_price amount, original_quantity amount,
    remaining_quantity amount, status text, created_at time, updated_at time
"""
MATCHED = "item integer! 0, natural_id text, source text! 'stream', matched_by text! 'id'"
POSITION = """
    pair text, side text, quantity amount, realised_pnl amount, unrealised_pnl amount,
    average_entry_price amount, session_average_entry_price amount,
    total_session_entry_quantity amount, total_session_value amount, leverage_tier integer,
    state text!, basis text!, created_at time, updated_at time
"""
CONDITIONAL = """
    customer_order_id text, pair text, trigger_order_side text, trigger_order_type text,
    trigger_type text, conditional_type text, position_side text, position_id text,
    quantity amount, take_profit_trigger_price amount, take_profit_place_price amount,
    stop_loss_trigger_price amount, stop_loss_place_price amount, allow_margin flag,
    linked_order_id text, status text, state text!, basis text!, reason text, created_at time,
    updated_at time
"""

# The log and what is folded from it into sessions and gaps

#: The log. Positions count 1, 2, 3 … per account without a hole. Triggers refuse UPDATE and DELETE.
events = table("""
    events (position):
    position long!, received_at time!, elapsed_ns long, connection_id text, origin text!,
    type text!, payload text!, encoding text!, digest bytes!
""")

#: How far each projection has folded the log.
projections = table("""
    projections (projection):
    projection text!, position long!, version integer!, updated_at time!, error text
""")

#: Events that a projection could not fold, or only in part. It went on behind them.
fold_failures = table("""
    fold_failures (projection, position):
    projection text!, position long!, reason text!
""")

#: One row for each WebSocket connection.
connections = table("""
    connections (connection_id):
    connection_id text!, opened_at time, authenticated_at time, closed_at time, close_code integer,
    close_reason text, closed_by text, last_frame_at time, frame_count long, state text!,
    is_open flag!, first_position long!, last_position long!
""")

#: One row for each stretch of time in which something may have been missed.
gaps = table("""
    gaps (gap_id):
    gap_id long!, cause text!, from_at time, until_at time, last_position_before long!,
    first_position_after long, state text!, is_open flag!, healed_by text, unobserved_from time,
    unobserved_until time, evidence text, losses long, causes text, last_loss text,
    last_loss_position long, verdict text, verdict_at time, verdict_position long
""")

# Balances

#: What is held now, per currency.
balances = table(f"""
    balances (currency):
    currency text!, {BALANCE}, position long!, connection_id text
""")

#: Every value that balances ever had.
balance_history = table(f"""
    balance_history (currency, position):
    currency text!, position long!, {BALANCE}, received_at time!
""")
index(balance_history, "updated_at (currency, updated_at, position)")
index(
    balance_history,
    "undated (currency, received_at, position) WHERE basis = 'inferred_zero' OR updated_at IS NULL",
)

# Orders

#: The open orders, as the last full list named them.
open_orders = table(f"""
    open_orders (order_id):
    order_id text!, {ORDER}, filled_percentage amount, position long!
""")

#: Every order ever seen, in its latest state.
orders = table(f"""
    orders (order_id):
    order_id text!, {ORDER}, state text!, live flag!, listed flag!, executed_quantity amount,
    executed_price amount, counted_quantity amount, counted_remaining amount,
    executed_value amount, counted_fee amount, average_price amount, fee amount, fee_currency text,
    reason text, connection_id text, first_position long!, last_position long!,
    source text! 'stream', began_at time, ended_at time, ended_position long,
    validity_by_position long, validity_by_time long
""")
index(orders, "validity_by_position (validity_by_position, ended_position)")
index(orders, "validity_by_time (validity_by_time, ended_at)")
index(orders, "live (order_id) WHERE live = 1")
index(orders, "executed (pair, last_position) WHERE executed_price IS NOT NULL")
index(orders, "customer_order_id (customer_order_id)")

#: Each report about an order.
order_history = table("""
    order_history (order_id, position):
    order_id text!, position long!, event_type text!, status text, state text!, applied flag!,
    price amount, original_quantity amount, remaining_quantity amount, executed_price amount,
    executed_quantity amount, executed_fee amount, reason text, updated_at time, received_at time!
""")

# Fills, transactions, transfers

#: Fills.
trades = table(f"""
    trades (position, item):
    position long!, trade_id text, order_id text, customer_order_id text, pair text, side text,
    price amount, quantity amount, fee amount, fee_currency text, traded_at time,
    received_at time!, {MATCHED}
""")
index(trades, "natural_id (natural_id)", unique=True)
index(trades, "traded_at (traded_at)")
index(trades, "trade_id (trade_id)", unique=True)
index(trades, "order_id (order_id)")
index(trades, "pair (pair, position)")

#: The exchange's transaction history.
ledger = table(f"""
    ledger (position, item):
    position long!, transaction_id text, type text, description text, debit_currency text,
    debit_value amount, credit_currency text, credit_value amount, fee_currency text,
    fee_value amount, order_id text, pair text, cost_per_coin amount, cost_per_coin_symbol text,
    additional text, event_at time, received_at time!, {MATCHED}, fee_basis text
""")
index(ledger, "natural_id (natural_id)", unique=True)
index(ledger, "event_at (event_at)")
index(ledger, "order_id (order_id)")
index(ledger, "transaction_id (transaction_id)", unique=True)

#: Deposits and withdrawals.
transfers = table("""
    transfers (position, item):
    position long!, transfer_id text!, direction text!, currency text, amount amount, fee amount,
    address text, transaction_hash text, network text, confirmations integer, confirmed flag,
    status text, reason text, created_at time, last_position long!, received_at time!,
    item integer! 0, source text! 'stream', index_in_transaction long
""")
index(transfers, "transaction_hash (transaction_hash)")
index(transfers, "transfer_id (transfer_id)", unique=True)

# Futures

#: Positions of futures, in their latest state.
positions = table(f"""
    positions (position_id):
    position_id text!, {POSITION}, is_open flag!, reduced_at time, connection_id text,
    first_position long!, position long!
""")
index(positions, "open (position_id) WHERE is_open = 1")

#: Every report about a position of futures.
position_history = table(f"""
    position_history (position_id, position):
    position_id text!, position long!, event_type text!, {POSITION}, closed_quantity amount,
    close_price amount, closed_pnl amount, closed_fees amount, close_type text,
    initial_margin_fraction_at_close amount, closed_at time, received_at time!
""")
index(position_history, "received_at (position_id, received_at, position)")

#: Conditional orders, in their latest state.
conditional_orders = table(f"""
    conditional_orders (order_id):
    order_id text!, {CONDITIONAL}, is_open flag!, connection_id text, first_position long!,
    last_position long!
""")
index(conditional_orders, "open (order_id) WHERE is_open = 1")

#: Every report about a conditional order.
conditional_order_history = table(f"""
    conditional_order_history (order_id, position):
    order_id text!, position long!, event_type text!, {CONDITIONAL}, received_at time!
""")
index(conditional_order_history, "received_at (order_id, received_at, position)")

# The outbox and what governs it

#: Commands to send. Callers fill the first columns; each has a default except three.
outbox = table("""
    outbox (outbox_id):
    outbox_id long! filled, client_msg_id text! filled, command text!, payload text!,
    priority integer! filled, not_before time, expires_at time, created_at time! filled,
    created_by text! filled, status text! filled, reason text, epoch long, connection_id text,
    customer_order_id text, order_id text, modify_request_id text, sent_position long,
    acknowledged_position long, resolved_position long, updated_at time, in_order flag! filled,
    attempts integer! filled, requeue_of long
""")
outbox.append_constraint(UniqueConstraint("account", "client_msg_id", name="outbox_client_msg_id"))
index(outbox, "queued (priority, outbox_id) WHERE status = 'queued'")
index(
    outbox, "unresolved (outbox_id) WHERE status IN ('sending', 'sent', 'acknowledged', 'in_doubt')"
)
index(outbox, "in_order (outbox_id) WHERE status = 'queued' AND in_order = 1")
index(outbox, "not_placed (outbox_id) WHERE status = 'not_placed'")
index(outbox, "requeue_of (requeue_of) WHERE requeue_of IS NOT NULL")
index(outbox, "batches (outbox_id) WHERE command = 'PLACE_BATCH_ORDERS'")
index(outbox, "order_id (order_id)")
index(outbox, "customer_order_id (customer_order_id)")
index(outbox, "modify_request_id (modify_request_id)")

#: Every change of a command's status, written by trigger.
outbox_transitions = table("""
    outbox_transitions (outbox_id, seq):
    outbox_id long!, seq integer!, from_status text, to_status text!, reason text,
    client_msg_id text!, changed_at time!, changed_by text!
""")
index(outbox_transitions, "client_msg_id (client_msg_id) WHERE seq = 1", unique=True)

#: Every look-up about a command whose outcome was open, and its finding.
outbox_lookups = table("""
    outbox_lookups (outbox_id, seq):
    outbox_id long!, seq integer!, looked_at time!, request text!, position long, finding text!,
    answer text!
""")

#: The trading switch.
controls = table("""
    controls ():
    trading text!, reason text, changed_by text! filled, changed_at time! filled
""")

#: Which process owns an account.
leases = table("""
    leases ():
    epoch long!, holder text!, taken_at time!, renewed_at time!, expires_at time!
""")

#: The largest command that may be sent, per account and pair.
limits = table("""
    limits (pair):
    pair text!, max_quantity amount, max_value amount, max_open_orders integer,
    max_price_deviation amount, changed_by text! filled, changed_at time! filled
""")

# Back-fill

#: Periods to fetch from the exchange's history. A plain INSERT requests one.
backfills = table("""
    backfills (backfill_id):
    backfill_id text! filled, from_at time!, until_at time!, requested_by text! filled,
    requested_at time! filled, state text! filled, run_id long, reason text, updated_at time
""")

#: Each fetching of a period, for a gap or for a row of backfills.
backfill_runs = table("""
    backfill_runs (run_id):
    run_id long!, gap_id long, backfill_id text, from_at time!, until_at time!, state text!,
    is_open flag!, pages integer!, answers integer!, rows integer!, reason text, started_at time!,
    ended_at time, last_position long!
""")
index(backfill_runs, "gap_id (gap_id)")

#: How far each list of a run is.
backfill_lists = table("""
    backfill_lists (run_id, list):
    run_id long!, list text!, state text!, pages integer!, rows integer!, unread integer!,
    next text, reason text, last_position long!
""")

# Reconciliation

#: Requests to compare with the exchange. A plain INSERT makes one.
reconciliation_requests = table("""
    reconciliation_requests (request_id):
    request_id text! filled, requested_by text! filled, requested_at time! filled,
    reconciliation_id long, updated_at time
""")

#: Each comparison with the exchange.
reconciliations = table("""
    reconciliations (reconciliation_id):
    reconciliation_id long!, requested_by text!, request_id text, from_at time, until_at time,
    state text!, is_open flag!, reason text, balances integer, open_orders integer,
    history_rows integer, answers integer!, differences integer!, started_at time!, ended_at time,
    last_position long!
""")

#: Each value that differed from the exchange's, and how that ended.
differences = table("""
    differences (difference_id):
    difference_id long!, reconciliation_id long!, list text!, key text!, field text!, ours text,
    theirs text, position long, answer_position long, state text!, is_open flag!,
    ended_position long, found_at time!, ended_at time
""")
index(differences, "reconciliation_id (reconciliation_id)")
index(differences, "open (difference_id) WHERE is_open = 1")
# Views

#: The orders that no command of ours placed, as far as it is read here.
foreign_orders = view("foreign_orders", "account text!, order_id text!")
#: What changed each balance, one signed amount a row.
balance_movements = view(
    "balance_movements",
    """
    account text!, currency text, at time, position long!, item integer!, leg text!, kind text!,
    amount amount, whole long, nano long, atto long, type text, source_table text!,
    natural_id text, source text!, fee_basis text, order_id text, pair text, received_at time!
    """,
)
