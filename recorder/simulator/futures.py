"""Perpetual futures and conditional orders, as far as VALR's frames and lists show them.

One position per pair, which a trade in the same direction makes larger and one in the other makes
smaller, closes, or flips, in VALR's order of frames. The result of what is closed and every fee are
booked at once, in the quote currency, so the ledger explains them like all other money.

What isn't known of VALR is left out: margin is asked for when a position is opened or grown, but
shown nowhere as reserved; there is no funding, no hourly settlement and no liquidation, and prices
that move send no position again. A trade whose loss can't be paid is refused. A conditional order
waits until it is removed by hand, also when its position is closed.
"""

from __future__ import annotations

from datetime import datetime
from decimal import ROUND_HALF_EVEN, Decimal

from attrs import define, field, frozen

from recorder.simulator.account import Account
from recorder.simulator.books import ZERO
from recorder.simulator.frames import Frame, plain, stamp

#: Perpetual → the pair whose price is its mark, and the currency that it is settled in.
PERPETUALS = {"BTCUSDTPERP": ("BTCUSDT", "USDT"), "USDTZARPERP": ("USDTZAR", "ZAR")}
INITIAL_MARGIN = Decimal("0.1")
LEVERAGE_TIER = 10
FEE = Decimal("0.001")
#: An average entry price is rounded to so many places.
AVERAGE = Decimal("1E-10")


@define(eq=False)
class Position:
    """A position that is held, or was. ``realised`` has the fees taken off."""

    position_id: str
    pair: str
    side: str
    created_at: datetime
    updated_at: datetime
    quantity: Decimal = ZERO
    average: Decimal = ZERO
    realised: Decimal = ZERO
    closed_quantity: Decimal = ZERO
    closed_value: Decimal = ZERO
    fees: Decimal = ZERO

    def gain(self, price: Decimal, quantity: Decimal) -> Decimal:
        """Return what closing so much at this price brings, fees different."""
        rise = price - self.average if self.side == "buy" else self.average - price
        return rise * quantity


@frozen
class Reduction:
    """A part of a position that was closed."""

    position: Position
    quantity: Decimal
    price: Decimal
    realised: Decimal
    fee: Decimal
    average: Decimal
    at: datetime


@define(eq=False)
class Conditional:
    """A take-profit or stop-loss order. What isn't given is None."""

    order_id: str
    pair: str
    quantity: Decimal
    take_profit: Decimal | None
    stop_loss: Decimal | None
    position: Position | None
    created_at: datetime
    updated_at: datetime
    status: str = "Placed"


@define(eq=False)
class Futures:
    """The positions and conditional orders of one account."""

    account: Account
    held: dict[str, Position] = field(factory=dict)
    closed: list[Position] = field(factory=list)
    reductions: list[Reduction] = field(factory=list)
    conditionals: dict[str, Conditional] = field(factory=dict)

    # Positions

    def trade(self, pair: str, side: str, quantity: Decimal, price: Decimal | None = None) -> None:
        """Buy or sell a perpetual, at its mark unless a price is given.

        Raises ValueError, changing nothing, if there is no such pair or not enough money.
        """
        if pair not in PERPETUALS:
            raise ValueError(f"pair is one of {', '.join(PERPETUALS)}")
        if quantity <= 0 or (price is not None and price <= 0):
            raise ValueError("quantity and price are above zero")
        at, held_position = self.mark(pair) if price is None else price, self.held.get(pair)
        closing = ZERO
        if held_position is not None and held_position.side != side:
            closing = min(quantity, held_position.quantity)
        self._check(held_position, pair, closing, quantity - closing, at)
        if held_position is not None and closing:
            self._reduce(held_position, closing, at)
        if quantity > closing:
            self._grow(pair, side, quantity - closing, at)
        self.account.send_balances()

    def mark(self, pair: str) -> Decimal:
        """Return a perpetual's price."""
        return self.account.market.prices[PERPETUALS[pair][0]]

    def _check(
        self,
        held_position: Position | None,
        pair: str,
        closing: Decimal,
        opening: Decimal,
        price: Decimal,
    ) -> None:
        gain = ZERO if held_position is None else held_position.gain(price, closing)
        needed = (closing + opening) * price * FEE + opening * price * INITIAL_MARGIN - gain
        if needed > self.account.books.available(PERPETUALS[pair][1]):
            raise ValueError("not enough money for fee, loss and margin")

    def _reduce(self, position: Position, quantity: Decimal, price: Decimal) -> None:
        now, fee = self.account.clock(), quantity * price * FEE
        gain = position.gain(price, quantity)
        position.quantity -= quantity
        position.realised += gain - fee
        position.closed_quantity += quantity
        position.closed_value += quantity * price
        position.fees += fee
        position.updated_at = now
        done = Reduction(position, quantity, price, gain - fee, fee, position.average, now)
        self.reductions.append(done)
        self.account.send({"type": "REDUCE_POSITION", "data": reduction(done)})
        if position.quantity:
            self._report(position)
        else:
            del self.held[position.pair]
            self.closed.append(position)
            ended = {"pair": position.pair, "positionId": position.position_id}
            self.account.send({"type": "POSITION_CLOSED", "data": ended})
        self._settle(position.pair, gain, fee)

    def _grow(self, pair: str, side: str, quantity: Decimal, price: Decimal) -> None:
        now, fee = self.account.clock(), quantity * price * FEE
        position = self.held.get(pair)
        if position is None:
            position = Position(self.account.ids.new(), pair, side, now, now)
            self.held[pair] = position
        value = position.average * position.quantity + price * quantity
        position.quantity += quantity
        position.average = (value / position.quantity).quantize(AVERAGE, ROUND_HALF_EVEN)
        position.realised -= fee
        position.fees += fee
        position.updated_at = now
        self._report(position)
        self._settle(pair, ZERO, fee)

    def _report(self, position: Position) -> None:
        members = open_position(position, self.mark(position.pair))
        self.account.send({"type": "OPEN_POSITION_UPDATE", "data": members})

    def _settle(self, pair: str, gain: Decimal, fee: Decimal) -> None:
        """Book what was won or lost, and the fee. A gain comes first: it may pay the fee."""
        books, now, currency = self.account.books, self.account.clock(), PERPETUALS[pair][1]
        if gain > 0:
            books.credit(currency, gain, now)
            self.account.book("FUTURES_PNL_PROFIT", credit=(currency, gain))
        for kind, amount in (("FUTURES_PNL_LOSS", -gain), ("FUTURES_TRADE_FEE", fee)):
            if amount > 0:
                is_there = books.reserve(currency, amount, now)
                assert is_there, "the check before a trade let through what can't be paid"
                books.spend(currency, amount, now)
                self.account.book(kind, debit=(currency, amount))

    # Conditional orders

    def add_conditional(
        self,
        pair: str,
        quantity: Decimal,
        take_profit: Decimal | None = None,
        stop_loss: Decimal | None = None,
    ) -> None:
        """Place a conditional order. Raises ValueError without a trigger's price."""
        if pair not in PERPETUALS or (take_profit is None and stop_loss is None):
            raise ValueError("a conditional order has a pair, and take_profit or stop_loss")
        now, order_id = self.account.clock(), self.account.ids.new()
        position = self.held.get(pair)
        order = Conditional(order_id, pair, quantity, take_profit, stop_loss, position, now, now)
        self.conditionals[order_id] = order
        self.account.send({"type": "ADD_CONDITIONAL_ORDER", "data": conditional(order)})

    def remove_conditional(self, order_id: str, reason: str = "CANCELLED_BY_USER") -> None:
        """Take a conditional order away. Raises ValueError if it doesn't wait."""
        order = self.conditionals.get(order_id)
        if order is None or order.status != "Placed":
            raise ValueError(f"no conditional order {order_id}")
        order.status, order.updated_at = "Cancelled", self.account.clock()
        members = {"orderId": order_id, "pair": order.pair, "reason": reason}
        self.account.send({"type": "REMOVE_CONDITIONAL_ORDER", "data": members})

    def waiting(self) -> list[Conditional]:
        """Return the conditional orders that wait, oldest first."""
        return [each for each in self.conditionals.values() if each.status == "Placed"]

    # What a connection gets, and lists over REST

    def snapshot(self) -> list[Frame]:
        """Return each position that is held. VALR is not known to name conditional orders."""
        return [
            {"type": "OPEN_POSITION_UPDATE", "data": members} for members in self.open_positions()
        ]

    def open_positions(self) -> list[Frame]:
        """Return the positions that are held."""
        return [open_position(each, self.mark(each.pair)) for each in self.held.values()]


def open_position(position: Position, mark: Decimal) -> Frame:
    """Return a position's members, the same over the WebSocket and over REST."""
    return {
        "pair": position.pair,
        "side": position.side,
        "quantity": plain(position.quantity),
        "realisedPnl": plain(position.realised),
        "totalSessionEntryQuantity": plain(position.quantity),
        "totalSessionValue": plain(position.quantity * position.average),
        "sessionAverageEntryPrice": plain(position.average),
        "averageEntryPrice": plain(position.average),
        "unrealisedPnl": plain(position.gain(mark, position.quantity)),
        "updatedAt": stamp(position.updated_at),
        "createdAt": stamp(position.created_at),
        "positionId": position.position_id,
        "leverageTier": LEVERAGE_TIER,
    }


def reduction(done: Reduction) -> Frame:
    """Return the members of a part that was closed."""
    return {
        "currencyPair": done.position.pair,
        "orderSide": done.position.side,
        "quantity": plain(done.quantity),
        "averageEntryPrice": plain(done.average),
        "closePrice": plain(done.price),
        "realisedPnl": plain(done.realised),
        "closeType": "Trade",
        "createdAt": stamp(done.at),
        "fees": plain(done.fee),
        "positionId": done.position.position_id,
        "initialMarginFractionAtClose": plain(INITIAL_MARGIN),
    }


def summary(position: Position) -> Frame:
    """Return what a closed position came to."""
    average = position.closed_value / position.closed_quantity
    return {
        "currencyPair": position.pair,
        "side": position.side,
        "quantity": plain(position.closed_quantity),
        "averageEntryPrice": plain(position.average),
        "averageClosePrice": plain(average.quantize(AVERAGE, ROUND_HALF_EVEN)),
        "realisedPnl": plain(position.realised),
        "fees": plain(position.fees),
        "positionCreatedAt": stamp(position.created_at),
        "positionId": position.position_id,
    }


def conditional(order: Conditional) -> Frame:
    """Return a conditional order's members, the same over the WebSocket and over REST."""
    held = order.position
    side = "sell" if held is None or held.side == "buy" else "buy"
    both = order.take_profit is not None and order.stop_loss is not None
    members: Frame = {
        "orderId": order.order_id,
        "triggerOrderSide": side,
        "triggerOrderType": "limit-reduce-only",
        "currencyPair": order.pair,
        "createdAt": stamp(order.created_at),
        "updatedAt": stamp(order.updated_at),
        "triggerType": "MARK_PRICE",
        "conditionalType": "OT_OCO"
        if both
        else "TAKE_PROFIT"
        if order.take_profit
        else "STOP_LOSS",
        "quantity": plain(order.quantity),
        "allowMargin": False,
    }
    if held is not None:
        members |= {"positionSide": held.side, "positionId": held.position_id}
    for name, price in (("takeProfit", order.take_profit), ("stopLoss", order.stop_loss)):
        if price is not None:
            members |= {f"{name}TriggerPrice": plain(price), f"{name}PlacePrice": plain(price)}
    return members
