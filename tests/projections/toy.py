"""A projection small enough to see through, over two real tables."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from decimal import Decimal
from typing import Any

from attrs import define, field

from recorder.exchange.messages import Message
from recorder.log.rules.event import Draft, Event
from recorder.projections.rules.fold import (
    Add,
    Change,
    Key,
    Put,
    Remove,
    Row,
    Rows,
    Table,
    Unfoldable,
)
from tests.log.drafts import frame


@define
class Toy:
    """COUNT adds to a counter, DROP removes it, ADD adds a row once, BAD can't be folded.

    Counters are rows of ``open_orders``: ``order_id`` names one, ``price`` is its sum. Only those
    called a, b and c are asked for before they are counted.
    """

    name: str = "toy"
    version: int = 1
    types: frozenset[str] = frozenset({"COUNT", "DROP", "ADD", "BAD"})
    tables: tuple[Table, ...] = (
        Table("open_orders", ("order_id",)),
        Table("trades", ("trade_id",), once=True),
    )
    #: Every message that ``keys`` was asked about, so that reading too often shows.
    asked: list[Message] = field(factory=list)

    def keys(self, message: Message) -> Iterable[tuple[str, Key]]:
        self.asked.append(message)
        return [("open_orders", (name,)) for name in ("a", "b", "c")]

    def fold(self, rows: Rows, event: Event, message: Message) -> Sequence[Change]:
        answer: dict[str, Any] = json.loads(event.payload)
        if event.type == "BAD":
            raise Unfoldable(f"bad on purpose {answer.get('why', '')}")
        if event.type == "ADD":
            reported = {"position": event.position, "item": 0, "trade_id": answer["id"]}
            reported |= {"source": "stream", "matched_by": "id"}
            return [Add("trades", (answer["id"],), reported | {"received_at": event.received_at})]
        key = (answer["name"],)
        if event.type == "DROP":
            return [Remove("open_orders", key)]
        before: Row = rows.get("open_orders", key) or {"price": Decimal(0)}
        price = before["price"] + Decimal(answer.get("by", "1"))
        counted = {"order_id": answer["name"], "price": price, "position": event.position}
        return [Put("open_orders", key, counted | {"pair": answer.get("note")})]


def answer(kind: str, *, account: str = "main", **payload: object) -> Draft:
    """Return the draft of a frame that the toy folds."""
    return frame(json.dumps({"type": kind, **payload}), kind=kind, account=account)
