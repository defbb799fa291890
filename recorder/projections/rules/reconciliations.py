"""Each comparison with the exchange, and what differed, from our own notes alone.

A comparison begins with RECONCILIATION_STARTED, whose position is its id. RECONCILIATION_ANSWER
is before each answer that was compared, DIFFERENCE_FOUND names what differed, DIFFERENCE_ENDED
how an earlier difference ended, and RECONCILIATION_FINISHED reports the result. One that no note
ends was broken off; the next start notes its end.
"""

from __future__ import annotations

from collections.abc import Sequence

from recorder.exchange.fields import Fields
from recorder.log.rules.event import Event, Note
from recorder.projections.rules.fold import Change, Row, Rows, Table
from recorder.projections.rules.note_fold import NoteFold, named_row, put, whole
from recorder.projections.rules.retired_names import REQUESTED_BY

RUNS = Table("reconciliations", ("reconciliation_id",), resident="is_open")
DIFFERENCES = Table("differences", ("difference_id",), resident="is_open")

RUNNING, CLEAN, DIFFERING, INCOMPLETE = "running", "clean", "differing", "incomplete"
#: A difference is open, or has ended: the next comparison finds both sides equal, or finds the same
#: again (and notes it again), or the very answer that showed it filled in what we lacked.
OPEN, GONE, FOUND_AGAIN, FILLED_IN = "open", "gone", "found_again", "filled_in"


def _started(_: Rows, event: Event, facts: Fields) -> Sequence[Change]:
    run = {
        "reconciliation_id": event.position,
        "requested_by": facts.required_text(*REQUESTED_BY),
        "request_id": facts.text("request_id"),
        "state": RUNNING,
        "is_open": True,
        "answers": 0,
        "differences": 0,
        "started_at": event.received_at,
    }
    return [put(RUNS, run, event)]


def _answered(rows: Rows, event: Event, facts: Fields) -> Sequence[Change]:
    run = _run(rows, facts)
    return [put(RUNS, {**run, "answers": run["answers"] + 1}, event)]


def _found(rows: Rows, event: Event, facts: Fields) -> Sequence[Change]:
    run, ended = _run(rows, facts), facts.text("ended")
    difference = {
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
    counted = {**run, "differences": run["differences"] + 1}
    return [put(RUNS, counted, event), put(DIFFERENCES, difference)]


def _ended(rows: Rows, event: Event, facts: Fields) -> Sequence[Change]:
    missing = "the note ends a difference that no note found"
    difference = named_row(rows, DIFFERENCES.name, facts.whole("difference_id"), missing)
    ended = {
        "state": facts.required_text("how"),
        "is_open": False,
        "ended_position": event.position,
        "ended_at": event.received_at,
    }
    return [put(DIFFERENCES, {**difference, **ended})]


def _finished(rows: Rows, event: Event, facts: Fields) -> Sequence[Change]:
    ended = {
        "state": facts.required_text("state"),
        "is_open": False,
        "reason": facts.words("reason"),
        "balances": facts.whole("balances"),
        "open_orders": facts.whole("open_orders"),
        "history_rows": facts.whole("history_rows"),
        "from_at": facts.time("from"),
        "until_at": facts.time("until"),
        "ended_at": event.received_at,
    }
    return [put(RUNS, {**_run(rows, facts), **ended}, event)]


def _run(rows: Rows, facts: Fields) -> Row:
    missing = "the note is of a comparison that no note began"
    return named_row(rows, RUNS.name, facts.whole("run"), missing)


RECONCILIATIONS = NoteFold(
    name="reconciliations",
    version=1,
    tables=(RUNS, DIFFERENCES),
    notes={
        Note.RECONCILIATION_STARTED: _started,
        Note.RECONCILIATION_ANSWER: _answered,
        Note.DIFFERENCE_FOUND: _found,
        Note.DIFFERENCE_ENDED: _ended,
        Note.RECONCILIATION_FINISHED: _finished,
    },
    row_keys=((RUNS.name, whole("run")), (DIFFERENCES.name, whole("difference_id"))),
)
