"""The REST paths that a recorder asks: what is, and the history of what was.

Signed like VALR's; lists are newest first; windows are inclusive; ``limit`` is at most 100.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any
from urllib.parse import parse_qs, urlsplit

from recorder.simulator import auth, frames
from recorder.simulator.config import SimulatorConfig
from recorder.simulator.engine import Exchange, is_live
from recorder.simulator.frames import plain, stamp
from recorder.simulator.http import Answer, Asked
from recorder.simulator.market import PAIRS
from recorder.simulator.orders import Order

LIMIT_MAX = 100
_NOT_FOUND = Answer(400, {"code": -1, "message": "Invalid Order. "})
Query = Mapping[str, str]


def answer(exchange: Exchange, config: SimulatorConfig, now: datetime, asked: Asked) -> Answer:
    """Return the answer to a request, refusing what isn't signed as it must be."""
    parts = urlsplit(asked.path)
    query = {name: values[-1] for name, values in parse_qs(parts.query).items()}
    steps = parts.path.strip("/").split("/")
    if steps[:2] == ["v1", "public"]:
        return _public(steps[2:], now)
    now_ms = int(now.timestamp() * 1000)
    wrong = auth.refusal(config, asked.headers, now_ms, asked.verb, asked.path, asked.body)
    if wrong is not None:
        return Answer(wrong[0], {"code": -11252, "message": wrong[1]})
    if asked.verb != "GET" or steps[:1] != ["v1"]:
        return Answer(404)
    route = _ROUTES.get("/".join(steps[1:]))
    return route(exchange, query) if route else _orders_by_id(exchange, steps[1:])


def _public(steps: list[str], now: datetime) -> Answer:
    if steps == ["time"]:
        text = now.strftime("%Y-%m-%dT%H:%M:%S.%f") + "000Z"
        return Answer(200, {"epochTime": int(now.timestamp()), "time": text})
    if steps == ["status"]:
        return Answer(200, {"status": "online"})
    if steps == ["pairs"]:
        return Answer(200, [{"symbol": each.symbol, "baseCurrency": each.base,
                             "quoteCurrency": each.quote, "active": True,
                             "minBaseAmount": plain(each.least), "tickSize": plain(each.tick)}
                            for each in PAIRS.values()])  # fmt: skip
    return Answer(404)


def _balances(exchange: Exchange, query: Query) -> Answer:
    rows = []
    for code, held in exchange.books.balances.items():
        if query.get("excludeZeroBalances") == "true" and not held.total:
            continue
        data = frames.balance(code, held, Decimal(1))["data"]
        data["borrowReserved"] = data.pop("borrowCollateralReserved")
        rows.append(data | {"currency": code})
    return Answer(200, rows)


def _open_orders(exchange: Exchange, query: Query) -> Answer:
    rows = []
    for order in exchange.open_orders():
        row = frames.listed(order)
        row["remainingQuantity"] = row.pop("quantity")
        rows.append(row)
    return Answer(200, rows)


def _order_history(exchange: Exchange, query: Query) -> Answer:
    hidden = query.get("showZeroVolumeCancels", "false").lower() != "true"
    orders = [
        order
        for order in exchange.orders.values()
        if not is_live(order)
        and not (hidden and order.status == "Cancelled" and not order.executed)
    ]
    orders.sort(key=lambda order: order.updated_at, reverse=True)
    return Answer(200, [_summary(exchange, order) for order in _page(orders, query, _updated)])


def _trades(exchange: Exchange, query: Query) -> Answer:
    rows = _page(reversed(exchange.trades), query, lambda fill: fill["at"])
    return Answer(200, [_trade(exchange, fill) for fill in rows])


def _transactions(exchange: Exchange, query: Query) -> Answer:
    rows = _page(reversed(exchange.books.ledger), query, lambda row: row["at"])
    return Answer(200, [_transaction(row) for row in rows])


def _deposits(exchange: Exchange, query: Query) -> Answer:
    rows = [each for each in exchange.transfers if each["direction"] == "deposit"]
    page = _page(reversed(rows), query, lambda row: row["at"])
    return Answer(200, [{"currencyCode": row["currency"], "receiveAddress": "0xrecorder",
                         "transactionHash": row["hash"], "amount": plain(row["amount"]),
                         "createdAt": stamp(row["at"]), "confirmations": 2, "confirmed": True,
                         "confirmedAt": stamp(row["at"])} for row in page])  # fmt: skip


def _withdrawals(exchange: Exchange, query: Query) -> Answer:
    rows = [each for each in exchange.transfers if each["direction"] == "withdrawal"]
    page = _page(reversed(rows), query, lambda row: row["at"])
    return Answer(200, [{"currency": row["currency"], "address": "0xelsewhere",
                         "amount": plain(row["amount"]), "feeAmount": "0", "confirmations": 2,
                         "uniqueId": row["id"], "createdAt": stamp(row["at"]), "verified": True,
                         "status": "Complete"} for row in page])  # fmt: skip


def _key(exchange: Exchange, query: Query) -> Answer:
    key = {"label": "Simulated", "permissions": ["View access", "Trade"], "isSubAccount": False}
    return Answer(200, key | {"addedAt": "2026-01-01T00:00:00.000000Z"})


_ROUTES: Mapping[str, Callable[[Exchange, Query], Answer]] = {
    "account/balances": _balances,
    "orders/open": _open_orders,
    "orders/history": _order_history,
    "account/tradehistory": _trades,
    "account/transactionhistory": _transactions,
    "wallet/crypto/deposit/history": _deposits,
    "wallet/crypto/withdraw/history": _withdrawals,
    "account/api-keys/current": _key,
}


def _orders_by_id(exchange: Exchange, steps: list[str]) -> Answer:
    match steps:
        case ["orders", "history", "detail", kind, name]:
            events = [event for order in _named(exchange, kind, name) for event in order.events]
            return Answer(200, events[::-1])
        case ["orders", "history", "summary", kind, name]:
            ended = [each for each in _named(exchange, kind, name) if not is_live(each)]
            return Answer(200, _summary(exchange, ended[-1])) if ended else _NOT_FOUND
        case ["orders", pair, kind, name] if pair in PAIRS:
            found = [each for each in _named(exchange, kind, name) if each.pair == pair]
            return Answer(200, frames.status(found[-1])["data"]) if found else _NOT_FOUND
    return Answer(404)


def _named(exchange: Exchange, kind: str, name: str) -> list[Order]:
    if kind == "orderid":
        return [exchange.orders[name]] if name in exchange.orders else []
    return [each for each in exchange.orders.values() if each.customer_order_id == name]


def _summary(exchange: Exchange, order: Order) -> dict[str, Any]:
    fills = [fill for fill in exchange.trades if fill["order_id"] == order.order_id]
    total = sum((fill["price"] * fill["quantity"] for fill in fills), Decimal(0))
    fee = sum((fill["fee"] for fill in fills), Decimal(0))
    data: dict[str, Any] = frames.status(order)["data"]
    for name in ("executedPrice", "executedQuantity", "executedFee"):
        del data[name]
    average = total / order.executed if order.executed else Decimal(0)
    return data | {
        "averagePrice": plain(average),
        "total": plain(total),
        "totalExecutedQuantity": plain(order.executed),
        "totalFee": plain(fee),
        "feeCurrency": fills[0]["fee_currency"] if fills else PAIRS[order.pair].base,
    }


def _trade(exchange: Exchange, fill: Mapping[str, Any]) -> dict[str, Any]:
    order = exchange.orders[fill["order_id"]]
    data: dict[str, Any] = frames.trade(order, fill)["data"]
    data["sequenceId"] = int(fill["id"].replace("-", "")[:15], 16)
    return data


def _transaction(row: Mapping[str, Any]) -> dict[str, Any]:
    data: dict[str, Any] = frames.history(row)["data"]
    for part in ("debit", "credit", "fee"):
        if f"{part}Currency" in data:
            data[f"{part}Currency"] = data[f"{part}Currency"]["shortName"]
    return data


def _updated(order: Order) -> datetime:
    return order.updated_at


def _page(rows: Iterable[Any], query: Query, time_of: Callable[[Any], datetime]) -> list[Any]:
    chosen = list(rows)
    start, end = query.get("startTime"), query.get("endTime")
    if start:
        chosen = [row for row in chosen if time_of(row) >= _moment(start)]
    if end:
        chosen = [row for row in chosen if time_of(row) <= _moment(end)]
    before = query.get("beforeId")
    if before:
        ids = [row["id"] for row in chosen]
        chosen = chosen[ids.index(before) + 1 :] if before in ids else []
    skip = int(query.get("skip", "0"))
    return chosen[skip : skip + min(int(query.get("limit", "100")), LIMIT_MAX)]


def _moment(text: str) -> datetime:
    moment = datetime.fromisoformat(text)
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
