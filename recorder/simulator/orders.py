"""The orders of the simulated exchange: one of them, and all of them."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from decimal import Decimal
from typing import Any

from attrs import define, field

LIVE = ("Placed", "Partially Filled", "Order Modified")
ZERO = Decimal(0)


@define(eq=False)
class Order:
    """One order. ``held`` is what is reserved for its rest, ``price`` its limit."""

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
    held: Decimal = ZERO
    #: Of all its fills: what was paid or received for them, and the fees.
    turnover: Decimal = ZERO
    fees: Decimal = ZERO
    #: Every state it was in, oldest first, with the members of ORDER_STATUS_UPDATE.
    states: list[dict[str, Any]] = field(factory=list)

    @property
    def executed(self) -> Decimal:
        """What was filled so far."""
        return self.quantity - self.remaining

    @property
    def is_live(self) -> bool:
        """True while it may still be executed. Only then its status may be one of LIVE."""
        return self.status in LIVE

    @property
    def post_only(self) -> bool:
        """True if it may only rest."""
        return self.kind == "post-only limit"


@define(eq=False)
class Orders:
    """All orders ever taken or refused, oldest first."""

    all: dict[str, Order] = field(factory=dict)
    _live: dict[str, Order] = field(factory=dict)

    def add(self, order: Order) -> None:
        """Remember an order."""
        self.all[order.order_id] = self._live[order.order_id] = order

    def live(self) -> list[Order]:
        """Return what may still be executed, oldest first."""
        self._live = {each.order_id: each for each in self._live.values() if each.is_live}
        return list(self._live.values())

    def find_live(self, order_id: str | None, name: str | None) -> Order | None:
        """Return the live order of this id, or else of this customerOrderId."""
        if order_id is not None:
            found = self.all.get(order_id)
            return found if found is not None and found.is_live else None
        return next((each for each in self.live() if each.customer_order_id == name), None)

    def named(self, name: str) -> Iterator[Order]:
        """Give the orders that ever had this customerOrderId, newest first."""
        return (each for each in reversed(self.all.values()) if each.customer_order_id == name)
