"""Commands on their way out: the frame that a queued row becomes.

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

from recorder.errors import ConfigurationError
from recorder.exchange.command_rules import (
    CANCEL_ORDER,
    COMMANDS,
    MODIFY_ORDER,
    ONE_LEVEL,
    PLACE_BATCH_ORDERS,
    PLACE_LIMIT_ORDER,
    PLACE_MARKET_ORDER,
    PLACING,
    Command,
    Leg,
    parse_command,
)

__all__ = [
    "CANCEL_ORDER",
    "COMMANDS",
    "MODIFY_ORDER",
    "PLACE_BATCH_ORDERS",
    "PLACE_LIMIT_ORDER",
    "PLACE_MARKET_ORDER",
    "PLACING",
    "WIRE_TYPES",
    "Command",
    "Encoded",
    "Leg",
    "WireNames",
    "batch_of_leg",
    "encode_command",
    "generated_customer_order_id",
    "parse_command",
    "wire_msg_id",
]

#: What VALR calls the commands; only the middle one and the last differ from ours.
WIRE_TYPES: Final[Mapping[str, str]] = {
    PLACE_LIMIT_ORDER: "PLACE_LIMIT_ORDER",
    PLACE_MARKET_ORDER: "PLACE_MARKET_ORDER",
    CANCEL_ORDER: "CANCEL_LIMIT_ORDER",
    MODIFY_ORDER: "MODIFY_ORDER",
    PLACE_BATCH_ORDERS: "BATCH_ORDERS",
}

#: Characters of a generated customerOrderId, of VALR's 50; a leg of a batch gets two digits more.
GENERATED_ID_CHARS = 32


_LEG_ID = re.compile(rf"([0-9a-zA-Z]{{{GENERATED_ID_CHARS}}})(?:[01][0-9])")
_WIRE_TYPE = re.compile(r"[A-Z0-9_]{1,64}")
_REQUESTS: Final = msgspec.json.Decoder(list[dict[str, msgspec.Raw]])


def _wire_names(given: Mapping[str, str]) -> Mapping[str, str]:
    names = {**WIRE_TYPES, **given}
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
    """Which frame type each command is sent as; ``names`` overrides `WIRE_TYPES` in part."""

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
