"""The connections there were; with them the gaps between, whose rules are in `gaps`.

Both follow from our own notes alone (and from frames of which nothing can be read). A connection
that is still open when a recorder starts was left by one that died: its end is unknown, and its
state is ``lost``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from recorder.exchange.fields import Fields
from recorder.log.rules.event import Event, Note
from recorder.projections.rules.fold import Change, Row, Rows, Table, Unfoldable
from recorder.projections.rules.gaps import GAP_NOTES, GAPS, UNREADABLE, unreadable
from recorder.projections.rules.note_fold import FoldNote, NoteFold, put, whole

CONNECTIONS_TABLE = Table("connections", ("connection_id",), resident="is_open")


def _recorder_started(rows: Rows, event: Event, _: Fields) -> Sequence[Change]:
    left = [row for row in rows.all("connections").values() if row["is_open"]]
    lost = {"state": "lost", "is_open": False}
    return [put(CONNECTIONS_TABLE, {**row, **lost}, event) for row in left]


def _opened(_: Rows, event: Event, __: Fields) -> Sequence[Change]:
    row = {**_new_row(event), "opened_at": event.received_at}
    return [put(CONNECTIONS_TABLE, row, event)]


def _authenticated(rows: Rows, event: Event, _: Fields) -> Sequence[Change]:
    reported = {"state": "authenticated", "authenticated_at": event.received_at}
    return [put(CONNECTIONS_TABLE, {**_row(rows, event), **reported}, event)]


def _ended(rows: Rows, event: Event, facts: Fields) -> Sequence[Change]:
    reported = {
        "state": "refused" if event.type == Note.CONNECTION_REFUSED else "closed",
        "is_open": False,
        "closed_at": event.received_at,
        "close_code": facts.whole("code"),
        "close_reason": facts.text("reason"),
        "closed_by": facts.text("by"),
        "frame_count": facts.whole("frames"),
        "last_frame_at": facts.time("last_frame_at"),
    }
    return [put(CONNECTIONS_TABLE, {**_row(rows, event), **reported}, event)]


def _row(rows: Rows, event: Event) -> Row:
    """Return the connection's row; a refused upgrade has none yet."""
    return rows.get("connections", (event.connection_id,)) or _new_row(event)


def _new_row(event: Event) -> Row:
    if event.connection_id is None:
        raise Unfoldable("the note names no connection")
    return {
        "connection_id": event.connection_id,
        "state": "opened",
        "is_open": True,
        "first_position": event.position,
    }


_NOTES: Mapping[str, FoldNote] = {
    Note.RECORDER_STARTED: _recorder_started,
    Note.CONNECTION_OPENED: _opened,
    Note.CONNECTION_AUTHENTICATED: _authenticated,
    Note.CONNECTION_CLOSED: _ended,
    Note.CONNECTION_REFUSED: _ended,
}


def _fold_note(rows: Rows, event: Event, facts: Fields) -> Sequence[Change]:
    folds = (_NOTES.get(event.type), GAP_NOTES.get(event.type))
    return [change for fold in folds if fold for change in fold(rows, event, facts)]


CONNECTIONS = NoteFold(
    name="connections",
    version=2,
    tables=(CONNECTIONS_TABLE, GAPS),
    notes=dict.fromkeys([*_NOTES, *GAP_NOTES], _fold_note),
    row_keys=((GAPS.name, whole("gap_id")), (GAPS.name, whole("position"))),
    frames={UNREADABLE: unreadable},
)
