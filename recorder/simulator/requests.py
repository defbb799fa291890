"""Reads commands as strictly as VALR validates them: names, types, enumerations, formats, steps."""

from __future__ import annotations

import re
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from attrs import define, field, frozen

from recorder.simulator.market import PAIRS, Pair

_AMOUNT = re.compile(r"[0-9]{1,15}(\.[0-9]{1,18})?", re.ASCII)
_NAME = re.compile(r"[0-9a-zA-Z-]{1,50}")
_MESSAGE_ID = re.compile(r"[ -~]{1,100}")
TIMES_IN_FORCE = ("GTC", "FOK", "IOC")
STRATEGIES = ("RETAIN_ORIGINAL", "CANCEL_ORIGINAL", "REPRICE")
#: An amount too large to be held by anyone here. Below it, products of amounts are exact in a
#: Decimal of 28 digits, as far as a balance can pay for them.
AMOUNT_MAX = Decimal(1_000_000_000)


class Invalid(Exception):
    """A request that validation turns down, with the members that are wrong."""

    def __init__(self, errors: list[dict[str, str]]) -> None:
        super().__init__("; ".join(f"{each['field']}: {each['message']}" for each in errors))
        self.errors = errors


@frozen
class Placing:
    """A limit or market order that passed validation. What isn't given is None."""

    pair: str
    side: str
    quantity: Decimal | None = None
    price: Decimal | None = None
    quote_amount: Decimal | None = None
    post_only: bool = False
    time_in_force: str = "IOC"
    customer_order_id: str | None = None

    @property
    def kind(self) -> str:
        """The order's type as answers spell it."""
        if self.price is None:
            return "market"
        return "post-only limit" if self.post_only else "limit"


@frozen
class Target:
    """Which order is meant: exactly one of the two is given."""

    order_id: str | None
    customer_order_id: str | None

    def members(self) -> dict[str, str]:
        """Return it as a frame names it."""
        named = {"orderId": self.order_id, "customerOrderId": self.customer_order_id}
        return {name: value for name, value in named.items() if value is not None}


@frozen
class Change:
    """What a modification wants; what isn't given is None."""

    target: Target
    strategy: str
    price: Decimal | None
    remaining: Decimal | None
    total: Decimal | None


def read_limit(payload: object) -> Placing:
    """Return a limit order. Raises Invalid."""
    reading = _Reading.of(payload)
    pair = reading.pair()
    placing = Placing(
        pair=pair.symbol,
        side=reading.side(),
        quantity=reading.amount("quantity", pair.step),
        price=reading.amount("price", pair.tick),
        post_only=reading.flag("postOnly"),
        time_in_force=reading.one_of("timeInForce", TIMES_IN_FORCE, "GTC"),
        customer_order_id=reading.name(),
    )
    for name in ("reduceOnly", "allowMargin", "postOnlyReprice"):
        reading.flag(name)
    if placing.post_only and placing.time_in_force != "GTC":
        reading.complain("timeInForce", "must be GTC for a post-only order")
    reading.end()
    return placing


def read_market(payload: object) -> Placing:
    """Return a market order. Raises Invalid."""
    reading = _Reading.of(payload)
    pair = reading.pair()
    given = [name for name in ("baseAmount", "quoteAmount") if name in reading.payload]
    if len(given) != 1:
        reading.complain("baseAmount", "exactly one of baseAmount and quoteAmount is required")
    placing = Placing(
        pair=pair.symbol,
        side=reading.side(),
        quantity=reading.amount("baseAmount", pair.step) if given == ["baseAmount"] else None,
        quote_amount=reading.amount("quoteAmount", None) if given == ["quoteAmount"] else None,
        customer_order_id=reading.name(),
    )
    reading.end()
    return placing


def read_target(payload: object) -> Target:
    """Return which order is meant. Raises Invalid."""
    reading = _Reading.of(payload)
    reading.pair()
    target = reading.target()
    reading.end()
    return target


def read_change(payload: object) -> Change:
    """Return a modification. Raises Invalid."""
    reading = _Reading.of(payload)
    pair = reading.pair()
    if {"newRemainingQuantity", "newTotalQuantity"} <= reading.payload.keys():
        reading.complain("newTotalQuantity", "can't stand beside newRemainingQuantity")
    change = Change(
        target=reading.target(),
        strategy=reading.one_of("modifyMatchStrategy", STRATEGIES, None),
        price=reading.optional_amount("newPrice", pair.tick),
        remaining=reading.optional_amount("newRemainingQuantity", pair.step),
        total=reading.optional_amount("newTotalQuantity", pair.step),
    )
    if change.price is None and change.remaining is None and change.total is None:
        reading.complain("newPrice", "nothing to modify")
    reading.end()
    return change


def read_amount(name: str, text: str) -> Decimal:
    """Return an amount that a person gave. Raises ValueError."""
    if not _AMOUNT.fullmatch(text) or not 0 < Decimal(text) < AMOUNT_MAX:
        raise ValueError(f"{name} is a decimal number above 0 and below {AMOUNT_MAX}")
    return Decimal(text)


def read_message_id(frame: Mapping[str, Any]) -> str | None:
    """Return the clientMsgId. Raises Invalid for what can't be echoed."""
    given = frame.get("clientMsgId")
    if given is None:
        return None
    if not isinstance(given, str) or not _MESSAGE_ID.fullmatch(given):
        raise Invalid([{"field": "clientMsgId", "message": "must be 1 to 100 ASCII characters"}])
    return given


@define
class _Reading:
    """One payload being read: values as far as they are right, and all that is wrong with it."""

    payload: Mapping[str, Any]
    wrong: list[dict[str, str]] = field(factory=list)

    @classmethod
    def of(cls, payload: object) -> _Reading:
        if not isinstance(payload, dict):
            raise Invalid([{"field": "payload", "message": "must be an object"}])
        return cls(payload)

    def complain(self, name: str, message: str) -> None:
        self.wrong.append({"field": name, "message": message})

    def end(self) -> None:
        if self.wrong:
            raise Invalid(self.wrong)

    def pair(self) -> Pair:
        given = self.payload.get("pair")
        if not isinstance(given, str) or given not in PAIRS:
            self.complain("pair", "must be a known currency pair")
            return PAIRS["BTCZAR"]
        return PAIRS[given]

    def side(self) -> str:
        return self.one_of("side", ("BUY", "SELL"), None).lower()

    def one_of(self, name: str, words: tuple[str, ...], default: str | None) -> str:
        given = self.payload.get(name, default)
        if not isinstance(given, str) or given not in words:
            self.complain(name, f"must be one of {', '.join(words)}")
            return words[0]
        return given

    def flag(self, name: str) -> bool:
        given = self.payload.get(name, False)
        if not isinstance(given, bool):
            self.complain(name, "must be true or false")
        return given is True

    def amount(self, name: str, step: Decimal | None) -> Decimal:
        given = self.payload.get(name)
        if not isinstance(given, str) or not _AMOUNT.fullmatch(given):
            self.complain(name, "must be a decimal number in a string")
            return Decimal(1)
        amount = Decimal(given)
        if not 0 < amount < AMOUNT_MAX:
            self.complain(name, f"must be more than 0 and less than {AMOUNT_MAX}")
        elif step is not None and amount % step:
            self.complain(name, f"must be a multiple of {step:f}")
        return amount

    def optional_amount(self, name: str, step: Decimal) -> Decimal | None:
        return self.amount(name, step) if name in self.payload else None

    def name(self) -> str | None:
        given = self.payload.get("customerOrderId")
        if given is None or given == "":
            return None
        if not isinstance(given, str) or not _NAME.fullmatch(given):
            self.complain("customerOrderId", "must be at most 50 letters, digits or dashes")
            return None
        return given

    def target(self) -> Target:
        order_id, name = self.payload.get("orderId"), self.name()
        if (order_id is None) == (name is None):
            self.complain("orderId", "exactly one of orderId and customerOrderId is required")
        elif order_id is not None and not (isinstance(order_id, str) and _NAME.fullmatch(order_id)):
            self.complain("orderId", "must be an order's id")
            order_id = None
        return Target(order_id, name)
