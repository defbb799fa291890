"""What one command may ask for, as limits that a person has set per account and pair.

- ``max_quantity``: of one order, in the base currency.
- ``max_value``: of one order, quantity times price, in the pair's quote currency.
- ``max_open_orders``: of one pair, the new one counted.
- ``max_price_deviation``: of a price from the last one seen, up or down, as a fraction of that.

Of the pair's own row and that of ``*`` the stricter value holds, each for itself; the row of ``*``
bounds each pair, not all of them together. Each request of a batch is checked as an order of
its own, and one that breaks a rule refuses the batch. A change counts with what it makes of the
order: what it leaves as it is, is that of the order. Cancels are never limited.

A market order has no price: its value is its quote amount, or its base amount at the last price
seen. Where a rule needs something that isn't known, the command is refused for that reason;
nothing passes unchecked.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from decimal import Context, Decimal

import msgspec
from attrs import frozen

from recorder.exchange.amounts import canonical_amount
from recorder.exchange.commands import (
    BATCH_TYPES,
    MODIFY_ORDER,
    PLACE_BATCH_ORDERS,
    PLACE_LIMIT_ORDER,
    PLACE_MARKET_ORDER,
)

EVERY_PAIR = "*"

MAX_QUANTITY = "max_quantity"
MAX_VALUE = "max_value"
MAX_OPEN_ORDERS = "max_open_orders"
MAX_PRICE_DEVIATION = "max_price_deviation"

#: Products of two amounts are exact in it.
_EXACT = Context(prec=200)
#: Such an order never comes to rest in the book.
_PASSING = frozenset({"IOC", "FOK"})


class _Reported(msgspec.Struct, rename="camel"):
    """The fields of any request that matter here; the others are passed over."""

    pair: str = ""
    quantity: str | None = None
    price: str | None = None
    base_amount: str | None = None
    quote_amount: str | None = None
    new_price: str | None = None
    new_total_quantity: str | None = None
    new_remaining_quantity: str | None = None
    order_id: str | None = None
    customer_order_id: str | None = None
    time_in_force: str | None = None


class _Request(msgspec.Struct):
    type: str
    data: _Reported


class _Batch(msgspec.Struct):
    requests: list[_Request]


_read_reported = msgspec.json.Decoder(_Reported).decode
_read_batch = msgspec.json.Decoder(_Batch).decode


@frozen
class Asked:
    """What one request asks for. Pairs are in capitals, whatever the caller wrote."""

    command: str
    pair: str
    quantity: Decimal | None = None
    quote_amount: Decimal | None = None
    price: Decimal | None = None
    may_rest: bool = False
    order_id: str | None = None
    customer_order_id: str | None = None


@frozen
class Limits:
    """The limits of one pair; None where there is none."""

    max_quantity: Decimal | None = None
    max_value: Decimal | None = None
    max_open_orders: int | None = None
    max_price_deviation: Decimal | None = None


@frozen
class OpenExposure:
    """What a change leaves of an order where it names no value. None: not known."""

    quantity: Decimal | None = None
    price: Decimal | None = None


@frozen
class Refusal:
    """Which rule a command breaks, and how."""

    rule: str
    message: str


class UnreadableError(ValueError):
    """The payload cannot be sent. The encoder reports why."""


def asked_for(command: str, payload: str) -> tuple[Asked, ...]:
    """Return what each request of a payload asks for. Raises UnreadableError."""
    try:
        if command == PLACE_BATCH_ORDERS:
            requests = _read_batch(payload).requests
            return tuple(_asked(BATCH_TYPES[each.type], each.data) for each in requests)
        return (_asked(command, _read_reported(payload)),)
    except (ValueError, ArithmeticError, KeyError, RecursionError) as error:
        raise UnreadableError(str(error)) from error


def pairs_of(command: str, payload: str) -> frozenset[str]:
    """Return the pairs that a payload names, in capitals. Raises UnreadableError."""
    return frozenset(request.pair for request in asked_for(command, payload))


def strictest(rows: Iterable[Limits]) -> Limits:
    """Return limits of which each is the least that any of the rows states."""
    some = list(rows)
    opens = [row.max_open_orders for row in some if row.max_open_orders is not None]
    return Limits(
        _least(row.max_quantity for row in some),
        _least(row.max_value for row in some),
        min(opens, default=None),
        _least(row.max_price_deviation for row in some),
    )


def check(
    requests: Sequence[Asked],
    limits: Mapping[str, Limits],
    *,
    open_orders: Mapping[str, int],
    last_prices: Mapping[str, Decimal],
    exposure: Mapping[Asked, OpenExposure],
) -> Refusal | None:
    """Return the first rule that any of a command's requests breaks, or None.

    ``limits`` and ``open_orders`` have every pair asked for that is limited, ``last_prices`` those
    of which a price was ever seen, and ``exposure`` the changes whose order is known.
    """
    counted = dict(open_orders)
    for request in requests:
        limit = limits.get(request.pair)
        if limit is None:
            continue
        last = last_prices.get(request.pair)
        broken = (
            _quantity(request, limit, last)
            or _value(request, limit, last, exposure.get(request, OpenExposure()))
            or _price(request, limit, last)
            or _count(request, limit, counted)
        )
        if broken is not None:
            return broken
    return None


def _quantity(request: Asked, limit: Limits, last: Decimal | None) -> Refusal | None:
    if limit.max_quantity is None:
        return None
    quantity = request.quantity
    if quantity is None and request.quote_amount is not None:
        if last is None:
            return _unseen(MAX_QUANTITY, request.pair)
        quantity = request.quote_amount / last
    if quantity is None or quantity <= limit.max_quantity:
        return None
    return Refusal(
        MAX_QUANTITY,
        f"{_shown(quantity)} is more than {_shown(limit.max_quantity)} of {request.pair}",
    )


def _value(
    request: Asked, limit: Limits, last: Decimal | None, exposure: OpenExposure
) -> Refusal | None:
    if limit.max_value is None or not _is_order(request):
        return None
    value = request.quote_amount
    if value is None:
        quantity, price = request.quantity, request.price
        if request.command == PLACE_MARKET_ORDER:
            price = last
            if last is None:
                return _unseen(MAX_VALUE, request.pair)
        elif request.command == MODIFY_ORDER:
            quantity, price = quantity or exposure.quantity, price or exposure.price
        if quantity is None or price is None:
            answer = (
                f"the order of {request.pair} to be changed isn't known, so what it would be worth"
            )
            return Refusal(MAX_VALUE, f"{answer} isn't known")
        value = _EXACT.multiply(quantity, price)
    if value <= limit.max_value:
        return None
    return Refusal(
        MAX_VALUE, f"{_shown(value)} is worth more than {_shown(limit.max_value)} on {request.pair}"
    )


def _price(request: Asked, limit: Limits, last: Decimal | None) -> Refusal | None:
    allowed = limit.max_price_deviation
    if allowed is None or request.price is None:
        return None
    if last is None:
        return _unseen(MAX_PRICE_DEVIATION, request.pair)
    if abs(_EXACT.subtract(request.price, last)) <= _EXACT.multiply(allowed, last):
        return None
    return Refusal(
        MAX_PRICE_DEVIATION,
        f"{_shown(request.price)} is further than {_shown(allowed * 100)} % from"
        f" {_shown(last)}, the last price seen of {request.pair}",
    )


def _count(request: Asked, limit: Limits, counted: dict[str, int]) -> Refusal | None:
    """Count the order with those before it in the same batch, if it may come to rest."""
    if limit.max_open_orders is None or not request.may_rest:
        return None
    counted[request.pair] = counted.get(request.pair, 0) + 1
    if counted[request.pair] <= limit.max_open_orders:
        return None
    return Refusal(
        MAX_OPEN_ORDERS,
        f"this would be open order {counted[request.pair]} of {request.pair},"
        f" more than {limit.max_open_orders}",
    )


def _asked(command: str, reported: _Reported) -> Asked:
    pair, price, quantity = reported.pair.upper(), reported.price, reported.quantity
    if command == PLACE_MARKET_ORDER:
        price, quantity = None, reported.base_amount
    elif command == MODIFY_ORDER:
        price = reported.new_price
        quantity = reported.new_total_quantity or reported.new_remaining_quantity
    elif command != PLACE_LIMIT_ORDER:
        price = quantity = None
    return Asked(
        command,
        pair,
        quantity=_amount(quantity),
        quote_amount=_amount(reported.quote_amount) if command == PLACE_MARKET_ORDER else None,
        price=_amount(price),
        may_rest=command == PLACE_LIMIT_ORDER and reported.time_in_force not in _PASSING,
        order_id=reported.order_id,
        customer_order_id=reported.customer_order_id,
    )


def _is_order(request: Asked) -> bool:
    return request.command in (PLACE_LIMIT_ORDER, PLACE_MARKET_ORDER, MODIFY_ORDER)


def _unseen(rule: str, pair: str) -> Refusal:
    return Refusal(rule, f"no price of {pair} was ever seen, so this can't be checked")


def _amount(text: str | None) -> Decimal | None:
    return None if text is None else Decimal(text)


def _least(amounts: Iterable[Decimal | None]) -> Decimal | None:
    return min((amount for amount in amounts if amount is not None), default=None)


def _shown(amount: Decimal) -> str:
    """Return at most 12 digits of an amount: it may be a quotient."""
    text = canonical_amount(amount)
    return text if len(text) <= 40 else f"{amount:.12g}"
