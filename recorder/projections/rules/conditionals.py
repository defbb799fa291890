"""Conditional orders (take profit, stop loss): each in its latest state, and each change of it.

An ADD_CONDITIONAL_ORDER is the whole order, one with an older ``updatedAt`` is late. A
REMOVE_CONDITIONAL_ORDER ends it; the exchange's reason reports why, and only an ADD with a newer
time undoes it.

Whether VALR names them on connecting is not known, so nothing is inferred from a snapshot's
silence: an order that a new connection has not named by the end of its snapshot is ``unconfirmed``,
and stands. What decides is the list over REST: an unconfirmed order that it leaves out is no longer
there (``end_unknown``), one that was reported on this connection is unconfirmed first, because the
list may be older than the frame. A history over REST has the final state of an order.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from recorder.exchange.lists import ConditionalHistory, Conditionals, ListedConditional
from recorder.exchange.messages import AddConditionalOrder, RemoveConditionalOrder
from recorder.log.rules.event import Event
from recorder.projections.rules.fold import Add, Change, Key, Put, Row, Rows, Table
from recorder.projections.rules.order_statements import END_UNKNOWN, OPEN, is_live, state_of
from recorder.projections.rules.positions import INFERRED, REPORTED, UNCONFIRMED

CONDITIONALS = Table("conditional_orders", ("order_id",), resident="is_open")
HISTORY = Table("conditional_order_history", ("order_id", "position"), once=True)

#: The exchange took it away; ``reason`` has its word for why.
REMOVED = "removed"

_TERMS = (
    "customer_order_id",
    "pair",
    "trigger_order_side",
    "trigger_order_type",
    "trigger_type",
    "conditional_type",
    "position_side",
    "position_id",
    "quantity",
    "take_profit_trigger_price",
    "take_profit_place_price",
    "stop_loss_trigger_price",
    "stop_loss_place_price",
    "allow_margin",
    "linked_order_id",
    "created_at",
    "updated_at",
)
_VALUES = (*_TERMS, "status", "state", "basis", "reason")


# Frames


def added(rows: Rows, event: Event, message: AddConditionalOrder) -> Sequence[Change]:
    """Return what an order's statement changes."""
    old = rows.get("conditional_orders", (message.order_id,))
    if old is not None and _is_late(old, event, message):
        if old["is_open"] and old["connection_id"] is None:
            named = {**old, "connection_id": event.connection_id}
            return (Put("conditional_orders", (message.order_id,), named),)
        return ()
    return _become(old, event, message.order_id, _terms(message, None), event.connection_id)


def removed(rows: Rows, event: Event, message: RemoveConditionalOrder) -> Sequence[Change]:
    """Return the end of an order."""
    old = rows.get("conditional_orders", (message.order_id,))
    if old is not None and not old["is_open"] and old["state"] != END_UNKNOWN:
        return ()
    known = dict.fromkeys(_VALUES) if old is None else {name: old[name] for name in _VALUES}
    for name in ("customer_order_id", "pair"):
        known[name] = getattr(message, name) or known[name]
    known |= {"state": REMOVED, "basis": REPORTED, "reason": message.reason}
    return _become(old, event, message.order_id, known, event.connection_id)


# What a snapshot, or a list, leaves out


def left_out(rows: Rows, event: Event) -> Sequence[Change]:
    """Return the doubt about the orders that a new connection has not named."""
    changes: list[Change] = []
    for order_id, old in _open(rows):
        if old["connection_id"] != event.connection_id and old["basis"] != UNCONFIRMED:
            changes += _marked(old, event, order_id, OPEN, UNCONFIRMED)
    return changes


def listed(rows: Rows, event: Event, message: Conditionals) -> Sequence[Change]:
    """Return what a fetched list of the waiting orders changes."""
    changes: list[Change] = []
    named = {each.order.order_id: each for each in message.orders}
    for order_id, each in named.items():
        old = rows.get("conditional_orders", (order_id,))
        if old is None or _is_news(old, each.order):
            terms = _terms(each.order, each.status)
            known = None if old is None else old["connection_id"]
            changes += _become(old, event, order_id, terms, known)
        elif old["is_open"]:
            changes += _marked(old, event, order_id, OPEN, REPORTED)
    if message.is_whole:
        for order_id, old in _open(rows):
            if order_id in named:
                continue
            if old["basis"] == UNCONFIRMED:
                changes += _marked(old, event, order_id, END_UNKNOWN, INFERRED)
            else:
                changes += _marked(old, event, order_id, OPEN, UNCONFIRMED)
    return changes


def reported_ends(rows: Rows, event: Event, message: ConditionalHistory) -> Sequence[Change]:
    """Return the final states in a history of known orders that have none yet."""
    changes: list[Change] = []
    # Newest first, as VALR lists histories: what comes first of an order is its last word.
    ends: dict[str, ListedConditional] = {}
    for each in message.orders:
        if not is_live(state_of(each.status or "")):
            ends.setdefault(each.order.order_id, each)
    for order_id, each in ends.items():
        old = rows.get("conditional_orders", (order_id,))
        if old is not None and _may_end(old, each.order):
            ended = _terms(each.order, each.status) | {"state": state_of(each.status or "")}
            changes += _become(old, event, order_id, ended, old["connection_id"])
    return changes


# When a statement counts


def _is_late(old: Row, event: Event, message: AddConditionalOrder) -> bool:
    reported, stands = message.updated_at, old["updated_at"]
    if not old["is_open"] and old["state"] != END_UNKNOWN:
        return reported is None or stands is None or reported <= stands
    if old["connection_id"] not in (event.connection_id, None):
        return False
    return reported is not None and stands is not None and reported < stands


def _is_news(old: Row, order: AddConditionalOrder) -> bool:
    reported, stands = order.updated_at, old["updated_at"]
    if old["state"] == END_UNKNOWN:
        return reported is None or stands is None or reported >= stands
    return reported is not None and stands is not None and reported > stands


def _may_end(old: Row, order: AddConditionalOrder) -> bool:
    """Return whether a final state in a history is about the order as it is now."""
    reported, stands = order.updated_at, old["updated_at"]
    is_newer = reported is None or stands is None or reported >= stands
    return bool(is_newer and (old["is_open"] or old["state"] == END_UNKNOWN))


# Rows


def _terms(order: AddConditionalOrder, status: str | None) -> dict[str, Any]:
    values = {name: getattr(order, name) for name in _TERMS}
    return values | {"status": status, "state": OPEN, "basis": REPORTED, "reason": None}


def _marked(old: Row, event: Event, order_id: str, state: str, basis: str) -> Sequence[Change]:
    values = {name: old[name] for name in _VALUES} | {"state": state, "basis": basis}
    return _become(old, event, order_id, values, old["connection_id"])


def _become(
    old: Row | None,
    event: Event,
    order_id: str,
    values: Mapping[str, Any],
    connection_id: str | None,
) -> Sequence[Change]:
    """Return the row with these values, and its line in the history if any of them is new."""
    first = event.position if old is None else old["first_position"]
    row = {"order_id": order_id, **values, "connection_id": connection_id}
    row |= {"is_open": values["state"] == OPEN, "first_position": first}
    key: Key = (order_id,)
    if old is not None and all(row[name] == old[name] for name in _VALUES):
        row["last_position"] = old["last_position"]
        return () if row == old else (Put("conditional_orders", key, row),)
    row["last_position"] = event.position
    line = {"order_id": order_id, "position": event.position, "event_type": event.type}
    line |= {name: row[name] for name in _VALUES} | {"received_at": event.received_at}
    history = Add("conditional_order_history", (order_id, event.position), line)
    return (Put("conditional_orders", key, row), history)


def _open(rows: Rows) -> list[tuple[str, Row]]:
    held = rows.all("conditional_orders")
    return sorted((key[0], row) for key, row in held.items() if row["is_open"])
