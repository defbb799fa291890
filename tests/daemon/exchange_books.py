"""The simulated exchange's own books, and the recorder's tables, in the same words."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from recorder.simulator import Simulator
from tests.daemon.scene import Books

Rows = Counter[tuple[Any, ...]]


def exact(value: Any) -> Decimal | None:
    """Return an amount as the exact number that it is, on either database."""
    return None if value is None else Decimal(value)


def moment(value: Any) -> datetime:
    """Return a time of either database."""
    if isinstance(value, str):
        return datetime.fromisoformat(value).replace(tzinfo=UTC)
    reported: datetime = value.astimezone(UTC)
    return reported


def true_trades(simulator: Simulator) -> Rows:
    return Counter(
        (
            *(each.trade_id, each.order_id, each.pair, each.side, each.price, each.quantity),
            *(each.fee, each.fee_currency, each.at),
        )
        for each in simulator.exchange.trading.trades
    )


def reported_trades(books: Books) -> Rows:
    asked = (
        "SELECT trade_id, order_id, pair, side, price, quantity, fee, fee_currency, traded_at"
        " FROM trades"
    )
    return Counter(
        (*names, exact(price), exact(quantity), exact(fee), currency, moment(at))
        for *names, price, quantity, fee, currency, at in books.ask(asked)
    )


def true_ledger(simulator: Simulator) -> Rows:
    return Counter(
        (row.transaction_id, row.kind, row.debit, row.credit, row.fee, row.at)
        for row in simulator.exchange.account.books.ledger
    )


def reported_ledger(books: Books) -> Rows:
    asked = (
        "SELECT transaction_id, type, debit_currency, debit_value, credit_currency, credit_value,"
        " fee_currency, fee_value, event_at FROM ledger"
    )

    def money(currency: Any, value: Any) -> tuple[Any, ...] | None:
        return None if currency is None else (currency, exact(value))

    return Counter(
        (*named, money(*reported[:2]), money(*reported[2:4]), money(*reported[4:]), moment(at))
        for *named_and_reported, at in books.ask(asked)
        for named, reported in [(named_and_reported[:2], named_and_reported[2:])]
    )


#: The exchange's words, and ours.
STATES = {
    "Placed": "open",
    "Order Modified": "open",
    "Partially Filled": "partially_filled",
    "Filled": "filled",
    "Cancelled": "cancelled",
    "Failed": "failed",
    "Partially Filled and Cancelled Due To Slippage": "cancelled",
}


def true_orders(simulator: Simulator) -> Rows:
    found: Rows = Counter()
    for order in simulator.exchange.trading.orders.all.values():
        is_modified = order.status == "Order Modified" and order.executed
        state = "partially_filled" if is_modified else STATES[order.status]
        average = (order.turnover / order.executed) if order.executed else None
        names = (order.order_id, order.pair, order.side, state, order.is_live)
        sums = (order.executed, average and round(average, 12))
        found[*names, order.remaining, *sums, order.fees if order.executed else None] += 1
    return found


def reported_orders(books: Books) -> Rows:
    asked = (
        "SELECT order_id, pair, side, state, live, remaining_quantity, executed_quantity,"
        " average_price, fee FROM orders"
    )
    found: Rows = Counter()
    for *named, live, remaining, executed, average, fee in books.ask(asked):
        price = exact(average)
        average = None if price is None else round(price, 12)
        found[*named, bool(live), exact(remaining), exact(executed), average, exact(fee)] += 1
    return found


def true_transfers(simulator: Simulator) -> Rows:
    transfers = simulator.exchange.transfers
    deposits = [
        (
            *("deposit", each.currency, each.amount, each.address, each.transaction_hash),
            *(each.confirmations, each.confirmed_at is not None),
        )
        for each in transfers.deposits
    ]
    sent = [
        (
            *("withdrawal", each.currency, each.amount, each.address, each.transaction_hash),
            *(each.confirmations, None),
        )
        for each in transfers.withdrawals
    ]
    return Counter([*deposits, *sent])


def reported_transfers(books: Books) -> Rows:
    asked = (
        "SELECT direction, currency, amount, address, transaction_hash, confirmations, confirmed"
        " FROM transfers"
    )
    return Counter(
        (direction, currency, exact(amount), *named, None if confirmed is None else bool(confirmed))
        for direction, currency, amount, *named, confirmed in books.ask(asked)
    )


PAIRS = {
    "trades": (true_trades, reported_trades),
    "ledger": (true_ledger, reported_ledger),
    "orders": (true_orders, reported_orders),
    "transfers": (true_transfers, reported_transfers),
}


def differences(simulator: Simulator, books: Books) -> dict[str, tuple[list[Any], list[Any]]]:
    """Return (what the tables lack, what they have too much) of each table that isn't right."""
    found = {}
    for name, (true, reported) in PAIRS.items():
        right, ours = true(simulator), reported(books)
        if right != ours:
            found[name] = (list((right - ours).elements()), list((ours - right).elements()))
    return found
