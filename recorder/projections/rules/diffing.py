"""What we hold, compared with what the exchange answers, while frames keep arriving. Pure.

An answer was true at some moment between its request and its arrival, and the frames that tell of
the same moment may come a little before or after. So it isn't compared with one state of ours but
with all that we passed through meanwhile (a *window*): what equals any of them is explained.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal

from attrs import frozen

from recorder.exchange.amounts import canonical_amount
from recorder.exchange.rest import RestOrder

#: What both sides tell of a balance.
AMOUNTS = ("available", "reserved", "total")
BALANCES, OPEN_ORDERS = "balances", "open_orders"
#: The field of a difference that is about a whole row.
WHOLE = "row"


@frozen
class Difference:
    """One value that differs, as texts: canonical amounts, or words; None where there is none.

    ``position`` is the event that our value is from.
    """

    list: str
    key: str
    field: str
    ours: str | None
    theirs: str | None
    position: int | None


@frozen
class Held:
    """A balance of ours, or of the exchange: None for what wasn't told."""

    available: Decimal | None
    reserved: Decimal | None
    total: Decimal | None
    position: int | None = None


@frozen
class Standing:
    """An order of ours as one event left it."""

    state: str
    is_live: bool
    price: Decimal | None
    remaining: Decimal | None
    position: int


NOTHING = Held(Decimal(0), Decimal(0), Decimal(0))


def balances_apart(
    theirs: Mapping[str, Held], window: Mapping[str, Sequence[Held]]
) -> list[Difference]:
    """Return what differs of each currency. One that a side doesn't name is zero there.

    ``window`` has the values that each currency passed through, oldest first.
    """
    found: list[Difference] = []
    for currency in sorted(theirs.keys() | window.keys()):
        said = theirs.get(currency, NOTHING)
        passed = window.get(currency) or (NOTHING,)
        if not any(_is_same(said, held) for held in passed):
            found += _amounts_apart(currency, passed[-1], said)
    return found


def _is_same(said: Held, held: Held) -> bool:
    return all(_agree(getattr(said, name), getattr(held, name)) for name in AMOUNTS)


def _agree(one: Decimal | None, other: Decimal | None) -> bool:
    return one is None or other is None or one == other


def _amounts_apart(currency: str, held: Held, said: Held) -> Iterable[Difference]:
    for name in AMOUNTS:
        ours, theirs = getattr(held, name), getattr(said, name)
        if not _agree(ours, theirs):
            yield Difference(BALANCES, currency, name, _text(ours), _text(theirs), held.position)


def orders_apart(
    theirs: Sequence[RestOrder], window: Mapping[str, Sequence[Standing]], first: int
) -> list[Difference]:
    """Return what differs of the open orders.

    ``window`` has what each order passed through, oldest first: how it stood at position
    ``first``, when the request left, and everything since.
    """
    found: list[Difference] = []
    for order in sorted(theirs, key=lambda each: each.order_id):
        found += _order_apart(order, window.get(order.order_id, ()))
    listed = {order.order_id for order in theirs}
    for order_id in sorted(window.keys() - listed):
        passed = window[order_id]
        # What began or ended meanwhile need not be in the answer.
        if passed[0].position <= first and all(each.is_live for each in passed):
            last = passed[-1]
            found.append(Difference(OPEN_ORDERS, order_id, WHOLE, last.state, None, last.position))
    return found


def _order_apart(order: RestOrder, passed: Sequence[Standing]) -> Iterable[Difference]:
    if any(each.is_live and _is_as_told(order, each) for each in passed):
        return
    name = order.order_id
    if not passed:
        yield Difference(OPEN_ORDERS, name, WHOLE, None, order.status or "open", None)
        return
    last = passed[-1]
    if not last.is_live:
        told = order.status or "open"
        yield Difference(OPEN_ORDERS, name, "state", last.state, told, last.position)
        return
    for what, ours, said in (
        ("remaining_quantity", last.remaining, order.remaining_quantity),
        ("price", last.price, order.price),
    ):
        if not _agree(ours, said):
            yield Difference(OPEN_ORDERS, name, what, _text(ours), _text(said), last.position)


def _is_as_told(order: RestOrder, standing: Standing) -> bool:
    return _agree(order.remaining_quantity, standing.remaining) and _agree(
        order.price, standing.price
    )


def _text(amount: Decimal | None) -> str | None:
    return None if amount is None else canonical_amount(amount)
