"""What trading and transfers share: the books, the market's prices, and the frames to be sent."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

from attrs import define, field

from recorder.simulator import frames
from recorder.simulator.books import Books, Money, Transaction
from recorder.simulator.frames import Frame
from recorder.simulator.ids import Ids
from recorder.simulator.market import Market


@define(eq=False)
class Account:
    """The account, and what is to be said about it."""

    clock: Callable[[], datetime]
    dice: random.Random
    market: Market
    books: Books
    ids: Ids
    unsaid: list[Frame] = field(factory=list)

    def say(self, frame: Frame) -> None:
        """Send a frame after those that wait already."""
        self.unsaid.append(frame)

    def take(self) -> list[Frame]:
        """Return what is to be sent now, and forget it."""
        unsaid, self.unsaid = self.unsaid, []
        return unsaid

    def book(
        self,
        kind: str,
        *,
        debit: Money | None = None,
        credit: Money | None = None,
        fee: Money | None = None,
        additional: Mapping[str, Any] | None = None,
    ) -> None:
        """Write a transaction into the ledger and tell it. Moving the money is the caller's."""
        row = Transaction(self.ids.new(), kind, self.clock(), debit, credit, fee, additional)
        self.books.ledger.append(row)
        self.say(frames.history(row))

    def balance(self, currency: str) -> Frame:
        """Return a currency's BALANCE_UPDATE."""
        held = self.books.balances[currency]
        return frames.balance(currency, held, self.market.in_rand(currency))

    def say_balances(self) -> None:
        """Tell every balance that changed since the last time."""
        self.unsaid.extend(map(self.balance, self.books.take_touched()))
