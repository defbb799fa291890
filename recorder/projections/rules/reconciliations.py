"""Each comparison with the exchange, and what differed, from our own notes alone.

A comparison begins with RECONCILIATION_STARTED, whose position is its id. RECONCILIATION_ANSWER
is before each answer that was compared, DIFFERENCE_FOUND names what differed,
DIFFERENCE_ENDED how an earlier difference ended, and RECONCILIATION_FINISHED what it all came to.
One that no note ends was broken off; the next start reports so with the same note.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from recorder.exchange.fields import FieldError, Fields
from recorder.exchange.messages import Message
from recorder.log.rules.event import Event, Note
from recorder.projections.rules.fold import Change, Key, Put, Row, Rows, Table, Unfoldable
from recorder.projections.rules.reading import NoteMessage, is_note, time_of, unfoldable
from recorder.projections.rules.retired_names import REQUESTED_BY

RECONCILIATIONS = Table("reconciliations", ("reconciliation_id",), resident="is_open")
DIFFERENCES = Table("differences", ("difference_id",), resident="is_open")

RUNNING, CLEAN, DIFFERING, INCOMPLETE = "running", "clean", "differing", "incomplete"
#: A difference is open, or has ended: the next comparison finds both sides equal, or finds the same
#: again (and notes it again), or the very answer that showed it filled in what we lacked.
OPEN, GONE, FOUND_AGAIN, FILLED_IN = "open", "gone", "found_again", "filled_in"
_NOTES = (
    Note.RECONCILIATION_STARTED,
    Note.RECONCILIATION_ANSWER,
    Note.DIFFERENCE_FOUND,
    Note.DIFFERENCE_ENDED,
    Note.RECONCILIATION_FINISHED,
)


class Reconciliations:
    """The fold of the notes on diffing."""

    name = "reconciliations"
    version = 1
    types = frozenset(note.value for note in _NOTES)
    tables = (RECONCILIATIONS, DIFFERENCES)

    def keys(self, message: Message) -> Iterable[tuple[str, Key]]:
        """Return the comparison, and the difference, that the note is about."""
        if not isinstance(message, NoteMessage):
            return []
        try:
            named = [
                ("reconciliations", message.facts.whole("run")),
                ("differences", message.facts.whole("difference_id")),
            ]
        except FieldError:
            return []
        return [(table, (number,)) for table, number in named if number is not None]

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
    if event.type == Note.RECONCILIATION_STARTED:
        return [_put(_begun(event, facts), event)]
    if event.type == Note.DIFFERENCE_ENDED:
        return [_ended(rows, event, facts)]
    run = rows.get("reconciliations", (facts.whole("run"),))
    if run is None:
        raise Unfoldable("the note is of a comparison that no note began")
    if event.type == Note.RECONCILIATION_ANSWER:
        return [_put({**run, "answers": run["answers"] + 1}, event)]
    if event.type == Note.DIFFERENCE_FOUND:
        counted = {**run, "differences": run["differences"] + 1}
        found = _found(event, facts, run)
        return [_put(counted, event), Put("differences", (event.position,), found)]
    reported = {
        "state": facts.required_text("state"),
        "is_open": False,
        "reason": facts.words("reason"),
        "balances": facts.whole("balances"),
        "open_orders": facts.whole("open_orders"),
        "history_rows": facts.whole("history_rows"),
        "from_at": time_of(facts, "from"),
        "until_at": time_of(facts, "until"),
        "ended_at": event.received_at,
    }
    return [_put({**run, **reported}, event)]


def _begun(event: Event, facts: Fields) -> Row:
    return {
        "reconciliation_id": event.position,
        "requested_by": facts.required_text(*REQUESTED_BY),
        "request_id": facts.text("request_id"),
        "from_at": None,
        "until_at": None,
        "state": RUNNING,
        "is_open": True,
        "reason": None,
        "balances": None,
        "open_orders": None,
        "history_rows": None,
        "answers": 0,
        "differences": 0,
        "started_at": event.received_at,
        "ended_at": None,
    }


def _found(event: Event, facts: Fields, run: Row) -> Row:
    ended = facts.text("ended")
    return {
        "difference_id": event.position,
        "reconciliation_id": run["reconciliation_id"],
        "list": facts.required_text("list"),
        "key": facts.required_text("key"),
        "field": facts.required_text("field"),
        "ours": facts.words("ours"),
        "theirs": facts.words("theirs"),
        "position": facts.whole("position"),
        "answer_position": facts.whole("answer_position"),
        "state": ended or OPEN,
        "is_open": ended is None,
        "ended_position": facts.whole("answer_position") if ended else None,
        "found_at": event.received_at,
        "ended_at": event.received_at if ended else None,
    }


def _ended(rows: Rows, event: Event, facts: Fields) -> Change:
    key = (facts.whole("difference_id"),)
    row = rows.get("differences", key)
    if row is None:
        raise Unfoldable("the note ends a difference that no note found")
    reported = {
        "state": facts.required_text("how"),
        "is_open": False,
        "ended_position": event.position,
        "ended_at": event.received_at,
    }
    return Put("differences", key, {**row, **reported})


def _put(row: Row, event: Event) -> Put:
    reported = {**row, "last_position": event.position}
    return Put("reconciliations", (row["reconciliation_id"],), reported)
