"""The connections there were; with them the gaps between, whose rules are in `gaps`.

Both follow from our own notes alone (and from frames of which nothing can be read). A connection
that is still open when a recorder starts was left by one that died: its end is unknown, and it
stands as ``lost``.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from recorder.exchange.fields import FieldError, Fields
from recorder.exchange.messages import Message
from recorder.log.rules.event import Event, Note, Origin
from recorder.projections.rules.fold import Change, Key, Put, Row, Rows, Table, Unfoldable
from recorder.projections.rules.gaps import (
    GAP_NOTES,
    GAPS,
    UNREADABLE,
    fold_gaps,
    gap_keys,
    unreadable,
)
from recorder.projections.rules.reading import NoteMessage, is_received, time_of, unfoldable

CONNECTIONS = Table("connections", ("connection_id",), resident="is_open")

_NOTES = (
    Note.RECORDER_STARTED,
    Note.CONNECTION_OPENED,
    Note.CONNECTION_AUTHENTICATED,
    Note.CONNECTION_CLOSED,
    Note.CONNECTION_REFUSED,
)


class Connections:
    """The fold of the notes on starting, stopping, connecting, and on what was missed."""

    name = "connections"
    version = 2
    types = frozenset({*_NOTES, *GAP_NOTES, UNREADABLE})
    tables = (CONNECTIONS, GAPS)

    def keys(self, message: Message) -> Iterable[tuple[str, Key]]:
        """Open rows are resident; others change only where a note names them."""
        return gap_keys(message) if isinstance(message, NoteMessage) else ()

    def fold(self, rows: Rows, event: Event, message: Message) -> Sequence[Change]:
        """Return what a note changes. A frame that bears a note's type is none."""
        if event.type == UNREADABLE:
            return unreadable(event) if is_received(event) else ()
        if event.origin != Origin.NOTED:
            return ()
        if not isinstance(message, NoteMessage):
            raise unfoldable(message)
        try:
            return [
                *_fold_connection(rows, event, message.facts),
                *fold_gaps(rows, event, message.facts),
            ]
        except FieldError as error:
            raise Unfoldable(str(error)) from error


def _fold_connection(rows: Rows, event: Event, facts: Fields) -> Sequence[Change]:
    match event.type:
        case Note.RECORDER_STARTED:
            left = [row for row in rows.all("connections").values() if row["is_open"]]
            return [_put({**row, "state": "lost", "is_open": False}, event) for row in left]
        case Note.CONNECTION_OPENED:
            return [_put(_blank(event) | {"opened_at": event.received_at}, event)]
        case Note.CONNECTION_AUTHENTICATED:
            reported = {"state": "authenticated", "authenticated_at": event.received_at}
            return [_put({**_account_status(rows, event), **reported}, event)]
        case Note.CONNECTION_CLOSED | Note.CONNECTION_REFUSED:
            return _ended(rows, event, facts)
        case _:
            return ()


def _ended(rows: Rows, event: Event, facts: Fields) -> Sequence[Change]:
    reported: dict[str, Any] = {
        "state": "refused" if event.type == Note.CONNECTION_REFUSED else "closed",
        "is_open": False,
        "closed_at": event.received_at,
        "close_code": facts.whole("code"),
        "close_reason": facts.text("reason"),
        "closed_by": facts.text("by"),
        "frame_count": facts.whole("frames"),
        "last_frame_at": time_of(facts, "last_frame_at"),
    }
    return [_put({**_account_status(rows, event), **reported}, event)]


def _account_status(rows: Rows, event: Event) -> Row:
    """Return the connection's row; a refused upgrade has none yet."""
    return rows.get("connections", (event.connection_id,)) or _blank(event)


def _blank(event: Event) -> dict[str, Any]:
    if event.connection_id is None:
        raise Unfoldable("the note names no connection")
    return {
        "connection_id": event.connection_id,
        "opened_at": None,
        "authenticated_at": None,
        "closed_at": None,
        "close_code": None,
        "close_reason": None,
        "closed_by": None,
        "last_frame_at": None,
        "frame_count": None,
        "state": "opened",
        "is_open": True,
        "first_position": event.position,
    }


def _put(row: Row, event: Event) -> Put:
    reported = {**row, "last_position": event.position}
    return Put("connections", (row["connection_id"],), reported)
