"""The account's money: what is available, what is reserved, and a ledger that explains all of it.

Every change goes through `Books`, so balances always equal their first values plus the ledger, to
the last decimal, and nothing is ever negative.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal
from typing import Any

from attrs import define, field

ZERO = Decimal(0)


@define
class Balance:
    """One currency."""

    available: Decimal = ZERO
    reserved: Decimal = ZERO
    updated_at: datetime | None = None

    @property
    def total(self) -> Decimal:
        """Available and reserved together."""
        return self.available + self.reserved


@define
class Books:
    """All currencies, and the transactions that made them."""

    balances: dict[str, Balance] = field(factory=dict)
    ledger: list[dict[str, Any]] = field(factory=list)
    touched: dict[str, None] = field(factory=dict)

    @classmethod
    def opened_with(cls, amounts: Mapping[str, Decimal], now: datetime) -> Books:
        """Return books that hold these amounts."""
        return cls({code: Balance(amount, ZERO, now) for code, amount in amounts.items()})

    def of(self, currency: str) -> Balance:
        """Return the balance of a currency, held or not."""
        return self.balances.setdefault(currency, Balance())

    def reserve(self, currency: str, amount: Decimal, now: datetime) -> bool:
        """Set an amount aside; False, changing nothing, if there isn't enough."""
        balance = self.of(currency)
        if amount > balance.available:
            return False
        balance.available -= amount
        balance.reserved += amount
        self._touch(currency, now)
        return True

    def release(self, currency: str, amount: Decimal, now: datetime) -> None:
        """Make a reserved amount available again."""
        balance = self.of(currency)
        assert ZERO <= amount <= balance.reserved, "more released than was reserved"
        balance.reserved -= amount
        balance.available += amount
        self._touch(currency, now)

    def spend(self, currency: str, amount: Decimal, now: datetime) -> None:
        """Take an amount out of what is reserved."""
        balance = self.of(currency)
        assert ZERO <= amount <= balance.reserved, "more spent than was reserved"
        balance.reserved -= amount
        self._touch(currency, now)

    def credit(self, currency: str, amount: Decimal, now: datetime) -> None:
        """Add to what is available."""
        assert amount >= ZERO
        self.of(currency).available += amount
        self._touch(currency, now)

    def take_touched(self) -> list[str]:
        """Return the currencies changed since the last call, in order of their first change."""
        touched = list(self.touched)
        self.touched.clear()
        return touched

    def _touch(self, currency: str, now: datetime) -> None:
        self.of(currency).updated_at = now
        self.touched[currency] = None
