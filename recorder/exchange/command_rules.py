"""The rule of each command: how it is sent, and what each member of its payload must be.

The database checks a row when it is queued; `commands` checks it again, more closely, before it is
sent. Members that are not known pass, because VALR adds some without notice. A new command is a
`Rule` in a module of its own, and a line in `commands.RULES`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from attrs import field, frozen

#: Characters of an amount: more than any asset has digits.
AMOUNT_CHARS_MAX = 64

_AMOUNT = re.compile(r"(?:0|[1-9][0-9]*)(?:\.[0-9]+)?")
PAIR = re.compile(r"[0-9A-Za-z_-]{1,40}")
_ORDER_ID = re.compile(r"[0-9A-Za-z-]{1,64}")
_CUSTOMER_ORDER_ID = re.compile(r"[0-9a-zA-Z-]{1,50}")

#: Returns what is wrong with a value, or "".
Check = Callable[[object], str]


def amount(value: object) -> str:
    """Check a positive decimal number in a string."""
    if not isinstance(value, str):
        return f"must be a decimal number in a string, not {kind_of(value)}"
    if len(value) > AMOUNT_CHARS_MAX:
        return f"is longer than {AMOUNT_CHARS_MAX} characters"
    if not _AMOUNT.fullmatch(value) or not value.strip("0."):
        return f'must be a positive decimal number such as "0.001", not {shown(value)}'
    return ""


def one_of(*words: str) -> Check:
    """Return a check for one of some words."""

    def check(value: object) -> str:
        known = isinstance(value, str) and value in words
        return "" if known else f"must be one of {', '.join(words)}, not {shown(value)}"

    return check


def matching(pattern: re.Pattern[str]) -> Check:
    """Return a check for a text of a pattern."""

    def check(value: object) -> str:
        fits = isinstance(value, str) and pattern.fullmatch(value)
        return "" if fits else f"must match {pattern.pattern}, not {shown(value)}"

    return check


def boolean(value: object) -> str:
    """Check a boolean."""
    return "" if isinstance(value, bool) else f"must be true or false, not {shown(value)}"


@frozen
class Number:
    """A JSON number. None of the members that we know is one, so its value doesn't matter."""

    text: str


def kind_of(value: object) -> str:
    """Return the kind of a decoded value, for a message."""
    names = {Number: "a number", bool: "a boolean", str: "a string", list: "a list"}
    return "nothing" if value is None else names.get(type(value), "an object")


def shown(value: object) -> str:
    """Return a caller's value for a message, in printable ASCII and shortened."""
    if not isinstance(value, str):
        return kind_of(value)
    return ascii(value) if len(value) <= 40 else ascii(value[:40]) + "…"


@frozen
class Rule:
    """How a command is sent, and what its payload must be.

    ``wire_type`` is VALR's name of it, ``pace`` the kind that VALR's rate limits count it as.
    ``choices`` are names of which so many at least and so many at most must be given. A command
    that may be in a batch has its ``batch_type`` there.
    """

    wire_type: str
    pace: str
    checks: Mapping[str, Check] = field(factory=dict)
    required: frozenset[str] = frozenset()
    choices: Sequence[tuple[tuple[str, ...], int, int]] = ()
    batch_type: str | None = None
    is_placing: bool = False


_ANY_ORDER: Final[Mapping[str, Check]] = {
    "pair": matching(PAIR),
    "customerOrderId": matching(_CUSTOMER_ORDER_ID),
}
_NEW_ORDER: Final[Mapping[str, Check]] = {
    "side": one_of("BUY", "SELL"),
    **_ANY_ORDER,
    "timeInForce": one_of("GTC", "FOK", "IOC"),
    "reduceOnly": boolean,
    "allowMargin": boolean,
}
_OLD_ORDER: Final[Mapping[str, Check]] = {**_ANY_ORDER, "orderId": matching(_ORDER_ID)}
_ONE_NAME = (("orderId", "customerOrderId"), 1, 1)

LIMIT_ORDER: Final = Rule(
    wire_type="PLACE_LIMIT_ORDER",
    pace="place",
    checks={
        **_NEW_ORDER,
        "quantity": amount,
        "price": amount,
        "postOnly": boolean,
        "postOnlyReprice": boolean,
    },
    required=frozenset({"side", "pair", "quantity", "price"}),
    batch_type="PLACE_LIMIT",
    is_placing=True,
)
MARKET_ORDER: Final = Rule(
    wire_type="PLACE_MARKET_ORDER",
    pace="place",
    checks={**_NEW_ORDER, "baseAmount": amount, "quoteAmount": amount},
    required=frozenset({"side", "pair"}),
    choices=((("baseAmount", "quoteAmount"), 1, 1),),
    batch_type="PLACE_MARKET",
    is_placing=True,
)
CANCEL: Final = Rule(
    wire_type="CANCEL_LIMIT_ORDER",
    pace="cancel",
    checks=_OLD_ORDER,
    required=frozenset({"pair"}),
    choices=(_ONE_NAME,),
    batch_type="CANCEL_ORDER",
)
MODIFY: Final = Rule(
    wire_type="MODIFY_ORDER",
    pace="modify",
    checks={
        **_OLD_ORDER,
        "modifyMatchStrategy": one_of("RETAIN_ORIGINAL", "CANCEL_ORIGINAL", "REPRICE"),
        "newPrice": amount,
        "newRemainingQuantity": amount,
        "newTotalQuantity": amount,
    },
    required=frozenset({"pair", "modifyMatchStrategy"}),
    choices=(
        _ONE_NAME,
        (("newRemainingQuantity", "newTotalQuantity"), 0, 1),
        (("newPrice", "newRemainingQuantity", "newTotalQuantity"), 1, 3),
    ),
    batch_type="MODIFY_ORDER",
)
#: Its requests are checked one by one.
BATCH: Final = Rule(wire_type="BATCH_ORDERS", pace="batch")
