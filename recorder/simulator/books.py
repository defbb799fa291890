"""The account's money: what is available, what is reserved, and a ledger that explains all of it.

Every change goes through `Books`: a balance is its first value plus its transactions, to the last
decimal, what is reserved is what open orders need, and nothing is ever negative.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal
from typing import Any

from attrs import define, field, frozen

ZERO = Decimal(0)
#: A currency's code and an amount of it.
Money = tuple[str, Decimal]


@define(eq=False)
class Balance:
    """One currency."""

    updated_at: datetime
    available: Decimal = ZERO
    reserved: Decimal = ZERO

    @property
    def total(self) -> Decimal:
        """Available and reserved together."""
        return self.available + self.reserved


@frozen
class Transaction:
    """One row of the ledger: totals changed by credit, less debit, less fee."""

    transaction_id: str
    kind: str
    at: datetime
    debit: Money | None = None
    credit: Money | None = None
    fee: Money | None = None
    additional: Mapping[str, Any] | None = None

    def change_of(self, currency: str) -> Decimal:
        """Return by how much it changed a currency's total."""
        signed = ((1, self.credit), (-1, self.debit), (-1, self.fee))
        return sum((sign * each[1] for sign, each in signed if each and each[0] == currency), ZERO)


@define(eq=False)
class Books:
    """All currencies, and the transactions that made them."""

    balances: dict[str, Balance]
    ledger: list[Transaction] = field(factory=list)
    _touched: dict[str, None] = field(factory=dict)

    @classmethod
    def opened_with(cls, amounts: Mapping[str, Decimal], now: datetime) -> Books:
        """Return books that hold these amounts."""
        return cls({code: Balance(now, amount) for code, amount in amounts.items()})

    def available(self, currency: str) -> Decimal:
        """Return what can be spent or reserved."""
        held = self.balances.get(currency)
        return ZERO if held is None else held.available

    def reserve(self, currency: str, amount: Decimal, now: datetime) -> bool:
        """Set an amount aside; False, changing nothing, if there isn't enough."""
        if amount > self.available(currency):
            return False
        balance = self._touch(currency, now)
        balance.available -= amount
        balance.reserved += amount
        return True

    def release(self, currency: str, amount: Decimal, now: datetime) -> None:
        """Make a reserved amount available again."""
        balance = self._touch(currency, now)
        assert ZERO <= amount <= balance.reserved, "more released than was reserved"
        balance.reserved -= amount
        balance.available += amount

    def spend(self, currency: str, amount: Decimal, now: datetime) -> None:
        """Take an amount out of what is reserved."""
        balance = self._touch(currency, now)
        assert ZERO <= amount <= balance.reserved, "more spent than was reserved"
        balance.reserved -= amount

    def credit(self, currency: str, amount: Decimal, now: datetime) -> None:
        """Add to what is available."""
        assert amount >= ZERO, "less than nothing credited"
        self._touch(currency, now).available += amount

    def take_touched(self) -> list[str]:
        """Return the currencies changed since the last call, in order of their first change."""
        touched = list(self._touched)
        self._touched.clear()
        return touched

    def _touch(self, currency: str, now: datetime) -> Balance:
        self._touched[currency] = None
        balance = self.balances.setdefault(currency, Balance(now))
        balance.updated_at = now
        return balance
