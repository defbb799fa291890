"""What the callers of a drill queue, and what became of each at the exchange."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from attrs import define, field

from recorder.simulator import Simulator
from recorder.simulator.engine import Exchange

Row = Mapping[str, Any]
CARRY_OUT = Exchange.command

#: Statuses in which nothing has gone out.
UNSENT = ("queued", "expired", "withdrawn", "refused")
#: The steps that a row's history may have; written here once more, by hand, from the contract.
STEPS = {
    (None, "queued"),
    ("queued", "sending"),
    ("queued", "expired"),
    ("queued", "withdrawn"),
    ("queued", "refused"),
    ("sending", "sent"),
    ("sending", "in_doubt"),
    ("sending", "queued"),
    ("sent", "queued"),
    ("sent", "acknowledged"),
    ("sent", "rejected"),
    ("sent", "in_doubt"),
    ("acknowledged", "accepted"),
    ("acknowledged", "rejected"),
    *(("in_doubt", end) for end in ("acknowledged", "accepted", "rejected", "not_placed")),
    *(("not_placed", end) for end in ("acknowledged", "accepted", "rejected")),
}


@define(eq=False)
class Truth:
    """What the exchange did with each command, by the id on the wire."""

    simulator: Simulator
    #: What followed from each command that was carried out, its answer first.
    followed: dict[str, list[dict[str, Any]]] = field(factory=dict)

    def watch(self) -> None:
        """Listen to the engine from now on."""
        followed = self.followed

        def command(exchange: Exchange, frame: dict[str, Any]) -> list[dict[str, Any]]:
            frames = CARRY_OUT(exchange, frame)
            followed[str(frame.get("clientMsgId"))] = frames
            return frames

        # Its instances have no room for another.
        setattr(Exchange, "command", command)  # noqa: B010 - or mypy takes it for a method of ours

    def wire_ids(self, row: Row) -> list[str]:
        """Return the ids under which a row's command may have gone out."""
        name = row["client_msg_id"]
        return [name, *(f"{name}-again{number}" for number in range(1, 6))]

    def times(self, row: Row) -> list[int]:
        """Return how often each sending arrived."""
        return [self.simulator.exchange.received[name] for name in self.wire_ids(row)]

    def took_effect(self, row: Row) -> bool:
        """Return whether the exchange did what the row asks for."""
        frames = [each for name in self.wire_ids(row) for each in self.followed.get(name, ())]
        return any(EFFECTS[row["command"]](row, frame) for frame in frames)

    def is_cancelled(self, row: Row) -> bool:
        orders = self.simulator.exchange.trading.orders
        asked = json.loads(row["payload"])
        order = orders.all.get(asked.get("orderId", ""))
        return order is not None and order.status == "Cancelled"


def _is_processed(_: Row, frame: Mapping[str, Any]) -> bool:
    return frame["type"] == "ORDER_PROCESSED" and bool(frame["data"].get("success"))


def _is_changed(_: Row, frame: Mapping[str, Any]) -> bool:
    return frame["type"] == "MODIFY_ORDER_OUTCOME" and bool(frame["data"].get("success"))


def _is_cancelled(_: Row, frame: Mapping[str, Any]) -> bool:
    is_status = frame["type"] == "ORDER_STATUS_UPDATE"
    return bool(is_status and frame["data"]["orderStatusType"] == "Cancelled")


EFFECTS: dict[str, Callable[[Row, Mapping[str, Any]], bool]] = {
    "PLACE_LIMIT_ORDER": _is_processed,
    "PLACE_MARKET_ORDER": _is_processed,
    "PLACE_BATCH_ORDERS": _is_processed,
    "MODIFY_ORDER": _is_changed,
    "CANCEL_ORDER": _is_cancelled,
}


def untruths(row: Row, truth: Truth) -> Iterable[str]:
    """Report what a settled row has wrong."""
    times, status = truth.times(row), row["status"]
    if max(times) > 1:
        yield f"arrived {times} times"
    if status in UNSENT and any(times):
        yield f"is {status}, and has arrived"
    did = truth.took_effect(row)
    # Two cancels of one order may both be reported that it is cancelled.
    is_done = did or (row["command"] == "CANCEL_ORDER" and truth.is_cancelled(row))
    if status == "accepted" and not is_done:
        yield "is accepted, and the exchange did nothing"
    if status in ("rejected", "not_placed") and did:
        yield f"is {status}, and the exchange did it"
    if status in ("sending", "sent"):
        yield f"is still {status}"


def some_command(
    rng: random.Random, number: int, open_ids: list[str]
) -> tuple[str, dict[str, Any]]:
    """Return a command and its payload."""
    kind = rng.random()
    if open_ids and kind < 0.2:
        return "CANCEL_ORDER", {"pair": "BTCZAR", "orderId": rng.choice(open_ids)}
    if open_ids and kind < 0.3:
        return "MODIFY_ORDER", {
            "pair": "BTCZAR",
            "orderId": rng.choice(open_ids),
            "modifyMatchStrategy": "RETAIN_ORIGINAL",
            # No other's price: whether it was made is seen from the order.
            "newPrice": str(800_000 + number),
        }
    if kind < 0.4:
        return "PLACE_MARKET_ORDER", {"pair": "BTCZAR", "side": "BUY", "baseAmount": "0.0001"}
    order = limit_order(rng)
    if kind < 0.5:
        legs = [{"type": "PLACE_LIMIT", "data": limit_order(rng)} for _ in range(2)]
        return "PLACE_BATCH_ORDERS", {"requests": legs}
    if kind < 0.7:
        order["customerOrderId"] = f"mine-{number}"
    return "PLACE_LIMIT_ORDER", order


def limit_order(rng: random.Random) -> dict[str, Any]:
    """Return an order far from the market."""
    price = str(900_000 + rng.randrange(1_000))
    return {"side": "BUY", "pair": "BTCZAR", "quantity": "0.0001", "price": price}
