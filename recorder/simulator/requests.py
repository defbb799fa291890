"""Reads commands as strictly as VALR validates them: names, types, enumerations, formats."""

from __future__ import annotations

import re
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from attrs import frozen

from recorder.simulator.market import PAIRS

_AMOUNT = re.compile(r"[0-9]+(\.[0-9]+)?")
_NAME = re.compile(r"[0-9a-zA-Z-]{1,50}")
TIMES_IN_FORCE = ("GTC", "FOK", "IOC")
STRATEGIES = ("RETAIN_ORIGINAL", "CANCEL_ORIGINAL", "REPRICE")


class Invalid(Exception):
    """A request that validation turns down, with the fields that are wrong."""

    def __init__(self, errors: list[dict[str, str]]) -> None:
        super().__init__("; ".join(f"{each['field']}: {each['message']}" for each in errors))
        self.errors = errors


@frozen
class Placing:
    """A limit or market order that passed validation. Amounts not given are None."""

    pair: str
    side: str
    quantity: Decimal | None
    price: Decimal | None
    quote_amount: Decimal | None
    post_only: bool
    time_in_force: str
    customer_order_id: str | None


def read_limit(payload: Mapping[str, Any]) -> Placing:
    """Return a limit order. Raises Invalid."""
    wrong: list[dict[str, str]] = []
    placing = Placing(
        pair=_pair(payload, wrong),
        side=_side(payload, wrong),
        quantity=_amount(payload, "quantity", wrong),
        price=_amount(payload, "price", wrong),
        quote_amount=None,
        post_only=_flag(payload, "postOnly", wrong),
        time_in_force=_one_of(payload, "timeInForce", TIMES_IN_FORCE, "GTC", wrong),
        customer_order_id=_name(payload, wrong),
    )
    return _checked(placing, wrong)


def read_market(payload: Mapping[str, Any]) -> Placing:
    """Return a market order. Raises Invalid."""
    wrong: list[dict[str, str]] = []
    given = [name for name in ("baseAmount", "quoteAmount") if name in payload]
    if len(given) != 1:
        _add(wrong, "baseAmount", "exactly one of baseAmount and quoteAmount is required")
    placing = Placing(
        pair=_pair(payload, wrong),
        side=_side(payload, wrong),
        quantity=_amount(payload, "baseAmount", wrong) if "baseAmount" in given else None,
        price=None,
        quote_amount=_amount(payload, "quoteAmount", wrong) if "quoteAmount" in given else None,
        post_only=False,
        time_in_force="IOC",
        customer_order_id=_name(payload, wrong),
    )
    return _checked(placing, wrong)


def read_target(payload: Mapping[str, Any]) -> tuple[str | None, str | None]:
    """Return (order id, customer order id) of the order meant: exactly one. Raises Invalid."""
    wrong: list[dict[str, str]] = []
    _pair(payload, wrong)
    order_id, name = payload.get("orderId"), payload.get("customerOrderId")
    if (order_id is None) == (name is None):
        _add(wrong, "orderId", "exactly one of orderId and customerOrderId is required")
    for field, value in (("orderId", order_id), ("customerOrderId", name)):
        if value is not None and not isinstance(value, str):
            _add(wrong, field, "must be a string")
    if wrong:
        raise Invalid(wrong)
    return order_id, name


def read_change(
    payload: Mapping[str, Any],
) -> tuple[Decimal | None, Decimal | None, Decimal | None]:
    """Return (new price, new remaining, new total) of a modification. Raises Invalid."""
    wrong: list[dict[str, str]] = []
    if payload.get("modifyMatchStrategy") not in STRATEGIES:
        _add(wrong, "modifyMatchStrategy", f"must be one of {', '.join(STRATEGIES)}")
    names = ("newPrice", "newRemainingQuantity", "newTotalQuantity")
    given = {name: _amount(payload, name, wrong) for name in names if name in payload}
    if not given or {"newRemainingQuantity", "newTotalQuantity"} <= given.keys():
        _add(wrong, "newPrice", "give newPrice, or one of the two quantities, or both kinds")
    if wrong:
        raise Invalid(wrong)
    return tuple(given.get(name) for name in names)  # type: ignore[return-value]


def _checked(placing: Placing, wrong: list[dict[str, str]]) -> Placing:
    if wrong:
        raise Invalid(wrong)
    return placing


def _add(wrong: list[dict[str, str]], field: str, message: str) -> None:
    wrong.append({"field": field, "message": message})


def _pair(payload: Mapping[str, Any], wrong: list[dict[str, str]]) -> str:
    pair = payload.get("pair")
    if pair not in PAIRS:
        _add(wrong, "pair", "must be a known currency pair")
    return str(pair)


def _side(payload: Mapping[str, Any], wrong: list[dict[str, str]]) -> str:
    side = payload.get("side")
    if side not in ("BUY", "SELL"):
        _add(wrong, "side", "must be BUY or SELL")
    return str(side).lower()


def _amount(payload: Mapping[str, Any], name: str, wrong: list[dict[str, str]]) -> Decimal:
    value = payload.get(name)
    if not isinstance(value, str) or not _AMOUNT.fullmatch(value) or len(value) > 60:
        _add(wrong, name, "must be a positive decimal number in a string")
        return Decimal(1)
    if Decimal(value) <= 0:
        _add(wrong, name, "must be positive")
    return Decimal(value)


def _flag(payload: Mapping[str, Any], name: str, wrong: list[dict[str, str]]) -> bool:
    value = payload.get(name, False)
    if not isinstance(value, bool):
        _add(wrong, name, "must be true or false")
    return value is True


def _one_of(
    payload: Mapping[str, Any],
    name: str,
    words: tuple[str, ...],
    default: str,
    wrong: list[dict[str, str]],
) -> str:
    value = payload.get(name, default)
    if value not in words:
        _add(wrong, name, f"must be one of {', '.join(words)}")
    return str(value)


def _name(payload: Mapping[str, Any], wrong: list[dict[str, str]]) -> str | None:
    value = payload.get("customerOrderId")
    if value is None:
        return None
    if not isinstance(value, str) or not _NAME.fullmatch(value):
        _add(wrong, "customerOrderId", "must be 1 to 50 letters, digits or dashes")
    return str(value)
