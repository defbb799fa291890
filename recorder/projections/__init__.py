"""Projections: folds of the log into the tables that people and programs query.

Guarantees: the same events give the same rows, however they are cut into batches; rows and
checkpoint are one transaction; an event that cannot be folded is noted and passed.

Begin with `rules.fold` (what a projection is) and one of the modules beside it. `PROJECTIONS` below
is the registry. `tasks.projector` runs them, `sql.tables` reads and writes their rows.
"""

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
