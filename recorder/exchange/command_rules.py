"""What a queued row may report: every member that we know is checked, and refused by name.

The database checks a row when it is queued; here it is checked again, more closely, before
anything is sent. Members that are not known pass, because VALR adds some without notice.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Final

import msgspec
from attrs import frozen

from recorder.errors import Refused

PLACE_LIMIT_ORDER: Final = "PLACE_LIMIT_ORDER"
PLACE_MARKET_ORDER: Final = "PLACE_MARKET_ORDER"
CANCEL_ORDER: Final = "CANCEL_ORDER"
MODIFY_ORDER: Final = "MODIFY_ORDER"
PLACE_BATCH_ORDERS: Final = "PLACE_BATCH_ORDERS"

COMMANDS: Final = (
    PLACE_LIMIT_ORDER,
    PLACE_MARKET_ORDER,
    CANCEL_ORDER,
    MODIFY_ORDER,
    PLACE_BATCH_ORDERS,
)
PLACING: Final = frozenset({PLACE_LIMIT_ORDER, PLACE_MARKET_ORDER})
#: The type of a request inside a batch → the command that it equals.
BATCH_TYPES: Final[Mapping[str, str]] = {
    "PLACE_LIMIT": PLACE_LIMIT_ORDER,
    "PLACE_MARKET": PLACE_MARKET_ORDER,
    "MODIFY_ORDER": MODIFY_ORDER,
    "CANCEL_ORDER": CANCEL_ORDER,
}

#: Requests in one batch (VALR's own limit).
BATCH_MAX = 20
#: Characters of a payload: twenty requests with room to spare.
PAYLOAD_CHARS_MAX = 65_536
#: Characters of an amount: more than any asset has digits.
AMOUNT_CHARS_MAX = 64

_AMOUNT = re.compile(r"(?:0|[1-9][0-9]*)(?:\.[0-9]+)?")
_PAIR = re.compile(r"[0-9A-Za-z_-]{1,40}")
_ORDER_ID = re.compile(r"[0-9A-Za-z-]{1,64}")
_CUSTOMER_ORDER_ID = re.compile(r"[0-9a-zA-Z-]{1,50}")

#: Reads one level of an object and leaves each member's text as it is.
ONE_LEVEL: Final = msgspec.json.Decoder(dict[str, msgspec.Raw])


@frozen
class Leg:
    """One request to the exchange: a whole command, or one of the requests of a batch."""

    command: str
    pair: str
    order_id: str | None
    customer_order_id: str | None


@frozen
class Command:
    """A payload that may be sent. ``legs`` has one element unless it is a batch."""

    command: str
    legs: tuple[Leg, ...]


def parse_command(command: str, payload_text: str) -> Command:
    """Return what the payload asks for. Raises Refused, naming the field and what it must be."""
    if command not in COMMANDS:
        raise Refused("command", f"{shown(command)} is no command; report {', '.join(COMMANDS)}")
    payload = _parse_object(payload_text)
    if command != PLACE_BATCH_ORDERS:
        return Command(command, (_parse_leg(command, payload, ""),))
    return Command(command, _parse_batch(payload))


@frozen
class _Number:
    """A JSON number. None of the members that we know is one, so its value doesn't matter."""

    text: str


def _parse_object(payload_text: str) -> Mapping[str, object]:
    if len(payload_text) > PAYLOAD_CHARS_MAX:
        raise Refused("payload", f"the payload is longer than {PAYLOAD_CHARS_MAX} characters")
    try:
        payload = json.loads(
            payload_text,
            object_pairs_hook=_without_duplicates,
            parse_int=_Number,
            parse_float=_Number,
            parse_constant=_refuse_constant,
        )
        if isinstance(payload, dict):
            # What is sent is cut from the text by a second reader: both must understand it.
            ONE_LEVEL.decode(payload_text)
    except RecursionError:
        raise Refused("payload", "the payload is nested too deeply") from None
    except ValueError as error:
        raise Refused(
            "payload", f"the payload is no JSON that can be sent: {error!s:.120}"
        ) from None
    if not isinstance(payload, dict):
        raise Refused("payload", f"the payload must be a JSON object, not {_kind(payload)}")
    return payload


def _without_duplicates(members: list[tuple[str, object]]) -> dict[str, object]:
    named = dict(members)
    if len(named) < len(members):
        names = [name for name, _ in members]
        twice = next(name for name in named if names.count(name) > 1)
        raise Refused("payload", f"{shown(twice)} stands twice in one object")
    return named


def _refuse_constant(name: str) -> object:
    raise Refused("payload", f"{name} is no JSON number")


def _parse_batch(payload: Mapping[str, object]) -> tuple[Leg, ...]:
    requests = payload.get("requests")
    if not isinstance(requests, list) or not 1 <= len(requests) <= BATCH_MAX:
        raise Refused("requests", f"requests must be a list of 1 to {BATCH_MAX} requests")
    legs = tuple(
        _parse_request(request, f"requests[{place}]") for place, request in enumerate(requests)
    )
    commands = {leg.command for leg in legs}
    if MODIFY_ORDER in commands and commands & PLACING:
        # VALR's own notes: MODIFY fails in such a batch while the orders beside it are placed.
        raise Refused("requests", "requests must not mix PLACE and MODIFY_ORDER: send two batches")
    own = [leg.customer_order_id for leg in legs if leg.command in PLACING]
    given = [name for name in own if name is not None]
    if len(set(given)) < len(given):
        raise Refused("requests", "two orders of one batch have the same customerOrderId")
    return legs


def _parse_request(request: object, path: str) -> Leg:
    if not isinstance(request, dict):
        raise Refused(path, f"{path} must be an object, not {_kind(request)}")
    kind = request.get("type")
    if not isinstance(kind, str) or kind not in BATCH_TYPES:
        raise Refused(f"{path}.type", f"{path}.type must be one of {', '.join(BATCH_TYPES)}")
    content = request.get("data")
    if not isinstance(content, dict):
        raise Refused(f"{path}.data", f"{path}.data must be an object, not {_kind(content)}")
    return _parse_leg(BATCH_TYPES[kind], content, f"{path}.data.")


def _parse_leg(command: str, payload: Mapping[str, object], path: str) -> Leg:
    for name, check in CHECKS[command].items():
        value = payload.get(name)
        if value is None:
            if name in _REQUIRED[command]:
                raise Refused(path + name, f"{path}{name} is missing")
            continue
        wrong = check(value)
        if wrong:
            raise Refused(path + name, f"{path}{name} {wrong}")
    for names, at_least, at_most in _CHOICES[command]:
        given = sum(payload.get(name) is not None for name in names)
        if not at_least <= given <= at_most:
            amount = {(1, 1): "exactly one", (0, 1): "at most one"}.get((at_least, at_most))
            message = f"{amount or 'at least one'} of {', '.join(names)} must be given"
            raise Refused(path + names[0], f"{path}: {message}" if path else message)
    return Leg(
        command,
        str(payload["pair"]),
        _text_or_none(payload.get("orderId")),
        _text_or_none(payload.get("customerOrderId")),
    )


# What each member must be: a check returns what is wrong, or "".

Check = Callable[[object], str]


def _amount(value: object) -> str:
    if not isinstance(value, str):
        return f"must be a decimal number in a string, not {_kind(value)}"
    if len(value) > AMOUNT_CHARS_MAX:
        return f"is longer than {AMOUNT_CHARS_MAX} characters"
    if not _AMOUNT.fullmatch(value) or not value.strip("0."):
        return f'must be a positive decimal number such as "0.001", not {shown(value)}'
    return ""


def _one_of(*words: str) -> Check:
    def check(value: object) -> str:
        known = isinstance(value, str) and value in words
        return "" if known else f"must be one of {', '.join(words)}, not {shown(value)}"

    return check


def _matching(pattern: re.Pattern[str]) -> Check:
    def check(value: object) -> str:
        fits = isinstance(value, str) and pattern.fullmatch(value)
        return "" if fits else f"must match {pattern.pattern}, not {shown(value)}"

    return check


def _boolean(value: object) -> str:
    return "" if isinstance(value, bool) else f"must be true or false, not {shown(value)}"


_SIDE = _one_of("BUY", "SELL")
_ANY_ORDER: Final[Mapping[str, Check]] = {
    "pair": _matching(_PAIR),
    "customerOrderId": _matching(_CUSTOMER_ORDER_ID),
}
_NEW_ORDER: Final[Mapping[str, Check]] = {
    "side": _SIDE,
    **_ANY_ORDER,
    "timeInForce": _one_of("GTC", "FOK", "IOC"),
    "reduceOnly": _boolean,
    "allowMargin": _boolean,
}
_OLD_ORDER: Final[Mapping[str, Check]] = {**_ANY_ORDER, "orderId": _matching(_ORDER_ID)}

CHECKS: Final[Mapping[str, Mapping[str, Check]]] = {
    PLACE_LIMIT_ORDER: {
        **_NEW_ORDER,
        "quantity": _amount,
        "price": _amount,
        "postOnly": _boolean,
        "postOnlyReprice": _boolean,
    },
    PLACE_MARKET_ORDER: {**_NEW_ORDER, "baseAmount": _amount, "quoteAmount": _amount},
    CANCEL_ORDER: _OLD_ORDER,
    MODIFY_ORDER: {
        **_OLD_ORDER,
        "modifyMatchStrategy": _one_of("RETAIN_ORIGINAL", "CANCEL_ORIGINAL", "REPRICE"),
        "newPrice": _amount,
        "newRemainingQuantity": _amount,
        "newTotalQuantity": _amount,
    },
}
_REQUIRED: Final[Mapping[str, frozenset[str]]] = {
    PLACE_LIMIT_ORDER: frozenset({"side", "pair", "quantity", "price"}),
    PLACE_MARKET_ORDER: frozenset({"side", "pair"}),
    CANCEL_ORDER: frozenset({"pair"}),
    MODIFY_ORDER: frozenset({"pair", "modifyMatchStrategy"}),
}
#: Names, of which so many at least and so many at most must be given.
_CHOICES: Final[Mapping[str, Sequence[tuple[tuple[str, ...], int, int]]]] = {
    PLACE_LIMIT_ORDER: (),
    PLACE_MARKET_ORDER: ((("baseAmount", "quoteAmount"), 1, 1),),
    CANCEL_ORDER: ((("orderId", "customerOrderId"), 1, 1),),
    MODIFY_ORDER: (
        (("orderId", "customerOrderId"), 1, 1),
        (("newRemainingQuantity", "newTotalQuantity"), 0, 1),
        (("newPrice", "newRemainingQuantity", "newTotalQuantity"), 1, 3),
    ),
}


def _text_or_none(value: object) -> str | None:
    return None if value is None else str(value)


def _kind(value: object) -> str:
    names = {_Number: "a number", bool: "a boolean", str: "a string", list: "a list"}
    return "nothing" if value is None else names.get(type(value), "an object")


def shown(value: object) -> str:
    """Return a caller's value for a message, in printable ASCII and shortened."""
    if not isinstance(value, str):
        return _kind(value)
    return ascii(value) if len(value) <= 40 else ascii(value[:40]) + "…"
