"""The REST paths that a recorder asks: routes, and who may ask them. Pure.

Only reading is served: orders go over the WebSocket.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any
from urllib.parse import parse_qsl, unquote

from attrs import evolve

from recorder.simulator import views
from recorder.simulator.engine import Exchange
from recorder.simulator.faults import Faults
from recorder.simulator.http import Answer, Asked
from recorder.simulator.market import Order
from recorder.simulator.session import Claim, refusal
from recorder.simulator.views import BadQuery, Query

NOT_FOUND = Answer(404, {"code": -1, "message": "Not found"})

View = Callable[[Exchange, Query, list[str]], Any]


def answer(exchange: Exchange, asked: Asked, now: datetime) -> Answer:
    """Return the answer to a request, signed as its path demands."""
    path, _, query = asked.path.partition("?")
    for pattern, view in PUBLIC.items():
        if asked.verb == "GET" and (match := pattern.fullmatch(path)):
            return Answer(200, view(exchange, Query({}), list(match.groups())))
    claim, now_ms = Claim.in_headers(asked.headers), int(now.timestamp() * 1000)
    wrong = refusal(exchange.config, claim, now_ms, asked.verb, asked.path, asked.body)
    if wrong is not None:
        return Answer(wrong.status, {"code": wrong.code, "message": wrong.message})
    for pattern, view in PRIVATE.items():
        if asked.verb == "GET" and (match := pattern.fullmatch(path)):
            return _view(exchange, view, query, [unquote(each) for each in match.groups()])
    return NOT_FOUND


def _view(exchange: Exchange, view: View, query: str, names: list[str]) -> Answer:
    try:
        seen = view(exchange, Query(dict(parse_qsl(query))), names)
    except BadQuery as error:
        return Answer(400, {"code": -11, "message": str(error)})
    return INVALID_ORDER if seen is None else Answer(200, seen)


def _routes(views_by_path: Mapping[str, View]) -> dict[re.Pattern[str], View]:
    return {re.compile(path.replace("*", "([^/]+)")): view for path, view in views_by_path.items()}


def _by_id(exchange: Exchange, names: list[str]) -> Order | None:
    return exchange.trading.orders.all.get(names[-1])


def _by_name(exchange: Exchange, names: list[str]) -> Order | None:
    """Return the live order of this name, or else the newest."""
    orders = exchange.trading.orders
    return orders.find_live(None, names[-1]) or next(orders.named(names[-1]), None)


def _status(order: Order | None, names: list[str]) -> Any:
    return None if order is None or order.pair != names[0] else views.order_status(order)


def _summary(order: Order | None) -> Any:
    return None if order is None or order.is_live else views.order_summary(order)


PUBLIC = _routes(
    {
        "/v1/public/time": lambda exchange, _, __: views.time(exchange.clock()),
        "/v1/public/status": lambda _, __, ___: {"status": "online"},
        "/v1/public/pairs": lambda _, __, ___: views.pairs(),
    }
)
PRIVATE = _routes(
    {
        "/v1/account/balances": views.balances,
        "/v1/account/tradehistory": views.trade_history,
        "/v1/account/*/tradehistory": views.trade_history,
        "/v1/account/transactionhistory": views.transaction_history,
        "/v1/account/api-keys/current": views.api_key,
        "/v1/orders/open": views.open_orders,
        "/v1/orders/history": views.order_history,
        "/v1/orders/history/detail/orderid/*": lambda exchange, _, names: views.order_states(
            _by_id(exchange, names)
        ),
        "/v1/orders/history/detail/customerorderid/*": lambda exchange, _, names: (
            views.order_states(_by_name(exchange, names))
        ),
        "/v1/orders/history/summary/orderid/*": lambda exchange, _, names: _summary(
            _by_id(exchange, names)
        ),
        "/v1/orders/history/summary/customerorderid/*": lambda exchange, _, names: _summary(
            _by_name(exchange, names)
        ),
        "/v1/orders/*/orderid/*": lambda exchange, _, names: _status(
            _by_id(exchange, names), names
        ),
        "/v1/orders/*/customerorderid/*": lambda exchange, _, names: _status(
            _by_name(exchange, names), names
        ),
        "/v1/orders/conditionals": views.conditionals,
        "/v1/orders/conditionals/*/history": views.conditional_history,
        "/v1/positions/open": views.open_positions,
        "/v1/positions/closed": views.closed_positions,
        "/v1/positions/closed/summary": views.closed_summary,
        "/v1/wallet/crypto/deposit/history": views.deposit_history,
        "/v1/wallet/crypto/withdraw/history": views.withdraw_history,
    }
)


#: For an order that isn't there.
INVALID_ORDER = Answer(400, {"code": -1, "message": "Invalid Order. "})
#: Seconds that a ``limited`` answer reports to wait.
RETRY_AFTER_S = 1


def spoiled(faults: Faults, asked: Asked, answer: Answer, rng: random.Random) -> Answer | None:
    """Return what is answered in the place of the right answer; None: the line is cut instead."""
    fault = faults.take_rest_fault()
    if fault == "cut":
        return None
    if fault == "limited":
        headers = (("x-valr-ratelimited", "true"), ("Retry-After", str(RETRY_AFTER_S)))
        return Answer(429, {"message": "Too Many Requests"}, headers=headers)
    if fault == "error":
        return Answer(500, {"message": "simulated"})
    if fault == "html":
        return Answer(200, b"<html>Please wait</html>", "text/html")
    if fault == "cut_json":
        return evolve(answer, content=answer.body[: len(answer.body) // 2])
    if not isinstance(answer.content, list):
        return answer
    rows = list(answer.content)
    if faults.rest_rows_max and "history" in asked.path:
        rows = rows[: faults.rest_rows_max]
    if fault == "shuffled":
        rng.shuffle(rows)
    if fault == "odd_row":
        rows.append({"id": "odd", "price": "much"})
    return evolve(answer, content=rows)


def behind(answer: Answer, orders: Mapping[str, Order], shown_until: datetime) -> Answer:
    """Return the answer as if REST had not received yet of orders made after ``shown_until``."""

    def is_unknown(row: Any) -> bool:
        order = orders.get(str(row.get("orderId"))) if isinstance(row, dict) else None
        return order is not None and order.created_at > shown_until

    if isinstance(answer.content, list):
        rows = [row for row in answer.content if not is_unknown(row)]
        return evolve(answer, content=rows)
    return INVALID_ORDER if is_unknown(answer.content) else answer
