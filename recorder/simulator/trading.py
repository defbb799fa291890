"""Take orders, match them against the market, and send what became of them.

The order of frames is VALR's: whether the engine took the order, then its fills (trade, status,
transaction), then the balances that moved and the full list of open orders. A post-only order that
comes to rest gets no status of its own, as seen at VALR in 2026; other limit orders get "Placed".
"""

from __future__ import annotations

from decimal import Decimal

from attrs import define, field

from recorder.simulator import frames
from recorder.simulator.account import Account
from recorder.simulator.books import Money, Trade
from recorder.simulator.market import PAIRS, ZERO, Order, Orders
from recorder.simulator.requests import Change, Placing


@define(eq=False)
class Trading:
    """The matching engine of one account. Fees are fractions of what is received."""

    account: Account
    maker_fee: Decimal
    taker_fee: Decimal
    orders: Orders = field(factory=Orders)
    trades: list[Trade] = field(factory=list)

    def place(self, placing: Placing) -> Order:
        """Take an order, or refuse it; the returned order shows which."""
        order = self._new_order(placing)
        order.reason = self._refusal(order)
        if order.reason:
            order.status = "Failed"
            self.account.send(frames.processed(order))
            self._enter(order)
            return order
        self.account.send(frames.processed(order))
        if self._crosses(order, order.price):
            self._take(order)
        else:
            self._enter(order, is_reported=not order.post_only)
            self._send_open_orders()
        self.account.send_balances()
        return order

    def cancel(self, order: Order) -> None:
        """Take a live order off the market."""
        self._end(order, "Cancelled")
        self._settle()

    def modify(self, order: Order, change: Change) -> bool:
        """Change a live order's price, rest or both; False if it stays as it was, or is ended."""
        price = order.price if change.price is None else change.price
        rest = order.remaining if change.remaining is None else change.remaining
        if change.total is not None:
            rest = change.total - order.executed
        if rest < PAIRS[order.pair].least:
            return False
        if self._crosses(order, price):
            if change.strategy == "CANCEL_ORIGINAL":
                self.cancel(order)
            if change.strategy != "REPRICE":
                return False
            price = self._beside_touch(order)
        if not self._reserve_again(order, price, rest):
            return False
        order.status, order.updated_at = "Order Modified", self.account.clock()
        self._enter(order)
        self._settle()
        return True

    def fill(self, order: Order, quantity: Decimal, price: Decimal) -> None:
        """Let the market take a part of a resting order at its price or a better one."""
        self._execute(order, price, quantity, self.maker_fee)
        self._settle()

    def fill_reached(self) -> None:
        """Fill, whole or in part, the orders that the market's price has come to."""
        market = self.account.market
        for order in self.orders.live():
            if market.reaches(order.pair, order.side, order.price):
                self.fill(order, market.part(order.pair, order.remaining), order.price)

    # Taking orders

    def _new_order(self, placing: Placing) -> Order:
        at, market = self.account.clock(), self.account.market
        price = placing.price or market.touch(placing.pair, placing.side)
        quantity = placing.quantity
        if quantity is None:
            assert placing.quote_amount is not None
            quantity = market.bought_for(placing.pair, placing.side, placing.quote_amount)
        order = Order(
            order_id=self.account.ids.new(),
            pair=placing.pair,
            side=placing.side,
            kind=placing.kind,
            price=price,
            quantity=quantity,
            remaining=quantity,
            time_in_force=placing.time_in_force,
            created_at=at,
            updated_at=at,
            customer_order_id=placing.customer_order_id,
        )
        self.orders.add(order)
        return order

    def _refusal(self, order: Order) -> str:
        """Return why the engine won't take the order, or reserve what it needs: empty."""
        name, market = order.customer_order_id, self.account.market
        twins = (each for each in self.orders.live() if each is not order)
        if name is not None and any(each.customer_order_id == name for each in twins):
            return "Duplicate customer order id"
        if order.quantity < PAIRS[order.pair].least:
            return "Minimum order size not met"
        crosses = self._crosses(order, order.price)
        if order.post_only and crosses:
            return "Post only cancelled as it would have matched"
        is_whole = crosses and order.quantity <= market.takable(order.pair)
        if order.time_in_force == "FOK" and not is_whole:
            return "Fill or kill cancelled as it would not have matched fully"
        currency, needed = _needs(order, order.price, order.remaining)
        if not self.account.books.reserve(currency, needed, order.created_at):
            return "Insufficient Balance"
        order.held = needed
        return ""

    def _take(self, order: Order) -> None:
        """Execute what the market has at the touch; the rest rests or ends, by its terms."""
        market = self.account.market
        quantity = min(order.remaining, market.takable(order.pair))
        self._execute(order, market.touch(order.pair, order.side), quantity, self.taker_fee)
        if order.is_live and order.kind == "market":
            self._end(order, "Partially Filled and Cancelled Due To Slippage")
        elif order.is_live and order.time_in_force == "IOC":
            self._end(order, "Cancelled")
        if order.is_live:
            self._send_open_orders()

    def _execute(self, order: Order, price: Decimal, quantity: Decimal, rate: Decimal) -> None:
        """Execute a part of an order, exactly: nothing is rounded."""
        at, books, pair = self.account.clock(), self.account.books, PAIRS[order.pair]
        assert ZERO < quantity <= order.remaining, "more filled than was left"
        given, got = (pair.base, quantity), (pair.quote, price * quantity)
        if order.side == "buy":
            given, got = got, given
        fee = got[0], got[1] * rate
        order.remaining -= quantity
        order.updated_at = at
        order.turnover += price * quantity
        order.fees += fee[1]
        order.status = "Partially Filled" if order.remaining else "Filled"
        still_held = _needs(order, order.price, order.remaining)[1]
        books.spend(*given, at)
        # A price better than the order's own leaves something over.
        books.release(given[0], order.held - given[1] - still_held, at)
        books.credit(got[0], got[1] - fee[1], at)
        order.held = still_held
        self._send_trade(order, price, quantity, fee)
        verb = "MARKET" if order.kind == "market" else "LIMIT"
        self.account.book(
            f"{verb}_{order.side.upper()}",
            debit=given,
            credit=got,
            fee=fee,
            additional={
                "costPerCoin": price,
                "costPerCoinSymbol": frames.symbol(pair.quote),
                "currencyPairSymbol": order.pair,
                "orderId": order.order_id,
            },
        )

    def _send_trade(self, order: Order, price: Decimal, quantity: Decimal, fee: Money) -> None:
        trade = Trade(
            trade_id=self.account.ids.new(),
            sequence=self.account.ids.new_number(),
            order_id=order.order_id,
            customer_order_id=order.customer_order_id,
            pair=order.pair,
            side=order.side,
            price=price,
            quantity=quantity,
            fee=fee[1],
            fee_currency=fee[0],
            at=order.updated_at,
        )
        self.trades.append(trade)
        self.account.send(frames.trade(trade))
        self._enter(order, trade)

    # Changing orders

    def _reserve_again(self, order: Order, price: Decimal, rest: Decimal) -> bool:
        """Give an order another price and rest, with the money for them; False if there is none."""
        at, books = self.account.clock(), self.account.books
        currency, needed = _needs(order, price, rest)
        if needed - order.held > books.available(currency):
            return False
        books.release(currency, order.held, at)
        assert books.reserve(currency, needed, at), "there was enough a moment ago"
        order.price, order.quantity, order.remaining = price, order.executed + rest, rest
        order.held = needed
        return True

    def _end(self, order: Order, status: str) -> None:
        order.status, order.updated_at = status, self.account.clock()
        currency = _needs(order, order.price, order.remaining)[0]
        self.account.books.release(currency, order.held, order.updated_at)
        order.held = ZERO
        self._enter(order)

    def _enter(self, order: Order, trade: Trade | None = None, *, is_reported: bool = True) -> None:
        """Enter an order's state into its history, and send it."""
        frame = frames.status(order, trade)
        order.states.append(frame["data"])
        if is_reported:
            self.account.send(frame)

    def _settle(self) -> None:
        self.account.send_balances()
        self._send_open_orders()

    def _send_open_orders(self) -> None:
        self.account.send(frames.open_orders(self.orders.live()))

    def _crosses(self, order: Order, price: Decimal) -> bool:
        return self.account.market.crosses(order.pair, order.side, price)

    def _beside_touch(self, order: Order) -> Decimal:
        """Return the best price at which the order still rests."""
        touch, tick = self.account.market.touch(order.pair, order.side), PAIRS[order.pair].tick
        return touch - tick if order.side == "buy" else touch + tick


def _needs(order: Order, price: Decimal, quantity: Decimal) -> Money:
    """Return what has to be reserved for so much of an order."""
    pair = PAIRS[order.pair]
    if order.side == "buy":
        return pair.quote, price * quantity
    return pair.base, quantity
