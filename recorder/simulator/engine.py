"""The exchange itself: takes commands, keeps one account, and returns the frames that follow.

Pure: time and random numbers come from outside, and nothing is sent from here. What a method
returns is to be sent in that order: the answer to the command first, which only one connection
gets, then what became of it, which they all get.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from datetime import datetime
from decimal import Decimal
from typing import Any

from attrs import define, field

from recorder.simulator import frames
from recorder.simulator.account import CONFIRMATIONS, Account, Transfers
from recorder.simulator.books import Books, Ids
from recorder.simulator.config import SimulatorConfig
from recorder.simulator.frames import Frame
from recorder.simulator.futures import Futures
from recorder.simulator.market import Market, Order
from recorder.simulator.requests import (
    Invalid,
    read_change,
    read_limit,
    read_market,
    read_message_id,
    read_target,
)
from recorder.simulator.trading import Trading

BATCH_MAX = 20
#: Command → (its answer, what comes instead where validation fails in the other manner).
ANSWERS = {
    "PLACE_LIMIT_ORDER": ("PLACE_LIMIT_WS_RESPONSE", "INVALID_PLACE_LIMIT_REQUEST"),
    "PLACE_MARKET_ORDER": ("PLACE_MARKET_WS_RESPONSE", "INVALID_PLACE_MARKET_REQUEST"),
    "CANCEL_LIMIT_ORDER": ("CANCEL_ORDER_WS_RESPONSE", "INVALID_CANCEL_ORDER_REQUEST"),
    "MODIFY_ORDER": ("MODIFY_ORDER_WS_RESPONSE", "INVALID_MODIFY_WS_REQUEST"),
    # The names of the batch's answers are not published; these follow the others' pattern.
    "BATCH_ORDERS": ("BATCH_ORDERS_WS_RESPONSE", "INVALID_BATCH_ORDERS_REQUEST"),
}


@define(eq=False)
class Exchange:
    """One account at a simulated exchange."""

    config: SimulatorConfig
    clock: Callable[[], datetime]
    rng: random.Random
    account: Account = field(init=False)
    trading: Trading = field(init=False)
    transfers: Transfers = field(init=False)
    futures: Futures = field(init=False)
    #: How often each clientMsgId arrived: what proves that nothing was sent twice.
    received: Counter[str] = field(factory=Counter, init=False)
    _second: int = field(default=0, init=False)
    _this_second: Counter[str] = field(factory=Counter, init=False)

    def __attrs_post_init__(self) -> None:
        """Open the books."""
        config, clock, rng = self.config, self.clock, self.rng
        market = Market(rng, config.depth)
        books = Books.opened_with(config.balances, clock())
        self.account = Account(clock, rng, market, books, Ids(clock, rng))
        self.trading = Trading(self.account, config.maker_fee, config.taker_fee)
        self.transfers = Transfers(self.account)
        self.futures = Futures(self.account)

    # What a connection gets

    def snapshot(self) -> list[Frame]:
        """Return what follows AUTHENTICATED: held currencies, open positions, all open orders."""
        held = [code for code, each in self.account.books.balances.items() if each.total]
        orders = frames.open_orders(self.open_orders())
        return [*map(self.account.balance, held), *self.futures.snapshot(), orders]

    def open_orders(self) -> list[Order]:
        """Return the live orders, oldest first."""
        return self.trading.orders.live()

    def command(self, frame: Frame) -> list[Frame]:
        """Carry a command out; return its answer and then everything that follows from it.

        The frame's ``type`` is one of `ANSWERS`.
        """
        kind: str = frame["type"]
        try:
            client_msg_id = read_message_id(frame)
        except Invalid as error:
            return [self._turned_down(kind, None, error)]
        if client_msg_id is not None:
            self.received[client_msg_id] += 1
        if self._is_too_fast(kind):
            return [frames.answer("RATE_LIMIT_EXCEEDED", client_msg_id, {"requestType": kind})]
        try:
            members = self._carry_out(kind, frame.get("payload"))
        except Invalid as error:
            return [self._turned_down(kind, client_msg_id, error), *self.account.take()]
        return [frames.answer(ANSWERS[kind][0], client_msg_id, members), *self.account.take()]

    def acknowledge_only(self, frame: Frame) -> list[Frame]:
        """Answer a command as if all were well, and lose it: what a failing engine may do."""
        try:
            client_msg_id = read_message_id(frame)
        except Invalid as error:
            return [self._turned_down(frame["type"], None, error)]
        if client_msg_id is not None:
            self.received[client_msg_id] += 1
        members = {"orderId": self.account.ids.new()}
        return [frames.answer(ANSWERS[frame["type"]][0], client_msg_id, members)]

    # What happens by itself

    def tick(self) -> list[Frame]:
        """Let prices move, fill what they reach, and let transfers be confirmed."""
        self.account.market.move()
        self.trading.fill_reached()
        self.transfers.confirm()
        return self.account.take()

    def fill(self, order_id: str, quantity: Decimal, price: Decimal | None = None) -> list[Frame]:
        """Fill a part of a live order by hand, at its own price or a better one.

        Raises ValueError if there is no such order, or if it can't be filled so.
        """
        order = self.trading.orders.find_live(order_id, None)
        if order is None:
            raise ValueError(f"no live order {order_id}")
        at = order.price if price is None else price
        is_worse = at > order.price if order.side == "buy" else at < order.price
        if is_worse or not 0 < quantity <= order.remaining:
            raise ValueError(f"can't fill {quantity} of {order.remaining} at {at}")
        self.trading.fill(order, quantity, at)
        return self.account.take()

    def cancel_all(self) -> list[Frame]:
        """Cancel every live order."""
        for order in self.open_orders():
            self.trading.cancel(order)
        return self.account.take()

    def deposit(self, currency: str, amount: Decimal, needed: int = CONFIRMATIONS) -> list[Frame]:
        """Announce a deposit; `tick` confirms it and, after ``needed`` times, it is credited."""
        self.transfers.deposit(currency, amount, needed)
        return self.account.take()

    def withdraw(self, currency: str, amount: Decimal) -> list[Frame]:
        """Withdraw; nothing happens if there isn't enough."""
        self.transfers.withdraw(currency, amount)
        return self.account.take()

    def reward(self, currency: str, amount: Decimal) -> list[Frame]:
        """Pay a reward."""
        self.transfers.reward(currency, amount)
        return self.account.take()

    # Commands

    def _carry_out(self, kind: str, payload: object) -> Frame:
        """Return the answer's members; what follows waits in the account. Raises Invalid."""
        steps: dict[str, Callable[[object], Frame]] = {
            "PLACE_LIMIT_ORDER": self._place_limit,
            "PLACE_MARKET_ORDER": self._place_market,
            "CANCEL_LIMIT_ORDER": self._cancel,
            "MODIFY_ORDER": self._modify,
            "BATCH_ORDERS": self._batch,
        }
        return steps[kind](payload)

    def _turned_down(self, kind: str, client_msg_id: str | None, error: Invalid) -> Frame:
        answer, invalid = ANSWERS[kind]
        if self.config.invalid_by == "invalid":
            return frames.answer(invalid, client_msg_id, {"message": str(error)})
        return frames.error(answer, client_msg_id, error.errors)

    def _place_limit(self, payload: object) -> Frame:
        return _ids(self.trading.place(read_limit(payload)))

    def _place_market(self, payload: object) -> Frame:
        return _ids(self.trading.place(read_market(payload)))

    def _cancel(self, payload: object) -> Frame:
        target = read_target(payload)
        order = self.trading.orders.find_live(target.order_id, target.customer_order_id)
        if order is not None:
            self.trading.cancel(order)
        else:
            message = "An error occurred while cancelling your order."
            members = {**target.members(), "message": message}
            self.account.send({"type": "FAILED_CANCEL_ORDER", "data": members})
        # The answer names the order as the request did: no orderId where that gave a name.
        return {"requested": True, **target.members()}

    def _modify(self, payload: object) -> Frame:
        change = read_change(payload)
        target, request_id = change.target, self.account.ids.new()
        order = self.trading.orders.find_live(target.order_id, target.customer_order_id)
        named = target.members() if order is None else _ids(order)
        outcome: Frame = {"success": False, **named, "modifyRequestId": request_id}
        self.account.send({"type": "MODIFY_ORDER_OUTCOME", "data": outcome})
        # The outcome goes first, and is known last.
        outcome["success"] = order is not None and self.trading.modify(order, change)
        return {"modifyRequestId": request_id, "requested": True, **named}

    def _batch(self, payload: object) -> Frame:
        requests = payload.get("requests") if isinstance(payload, dict) else None
        if not isinstance(requests, list) or not 1 <= len(requests) <= BATCH_MAX:
            raise Invalid([{"field": "requests", "message": f"must be 1 to {BATCH_MAX} requests"}])
        outcomes = [self._one_of_batch(request) for request in requests]
        return {"outcomes": outcomes, "batchId": self.account.ids.new_number()}

    def _one_of_batch(self, request: Any) -> Frame:
        steps: dict[str, Callable[[object], Frame]] = {
            "PLACE_LIMIT": self._place_limit,
            "PLACE_MARKET": self._place_market,
            "CANCEL_ORDER": self._cancel,
            "MODIFY_ORDER": self._modify,
        }
        kind = request.get("type") if isinstance(request, dict) else None
        if not isinstance(kind, str) or kind not in steps:
            return {"accepted": False, "error": {"code": -11, "message": "Invalid Request"}}
        try:
            members = steps[kind](request.get("data"))
        except Invalid as error:
            return {"accepted": False, "error": {"code": -11, "message": str(error)}}
        ids: Frame = {
            name: members[name] for name in ("orderId", "customerOrderId") if name in members
        }
        return {"accepted": True, **ids, "requestType": kind}

    def _is_too_fast(self, kind: str) -> bool:
        second = int(self.clock().timestamp())
        if second != self._second:
            self._second = second
            self._this_second.clear()
        self._this_second[kind] += 1
        return self._this_second[kind] > self.config.rates_per_s.get(kind, 0)


def _ids(order: Order) -> Frame:
    """Return the members that name an order."""
    named = {"orderId": order.order_id, "customerOrderId": order.customer_order_id}
    return {name: value for name, value in named.items() if value is not None}
