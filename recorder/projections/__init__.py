"""Projections: folds of the log into tables that a person can query. Pure."""

from __future__ import annotations

from recorder.projections.backfills import Backfills
from recorder.projections.balances import Balances
from recorder.projections.connections import Connections
from recorder.projections.fold import Projection
from recorder.projections.futures import Futures
from recorder.projections.ledger import Ledger
from recorder.projections.open_orders import OpenOrders
from recorder.projections.orders import Orders
from recorder.projections.reconciliations import Reconciliations
from recorder.projections.trades import Trades
from recorder.projections.transfers import Transfers

PROJECTIONS: tuple[Projection, ...] = (
    Balances(),
    OpenOrders(),
    Orders(),
    Trades(),
    Ledger(),
    Transfers(),
    Connections(),
    Backfills(),
    Futures(),
    Reconciliations(),
)


def projection_named(name: str) -> Projection | None:
    """Return the projection of this name, or None."""
    return next((each for each in PROJECTIONS if each.name == name), None)
