"""How far each fetching of a period is, from our own notes alone.

A run begins with BACKFILL_STARTED, whose position is its id. Each answer is a ``fetched`` event
with a BACKFILL_PAGE before it, in the same transaction: which list of which run it is, what was
asked, and where that list is read on. So a restart finds here the page that is missing.
BACKFILL_FINISHED ends the run and reports whether anything is.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from recorder.exchange.fields import FieldError, Fields
from recorder.exchange.messages import Message
from recorder.log.rules.event import Event, Note
from recorder.projections.rules.fold import Change, Key, Put, Row, Rows, Table, Unfoldable
from recorder.projections.rules.reading import NoteMessage, is_note, time_of, unfoldable

RUNS = Table("backfill_runs", ("run_id",), resident="is_open")
LISTS = Table("backfill_lists", ("run_id", "list"))

RUNNING, COMPLETE, INCOMPLETE = "running", "complete", "incomplete"
_NOTES = (Note.BACKFILL_STARTED, Note.BACKFILL_PAGE, Note.BACKFILL_FINISHED)


class Backfills:
    """The fold of the notes on fetching."""

    name = "backfills"
    version = 1
    types = frozenset(note.value for note in _NOTES)
    tables = (RUNS, LISTS)

    def keys(self, message: Message) -> Iterable[tuple[str, Key]]:
        """Return the run, and the list of it, that the note is about."""
        if not isinstance(message, NoteMessage):
            return []
        try:
            run_id, name = message.facts.whole("run"), message.facts.text("list")
        except FieldError:
            return []
        asked: list[tuple[str, Key]] = [] if run_id is None else [("backfill_runs", (run_id,))]
        return [*asked, ("backfill_lists", (run_id, name))] if asked and name else asked

    def fold(self, rows: Rows, event: Event, message: Message) -> Sequence[Change]:
        """Return what a note changes. A frame that bears a note's type is none."""
        if not is_note(event, *self.types):
            return ()
        if not isinstance(message, NoteMessage):
            raise unfoldable(message)
        try:
            return _fold_note(rows, event, message.facts)
        except FieldError as error:
            raise Unfoldable(str(error)) from error


def _fold_note(rows: Rows, event: Event, facts: Fields) -> Sequence[Change]:
    if event.type == Note.BACKFILL_STARTED:
        return [_put(_begun(event, facts), event)]
    run = rows.get("backfill_runs", (facts.whole("run"),))
    if run is None:
        raise Unfoldable("the note is of a run that no note began")
    if event.type == Note.BACKFILL_PAGE:
        return _paged(rows, event, facts, run)
    reported = {
        "state": COMPLETE if facts.flag("complete") else INCOMPLETE,
        "is_open": False,
        "reason": facts.words("reason"),
        "ended_at": event.received_at,
    }
    return [_put({**run, **reported}, event)]


def _begun(event: Event, facts: Fields) -> Row:
    since, until = time_of(facts, "from"), time_of(facts, "until")
    if since is None or until is None:
        raise Unfoldable("the note names no period")
    return {
        "run_id": event.position,
        "gap_id": facts.whole("gap_id"),
        "backfill_id": facts.text("backfill_id"),
        "from_at": since,
        "until_at": until,
        "state": RUNNING,
        "is_open": True,
        "pages": 0,
        "answers": 0,
        "rows": 0,
        "reason": None,
        "started_at": event.received_at,
        "ended_at": None,
    }


def _paged(rows: Rows, event: Event, facts: Fields, run: Row) -> Sequence[Change]:
    name = facts.required_text("list")
    key = (run["run_id"], name)
    old = rows.get("backfill_lists", key) or _blank(run["run_id"], name)
    is_page = facts.flag("page") is True
    count = facts.whole("rows") or 0
    row: dict[str, Any] = {**old, "last_position": event.position}
    if is_page:
        row |= {
            "pages": old["pages"] + 1,
            "rows": old["rows"] + count,
            "unread": old["unread"] + (facts.whole("unread") or 0),
            "next": facts.text("next"),
            "state": RUNNING if facts.text("next") else COMPLETE,
        }
    if facts.flag("given_up"):
        row |= {"state": INCOMPLETE}
    # A page behind some problem is the end of it.
    row["reason"] = facts.words("reason")
    totals = {
        "pages": run["pages"] + is_page,
        "answers": run["answers"] + (facts.whole("status") is not None),
        "rows": run["rows"] + (count if is_page else 0),
    }
    return [_put({**run, **totals}, event), Put("backfill_lists", key, row)]


def _blank(run_id: int, name: str) -> Row:
    return {
        "run_id": run_id,
        "list": name,
        "state": RUNNING,
        "pages": 0,
        "rows": 0,
        "unread": 0,
        "next": None,
        "reason": None,
    }


def _put(row: Row, event: Event) -> Put:
    return Put("backfill_runs", (row["run_id"],), {**row, "last_position": event.position})
