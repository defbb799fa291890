"""Commands as values: a command that can be made can be queued, in the form that VALR wants to
receive.

Each class has the fields of VALR's payload in Python's spelling (``customer_order_id`` for
``customerOrderId``). The rules are those that the recorder goes by before it sends
(`recorder.exchange.commands`); here they are asked when the value is made, in the program that
made the mistake, and name the field as that program spells it.

Amounts keep their digits and their number of places: ``Decimal("0.0010")`` goes out as ``0.0010``.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from decimal import Decimal
from typing import Any, ClassVar, Final, Literal, TypeAlias, cast

import attrs
from attrs import field, frozen

from recorder.errors import Refused
from recorder.exchange.amounts import AmountError, parse_amount
from recorder.exchange.commands import (
    BATCH_TYPES,
    CANCEL_ORDER,
    MODIFY_ORDER,
    PLACE_BATCH_ORDERS,
    PLACE_LIMIT_ORDER,
    PLACE_MARKET_ORDER,
    parse_command,
)

Side: TypeAlias = Literal["BUY", "SELL"]
TimeInForce: TypeAlias = Literal["GTC", "FOK", "IOC"]
ModifyMatchStrategy: TypeAlias = Literal["RETAIN_ORIGINAL", "CANCEL_ORIGINAL", "REPRICE"]
#: What an amount may be given as. It is kept as a Decimal.
Amount: TypeAlias = Decimal | int | str

_KINDS: Final = {command: kind for kind, command in BATCH_TYPES.items()}


def _exact(value: Amount) -> Decimal:
    """Return the amount, or what is none as it came: only the class knows the field's name."""
    if isinstance(value, str) and ("," in value or value != value.strip()):
        # parse_amount reads VALR's "114,953"; in an order a comma may have been meant as a point.
        return cast(Decimal, value)
    try:
        return parse_amount(value)
    except AmountError:
        # As a text, because 1E+999999999 in plain notation fills the memory.
        is_number = isinstance(value, (int, Decimal)) and not isinstance(value, bool)
        return cast(Decimal, str(Decimal(value)) if is_number else value)


def _exact_or_none(value: Amount | None) -> Decimal | None:
    return None if value is None else _exact(value)


class _Checked:
    """Asks the recorder's rules as soon as the value is there."""

    #: The command's name in the outbox.
    command: ClassVar[str]

    def __attrs_post_init__(self) -> None:
        text = self.payload_text()
        try:
            parse_command(self.command, text)
        except Refused as error:
            raise _in_python(error) from error

    def payload(self) -> dict[str, object]:
        """Return VALR's payload, amounts as texts. What is None is left out."""
        members: dict[str, object] = {}
        for at in attrs.fields(cast(type[attrs.AttrsInstance], type(self))):
            value = getattr(self, at.name)
            if value is not None:
                members[_wire_name(at.name)] = _wire_value(at, value)
        return members

    def payload_text(self) -> str:
        """Return the payload as it is queued."""
        return json.dumps(self.payload(), separators=(",", ":"))


@frozen(kw_only=True)
class PlaceLimitOrder(_Checked):
    """Buy or sell ``quantity`` at ``price`` or better."""

    command: ClassVar[str] = PLACE_LIMIT_ORDER

    side: Side
    pair: str
    quantity: Decimal = field(converter=_exact)
    price: Decimal = field(converter=_exact)
    post_only: bool | None = None
    post_only_reprice: bool | None = None
    time_in_force: TimeInForce | None = None
    reduce_only: bool | None = None
    allow_margin: bool | None = None
    customer_order_id: str | None = None


@frozen(kw_only=True)
class PlaceMarketOrder(_Checked):
    """Buy or sell at once, for exactly one of ``base_amount`` and ``quote_amount``."""

    command: ClassVar[str] = PLACE_MARKET_ORDER

    side: Side
    pair: str
    base_amount: Decimal | None = field(default=None, converter=_exact_or_none)
    quote_amount: Decimal | None = field(default=None, converter=_exact_or_none)
    time_in_force: TimeInForce | None = None
    reduce_only: bool | None = None
    allow_margin: bool | None = None
    customer_order_id: str | None = None


@frozen(kw_only=True)
class CancelOrder(_Checked):
    """Cancel the order with exactly one of ``order_id`` and ``customer_order_id``."""

    command: ClassVar[str] = CANCEL_ORDER

    pair: str
    order_id: str | None = None
    customer_order_id: str | None = None


@frozen(kw_only=True)
class ModifyOrder(_Checked):
    """Change price or quantity of the order with exactly one of the two ids.

    At least one of the new values must be given, and at most one of the two quantities.
    """

    command: ClassVar[str] = MODIFY_ORDER

    pair: str
    modify_match_strategy: ModifyMatchStrategy
    order_id: str | None = None
    customer_order_id: str | None = None
    new_price: Decimal | None = field(default=None, converter=_exact_or_none)
    new_remaining_quantity: Decimal | None = field(default=None, converter=_exact_or_none)
    new_total_quantity: Decimal | None = field(default=None, converter=_exact_or_none)


#: What a batch may hold.
Request: TypeAlias = PlaceLimitOrder | PlaceMarketOrder | CancelOrder | ModifyOrder


def _requests(given: Iterable[Request]) -> tuple[Request, ...]:
    if not isinstance(given, Iterable):
        raise TypeError(f"requests must be a list of commands, not {_type_name(given)}")
    requests = tuple(given)
    for place, request in enumerate(requests):
        if not isinstance(request, Request):
            raise TypeError(
                f"requests[{place}] must be a PlaceLimitOrder, PlaceMarketOrder, CancelOrder or"
                f" ModifyOrder, not {_type_name(request)}"
            )
    return requests


@frozen(kw_only=True)
class PlaceBatchOrders(_Checked):
    """Send 1 to 20 commands as one. Placing and modifying don't go together."""

    command: ClassVar[str] = PLACE_BATCH_ORDERS

    requests: tuple[Request, ...] = field(converter=_requests)

    def payload(self) -> dict[str, object]:
        return {
            "requests": [
                {"type": _KINDS[request.command], "data": request.payload()}
                for request in self.requests
            ]
        }


#: What can be queued.
Command: TypeAlias = Request | PlaceBatchOrders


def _wire_name(name: str) -> str:
    first, *others = name.split("_")
    return first + "".join(word.capitalize() for word in others)


def _wire_value(at: attrs.Attribute[Any], value: object) -> str | bool:
    is_amount = at.converter is not None
    if is_amount and isinstance(value, float):
        raise TypeError(
            f"{at.name} must be a Decimal, an int or a str, not the float {value!r}: a float holds"
            " few decimals exactly (0.1 is 0.1000000000000000055…), so its digits can't be trusted"
        )
    if is_amount and isinstance(value, Decimal):
        return format(value, "f")
    if isinstance(value, str) or (isinstance(value, bool) and not is_amount):
        return value
    wanted = "a Decimal, an int or a str" if is_amount else "a str or a bool"
    raise TypeError(f"{at.name} must be {wanted}, not {_type_name(value)}")


_PYTHON_NAMES: Final = {
    _wire_name(at.name): at.name for kind in Request.__args__ for at in attrs.fields(kind)
}
_WIRE_NAME = re.compile("|".join(sorted(_PYTHON_NAMES, key=len, reverse=True)))


def _in_python(error: Refused) -> Refused:
    """Return the refusal with the fields spelt as the caller spells them."""
    rule, message = _spelt(error.rule), str(error)
    if message.startswith(f"{error.rule} "):
        # Behind the name may stand the caller's value, which is left alone.
        return Refused(rule, rule + message[len(error.rule) :])
    return Refused(rule, _spelt(message))


def _spelt(text: str) -> str:
    return _WIRE_NAME.sub(lambda name: _PYTHON_NAMES[name[0]], text)


def _type_name(value: object) -> str:
    return type(value).__name__
