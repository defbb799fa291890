"""The connections there were, and the stretches in which something may have been missed.

Both follow from our own notes alone. A connection that is still open when a recorder starts was
left by one that died: its end is unknown, and it stands as ``lost``.

A gap opens at the last known good moment (the last frame before the loss) and closes when the
snapshot after it has been read; only one is open at a time, and while it is, a further loss changes
nothing. The first start opens one without a beginning: of what came before it, nothing is known.
Closed doesn't mean healed: what happened in between is not in the snapshot.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

from recorder.exchange.fields import FieldError, Fields
from recorder.exchange.messages import Message
from recorder.log.event import Event, Note, Origin
from recorder.projections.fold import Change, Key, Put, Row, Rows, Table, Unfoldable
from recorder.projections.reading import NoteMessage, time_of, unfoldable

CONNECTIONS = Table("connections", ("connection_id",), resident="is_open")
GAPS = Table("gaps", ("gap_id",), resident="is_open")

_NOTES = (
    Note.RECORDER_STARTED,
    Note.RECORDER_STOPPED,
    Note.CONNECTION_OPENED,
    Note.CONNECTION_AUTHENTICATED,
    Note.CONNECTION_CLOSED,
    Note.CONNECTION_REFUSED,
    Note.SNAPSHOT_COMPLETE,
)


class Connections:
    """The fold of the notes on starting, stopping and connecting."""

    name = "connections"
    version = 1
    types = frozenset(note.value for note in _NOTES)
    tables = (CONNECTIONS, GAPS)

    def keys(self, message: Message) -> Iterable[tuple[str, Key]]:
        """Open rows are resident, and only those change."""
        return ()

    def fold(self, rows: Rows, event: Event, message: Message) -> Sequence[Change]:
        """Return what a note changes. A frame that bears a note's type is none."""
        if event.origin != Origin.NOTED:
            return ()
        if not isinstance(message, NoteMessage):
            raise unfoldable(message)
        try:
            return _fold_note(rows, event, message.facts)
        except FieldError as error:
            raise Unfoldable(str(error)) from error


def _fold_note(rows: Rows, event: Event, facts: Fields) -> Sequence[Change]:
    match event.type:
        case Note.RECORDER_STARTED:
            return _started(rows, event, facts)
        case Note.RECORDER_STOPPED:
            return _open_gap(rows, event, "stopped", event.received_at)
        case Note.SNAPSHOT_COMPLETE:
            # One that was given up says so: then nobody knows what is missing.
            return _close_gap(rows, event) if facts.flag("complete") else ()
        case Note.CONNECTION_OPENED:
            return [_put(_blank(event) | {"opened_at": event.received_at}, event)]
        case Note.CONNECTION_AUTHENTICATED:
            told = {"state": "authenticated", "authenticated_at": event.received_at}
            return [_put({**_standing(rows, event), **told}, event)]
        case _:
            return _ended(rows, event, facts)


def _started(rows: Rows, event: Event, facts: Fields) -> Sequence[Change]:
    left = [row for row in rows.all("connections").values() if row["is_open"]]
    changes = [_put({**row, "state": "lost", "is_open": False}, event) for row in left]
    last_event_at = time_of(facts, "last_event_at")
    cause = "first_start" if last_event_at is None else "killed"
    return [*changes, *_open_gap(rows, event, cause, last_event_at)]


def _ended(rows: Rows, event: Event, facts: Fields) -> Sequence[Change]:
    row = _standing(rows, event)
    refused = event.type == Note.CONNECTION_REFUSED
    told: dict[str, Any] = {
        "state": "refused" if refused else "closed",
        "is_open": False,
        "closed_at": event.received_at,
        "close_code": facts.whole("code"),
        "close_reason": facts.text("reason"),
        "closed_by": facts.text("by"),
        "frame_count": facts.whole("frames"),
        "last_frame_at": time_of(facts, "last_frame_at"),
    }
    since = told["last_frame_at"] or event.received_at
    return [_put({**row, **told}, event), *_open_gap(rows, event, _cause(told), since)]


def _cause(told: Row) -> str:
    if told["closed_by"] == "recorder" and told["close_code"] is None:
        return "stopped"
    return "silent" if "no PONG" in (told["close_reason"] or "") else "connection_lost"


def _open_gap(rows: Rows, event: Event, cause: str, since: datetime | None) -> Sequence[Change]:
    if any(row["is_open"] for row in rows.all("gaps").values()):
        return []
    row = {
        "gap_id": event.position,
        "cause": cause,
        "from_at": since,
        "until_at": None,
        "last_position_before": event.position - 1,
        "first_position_after": None,
        "state": "open",
        "is_open": True,
        "healed_by": None,
    }
    return [Put("gaps", (event.position,), row)]


def _close_gap(rows: Rows, event: Event) -> Sequence[Change]:
    told = {
        "until_at": event.received_at,
        "first_position_after": event.position,
        "state": "closed",
        "is_open": False,
    }
    return [
        Put("gaps", key, {**row, **told}) for key, row in rows.all("gaps").items() if row["is_open"]
    ]


def _standing(rows: Rows, event: Event) -> Row:
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
    told = {**row, "last_position": event.position}
    return Put("connections", (row["connection_id"],), told)
