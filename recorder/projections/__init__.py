"""Projections: folds of the log into tables that a person can query. Pure."""

from __future__ import annotations

from recorder.projections.rules.backfills import BACKFILLS
from recorder.projections.rules.balances import Balances
from recorder.projections.rules.connections import CONNECTIONS
from recorder.projections.rules.fold import Projection
from recorder.projections.rules.futures import Futures
from recorder.projections.rules.ledger import Ledger
from recorder.projections.rules.open_orders import OpenOrders
from recorder.projections.rules.orders import Orders
from recorder.projections.rules.reconciliations import RECONCILIATIONS
from recorder.projections.rules.trades import Trades
from recorder.projections.rules.transfers import Transfers

PROJECTIONS: tuple[Projection, ...] = (
    Balances(),
    OpenOrders(),
    Orders(),
    Trades(),
    Ledger(),
    Transfers(),
    CONNECTIONS,
    BACKFILLS,
    Futures(),
    RECONCILIATIONS,
)


def projection_named(name: str) -> Projection | None:
    """Return the projection of this name, or None."""
    return next((each for each in PROJECTIONS if each.name == name), None)
