"""The frames that the exchange sends, in the shapes of VALR's documents of late 2025."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from decimal import Decimal
from typing import Any

from recorder.simulator.books import Balance
from recorder.simulator.orders import Order

Frame = dict[str, Any]

#: Code → (symbol, decimal places, long name). The rand's symbol is not its code.
CURRENCIES = {
    "ZAR": ("R", 2, "Rand"),
    "BTC": ("BTC", 8, "Bitcoin"),
    "ETH": ("ETH", 8, "Ethereum"),
    "USDC": ("USDC", 6, "USD Coin"),
}


def plain(amount: Decimal) -> str:
    """Return an amount without exponent and without needless zeros."""
    text = f"{amount:f}"
    if "." in text:
        text = text.rstrip("0").rstrip(".")
    return "0" if text == "-0" else text


def stamp(moment: datetime) -> str:
    """Return a time as the exchange writes it: milliseconds and Z."""
    return moment.strftime("%Y-%m-%dT%H:%M:%S.") + f"{moment.microsecond // 1000:03d}Z"


def currency(code: str) -> Frame:
    """Return a currency as an object."""
    symbol, places, name = CURRENCIES.get(code, (code, 8, code))
    return {
        "symbol": symbol,
        "decimalPlaces": places,
        "isActive": True,
        "shortName": code,
        "longName": name,
        "supportedWithdrawDecimalPlaces": places,
        "collateral": True,
        "collateralWeight": "0.95",
    }


def balance(code: str, held: Balance, rate: Decimal) -> Frame:
    """Return BALANCE_UPDATE. ``rate`` values the currency in rand."""
    worth = held.total * rate
    assert held.updated_at is not None
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
            "totalInReferenceWeighted": plain(worth * Decimal("0.95")),
            "referenceCurrency": "ZAR",
        },
    }


def open_orders(orders: Iterable[Order]) -> Frame:
    """Return OPEN_ORDERS_UPDATE: always the full list."""
    return {"type": "OPEN_ORDERS_UPDATE", "data": [listed(order) for order in orders]}


def listed(order: Order) -> Frame:
    """Return one element of the list."""
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
    return _named(element, order)


def status(order: Order, fill: tuple[Decimal, Decimal, Decimal] | None = None) -> Frame:
    """Return ORDER_STATUS_UPDATE. ``fill`` is (price, quantity, fee) of this event."""
    price, quantity, fee = fill or (Decimal(0), Decimal(0), Decimal(0))
    data = {
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
    return {"type": "ORDER_STATUS_UPDATE", "data": _named(data, order)}


def processed(order: Order) -> Frame:
    """Return ORDER_PROCESSED."""
    data = {
        "orderId": order.order_id,
        "success": not order.reason,
        "failureReason": order.reason,
    }
    return {"type": "ORDER_PROCESSED", "data": _named(data, order)}


def trade(order: Order, fill: Mapping[str, Any]) -> Frame:
    """Return NEW_ACCOUNT_TRADE."""
    data = {
        "price": plain(fill["price"]),
        "quantity": plain(fill["quantity"]),
        "currencyPair": order.pair,
        "tradedAt": stamp(fill["at"]),
        "side": order.side,
        "orderId": order.order_id,
        "id": fill["id"],
        "fee": plain(max(fill["fee"], Decimal(0))),
        "feeCurrency": fill["fee_currency"],
    }
    return {
        "type": "NEW_ACCOUNT_TRADE",
        "currencyPairSymbol": order.pair,
        "data": _named(data, order),
    }


def history(row: Mapping[str, Any]) -> Frame:
    """Return NEW_ACCOUNT_HISTORY_RECORD of a ledger row."""
    data: Frame = {
        "transactionType": {
            "type": row["type"],
            "description": row["type"].replace("_", " ").title(),
        }
    }
    for part in ("debit", "credit", "fee"):
        if row.get(f"{part}_currency"):
            data[f"{part}Currency"] = currency(row[f"{part}_currency"])
            data[f"{part}Value"] = plain(row[f"{part}_value"])
    data["eventAt"] = stamp(row["at"])
    if row.get("additional"):
        data["additionalInfo"] = row["additional"]
    data["id"] = row["id"]
    return {"type": "NEW_ACCOUNT_HISTORY_RECORD", "data": data}


def response(kind: str, client_msg_id: str | None, data: Frame) -> Frame:
    """Return a …_WS_RESPONSE: the request was received."""
    frame: Frame = {"type": kind, "data": data}
    if client_msg_id is not None:
        frame["clientMsgId"] = client_msg_id
    return frame


def error(kind: str, client_msg_id: str | None, message: str, fields: list[Frame]) -> Frame:
    """Return a …_WS_RESPONSE that turns the request down at validation."""
    frame: Frame = {
        "type": kind,
        "error": {"message": message, "validationErrors": {"errors": fields}},
    }
    if client_msg_id is not None:
        frame["clientMsgId"] = client_msg_id
    return frame


def _named(data: Frame, order: Order) -> Frame:
    if order.customer_order_id:
        data["customerOrderId"] = order.customer_order_id
    return data
