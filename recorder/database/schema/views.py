"""The views that code reads. Migrations make them; they are no part of the tables' metadata."""

from __future__ import annotations

from sqlalchemy import Integer, Text, column, table

from recorder.database.columns import Amount, UtcTime
from recorder.database.schema.base import Long

#: The orders that no command of ours placed, as far as it is read here; docs/reconcile.md.
foreign_orders = table("foreign_orders", column("account", Text), column("order_id", Text))
#: What changed each balance, one signed amount a row; docs/books.md has the columns.
balance_movements = table(
    "balance_movements",
    column("account", Text),
    column("currency", Text),
    column("at", UtcTime),
    column("position", Long),
    column("item", Integer),
    column("leg", Text),
    column("kind", Text),
    column("amount", Amount),
    column("whole", Long),
    column("nano", Long),
    column("atto", Long),
    column("type", Text),
    column("source_table", Text),
    column("natural_id", Text),
    column("source", Text),
    column("fee_basis", Text),
    column("order_id", Text),
    column("pair", Text),
    column("received_at", UtcTime),
)
