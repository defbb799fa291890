"""What trading and transfers share: the books, the market's prices, and the frames to be sent."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from datetime import datetime
from decimal import Decimal
from typing import Any

from attrs import define, field

from recorder.simulator import frames
from recorder.simulator.books import Books, Deposit, Ids, Money, Transaction, Withdrawal
from recorder.simulator.frames import Frame
from recorder.simulator.market import Market


@define(eq=False)
class Account:
    """The account, and what is to be reported about it."""

    clock: Callable[[], datetime]
    rng: random.Random
    market: Market
    books: Books
    ids: Ids
    unsent: list[Frame] = field(factory=list)

    def send(self, frame: Frame) -> None:
        """Send a frame after those that wait already."""
        self.unsent.append(frame)

    def take(self) -> list[Frame]:
        """Return what is to be sent now, and forget it."""
        unsent, self.unsent = self.unsent, []
        return unsent

    def book(
        self,
        kind: str,
        *,
        debit: Money | None = None,
        credit: Money | None = None,
        fee: Money | None = None,
        additional: Mapping[str, Any] | None = None,
    ) -> None:
        """Write a transaction into the ledger and send it. The caller moves the money."""
        row = Transaction(self.ids.new(), kind, self.clock(), debit, credit, fee, additional)
        self.books.ledger.append(row)
        self.send(frames.history(row))

    def balance(self, currency: str) -> Frame:
        """Return a currency's BALANCE_UPDATE."""
        held = self.books.balances[currency]
        return frames.balance(currency, held, self.market.in_rand(currency))

    def send_balances(self) -> None:
        """Report every balance that changed since the last time."""
        self.unsent.extend(map(self.balance, self.books.take_touched()))


#: What each block chain wants; VALR's figures differ from chain to chain.
CONFIRMATIONS = 2


@define(eq=False)
class Transfers:
    """The transfers of one account."""

    account: Account
    deposits: list[Deposit] = field(factory=list)
    withdrawals: list[Withdrawal] = field(factory=list)

    def deposit(self, currency: str, amount: Decimal, needed: int = CONFIRMATIONS) -> None:
        """Announce a deposit; with ``needed`` 0 it is credited at once."""
        ids = self.account.ids
        deposit = Deposit(
            currency=currency,
            amount=amount,
            address=ids.new_hash()[:42],
            transaction_hash=ids.new_hash(),
            created_at=self.account.clock(),
            needed=needed,
        )
        self.deposits.append(deposit)
        self._look_at(deposit)

    def withdraw(self, currency: str, amount: Decimal, needed: int = CONFIRMATIONS) -> bool:
        """Send money away; False, changing nothing, if there isn't enough."""
        at, ids = self.account.clock(), self.account.ids
        if not self.account.books.reserve(currency, amount, at):
            return False
        self.account.books.spend(currency, amount, at)
        withdrawal = Withdrawal(
            unique_id=ids.new(),
            currency=currency,
            amount=amount,
            address=ids.new_hash()[:42],
            transaction_hash=ids.new_hash(),
            created_at=at,
            needed=needed,
        )
        self.withdrawals.append(withdrawal)
        self.account.send(frames.pending_send(withdrawal))
        self.account.book("BLOCKCHAIN_SEND", debit=(currency, amount))
        self.account.send_balances()
        self.account.send(frames.send_status(withdrawal))
        return True

    def reward(self, currency: str, amount: Decimal) -> None:
        """Pay a reward."""
        self.account.books.credit(currency, amount, self.account.clock())
        self.account.book("PROMOTIONAL_REBATE", credit=(currency, amount))
        self.account.send_balances()

    def confirm(self) -> None:
        """Let every transfer that is under way get one confirmation more."""
        for deposit in self.deposits:
            if deposit.confirmed_at is None:
                deposit.confirmations += 1
                self._look_at(deposit)
        for withdrawal in self.withdrawals:
            if withdrawal.confirmed_at is None:
                withdrawal.confirmations += 1
                if withdrawal.confirmations >= withdrawal.needed:
                    withdrawal.confirmed_at = self.account.clock()
                self.account.send(frames.send_status(withdrawal))

    def _look_at(self, deposit: Deposit) -> None:
        if deposit.confirmations >= deposit.needed:
            deposit.confirmed_at = self.account.clock()
        self.account.send(frames.pending_receive(deposit))
        if deposit.confirmed_at is not None:
            money = deposit.currency, deposit.amount
            self.account.books.credit(*money, deposit.confirmed_at)
            self.account.book("BLOCKCHAIN_RECEIVE", credit=money)
            self.account.send_balances()
