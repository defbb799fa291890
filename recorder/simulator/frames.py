"""The frames that the exchange sends, in the shapes of VALR's documents of late 2025.

A Decimal in a frame is written as a JSON number (VALR does so in a few places), a string amount as
a string; both exactly.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from decimal import Decimal
from typing import Any

import msgspec

from recorder.simulator.books import Balance, Deposit, Money, Trade, Transaction, Withdrawal
from recorder.simulator.market import Order

Frame = dict[str, Any]

#: Code → (symbol, decimal places, long name). The rand's symbol is not its code.
CURRENCIES = {
    "ZAR": ("R", 2, "Rand"),
    "BTC": ("BTC", 8, "Bitcoin"),
    "ETH": ("ETH", 8, "Ethereum"),
    "USDC": ("USDC", 6, "USD Coin"),
    "USDT": ("USDT", 6, "Tether"),
}
WEIGHT = Decimal("0.95")
_JSON = msgspec.json.Encoder(decimal_format="number")


def encode(frame: object) -> str:
    """Return a frame's text, or any other JSON value's."""
    return _JSON.encode(frame).decode()


def plain(amount: Decimal) -> str:
    """Return an amount without exponent and without needless zeros."""
    text = f"{amount:f}"
    if "." in text:
        text = text.rstrip("0").rstrip(".")
    return "0" if text == "-0" else text


def stamp(moment: datetime) -> str:
    """Return a time as the exchange writes it: milliseconds and Z."""
    return moment.strftime("%Y-%m-%dT%H:%M:%S.") + f"{moment.microsecond // 1000:03d}Z"


def stamp_s(moment: datetime) -> str:
    """Return a time in whole seconds, as the exchange writes those of deposits."""
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def symbol(code: str) -> str:
    """Return a currency's symbol."""
    return CURRENCIES.get(code, (code,))[0]


def currency(code: str) -> Frame:
    """Return a currency as an object."""
    sign, places, name = CURRENCIES.get(code, (code, 8, code))
    return {
        "symbol": sign,
        "decimalPlaces": places,
        "isActive": True,
        "shortName": code,
        "longName": name,
        "supportedWithdrawDecimalPlaces": places,
        "collateral": True,
        "collateralWeight": plain(WEIGHT),
    }


def balance(code: str, held: Balance, in_rand: Decimal) -> Frame:
    """Return BALANCE_UPDATE. ``in_rand`` is the currency's price in the reference currency."""
    worth = held.total * in_rand
    return {
        "type": "BALANCE_UPDATE",
        "data": {
            "currency": currency(code),
            "available": plain(held.available),
            "reserved": plain(held.reserved),
            "total": plain(held.total),
            "updatedAt": stamp(held.updated_at),
            "lendReserved": "0",
            "borrowCollateralReserved": "0",
            "borrowedAmount": "0",
            "totalInReference": plain(worth),
            "totalInReferenceWeighted": plain(worth * WEIGHT),
            "referenceCurrency": "ZAR",
        },
    }


def open_orders(orders: Iterable[Order]) -> Frame:
    """Return OPEN_ORDERS_UPDATE: always the full list."""
    return {"type": "OPEN_ORDERS_UPDATE", "data": [_listed(order) for order in orders]}


def _listed(order: Order) -> Frame:
    element = {
        "orderId": order.order_id,
        "side": order.side,
        "quantity": plain(order.remaining),
        "price": plain(order.price),
        "currencyPair": order.pair,
        "createdAt": stamp(order.created_at),
        "originalQuantity": plain(order.quantity),
        "filledPercentage": f"{order.executed / order.quantity * 100:.2f}",
        "type": order.kind,
        "status": order.status,
        "updatedAt": stamp(order.updated_at),
        "timeInForce": order.time_in_force,
        "allowMargin": False,
    }
    return _named(element, order.customer_order_id)


def status(order: Order, trade: Trade | None = None) -> Frame:
    """Return ORDER_STATUS_UPDATE. The executed members are of this one event, ``trade``."""
    zero = Decimal(0)
    price, quantity, fee = (trade.price, trade.quantity, trade.fee) if trade else (zero, zero, zero)
    members = {
        "orderId": order.order_id,
        "orderStatusType": order.status,
        "currencyPair": order.pair,
        "originalPrice": plain(order.price),
        "remainingQuantity": plain(order.remaining),
        "originalQuantity": plain(order.quantity),
        "orderSide": order.side,
        "orderType": order.kind,
        "failedReason": order.reason,
        "orderUpdatedAt": stamp(order.updated_at),
        "orderCreatedAt": stamp(order.created_at),
        "executedPrice": plain(price),
        "executedQuantity": plain(quantity),
        "executedFee": plain(fee),
        "timeInForce": order.time_in_force,
    }
    return {"type": "ORDER_STATUS_UPDATE", "data": _named(members, order.customer_order_id)}


def processed(order: Order) -> Frame:
    """Return ORDER_PROCESSED: whether the engine took the order."""
    members = {
        "orderId": order.order_id,
        "success": not order.reason,
        "failureReason": order.reason,
    }
    return {"type": "ORDER_PROCESSED", "data": _named(members, order.customer_order_id)}


def trade(done: Trade) -> Frame:
    """Return NEW_ACCOUNT_TRADE."""
    members = {
        "price": plain(done.price),
        "quantity": plain(done.quantity),
        "currencyPair": done.pair,
        "tradedAt": stamp(done.at),
        "side": done.side,
        "orderId": done.order_id,
        "id": done.trade_id,
        "fee": plain(done.fee),
        "feeCurrency": done.fee_currency,
    }
    return {
        "type": "NEW_ACCOUNT_TRADE",
        "currencyPairSymbol": done.pair,
        "data": _named(members, done.customer_order_id),
    }


def without_ids(frame: Frame) -> Frame:
    """Return a frame in VALR's old shape, in which fills and transactions have no ids."""
    if frame["type"] == "NEW_ACCOUNT_TRADE":
        dropped = {"id", "orderId", "customerOrderId", "fee", "feeCurrency"}
    elif frame["type"] == "NEW_ACCOUNT_HISTORY_RECORD":
        dropped = {"id"}
    else:
        return frame
    members = {name: value for name, value in frame["data"].items() if name not in dropped}
    return {**frame, "data": members}


def history(row: Transaction) -> Frame:
    """Return NEW_ACCOUNT_HISTORY_RECORD. Currencies are objects here, and codes over REST."""
    members = transaction(row)
    for part in ("debitCurrency", "creditCurrency", "feeCurrency"):
        if part in members:
            members[part] = currency(members[part])
    return {"type": "NEW_ACCOUNT_HISTORY_RECORD", "data": members}


def transaction(row: Transaction) -> Frame:
    """Return a ledger row's members, with currencies as codes."""
    described = row.kind.replace("_", " ").title()
    members: Frame = {"transactionType": {"type": row.kind, "description": described}}
    members |= _money("debit", row.debit) | _money("credit", row.credit) | _money("fee", row.fee)
    members["eventAt"] = stamp(row.at)
    if row.additional is not None:
        members["additionalInfo"] = row.additional
    members["id"] = row.transaction_id
    return members


def pending_receive(deposit: Deposit) -> Frame:
    """Return NEW_PENDING_RECEIVE; it comes again with every confirmation."""
    sign, places, name = CURRENCIES.get(deposit.currency, (deposit.currency, 8, deposit.currency))
    paid = {
        "id": 3,
        "symbol": sign,
        "decimalPlaces": places,
        "_isActive": True,
        "shortName": deposit.currency,
        "longName": name,
        "currencyDecimalPlaces": 18,
        "supportedWithdrawDecimalPlaces": places,
        "_allowBorrow": True,
        "_borrowWeight": WEIGHT,
        "_borrowWeightOne": False,
    }
    members = {
        "currency": paid,
        "receiveAddress": deposit.address,
        "transactionHash": deposit.transaction_hash,
        "networkType": name,
        "amount": deposit.amount,
        "createdAt": stamp_s(deposit.created_at),
        "confirmations": deposit.confirmations,
        "confirmed": deposit.confirmed_at is not None,
        "indexInTx": 0,
    }
    return {"type": "NEW_PENDING_RECEIVE", "data": members}


def pending_send(withdrawal: Withdrawal) -> Frame:
    """Return NEW_PENDING_SEND."""
    members = {
        "currency": withdrawal.currency,
        "sendAddress": withdrawal.address,
        "amount": plain(withdrawal.amount),
        "feeAmount": "0",
        "transactionHash": withdrawal.transaction_hash,
        "confirmations": withdrawal.confirmations,
        "lastConfirmationAt": None,
        "uniqueId": withdrawal.unique_id,
        "createdAt": stamp(withdrawal.created_at),
    }
    return {"type": "NEW_PENDING_SEND", "data": members}


def send_status(withdrawal: Withdrawal) -> Frame:
    """Return SEND_STATUS_UPDATE."""
    members = {
        "uniqueId": withdrawal.unique_id,
        "status": "CONFIRMED" if withdrawal.is_complete else "SEND_BROADCASTED",
        "transactionHash": withdrawal.transaction_hash,
        "confirmations": withdrawal.confirmations,
    }
    return {"type": "SEND_STATUS_UPDATE", "data": members}


def answer(kind: str, client_msg_id: str | None, members: Frame) -> Frame:
    """Return an answer to one command. It reports that the request was received, and no more."""
    frame: Frame = {"type": kind, "data": members}
    return frame if client_msg_id is None else frame | {"clientMsgId": client_msg_id}


def error(kind: str, client_msg_id: str | None, wrong: list[dict[str, str]]) -> Frame:
    """Return an answer that turns the request down at validation."""
    members = {"message": "Invalid Request", "validationErrors": {"errors": wrong}}
    frame: Frame = {"type": kind, "error": members}
    return frame if client_msg_id is None else frame | {"clientMsgId": client_msg_id}


def _money(part: str, money: Money | None) -> Frame:
    if money is None:
        return {}
    return {f"{part}Currency": money[0], f"{part}Value": plain(money[1])}


def _named(members: Frame, customer_order_id: str | None) -> Frame:
    """Add the customerOrderId, which is absent where none was given."""
    return members | ({"customerOrderId": customer_order_id} if customer_order_id else {})
