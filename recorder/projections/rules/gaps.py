"""The intervals in which something may have been missed: how each opens, closes and ends.

    open ──complete snapshot──▶ closed ──evidence──▶ healed | unverifiable

A gap opens at the last known good moment (the last frame before the loss, a PONG being one) and
closes when the snapshot after it is complete. At most one such gap is open at a time; a further
loss while it is counts in its row (``losses``, ``causes``, ``last_loss``). The first start opens
one without a beginning: of what came before it, nothing is known. Closed doesn't mean healed: what
happened in between is not in the snapshot.

A frame that can't be read makes a gap of its own, which is closed at once: its time is known, and
only its content is not. Its ``gap_id`` is the frame's position.

The verdict on a closed gap is a fact in the log (GAP_HEALED, GAP_UNVERIFIABLE) like everything
else; the last one stands.

``from_at`` and ``until_at`` are the wall clock's times of the two events. That clock may have been
set in between. So what counts as not observed is ``unobserved_from`` to ``unobserved_until``, which
are always in order: it ends by the clock as it is at the last event, and begins no later than the
monotonic clock measured (``unobserved_s`` in the notes).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from enum import StrEnum

from recorder.exchange.fields import Fields
from recorder.log.rules.coverage import Cause
from recorder.log.rules.event import Event, Note, Origin
from recorder.projections.rules.fold import Change, Put, Row, Rows, Table, Unfoldable
from recorder.projections.rules.note_fold import FoldNote, named_row, put
from recorder.projections.rules.retired_names import FORMER_CLOCK_JUMPED, UNOBSERVED, UNOBSERVED_S

GAPS = Table("gaps", ("gap_id",), resident="is_open")

#: The type of a frame of which not even a type can be read: no text, no JSON, no object.
UNREADABLE = ""

_STOPPED = "the recorder stopped"
#: We ended the connection ourselves, for what came on it: no message, or a larger one than allowed.
_NOT_TAKEN_CODES = frozenset({1002, 1007, 1009})
#: No measured time without observation is longer: a number out of this range is no
#: measurement.
_MEASURED_S_MAX = 10 * 366 * 86_400


class State(StrEnum):
    """Where a gap stands."""

    OPEN = "open"
    CLOSED = "closed"
    HEALED = "healed"
    UNVERIFIABLE = "unverifiable"


#: Columns of a gap that later events fill.
_LATER = (
    "until_at",
    "unobserved_until",
    "first_position_after",
    "last_loss",
    "healed_by",
    "verdict",
    "verdict_at",
    "verdict_position",
)
_VERDICTS = {Note.GAP_HEALED: State.HEALED, Note.GAP_UNVERIFIABLE: State.UNVERIFIABLE}


def unreadable(event: Event) -> Sequence[Change]:
    """Return the gap that a frame makes of which not even a type can be read."""
    return [_unread(event.position, event.received_at, "no type can be read from it")]


# Opening


def _started(rows: Rows, event: Event, facts: Fields) -> Sequence[Change]:
    open_gap, last_event_at = _open_row(rows), facts.time("last_event_at")
    if open_gap is not None and _ends_with_stop(open_gap):
        # That one was no loss of its own: the stop was noted before.
        begins = min(open_gap["unobserved_from"], event.received_at)
        return [put(GAPS, {**open_gap, "unobserved_from": begins})]
    if last_event_at is None:
        return _lose(rows, event, Cause.FIRST_START, None, "nothing is known of what was before")
    # The last event may be a note of our own: only a frame shows that we received something.
    since = facts.time("last_frame_at") or last_event_at
    evidence = "the recorder before this one ended without noting it"
    if since > event.received_at:
        evidence += "; the clock was set back meanwhile, so how long it was away isn't known"
    return _lose(rows, event, Cause.KILLED, since, evidence)


def _stopped(rows: Rows, event: Event, _: Fields) -> Sequence[Change]:
    open_gap = _open_row(rows)
    if open_gap is not None and _ends_with_stop(open_gap):
        return ()
    return _lose(rows, event, Cause.STOPPED, event.received_at, _STOPPED)


def _ends_with_stop(row: Row) -> bool:
    return str(row["causes"]).endswith(Cause.STOPPED)


def _connection_ended(rows: Rows, event: Event, facts: Fields) -> Sequence[Change]:
    # Frames that waited while the socket was not read bear the time at which they were read.
    since = facts.time("certain_at") or facts.time("last_frame_at") or event.received_at
    return _lose(rows, event, _cause(facts), since, facts.words("reason"))


def _cause(facts: Fields) -> Cause:
    reason, code = facts.words("reason") or "", facts.whole("code")
    if facts.text("by") == "recorder":
        if reason == _STOPPED:
            return Cause.STOPPED
        return Cause.UNDECODABLE if code in _NOT_TAKEN_CODES else Cause.CONNECTION_LOST
    if reason.startswith("no PONG"):
        return Cause.SILENT if "no frame" in reason else Cause.NO_PONG
    return Cause.CONNECTION_LOST


def _clock_jumped(rows: Rows, event: Event, facts: Fields) -> Sequence[Change]:
    ahead_s = facts.required_amount("ahead_s")
    cause = Cause.ASLEEP if ahead_s > 0 else Cause.CLOCK_SET_BACK
    since = facts.time("last_frame_at") or event.received_at
    way = "further than" if ahead_s > 0 else "less far than"
    evidence = f"the clock on the wall went {abs(ahead_s)} s {way} the monotonic one"
    (change,) = _lose(rows, event, cause, since, evidence)
    begins = _begins(change.values, event, facts)
    return [put(GAPS, {**change.values, "unobserved_from": begins})]


def _paused(rows: Rows, event: Event, facts: Fields) -> Sequence[Change]:
    if not facts.flag(*UNOBSERVED):
        return ()
    since = facts.time("last_frame_at") or event.received_at
    seconds = facts.required_amount("seconds")
    why = facts.words("why") or "the log was full"
    evidence = f"the socket was not read for {seconds} s: {why}"
    return _lose(rows, event, Cause.QUEUE_FULL, since, evidence)


def _lose(
    rows: Rows, event: Event, cause: Cause, since: datetime | None, evidence: str | None
) -> list[Put]:
    """Open a gap; while one is open, count the loss there."""
    open_gap = _open_row(rows)
    if open_gap is not None:
        return [put(GAPS, _again(open_gap, event, cause, evidence))]
    # Never later than now, whatever the clock reported when the last frame arrived.
    begins = min(since or event.received_at, event.received_at)
    return [put(GAPS, _new(event.position, cause, since, begins, evidence))]


def _new(
    gap_id: int,
    cause: Cause,
    from_at: datetime | None,
    unobserved_from: datetime,
    evidence: str | None,
) -> Row:
    return {
        **dict.fromkeys(_LATER),
        "gap_id": gap_id,
        "cause": cause.value,
        "from_at": from_at,
        "unobserved_from": unobserved_from,
        "last_position_before": gap_id - 1,
        "state": State.OPEN.value,
        "is_open": True,
        "evidence": evidence,
        "losses": 1,
        "causes": cause.value,
        "last_loss_position": gap_id,
    }


def _again(row: Row, event: Event, cause: Cause, evidence: str | None) -> Row:
    reported = str(row["causes"]).split(",")
    # The latest stands last: a stop that was noted is no kill.
    causes = [*(each for each in reported if each != cause), cause.value]
    return {
        **row,
        "causes": ",".join(causes),
        "losses": row["losses"] + 1,
        "last_loss": evidence,
        "last_loss_position": event.position,
    }


# A frame that can't be read


def _not_folded(rows: Rows, event: Event, facts: Fields) -> Sequence[Change]:
    position = facts.whole("position")
    if position is None:
        raise Unfoldable("the note names no position")
    if (facts.text("origin") or Origin.RECEIVED) != Origin.RECEIVED:
        return ()
    reported = f"{facts.words('projection')}: {facts.words('reason')}"
    gap = rows.get("gaps", (position,))
    if gap is None:
        at = facts.time("received_at") or event.received_at
        return [_unread(position, at, reported)]
    evidence = str(gap["evidence"])
    # A rebuild notes the same again.
    if reported in evidence.split("; "):
        return ()
    more = {"evidence": f"{evidence}; {reported}", "losses": gap["losses"] + 1}
    return [put(GAPS, {**gap, **more})]


def _unread(position: int, at: datetime, evidence: str) -> Put:
    # No snapshot ended it, so none may be inferred from: ``first_position_after`` stays empty.
    ended = {"until_at": at, "unobserved_until": at, "state": State.CLOSED.value, "is_open": False}
    return put(GAPS, {**_new(position, Cause.UNDECODABLE, at, at, evidence), **ended})


# Closing, and the verdict


def _close(rows: Rows, event: Event, facts: Fields) -> Sequence[Change]:
    open_gap = _open_row(rows)
    # A snapshot that was given up is noted as such: what is missing is unknown then.
    if open_gap is None or not facts.flag("complete"):
        return ()
    reported = {
        "until_at": event.received_at,
        "unobserved_from": _begins(open_gap, event, facts),
        "unobserved_until": event.received_at,
        "first_position_after": event.position,
        "state": State.CLOSED.value,
        "is_open": False,
    }
    return [put(GAPS, {**open_gap, **reported})]


def _begins(row: Row, event: Event, facts: Fields) -> datetime:
    """Return since when it is not observed, on the clock as it stands at this event."""
    measured_s = facts.amount(*UNOBSERVED_S) or Decimal(0)
    if not 0 <= measured_s <= _MEASURED_S_MAX:
        raise Unfoldable(f"unobserved_s is no measured time: {measured_s}")
    known = event.received_at - timedelta(microseconds=int(measured_s * 1_000_000))
    base: datetime = row["unobserved_from"] if row["from_at"] is None else row["from_at"]
    return min(base, known)


def _judge(rows: Rows, event: Event, facts: Fields) -> Sequence[Change]:
    gap_id = facts.whole("gap_id")
    gap = named_row(rows, GAPS.name, gap_id, f"there is no gap {gap_id}")
    if gap["is_open"]:
        raise Unfoldable(f"gap {gap_id} is open: only a closed one can be judged")
    state, evidence = _VERDICTS[Note(event.type)], facts.words("evidence")
    reported = {
        "state": state.value,
        "healed_by": _positions(facts) if state == State.HEALED else None,
        "verdict": evidence,
        "verdict_at": event.received_at,
        "verdict_position": event.position,
    }
    return [put(GAPS, {**gap, **reported})]


def _positions(facts: Fields) -> str:
    """Return the positions of the answers that healed it, in order: ``12,13,40``."""
    positions = facts.find("positions")
    if positions is None:
        return ""
    if not isinstance(positions, list) or not all(type(each) is int for each in positions):
        raise Unfoldable("positions is no list of whole numbers")
    return ",".join(str(each) for each in sorted(set(positions)))


def _open_row(rows: Rows) -> Row | None:
    return next((row for row in rows.all("gaps").values() if row["is_open"]), None)


#: The notes that are about a gap, or that make one.
GAP_NOTES: Mapping[str, FoldNote] = {
    Note.RECORDER_STARTED: _started,
    Note.RECORDER_STOPPED: _stopped,
    Note.CONNECTION_CLOSED: _connection_ended,
    Note.CONNECTION_REFUSED: _connection_ended,
    Note.CLOCK_JUMPED: _clock_jumped,
    FORMER_CLOCK_JUMPED: _clock_jumped,
    Note.READING_PAUSED: _paused,
    Note.FRAME_NOT_FOLDED: _not_folded,
    Note.SNAPSHOT_COMPLETE: _close,
    Note.GAP_HEALED: _judge,
    Note.GAP_UNVERIFIABLE: _judge,
}
