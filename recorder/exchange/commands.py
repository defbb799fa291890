"""Commands on their way out: a queued row is checked, and becomes a frame.

Nothing is written again: the frame holds each of the payload's values in the very text that the
caller queued, so no amount changes its digits. The one thing added is a ``customerOrderId`` for
every order that has none. It finds the order again after a lost connection; being unique among
open orders only, it would not make a second sending safe.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from hashlib import sha256
from typing import Final

import msgspec
from attrs import field, frozen

from recorder.errors import ConfigurationError, Refused
from recorder.exchange import command_rules as rules
from recorder.exchange.command_rules import Number, Rule, kind_of, shown

PLACE_LIMIT_ORDER: Final = "PLACE_LIMIT_ORDER"
PLACE_MARKET_ORDER: Final = "PLACE_MARKET_ORDER"
CANCEL_ORDER: Final = "CANCEL_ORDER"
MODIFY_ORDER: Final = "MODIFY_ORDER"
PLACE_BATCH_ORDERS: Final = "PLACE_BATCH_ORDERS"

#: Every command that a row of the outbox may have.
RULES: Final[Mapping[str, Rule]] = {
    PLACE_LIMIT_ORDER: rules.LIMIT_ORDER,
    PLACE_MARKET_ORDER: rules.MARKET_ORDER,
    CANCEL_ORDER: rules.CANCEL,
    MODIFY_ORDER: rules.MODIFY,
    PLACE_BATCH_ORDERS: rules.BATCH,
}
COMMANDS: Final = tuple(RULES)
PLACING: Final = frozenset(name for name, rule in RULES.items() if rule.is_placing)
#: The type of a request inside a batch → the command that it equals.
BATCH_TYPES: Final[Mapping[str, str]] = {
    rule.batch_type: name for name, rule in RULES.items() if rule.batch_type
}

#: Requests in one batch (VALR's own limit).
BATCH_MAX = 20
#: Characters of a payload: twenty requests with room to spare.
PAYLOAD_CHARS_MAX = 65_536
#: Reads one level of an object and leaves each member's text as it is.
ONE_LEVEL: Final = msgspec.json.Decoder(dict[str, msgspec.Raw])

#: Characters of a generated customerOrderId, of VALR's 50; a leg of a batch gets two digits more.
GENERATED_ID_CHARS = 32


_LEG_ID = re.compile(rf"([0-9a-zA-Z]{{{GENERATED_ID_CHARS}}})(?:[01][0-9])")
_WIRE_TYPE = re.compile(r"[A-Z0-9_]{1,64}")
_REQUESTS: Final = msgspec.json.Decoder(list[dict[str, msgspec.Raw]])


def _wire_names(given: Mapping[str, str]) -> Mapping[str, str]:
    names = {**{name: rule.wire_type for name, rule in RULES.items()}, **given}
    unknown = sorted(set(names) - set(COMMANDS))
    wrong = sorted(name for name in COMMANDS if not _WIRE_TYPE.fullmatch(names[name]))
    if unknown or wrong:
        raise ConfigurationError(
            f"wire names: {', '.join(map(ascii, unknown + wrong))} can't be used; "
            f"give one of {', '.join(COMMANDS)} a name of capitals, digits and underscores"
        )
    return names


@frozen
class WireNames:
    """Which frame type each command is sent as; ``names`` overrides `RULES` in part."""

    names: Mapping[str, str] = field(factory=dict, converter=_wire_names)

    def of(self, command: str) -> str:
        """Return the frame type of one of `COMMANDS`."""
        return self.names[command]


@frozen
class Encoded:
    """The frame of a command, and the ids by which its orders are found again.

    ``customer_order_ids`` has one element per leg (None for one that names an order by VALR's id).
    ``customer_order_id`` and ``order_id`` are what the outbox row keeps: those of the only leg. Of
    a batch it keeps what the generated ids begin with, or else the first id that the caller gave a
    new order; never VALR's id, since news of an order that the batch cancels is none of the batch.
    """

    text: str
    customer_order_ids: tuple[str | None, ...]
    customer_order_id: str | None
    order_id: str | None


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
        raise Refused(
            "command", f"command must be one of {', '.join(COMMANDS)}, not {shown(command)}"
        )
    payload = _parse_object(payload_text)
    if command != PLACE_BATCH_ORDERS:
        return Command(command, (_parse_leg(command, payload, ""),))
    return Command(command, _parse_batch(payload))


def _parse_object(payload_text: str) -> Mapping[str, object]:
    if len(payload_text) > PAYLOAD_CHARS_MAX:
        raise Refused("payload", f"the payload is longer than {PAYLOAD_CHARS_MAX} characters")
    try:
        payload = json.loads(
            payload_text,
            object_pairs_hook=_without_duplicates,
            parse_int=Number,
            parse_float=Number,
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
        raise Refused("payload", f"the payload must be a JSON object, not {kind_of(payload)}")
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
        raise Refused(path, f"{path} must be an object, not {kind_of(request)}")
    kind = request.get("type")
    if not isinstance(kind, str) or kind not in BATCH_TYPES:
        raise Refused(f"{path}.type", f"{path}.type must be one of {', '.join(BATCH_TYPES)}")
    content = request.get("data")
    if not isinstance(content, dict):
        raise Refused(f"{path}.data", f"{path}.data must be an object, not {kind_of(content)}")
    return _parse_leg(BATCH_TYPES[kind], content, f"{path}.data.")


def _parse_leg(command: str, payload: Mapping[str, object], path: str) -> Leg:
    rule = RULES[command]
    for name, check in rule.checks.items():
        value = payload.get(name)
        if value is None:
            if name in rule.required:
                raise Refused(path + name, f"{path}{name} is missing")
            continue
        wrong = check(value)
        if wrong:
            raise Refused(path + name, f"{path}{name} {wrong}")
    for names, at_least, at_most in rule.choices:
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


def _text_or_none(value: object) -> str | None:
    return None if value is None else str(value)


def encode_command(
    command: str,
    payload_text: str,
    client_msg_id: str,
    names: WireNames,
    fallback_customer_order_id: str,
) -> Encoded:
    """Return the frame of a command. Raises Refused where `parse_command` does.

    ``fallback_customer_order_id`` is what an order without an id of its own is given; the orders of
    a batch get it with their two-digit place (from 00) behind.
    """
    legs = parse_command(command, payload_text).legs
    payload = ONE_LEVEL.decode(payload_text)
    if command == PLACE_BATCH_ORDERS:
        ids = tuple(
            _own_id(leg, f"{fallback_customer_order_id}{place:02d}")
            for place, leg in enumerate(legs)
        )
        payload["requests"] = _named_requests(payload["requests"], legs, ids)
        kept, order_id = _batch_id(legs, fallback_customer_order_id), None
    else:
        ids = (_own_id(legs[0], fallback_customer_order_id),)
        _name_order(payload, legs[0], ids[0])
        kept, order_id = ids[0], legs[0].order_id
    envelope = {
        "type": _raw(names.of(command)),
        "clientMsgId": _raw(client_msg_id),
        "payload": msgspec.Raw(_written(payload).encode()),
    }
    return Encoded(_written(envelope), ids, kept, order_id)


def generated_customer_order_id(account: str, outbox_id: int, client_msg_id: str) -> str:
    """Return the row's customerOrderId: the same whenever and wherever it is asked for.

    Letters and digits only, since some of VALR's pages forbid the dash that others allow.
    """
    named = json.dumps([account, outbox_id, client_msg_id])
    return sha256(named.encode()).hexdigest()[:GENERATED_ID_CHARS]


def wire_msg_id(client_msg_id: str, attempts: int) -> str:
    """Return the clientMsgId of a row's next sending, after so many that met the rate limit.

    Each sending has its own. A rate limit's answer that came twice, or late, is then never taken
    for one to a sending that it doesn't speak of, and that may have placed the order.
    """
    return client_msg_id if not attempts else f"{client_msg_id}-again{attempts}"


def batch_of_leg(customer_order_id: str) -> str | None:
    """Return what the row of a batch keeps, if this can be the generated id of one of its legs."""
    leg = _LEG_ID.fullmatch(customer_order_id)
    return leg.group(1) if leg else None


def _own_id(leg: Leg, fallback: str) -> str | None:
    return leg.customer_order_id or (fallback if leg.command in PLACING else None)


def _batch_id(legs: Sequence[Leg], fallback: str) -> str | None:
    placed = [leg.customer_order_id for leg in legs if leg.command in PLACING]
    if None in placed:
        return fallback
    return placed[0] if placed else None


def _named_requests(
    requests: msgspec.Raw, legs: Sequence[Leg], ids: Sequence[str | None]
) -> msgspec.Raw:
    written = []
    for request, leg, own_id in zip(_REQUESTS.decode(requests), legs, ids, strict=True):
        content = ONE_LEVEL.decode(request["data"])
        _name_order(content, leg, own_id)
        request["data"] = msgspec.Raw(_written(content).encode())
        written.append(_written(request))
    return msgspec.Raw(f"[{','.join(written)}]".encode())


def _name_order(payload: dict[str, msgspec.Raw], leg: Leg, own_id: str | None) -> None:
    if leg.command in PLACING and leg.customer_order_id is None and own_id is not None:
        payload["customerOrderId"] = _raw(own_id)


def _raw(text: str) -> msgspec.Raw:
    return msgspec.Raw(json.dumps(text).encode())


def _written(members: Mapping[str, msgspec.Raw]) -> str:
    """Return the object's text, each value in the text that it had."""
    written = (f"{json.dumps(name)}:{bytes(value).decode()}" for name, value in members.items())
    return "{" + ",".join(written) + "}"
