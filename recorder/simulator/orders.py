"""An order of the simulated exchange."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal

from attrs import define, field


@define
class Order:
    """One order, as the engine knows it. ``held`` is what is reserved for its rest."""

    order_id: str
    pair: str
    side: str
    kind: str
    price: Decimal
    quantity: Decimal
    remaining: Decimal
    time_in_force: str
    created_at: datetime
    updated_at: datetime
    customer_order_id: str | None = None
    status: str = "Placed"
    reason: str = ""
    held: Decimal = Decimal(0)
    post_only: bool = False
    #: Every state it was in: (status, at, price, quantity, fee) of each event.
    events: list[dict[str, object]] = field(factory=list)

    @property
    def executed(self) -> Decimal:
        """What was filled so far."""
        return self.quantity - self.remaining
