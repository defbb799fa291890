"""The demo's trader: a program that queues orders the way any program may, with plain INSERTs.

It knows the market only from the recorder's tables: the price of the last fill.
"""

from __future__ import annotations

import json
from decimal import ROUND_DOWN, Decimal

from sqlalchemy import Connection, text

from recorder.exchange.amounts import canonical_amount

PAIR = "BTCZAR"
QUEUE = "INSERT INTO outbox (account, command, payload) VALUES (:account, :command, :payload)"
LAST_PRICE = (
    "SELECT price FROM trades WHERE account = :account AND pair = :pair"
    " ORDER BY position DESC LIMIT 1"
)
OLDEST_ORDER = (
    "SELECT order_id, pair FROM open_orders WHERE account = :account"
    " ORDER BY created_at, order_id LIMIT 1"
)

Order = tuple[str, dict[str, object]]


def queue_next(connection: Connection, account: str, step: int) -> str | None:
    """Queue the order of this step; return it as it stands in the outbox, or None if it can't be.

    The steps go round: buy at the market, bid below it, offer above it, bid near it, ask for more
    than the account has (the exchange refuses that), cancel the oldest order.
    """
    order = _order(connection, account, step)
    if order is None:
        return None
    command, fields = order
    payload = json.dumps(fields, separators=(",", ":"))
    connection.execute(text(QUEUE), {"account": account, "command": command, "payload": payload})
    return f"{command} {payload}"


def _order(connection: Connection, account: str, step: int) -> Order | None:
    price = _last_price(connection, account)
    turn = step % 6
    if price is None or turn == 0:
        return "PLACE_MARKET_ORDER", {"side": "BUY", "pair": PAIR, "quoteAmount": "1000"}
    if turn == 5:
        return _cancel_oldest(connection, account)
    side, share, quantity = _LIMITS[turn]
    return _limit(side, price * share, quantity)


#: Turn → side, price as a share of the last one, quantity.
_LIMITS = {
    1: ("BUY", Decimal("0.97"), "0.001"),
    2: ("SELL", Decimal("1.01"), "0.0008"),
    3: ("BUY", Decimal("0.999"), "0.0015"),
    4: ("BUY", Decimal("0.98"), "1000"),
}


def _limit(side: str, price: Decimal, quantity: str) -> Order:
    whole = canonical_amount(price.quantize(Decimal(1), rounding=ROUND_DOWN))
    fields = {"side": side, "pair": PAIR, "quantity": quantity, "price": whole, "postOnly": True}
    return "PLACE_LIMIT_ORDER", fields


def _cancel_oldest(connection: Connection, account: str) -> Order | None:
    row = connection.execute(text(OLDEST_ORDER), {"account": account}).one_or_none()
    return None if row is None else ("CANCEL_ORDER", {"orderId": row.order_id, "pair": row.pair})


def _last_price(connection: Connection, account: str) -> Decimal | None:
    # Text on SQLite, NUMERIC on PostgreSQL; exact either way.
    found = connection.execute(text(LAST_PRICE), {"account": account, "pair": PAIR}).scalar()
    return None if found is None else Decimal(found)
