"""What the exchange remembers beside orders and money: trades, deposits, withdrawals."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal

from attrs import define, frozen


@frozen
class Trade:
    """One fill of one order."""

    trade_id: str
    sequence: int
    order_id: str
    customer_order_id: str | None
    pair: str
    side: str
    price: Decimal
    quantity: Decimal
    fee: Decimal
    fee_currency: str
    at: datetime


@define(eq=False)
class Deposit:
    """A transfer from a block chain, credited with its last confirmation."""

    currency: str
    amount: Decimal
    address: str
    transaction_hash: str
    created_at: datetime
    needed: int
    confirmations: int = 0
    confirmed_at: datetime | None = None


@define(eq=False)
class Withdrawal:
    """A transfer to a block chain, debited when it is asked for."""

    unique_id: str
    currency: str
    amount: Decimal
    address: str
    transaction_hash: str
    created_at: datetime
    needed: int
    confirmations: int = 0
    confirmed_at: datetime | None = None

    @property
    def is_complete(self) -> bool:
        """True once the block chain has confirmed it often enough."""
        return self.confirmed_at is not None
