"""Compares what we hold with what the exchange answers, while frames keep arriving. Pure.

An answer was true at some time between its request and its arrival, and frames about the same time
may be received a little before or after. So it isn't compared with one state of ours but with all
that ours passed through meanwhile (a *window*): what equals any of them is explained.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal

from attrs import frozen

from recorder.exchange.amounts import canonical_amount
from recorder.exchange.lists import RestOrder

#: The amounts of a balance that both sides report.
AMOUNTS = ("available", "reserved", "total")
BALANCES, OPEN_ORDERS = "balances", "open_orders"
#: The field of a difference that is about a whole row.
WHOLE = "row"


@frozen
class Difference:
    """One value that differs, as text; None where a side has none.

    ``position`` is that of the event that our value is from.
    """

    list: str
    key: str
    field: str
    ours: str | None
    theirs: str | None
    position: int | None


@frozen
class Held:
    """A balance of ours, or of the exchange: None for what wasn't reported."""

    available: Decimal | None
    reserved: Decimal | None
    total: Decimal | None
    position: int | None = None


@frozen
class OpenState:
    """An order of ours as one event left it."""

    state: str
    is_live: bool
    price: Decimal | None
    remaining: Decimal | None
    position: int


NOTHING = Held(Decimal(0), Decimal(0), Decimal(0))


def differing_balances(
    theirs: Mapping[str, Held], window: Mapping[str, Sequence[Held]]
) -> list[Difference]:
    """Return what differs of each currency. One that a side doesn't list is zero there.

    ``window`` has the values that each currency passed through, oldest first.
    """
    found: list[Difference] = []
    for currency in sorted(theirs.keys() | window.keys()):
        their = theirs.get(currency, NOTHING)
        passed = window.get(currency) or (NOTHING,)
        if not any(_is_same(their, held) for held in passed):
            found += _differing_amounts(currency, passed[-1], their)
    return found


def _is_same(their: Held, held: Held) -> bool:
    return all(_agree(getattr(their, name), getattr(held, name)) for name in AMOUNTS)


def _agree(one: Decimal | None, other: Decimal | None) -> bool:
    return one is None or other is None or one == other


def _differing_amounts(currency: str, held: Held, their: Held) -> Iterable[Difference]:
    for name in AMOUNTS:
        ours, theirs = getattr(held, name), getattr(their, name)
        if not _agree(ours, theirs):
            yield Difference(BALANCES, currency, name, _text(ours), _text(theirs), held.position)


def differing_orders(
    theirs: Sequence[RestOrder], window: Mapping[str, Sequence[OpenState]], first: int
) -> list[Difference]:
    """Return what differs of the open orders.

    ``window`` has the states of each order, oldest first: the one at position ``first``, when the
    request was sent, and every later one.
    """
    found: list[Difference] = []
    for order in sorted(theirs, key=lambda each: each.order_id):
        found += _differing_order(order, window.get(order.order_id, ()))
    listed = {order.order_id for order in theirs}
    for order_id in sorted(window.keys() - listed):
        passed = window[order_id]
        # An order that began or ended meanwhile need not be in the answer.
        if passed[0].position <= first and all(each.is_live for each in passed):
            last = passed[-1]
            found.append(Difference(OPEN_ORDERS, order_id, WHOLE, last.state, None, last.position))
    return found


def _differing_order(order: RestOrder, passed: Sequence[OpenState]) -> Iterable[Difference]:
    if any(each.is_live and _is_as_reported(order, each) for each in passed):
        return
    name = order.order_id
    if not passed:
        yield Difference(OPEN_ORDERS, name, WHOLE, None, order.status or "open", None)
        return
    last = passed[-1]
    if not last.is_live:
        reported = order.status or "open"
        yield Difference(OPEN_ORDERS, name, "state", last.state, reported, last.position)
        return
    for what, ours, their in (
        ("remaining_quantity", last.remaining, order.remaining_quantity),
        ("price", last.price, order.price),
    ):
        if not _agree(ours, their):
            yield Difference(OPEN_ORDERS, name, what, _text(ours), _text(their), last.position)


def _is_as_reported(order: RestOrder, open_state: OpenState) -> bool:
    return _agree(order.remaining_quantity, open_state.remaining) and _agree(
        order.price, open_state.price
    )


def _text(amount: Decimal | None) -> str | None:
    return None if amount is None else canonical_amount(amount)
