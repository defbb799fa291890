"""An account that trades at the simulated exchange, and what its recorder wrote down of it."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterable
from contextlib import suppress
from datetime import datetime
from decimal import Decimal
from typing import Any

from attrs import define, field

from recorder.log.rules.event import Draft, Note, noted
from recorder.simulator.activity import act_at_random
from recorder.simulator.engine import Exchange
from recorder.simulator.frames import Frame, encode
from recorder.simulator.futures import PERPETUALS
from recorder.simulator.requests import Placing
from recorder.timestamps import to_us
from tests.simulator.scene import HandClock, new_exchange

MONEY = ("debit", "credit", "fee")


@define(eq=False)
class Account:
    """The exchange, and the log so far. ``net``: fees are taken off what a record credits."""

    rng: random.Random
    net: bool = False
    exchange: Exchange = field(init=False)
    clock: HandClock = field(init=False)
    log: list[Draft] = field(factory=list)

    def __attrs_post_init__(self) -> None:
        self.clock = HandClock()
        self.exchange = new_exchange(self.rng.randrange(1_000))
        self.exchange = Exchange(self.exchange.config, self.clock, self.rng)
        self.note(Note.RECORDER_STARTED, epoch=1, last_event_at=None)
        self.clock.pass_s(1)
        self.connect()

    def connect(self) -> None:
        """Listen, from now on."""
        self.converse_with(self.exchange.snapshot())
        self.note(Note.SNAPSHOT_COMPLETE, complete=True, balances=True, open_orders=True)

    def note(self, note: Note, **facts: object) -> None:
        at_us, of_line = to_us(self.clock()), note is not Note.RECORDER_STARTED
        self.log.append(noted("main", at_us, note, facts, connection_id="c-1" if of_line else None))

    def converse_with(self, frames: Iterable[Frame]) -> None:
        for each in frames:
            reported = reported_net(each) if self.net else each
            at_us = to_us(self.clock())
            self.log.append(
                Draft("main", at_us, 5, "c-1", "received", reported["type"], encode(reported))
            )

    def live(self, times: int) -> None:
        for _ in range(times):
            self.clock.pass_s(self.rng.choice((0.001, 0.02, 3)))
            self.converse_with(self.act())

    def act(self) -> list[Frame]:
        """Do one thing; return the frames."""
        exchange, rng = self.exchange, self.rng
        does: list[Callable[[], list[Frame]]] = [
            self._order,
            self._fill,
            self._fill,
            lambda: exchange.tick() + act_at_random(exchange),
            lambda: exchange.reward("USDC", self._amount(18)),
            lambda: exchange.deposit("ETH", self._amount(18)),
            lambda: exchange.withdraw("ZAR", self._amount(2)),
            self._future,
        ]
        return rng.choice(does)()

    def _amount(self, places: int) -> Decimal:
        return Decimal(self.rng.randrange(1, 10 ** (places + 1))).scaleb(-places)

    def _order(self) -> list[Frame]:
        side = self.rng.choice(("buy", "sell"))
        price = {"buy": Decimal(1_000_000), "sell": Decimal(1_400_000)}[side]
        quantity = Decimal(self.rng.randrange(100, 900)).scaleb(-6)
        pair = "BTCZAR"
        if self.rng.random() < 0.3:
            self.exchange.trading.place(Placing(pair, side, quote_amount=Decimal(500)))
        else:
            self.exchange.trading.place(Placing(pair, side, quantity, price, time_in_force="GTC"))
        return self.exchange.account.take()

    def rest(self) -> list[Frame]:
        """Place an order that nothing reaches."""
        quantity, price = Decimal("0.001"), Decimal(500_000)
        placing = Placing("BTCZAR", "buy", quantity, price, time_in_force="GTC")
        self.exchange.trading.place(placing)
        return self.exchange.account.take()

    def _fill(self) -> list[Frame]:
        own = self.exchange.open_orders()
        if not own:
            return []
        order = self.rng.choice(own)
        part = min(order.remaining, Decimal(self.rng.randrange(1, 500)).scaleb(-6))
        return self.exchange.fill(order.order_id, part)

    def _future(self) -> list[Frame]:
        with suppress(ValueError):
            self.exchange.futures.trade(
                self.rng.choice(sorted(PERPETUALS)),
                self.rng.choice(("buy", "sell")),
                Decimal(self.rng.randrange(1, 9)) / 10,
                Decimal(self.rng.randrange(1_000, 3_000)) / 100,
            )
        return self.exchange.account.take()

    def moved(self, kind: str, currency: str, since: datetime, until: datetime) -> Decimal:
        """Return what the exchange's own ledger has of a kind: fees different, all before fees."""
        total = Decimal(0)
        for row in self.exchange.account.books.ledger:
            if not since < row.at <= until:
                continue
            for sign, leg in ((-1, "debit"), (1, "credit"), (-1, "fee")):
                money = getattr(row, leg)
                if money and money[0] == currency and kind_of(row.kind, leg) == kind:
                    total += sign * money[1]
        return total


def kind_of(type_: str, leg: str) -> str:
    """Return the kind of what the simulated exchange books, in the words of the test."""
    if leg == "fee" or type_ == "FUTURES_TRADE_FEE":
        return "fee"
    if type_.endswith(("_BUY", "_SELL")):
        return {"credit": "fill_in", "debit": "fill_out"}[leg]
    kinds = {"REBATE": "reward", "RECEIVE": "deposit", "SEND": "withdrawal", "PNL": "pnl"}
    return next(kind for word, kind in kinds.items() if word in type_)


def reported_net(frame: Frame) -> Frame:
    """Return a ledger record with its fee taken off what it credits, as VALR is seen to do."""
    data: Any = frame.get("data")
    if frame["type"] != "NEW_ACCOUNT_HISTORY_RECORD" or "feeValue" not in data:
        return frame
    if data.get("creditCurrency") != data["feeCurrency"]:
        return frame
    credit = Decimal(data["creditValue"]) - Decimal(data["feeValue"])
    return {**frame, "data": {**data, "creditValue": credit}}


def record_of(draft: Draft) -> dict[str, Any]:
    """Return what a ledger frame reports."""
    answer: dict[str, Any] = json.loads(draft.payload)["data"]
    return answer
