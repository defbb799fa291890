"""Positions: each in its latest state, every value it had, and each part of it that was closed.

An OPEN_POSITION_UPDATE is the whole position. One whose ``updatedAt`` is older than what stands
from the same connection is late and changes nothing; where the times are equal or unknown, the
later one in the log wins. The first statement of a connection always counts, as for balances.

A REDUCE_POSITION is a movement: it stands in the history, with the position's values of that
moment, and changes none of them, because the position itself is reported right after it (VALR: a
partial close is REDUCE_POSITION and OPEN_POSITION_UPDATE, a full one REDUCE_POSITION and
POSITION_CLOSED). It has no id, so one that came twice stands twice.

A POSITION_CLOSED is an end: the quantity is zero, and what else the position was worth stands in
the history. On the same connection only an update that is newer than the last reduction undoes it.

VALR names every open position on connecting. So once a snapshot is complete, a position that it
did not name is no longer held: its state is ``end_unknown``, its quantity zero by inference
(``inferred``). Where the snapshot was given up, it is ``unconfirmed`` and stands.

A list fetched over REST may be older than the frames before it in the log. So it changes only what
it has newer times for, and what it leaves out is ``unconfirmed`` first; only a second list without
it, and no frame in between, makes it ``end_unknown``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any

from recorder.exchange.lists import ClosedPositions, OpenPositions
from recorder.exchange.messages import OpenPositionUpdate, PositionClosed, ReducePosition
from recorder.log.rules.event import Event
from recorder.projections.rules.fold import Add, Change, Key, Put, Row, Rows, Table

POSITIONS = Table("positions", ("position_id",), resident="is_open")
HISTORY = Table("position_history", ("position_id", "position"), once=True)

OPEN = "open"
CLOSED = "closed"
END_UNKNOWN = "end_unknown"

REPORTED = "reported"
UNCONFIRMED = "unconfirmed"
INFERRED = "inferred"

_AMOUNTS = (
    "quantity",
    "realised_pnl",
    "unrealised_pnl",
    "average_entry_price",
    "session_average_entry_price",
    "total_session_entry_quantity",
    "total_session_value",
)
_TERMS = ("pair", "side", *_AMOUNTS, "leverage_tier", "created_at", "updated_at")
_VALUES = (*_TERMS, "state", "basis")

Statement = OpenPositionUpdate | ReducePosition | PositionClosed


def key_of(message: Statement) -> Key:
    """Return the key of the position that is meant: its id, or its pair where none was reported."""
    return (message.position_id or message.pair,)


# Frames


def reported(rows: Rows, event: Event, message: OpenPositionUpdate) -> Sequence[Change]:
    """Return what a position's statement changes."""
    key = key_of(message)
    old = rows.get("positions", key)
    if old is not None and _is_late(old, event, message.updated_at):
        if old["is_open"] and old["connection_id"] is None:
            # Only a list had named it, one that is newer: now this connection has, too.
            return (Put("positions", key, {**old, "connection_id": event.connection_id}),)
        return ()
    return _become(key, old, event, _terms(message), event.connection_id)


def reduced(rows: Rows, event: Event, message: ReducePosition) -> Sequence[Change]:
    """Return the movement that closed a part, and the last time of such a movement."""
    key = key_of(message)
    old = rows.get("positions", key) or _blank(key, event, message.pair)
    at = _latest(old["reduced_at"], message.created_at)
    row = {**old, "reduced_at": at, "position": event.position}
    part = {
        "closed_quantity": message.quantity,
        "close_price": message.close_price,
        "closed_pnl": message.realised_pnl,
        "closed_fees": message.fees,
        "close_type": message.close_type,
        "initial_margin_fraction_at_close": message.initial_margin_fraction_at_close,
        "closed_at": message.created_at,
    }
    return (Put("positions", key, row), _history(key, row, event, part))


def closed(rows: Rows, event: Event, message: PositionClosed) -> Sequence[Change]:
    """Return the end of a position."""
    key = key_of(message)
    old = rows.get("positions", key)
    if old is not None and old["state"] == CLOSED:
        return ()
    old = old or _blank(key, event, message.pair)
    return _become(key, old, event, _ended(old, CLOSED, REPORTED), event.connection_id)


# What a snapshot, or a list, leaves out


def left_out(rows: Rows, event: Event, *, is_complete: bool) -> Sequence[Change]:
    """Return what the end of a snapshot shows of the positions that it did not name."""
    changes: list[Change] = []
    for key, old in _open(rows):
        if old["connection_id"] == event.connection_id:
            continue
        if is_complete:
            ended = _ended(old, END_UNKNOWN, INFERRED)
            changes += _become(key, old, event, ended, old["connection_id"])
        else:
            changes += _doubt(key, old, event)
    return changes


def listed(rows: Rows, event: Event, message: OpenPositions) -> Sequence[Change]:
    """Return what a fetched list of the open positions changes."""
    changes: list[Change] = []
    named = {key_of(each): each for each in message.positions}
    for key, each in named.items():
        old = rows.get("positions", key)
        if old is None or _is_news(old, each.updated_at):
            known = None if old is None else old["connection_id"]
            changes += _become(key, old, event, _terms(each), known)
        elif old["basis"] == UNCONFIRMED:
            confirmed = {name: old[name] for name in _VALUES} | {"basis": REPORTED}
            changes += _become(key, old, event, confirmed, old["connection_id"])
    if message.is_whole:
        for key, old in _open(rows):
            if key in named:
                continue
            if old["basis"] == UNCONFIRMED:
                ended = _ended(old, END_UNKNOWN, INFERRED)
                changes += _become(key, old, event, ended, old["connection_id"])
            else:
                changes += _doubt(key, old, event)
    return changes


def summed_up(rows: Rows, event: Event, message: ClosedPositions) -> Sequence[Change]:
    """Return the ends in a list of closed positions, of those whose end was unknown."""
    changes: list[Change] = []
    for each in {one.position_id: one for one in message.positions}.values():
        key = (each.position_id,)
        old = rows.get("positions", key)
        if old is not None and old["state"] == END_UNKNOWN:
            ended = _ended(old, CLOSED, REPORTED) | {"realised_pnl": each.realised_pnl}
            changes += _become(key, old, event, ended, old["connection_id"])
    return changes


# When a statement counts


def _is_late(old: Row, event: Event, reported: datetime | None) -> bool:
    """Return whether a frame's statement is older than what stands."""
    stands = old["updated_at"]
    if old["connection_id"] not in (event.connection_id, None):
        return False
    if old["state"] == CLOSED:
        until = _latest(stands, old["reduced_at"])
        return reported is None or until is None or reported <= until
    return reported is not None and stands is not None and reported < stands


def _is_news(old: Row, reported: datetime | None) -> bool:
    """Return whether a fetched statement is newer than what stands."""
    stands = old["updated_at"]
    if old["state"] == END_UNKNOWN:
        return reported is None or stands is None or reported >= stands
    if old["state"] == CLOSED:
        ended = old["reduced_at"]
        return reported is not None and ended is not None and reported > max(ended, stands or ended)
    return reported is not None and (stands is None or reported > stands)


# Rows


def _terms(message: OpenPositionUpdate) -> Mapping[str, Any]:
    values = {name: getattr(message, name) for name in _TERMS}
    is_open = message.quantity != 0
    return values | {"state": OPEN if is_open else CLOSED, "basis": REPORTED}


def _ended(old: Row, state: str, basis: str) -> dict[str, Any]:
    """Return the values of a position that is no more: nothing is held, and no more is known."""
    gone = {name: None for name in _AMOUNTS} | {"quantity": Decimal(0)}
    kept = {name: old[name] for name in _TERMS if name not in gone}
    return {**kept, **gone, "state": state, "basis": basis}


def _doubt(key: Key, old: Row, event: Event) -> Sequence[Change]:
    values = {name: old[name] for name in _VALUES} | {"basis": UNCONFIRMED}
    return _become(key, old, event, values, old["connection_id"])


def _become(
    key: Key, old: Row | None, event: Event, values: Mapping[str, Any], connection_id: str | None
) -> Sequence[Change]:
    """Return the row with these values, and its line in the history if any of them is new."""
    position = old or _blank(key, event, values["pair"])
    row = {**position, **values, "connection_id": connection_id}
    row["is_open"] = row["state"] == OPEN
    if old is not None and row == old:
        return ()
    if old is not None and all(row[name] == old[name] for name in _VALUES):
        # It is named on another connection: a later snapshot can't call it absent by this one.
        return (Put("positions", key, row),)
    row["position"] = event.position
    return (Put("positions", key, row), _history(key, row, event, {}))


def _history(key: Key, row: Row, event: Event, part: Mapping[str, Any]) -> Add:
    values = {name: row[name] for name in _VALUES}
    reported = {"event_type": event.type, "received_at": event.received_at}
    identity = {"position_id": key[0], "position": event.position}
    return Add(
        "position_history", (*key, event.position), {**identity, **reported, **values, **part}
    )


def _blank(key: Key, event: Event, pair: str) -> Row:
    """Return a position of which nothing is known but that it is there."""
    return {
        "position_id": key[0],
        **dict.fromkeys(_TERMS),
        "pair": pair,
        "state": OPEN,
        "basis": REPORTED,
        "is_open": True,
        "reduced_at": None,
        "connection_id": event.connection_id,
        "first_position": event.position,
        "position": event.position,
    }


def _open(rows: Rows) -> list[tuple[Key, Row]]:
    return sorted((key, row) for key, row in rows.all("positions").items() if row["is_open"])


def _latest(one: datetime | None, other: datetime | None) -> datetime | None:
    if one is None or other is None:
        return one or other
    return max(one, other)
