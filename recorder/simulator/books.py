"""The account's money: what is available, what is reserved, and a ledger that explains all of it.

Every change goes through `Books`: a balance is its first value plus its transactions, to the last
decimal, what is reserved is what open orders need, and nothing is ever negative.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from datetime import datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

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


@define(eq=False)
class Ids:
    """Makes ids in the form of UUIDs of version 7: milliseconds first, then random bits."""

    clock: Callable[[], datetime]
    rng: random.Random

    def new(self) -> str:
        """Return an order's, trade's or transaction's id."""
        ms = int(self.clock().timestamp() * 1000) & (2**48 - 1)
        version, variant = 7 << 76, 2 << 62
        low, high = self.rng.getrandbits(62), self.rng.getrandbits(12)
        return str(UUID(int=ms << 80 | version | high << 64 | variant | low))

    def new_hash(self) -> str:
        """Return the hash of a transaction on a block chain."""
        return f"0x{self.rng.getrandbits(256):064x}"

    def new_number(self) -> int:
        """Return a number too large for a double, as VALR's batch and sequence ids are."""
        return 2**60 + self.rng.getrandbits(59)
