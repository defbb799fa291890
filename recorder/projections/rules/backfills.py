"""How far each fetching of a period is, from our own notes alone.

A run begins with BACKFILL_STARTED, whose position is its id. Each answer is a ``fetched`` event
with a BACKFILL_PAGE before it, in the same transaction: which list of which run it is, what was
requested, and where that list is read on. So a restart finds here the page that is missing.
BACKFILL_FINISHED ends the run and reports whether anything is missing.
"""

from __future__ import annotations

from collections.abc import Sequence

from recorder.exchange.fields import Fields
from recorder.log.rules.event import Event, Note
from recorder.projections.rules.fold import Change, Row, Rows, Table, Unfoldable
from recorder.projections.rules.note_fold import NoteFold, named_row, put, text, whole

RUNS = Table("backfill_runs", ("run_id",), resident="is_open")
LISTS = Table("backfill_lists", ("run_id", "list"))

RUNNING, COMPLETE, INCOMPLETE = "running", "complete", "incomplete"


def _started(_: Rows, event: Event, facts: Fields) -> Sequence[Change]:
    since, until = facts.time("from"), facts.time("until")
    if since is None or until is None:
        raise Unfoldable("the note names no period")
    run = {
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
        "started_at": event.received_at,
    }
    return [put(RUNS, run, event)]


def _paged(rows: Rows, event: Event, facts: Fields) -> Sequence[Change]:
    run, name = _run(rows, facts), facts.required_text("list")
    new = {"run_id": run["run_id"], "list": name, "state": RUNNING, "pages": 0, "rows": 0}
    row = {**(rows.get(LISTS.name, (run["run_id"], name)) or {**new, "unread": 0})}
    is_page = facts.flag("page") is True
    count = facts.whole("rows") or 0 if is_page else 0
    if is_page:
        next_ = facts.text("next")
        row |= {
            "pages": row["pages"] + 1,
            "rows": row["rows"] + count,
            "unread": row["unread"] + (facts.whole("unread") or 0),
            "next": next_,
            "state": RUNNING if next_ else COMPLETE,
        }
    if facts.flag("given_up"):
        row["state"] = INCOMPLETE
    # A page after a problem clears its reason.
    row["reason"] = facts.words("reason")
    totals = {
        "pages": run["pages"] + is_page,
        "answers": run["answers"] + (facts.whole("status") is not None),
        "rows": run["rows"] + count,
    }
    return [put(RUNS, {**run, **totals}, event), put(LISTS, row, event)]


def _finished(rows: Rows, event: Event, facts: Fields) -> Sequence[Change]:
    ended = {
        "state": COMPLETE if facts.flag("complete") else INCOMPLETE,
        "is_open": False,
        "reason": facts.words("reason"),
        "ended_at": event.received_at,
    }
    return [put(RUNS, {**_run(rows, facts), **ended}, event)]


def _run(rows: Rows, facts: Fields) -> Row:
    missing = "the note is of a run that no note began"
    return named_row(rows, RUNS.name, facts.whole("run"), missing)


BACKFILLS = NoteFold(
    name="backfills",
    version=1,
    tables=(RUNS, LISTS),
    notes={
        Note.BACKFILL_STARTED: _started,
        Note.BACKFILL_PAGE: _paged,
        Note.BACKFILL_FINISHED: _finished,
    },
    row_keys=((RUNS.name, whole("run")), (LISTS.name, whole("run"), text("list"))),
)
