"""The exchange itself: takes requests, matches orders against the market, keeps the books.

Pure: time, dice and ids come from outside, and what is to be sent is returned as frames, in the
order in which VALR sends them: the answer to the request first, then what became of the order, then
the balances it moved, then the full list. Fills come at the market's own prices and, now and then,
in parts.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Mapping
from datetime import datetime
from decimal import Decimal
from typing import Any

from attrs import define, field

from recorder.simulator import frames
from recorder.simulator.books import Books
from recorder.simulator.config import SimulatorConfig
from recorder.simulator.frames import Frame
from recorder.simulator.market import PAIRS, Market
from recorder.simulator.orders import Order
from recorder.simulator.requests import (
    Invalid,
    Placing,
    read_change,
    read_limit,
    read_market,
    read_target,
)

ZERO = Decimal(0)
BATCH_MAX = 20
#: Command → (the answer's type, the answer's type where validation fails in the other manner).
ANSWERS = {
    "PLACE_LIMIT_ORDER": ("PLACE_LIMIT_WS_RESPONSE", "INVALID_PLACE_LIMIT_REQUEST"),
    "PLACE_MARKET_ORDER": ("PLACE_MARKET_WS_RESPONSE", "INVALID_PLACE_MARKET_REQUEST"),
    "CANCEL_LIMIT_ORDER": ("CANCEL_ORDER_WS_RESPONSE", "INVALID_CANCEL_ORDER_REQUEST"),
    "MODIFY_ORDER": ("MODIFY_ORDER_WS_RESPONSE", "INVALID_MODIFY_WS_REQUEST"),
    "BATCH_ORDERS": ("BATCH_ORDERS_WS_RESPONSE", "INVALID_BATCH_ORDERS_REQUEST"),
}


@define
class Exchange:
    """One account at a simulated exchange."""

    config: SimulatorConfig
    now: Callable[[], datetime]
    dice: random.Random
    market: Market = field(init=False)
    books: Books = field(init=False)
    orders: dict[str, Order] = field(factory=dict)
    trades: list[dict[str, Any]] = field(factory=list)
    transfers: list[dict[str, Any]] = field(factory=list)
    #: How often each clientMsgId arrived: what proves that nothing was sent twice.
    received: Counter[str] = field(factory=Counter)
    _out: list[Frame] = field(factory=list)
    _second: tuple[int, int] = (0, 0)

    def __attrs_post_init__(self) -> None:
        """Open the books."""
        self.market = Market(self.dice)
        self.books = Books.opened_with(self.config.balances, self.now())

    # What a connection sees

    def snapshot(self) -> list[Frame]:
        """Return the frames after AUTHENTICATED: each held currency, then all open orders."""
        held = [code for code, each in self.books.balances.items() if each.total]
        return [*map(self._balance, held), frames.open_orders(self.open_orders())]

    def open_orders(self) -> list[Order]:
        """Return the live orders, oldest first."""
        return [order for order in self.orders.values() if is_live(order)]

    def command(self, kind: str, client_msg_id: str | None, payload: object) -> list[Frame]:
        """Carry a command out and return everything that follows from it."""
        if client_msg_id is not None:
            self.received[client_msg_id] += 1
        answer, invalid = ANSWERS[kind]
        if self._is_too_fast():
            data = {"requestType": kind}
            return [frames.response("RATE_LIMIT_EXCEEDED", client_msg_id, data)]
        carry_out = {
            "PLACE_LIMIT_ORDER": self._place_limit,
            "PLACE_MARKET_ORDER": self._place_market,
            "CANCEL_LIMIT_ORDER": self._cancel,
            "MODIFY_ORDER": self._modify,
            "BATCH_ORDERS": self._batch,
        }[kind]
        try:
            if not isinstance(payload, dict):
                raise Invalid([{"field": "payload", "message": "must be an object"}])
            said = carry_out(payload)
        except Invalid as error:
            if self.config.invalid_by == "invalid":
                return [frames.response(invalid, client_msg_id, {"message": str(error)})]
            return [frames.error(answer, client_msg_id, "Invalid Request", error.errors)]
        return [frames.response(answer, client_msg_id, said), *self.take()]

    def take(self) -> list[Frame]:
        """Return what is to be sent now, and forget it."""
        out, self._out = self._out, []
        return out

    # Things that happen by themselves

    def tick(self) -> list[Frame]:
        """Let prices move, and fill what they reach."""
        self.market.move()
        for order in self.open_orders():
            if self._reaches(order):
                self._fill(order, order.price, self._part(order.remaining, order.pair), maker=True)
                self._settle(order)
        return self.take()

    def fill(self, order_id: str, quantity: Decimal, price: Decimal | None = None) -> list[Frame]:
        """Fill a resting order by hand, at its own price or a better one."""
        order = self.orders[order_id]
        self._fill(order, order.price if price is None else price, quantity, maker=True)
        self._settle(order)
        return self.take()

    def deposit(self, currency: str, amount: Decimal, confirmations: int = 2) -> list[Frame]:
        """Receive from a block chain: announced, confirmed step by step, then credited."""
        transaction, at = self.new_hash(), self.now()
        for number in range(confirmations + 1):
            data = {
                "currency": {"id": 1, **frames.currency(currency)},
                "receiveAddress": "0xrecorder",
                "transactionHash": transaction,
                "networkType": currency,
                "amount": float(amount),
                "createdAt": at.strftime("%Y-%m-%dT%H:%M:%SZ"),
                "confirmations": number,
                "confirmed": number == confirmations,
                "indexInTx": 0,
            }
            self._out.append({"type": "NEW_PENDING_RECEIVE", "data": data})
        self.books.credit(currency, amount, at)
        self.transfers.append({"direction": "deposit", "currency": currency, "amount": amount,
                               "hash": transaction, "at": at})  # fmt: skip
        self._book("BLOCKCHAIN_RECEIVE", at, credit=(currency, amount))
        self._balances()
        return self.take()

    def withdraw(self, currency: str, amount: Decimal) -> list[Frame]:
        """Send to a block chain; nothing happens if there isn't enough."""
        at, unique_id = self.now(), self.new_id()
        if not self.books.reserve(currency, amount, at):
            return []
        self.books.spend(currency, amount, at)
        self.transfers.append({"direction": "withdrawal", "currency": currency, "amount": amount,
                               "id": unique_id, "at": at})  # fmt: skip
        self._book("BLOCKCHAIN_SEND", at, debit=(currency, amount))
        self._balances()
        transaction = self.new_hash()
        for number in range(3):
            data = {
                "uniqueId": unique_id,
                "status": "SEND_BROADCASTED" if number < 2 else "CONFIRMED",
                "transactionHash": transaction,
                "confirmations": number,
            }
            self._out.append({"type": "SEND_STATUS_UPDATE", "data": data})
        return self.take()

    def reward(self, currency: str, amount: Decimal) -> list[Frame]:
        """Pay a reward."""
        at = self.now()
        self.books.credit(currency, amount, at)
        self._book("PROMOTIONAL_REBATE", at, credit=(currency, amount))
        self._balances()
        return self.take()

    def new_id(self) -> str:
        """Return an id in the form of a UUID of version 7: time first, then dice."""
        ms = int(self.now().timestamp() * 1000) & (2**48 - 1)
        bits = (ms << 80) | (7 << 76) | (self.dice.getrandbits(12) << 64)
        bits |= (2 << 62) | self.dice.getrandbits(62)
        text = f"{bits:032x}"
        return "-".join((text[:8], text[8:12], text[12:16], text[16:20], text[20:]))

    def new_hash(self) -> str:
        """Return a transaction hash."""
        return f"0x{self.dice.getrandbits(256):064x}"

    # Requests

    def _place_limit(self, payload: Mapping[str, Any]) -> Frame:
        placing = read_limit(payload)
        assert placing.price is not None and placing.quantity is not None
        kind = "post-only limit" if placing.post_only else "limit"
        order = self._new_order(placing, kind, placing.price, placing.quantity)
        wrong = self._refusal(order, placing)
        if wrong:
            self._fail(order, wrong)
        else:
            self._open(order)
        return _answer(order)

    def _place_market(self, payload: Mapping[str, Any]) -> Frame:
        placing = read_market(payload)
        touch = self._touch(placing.pair, placing.side)
        quantity = placing.quantity
        if quantity is None:
            assert placing.quote_amount is not None
            quantity = (placing.quote_amount / touch).quantize(PAIRS[placing.pair].step)
        order = self._new_order(placing, "market", touch, quantity)
        wrong = self._refusal(order, placing)
        if wrong:
            self._fail(order, wrong)
        else:
            self._open(order)
        return _answer(order)

    def _cancel(self, payload: Mapping[str, Any]) -> Frame:
        order_id, name = read_target(payload)
        order = self._find(order_id, name)
        said: Frame = {"requested": True}
        if order_id is not None:
            said["orderId"] = order_id
        if name is not None:
            said["customerOrderId"] = name
        if order is None:
            ids = {key: value for key, value in said.items() if key != "requested"}
            message = "An error occurred while cancelling your order."
            self._out.append({"type": "FAILED_CANCEL_ORDER", "data": ids | {"message": message}})
            return said
        self._end(order, "Cancelled")
        self._settle(order)
        return said

    def _modify(self, payload: Mapping[str, Any]) -> Frame:
        order_id, name = read_target(payload)
        price, remaining, total = read_change(payload)
        order, request_id = self._find(order_id, name), self.new_id()
        said: Frame = {"modifyRequestId": request_id, "requested": True}
        said |= {"orderId": order.order_id} if order else {}
        outcome: Frame = {"success": False, "orderId": order_id, "modifyRequestId": request_id}
        if order is not None:
            outcome |= {"orderId": order.order_id, "customerOrderId": order.customer_order_id}
            rest = remaining if remaining is not None else order.remaining
            rest = total - order.executed if total is not None else rest
            outcome["success"] = self._change(order, price or order.price, rest)
        self._out.append({"type": "MODIFY_ORDER_OUTCOME", "data": outcome})
        if order is not None and outcome["success"]:
            self._tell(order)
            self._settle(order)
        return said

    def _batch(self, payload: Mapping[str, Any]) -> Frame:
        requests = payload.get("requests")
        if not isinstance(requests, list) or not 1 <= len(requests) <= BATCH_MAX:
            raise Invalid([{"field": "requests", "message": f"must be 1 to {BATCH_MAX} requests"}])
        outcomes = [self._one_of_batch(request) for request in requests]
        return {"outcomes": outcomes, "batchId": self.dice.getrandbits(60)}

    def _one_of_batch(self, request: object) -> Frame:
        carry_out = {
            "PLACE_LIMIT": self._place_limit,
            "PLACE_MARKET": self._place_market,
            "CANCEL_ORDER": self._cancel,
            "MODIFY_ORDER": self._modify,
        }
        kind = request.get("type") if isinstance(request, dict) else None
        content = request.get("data") if isinstance(request, dict) else None
        if kind not in carry_out or not isinstance(content, dict):
            problem = {"code": -11, "message": "Invalid Request"}
            return {"accepted": False, "error": problem}
        try:
            said = carry_out[kind](content)
        except Invalid as error:
            return {"accepted": False, "error": {"code": -11, "message": str(error)}}
        ids = {name: said[name] for name in ("orderId", "customerOrderId") if said.get(name)}
        return {"accepted": True, **ids, "requestType": kind}

    # Orders

    def _new_order(self, placing: Placing, kind: str, price: Decimal, quantity: Decimal) -> Order:
        at = self.now()
        order = Order(
            self.new_id(),
            placing.pair,
            placing.side,
            kind,
            price,
            quantity,
            quantity,
            placing.time_in_force,
            at,
            at,
            placing.customer_order_id,
            post_only=placing.post_only,
        )
        self.orders[order.order_id] = order
        return order

    def _refusal(self, order: Order, placing: Placing) -> str:
        """Return why the engine won't take the order; empty if it will. Reserves what it needs."""
        name = order.customer_order_id
        twins = [each for each in self.open_orders() if name and each.customer_order_id == name]
        if any(each is not order for each in twins):
            return "Duplicate customer order id"
        if order.quantity < PAIRS[order.pair].least:
            return "Minimum order size not met"
        touch = self._touch(order.pair, order.side)
        crosses = order.price >= touch if order.side == "buy" else order.price <= touch
        if order.post_only and crosses:
            return "Post only cancelled as it would have matched"
        if placing.time_in_force == "FOK" and not crosses:
            return "Fill or kill cancelled as it would not have matched fully"
        currency, amount = self._needs(order)
        if not self.books.reserve(currency, amount, order.created_at):
            return "Insufficient Balance"
        order.held = amount
        return ""

    def _open(self, order: Order) -> None:
        self._out.append(frames.processed(order))
        touch = self._touch(order.pair, order.side)
        crosses = order.price >= touch if order.side == "buy" else order.price <= touch
        if crosses:
            # The better price is the taker's: somebody rests at the touch.
            self._fill(order, touch, order.remaining, maker=False)
        if is_live(order) and order.time_in_force != "GTC":
            self._end(order, "Cancelled")
        self._settle(order)

    def _fail(self, order: Order, reason: str) -> None:
        order.status, order.reason = "Failed", reason
        self._out.append(frames.processed(order))
        self._tell(order)

    def _change(self, order: Order, price: Decimal, rest: Decimal) -> bool:
        if rest <= ZERO:
            return False
        at = self.now()
        currency, held = self._needs(order)[0], order.held
        self.books.release(currency, held, at)
        old = order.price, order.quantity, order.remaining
        order.quantity, order.remaining = order.executed + rest, rest
        order.price = price
        needed = self._needs(order)[1]
        if not self.books.reserve(currency, needed, at):
            order.price, order.quantity, order.remaining = old
            self.books.reserve(currency, held, at)
            return False
        order.held, order.status, order.updated_at = needed, "Order Modified", at
        return True

    def _end(self, order: Order, status: str) -> None:
        order.status, order.updated_at = status, self.now()
        self.books.release(self._needs(order)[0], order.held, order.updated_at)
        order.held = ZERO
        self._tell(order)

    def _fill(self, order: Order, price: Decimal, quantity: Decimal, *, maker: bool) -> None:
        """Execute a part of an order, exactly: nothing is rounded."""
        pair, at = PAIRS[order.pair], self.now()
        quantity = min(quantity, order.remaining)
        cost = price * quantity
        rate = self.config.maker_fee if maker else self.config.taker_fee
        order.remaining -= quantity
        order.updated_at = at
        order.status = "Filled" if not order.remaining else "Partially Filled"
        if order.side == "buy":
            fee, fee_currency = quantity * rate, pair.base
            still = order.price * order.remaining
            self.books.spend(pair.quote, cost, at)
            self.books.release(pair.quote, order.held - cost - still, at)
            self.books.credit(pair.base, quantity - fee, at)
            moved = {"debit": (pair.quote, cost), "credit": (pair.base, quantity)}
        else:
            fee, fee_currency = cost * rate, pair.quote
            still = order.remaining
            self.books.spend(pair.base, quantity, at)
            self.books.credit(pair.quote, cost - fee, at)
            moved = {"debit": (pair.base, quantity), "credit": (pair.quote, cost)}
        order.held = still
        fill = {
            "id": self.new_id(),
            "order_id": order.order_id,
            "customer_order_id": order.customer_order_id,
            "pair": order.pair,
            "side": order.side,
            "price": price,
            "quantity": quantity,
            "fee": fee,
            "fee_currency": fee_currency,
            "at": at,
        }
        self.trades.append(fill)
        self._out.append(frames.trade(order, fill))
        self._tell(order, (price, quantity, fee))
        verb = "MARKET" if order.kind == "market" else "LIMIT"
        quote_symbol = frames.currency(pair.quote)["symbol"]
        self._book(
            f"{verb}_{order.side.upper()}",
            at,
            **moved,
            fee=(fee_currency, fee),
            additional={
                "costPerCoin": int(price) if price == int(price) else float(price),
                "costPerCoinSymbol": quote_symbol,
                "currencyPairSymbol": order.pair,
                "orderId": order.order_id,
            },
        )

    def _settle(self, order: Order) -> None:
        """Send what an order's change has moved: balances, and the full list."""
        self._balances()
        if order.kind != "market":
            self._out.append(frames.open_orders(self.open_orders()))

    def _tell(self, order: Order, fill: tuple[Decimal, Decimal, Decimal] | None = None) -> None:
        frame = frames.status(order, fill)
        order.events.append(frame["data"])
        self._out.append(frame)

    # Money

    def _book(
        self,
        kind: str,
        at: datetime,
        *,
        debit: tuple[str, Decimal] | None = None,
        credit: tuple[str, Decimal] | None = None,
        fee: tuple[str, Decimal] | None = None,
        additional: Frame | None = None,
    ) -> None:
        """Write a transaction: a balance changes by credit less debit less fee."""
        row: dict[str, Any] = {
            "id": self.new_id(),
            "type": kind,
            "at": at,
            "additional": additional,
        }
        for name, moved in (("debit", debit), ("credit", credit), ("fee", fee)):
            row[f"{name}_currency"], row[f"{name}_value"] = moved or (None, None)
        self.books.ledger.append(row)
        self._out.append(frames.history(row))

    def _balances(self) -> None:
        self._out.extend(map(self._balance, self.books.take_touched()))

    def _balance(self, currency: str) -> Frame:
        rate = self.market.prices.get(f"{currency}ZAR", Decimal(1))
        return frames.balance(currency, self.books.of(currency), rate)

    def _needs(self, order: Order) -> tuple[str, Decimal]:
        pair = PAIRS[order.pair]
        if order.side == "buy":
            return pair.quote, order.price * order.remaining
        return pair.base, order.remaining

    # The market

    def _touch(self, pair: str, side: str) -> Decimal:
        """Return the price at which the other side rests."""
        return self.market.ask(pair) if side == "buy" else self.market.bid(pair)

    def _reaches(self, order: Order) -> bool:
        price = self.market.prices[order.pair]
        return price <= order.price if order.side == "buy" else price >= order.price

    def _part(self, remaining: Decimal, pair: str) -> Decimal:
        """Return how much of it somebody takes: two times in three all, else a part."""
        if self.dice.random() < 2 / 3:
            return remaining
        part = (remaining * self.dice.randint(1, 9) / 10).quantize(PAIRS[pair].step)
        return part or remaining

    def _find(self, order_id: str | None, name: str | None) -> Order | None:
        for order in self.open_orders():
            if order.order_id == order_id or (name and order.customer_order_id == name):
                return order
        return None

    def _is_too_fast(self) -> bool:
        second, count = self._second
        this = int(self.now().timestamp())
        self._second = (this, count + 1 if this == second else 1)
        return self._second[1] > self.config.commands_per_s


def is_live(order: Order) -> bool:
    """Tell whether an order may still be executed."""
    return order.status in ("Placed", "Partially Filled", "Order Modified")


def _answer(order: Order) -> Frame:
    said: Frame = {"orderId": order.order_id}
    if order.customer_order_id:
        said["customerOrderId"] = order.customer_order_id
    return said
