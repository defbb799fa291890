"""Limits in SQL: whether a command keeps to those that a person has set, asked at the claim.

It runs in the transaction that claims the row, so that no limit, no order and no other command of
ours comes in between. An account without a row in ``limits`` costs one look-up.

- Open orders of a pair are the live ones of ``orders``, and every order of ours that may yet
  become one: commands that went out, or may have, and whose order was not reported. A live order
  whose pair is unknown counts for every pair, unless it is one of our commands that names
  another.
- The last price seen of a pair is that of the latest fill of the account's own: there are no
  market data in the log. It can be days old, and stands in ``trades`` or on an order.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import Any

from attrs import frozen
from sqlalchemy import Connection, and_, func, or_, select, union_all

from recorder.database.schema import limits, order_history, orders, outbox, projections, trades
from recorder.exchange.commands import CANCEL_ORDER, MODIFY_ORDER, PLACE_MARKET_ORDER
from recorder.outbox.rules.limits import (
    EVERY_PAIR,
    Asked,
    Limits,
    OpenExposure,
    Refusal,
    UnreadableError,
    asked_for,
    check,
    strictest,
)
from recorder.outbox.rules.states import Status
from recorder.outbox.sql.queue import is_unresolved

#: An accepted command may be ahead of ``orders`` by some events; it is one of the latest then.
LATEST_COMMANDS = 1_000


@frozen
class _Open:
    """An order that stands in the book or may: its ids as far as they are known."""

    order_id: str | None
    customer_order_id: str | None


def broken_limit(
    connection: Connection, account: str, command: str, payload: str
) -> Refusal | None:
    """Return the limit that a command would break now, or None. Writes nothing."""
    if command == CANCEL_ORDER:
        return None
    try:
        requests = [each for each in asked_for(command, payload) if each.command != CANCEL_ORDER]
    except UnreadableError as error:
        return Refusal("payload", str(error))
    of_pair = _limits(connection, account, {request.pair for request in requests})
    if not of_pair:
        return None
    counted = {
        request.pair
        for request in requests
        if request.may_rest and _limit(of_pair, request).max_open_orders is not None
    }
    return check(
        requests,
        of_pair,
        open_orders={pair: count_open_orders(connection, account, pair) for pair in counted},
        last_prices=_last_prices(connection, account, requests, of_pair),
        exposure={
            request: _account_status(connection, account, request)
            for request in requests
            if request.command == MODIFY_ORDER and _limit(of_pair, request).max_value is not None
        },
    )


def last_price(connection: Connection, account: str, pair: str) -> Decimal | None:
    """Return the price of the account's latest fill of a pair; None if none was ever seen."""
    traded = (
        select(trades.c.position, trades.c.price)
        .where(trades.c.account == account, trades.c.pair == pair)
        .where(trades.c.price.is_not(None))
        .order_by(trades.c.position.desc())
        .limit(1)
    )
    executed = (
        select(orders.c.order_id, orders.c.last_position, orders.c.executed_price)
        .where(orders.c.account == account, orders.c.pair == pair)
        .where(orders.c.executed_price.is_not(None))
        .order_by(orders.c.last_position.desc())
        .limit(1)
    )
    trade, order = connection.execute(traded).first(), connection.execute(executed).first()
    traded_at = 0 if trade is None else trade.position
    price: Decimal | None = None if trade is None else trade.price
    if (
        order is not None
        and order.executed_price > 0
        and (traded_at < _filled_at(connection, account, order))
    ):
        price = order.executed_price
    return price


def count_open_orders(connection: Connection, account: str, pair: str) -> int:
    """Return how many orders of a pair are open or may become so without our doing more.

    Commands are read before orders: on PostgreSQL an order may be folded between the two, and is
    then found twice, which its names report, where in the other order it would be found nowhere.
    """
    under_way = _under_way(connection, account, pair)
    live = [
        _Open(row.order_id, row.customer_order_id)
        for row in connection.execute(
            select(orders.c.order_id, orders.c.customer_order_id, orders.c.pair)
            # Without statistics SQLite would rather walk through all orders there ever were.
            .with_hint(orders, "INDEXED BY orders_live", "sqlite")
            .where(orders.c.account == account, orders.c.live)
            .where(or_(orders.c.pair == pair, orders.c.pair.is_(None)))
        )
        if row.pair is not None or _may_be_of(connection, account, row.order_id, pair)
    ]
    ids = {order.order_id for order in live}
    names = {order.customer_order_id for order in live if order.customer_order_id}
    others = [
        order
        for order in under_way
        if order.order_id not in ids and order.customer_order_id not in names
    ]
    return len(live) + len(others)


def _limits(connection: Connection, account: str, pairs: set[str]) -> dict[str, Limits]:
    columns = (
        limits.c.pair,
        limits.c.max_quantity,
        limits.c.max_value,
        limits.c.max_open_orders,
        limits.c.max_price_deviation,
    )
    wanted = select(*columns).where(
        limits.c.account == account, limits.c.pair.in_([*sorted(pairs), EVERY_PAIR])
    )
    rows = {row.pair: Limits(*row[1:]) for row in connection.execute(wanted)}
    if not rows:
        return {}
    return {
        pair: strictest(rows[name] for name in (pair, EVERY_PAIR) if name in rows) for pair in pairs
    }


def _limit(of_pair: Mapping[str, Limits], request: Asked) -> Limits:
    return of_pair.get(request.pair, Limits())


def _last_prices(
    connection: Connection, account: str, requests: Iterable[Asked], of_pair: Mapping[str, Limits]
) -> dict[str, Decimal]:
    wanted = {
        request.pair
        for request in requests
        if request.command == PLACE_MARKET_ORDER
        or _limit(of_pair, request).max_price_deviation is not None
    }
    found = {pair: last_price(connection, account, pair) for pair in wanted}
    return {pair: price for pair, price in found.items() if price is not None}


def _filled_at(connection: Connection, account: str, order: Any) -> int:
    """Return the position of the order's latest fill: other news of it may have come since."""
    filled = select(func.max(order_history.c.position)).where(
        order_history.c.account == account,
        order_history.c.order_id == order.order_id,
        order_history.c.executed_price == order.executed_price,
    )
    return connection.execute(filled).scalar_one() or 0


def _account_status(connection: Connection, account: str, request: Asked) -> OpenExposure:
    named = (
        orders.c.order_id == request.order_id
        if request.order_id
        else orders.c.customer_order_id == request.customer_order_id
    )
    terms = (
        select(orders.c.original_quantity, orders.c.remaining_quantity, orders.c.price)
        .where(orders.c.account == account, named)
        .order_by(orders.c.last_position.desc())
        .limit(1)
    )
    found = connection.execute(terms).first()
    if found is None:
        return OpenExposure()
    quantities = [each for each in (found.original_quantity, found.remaining_quantity) if each]
    return OpenExposure(max(quantities, default=None), found.price)


def _may_be_of(connection: Connection, account: str, order_id: str, pair: str) -> bool:
    """Return whether an order whose pair isn't known can be one of this pair."""
    ours = select(outbox.c.command, outbox.c.payload).where(
        outbox.c.account == account, outbox.c.order_id == order_id
    )
    commands = [(row.command, row.payload) for row in connection.execute(ours)]
    return not commands or any(
        request.pair == pair for command, payload in commands for request in _read(command, payload)
    )


def _under_way(connection: Connection, account: str, pair: str) -> list[_Open]:
    """Return the orders of commands whose effect can't stand in ``orders`` yet.

    One statement, so that no command's step and no fold comes in between.
    """
    folded = select(projections.c.position).where(
        projections.c.account == account, projections.c.projection == "orders"
    )
    last = select(func.max(outbox.c.outbox_id)).where(outbox.c.account == account)
    columns = (
        outbox.c.command,
        outbox.c.payload,
        outbox.c.order_id,
        outbox.c.customer_order_id,
    )
    accepted = and_(
        outbox.c.outbox_id > last.scalar_subquery() - LATEST_COMMANDS,
        outbox.c.status == Status.ACCEPTED,
        outbox.c.resolved_position > func.coalesce(folded.scalar_subquery(), 0),
    )
    # Each by its own index, which one condition for both would not be.
    sent = union_all(
        *(
            select(*columns).where(outbox.c.account == account, state)
            for state in (is_unresolved, accepted)
        )
    )
    return [order for row in connection.execute(sent) for order in _orders_of(row, pair)]


def _orders_of(row: Any, pair: str) -> Iterable[_Open]:
    requests = _read(row.command, row.payload)
    for place, request in enumerate(requests):
        if not request.may_rest or request.pair != pair:
            continue
        if len(requests) == 1 and row.command == request.command:
            yield _Open(row.order_id, row.customer_order_id)
        else:
            # The name that a leg without one of its own was given.
            yield _Open(None, request.customer_order_id or f"{row.customer_order_id}{place:02d}")


def _read(command: str, payload: str) -> tuple[Asked, ...]:
    try:
        return asked_for(command, payload)
    except UnreadableError:
        return ()
