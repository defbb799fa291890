"""Deposits, withdrawals and rewards: money that comes and goes without a trade.

A deposit is announced at once, announced again with each confirmation, and credited with the last.
A withdrawal is debited at once, and its status told with each confirmation.
"""

from __future__ import annotations

from decimal import Decimal

from attrs import define, field

from recorder.simulator import frames
from recorder.simulator.account import Account
from recorder.simulator.records import Deposit, Withdrawal

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
        self.account.say(frames.pending_send(withdrawal))
        self.account.book("BLOCKCHAIN_SEND", debit=(currency, amount))
        self.account.say_balances()
        self.account.say(frames.send_status(withdrawal))
        return True

    def reward(self, currency: str, amount: Decimal) -> None:
        """Pay a reward."""
        self.account.books.credit(currency, amount, self.account.clock())
        self.account.book("PROMOTIONAL_REBATE", credit=(currency, amount))
        self.account.say_balances()

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
                self.account.say(frames.send_status(withdrawal))

    def _look_at(self, deposit: Deposit) -> None:
        if deposit.confirmations >= deposit.needed:
            deposit.confirmed_at = self.account.clock()
        self.account.say(frames.pending_receive(deposit))
        if deposit.confirmed_at is not None:
            money = deposit.currency, deposit.amount
            self.account.books.credit(*money, deposit.confirmed_at)
            self.account.book("BLOCKCHAIN_RECEIVE", credit=money)
            self.account.say_balances()
