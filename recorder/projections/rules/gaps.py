"""The stretches in which something may have been missed: how each opens, closes and ends.

    open ──complete snapshot──▶ closed ──evidence──▶ healed | unverifiable

A gap opens at the last known good moment (the last frame before the loss, a PONG being one) and
closes when the snapshot after it is complete. At most one such gap is open at a time; a further
loss while it is counts in its row (``losses``, ``causes``, ``last_loss``). The first start opens
one without a beginning: of what came before it, nothing is known. Closed doesn't mean healed: what
happened in between is not in the snapshot.

A frame that can't be read makes a gap of its own, which is closed at once: when it came is known,
and only what it said is not. Its ``gap_id`` is the frame's position.

The verdict on a closed gap is a fact in the log (GAP_HEALED, GAP_UNVERIFIABLE) like everything
else; the last one stands.

``from_at`` and ``until_at`` are wall-clock times of the two events. The clock may have been set in
between, so ``unobserved_from`` to ``unobserved_until`` is what counts as not observed. They are
never in the wrong order: the end is by the present clock, and the beginning is no later than the
monotonic clock measured (``blind_s`` in the notes).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from enum import StrEnum

from recorder.exchange.fields import FieldError, Fields
from recorder.log.rules.coverage import Cause
from recorder.log.rules.event import Event, Note, Origin
from recorder.projections.rules.fold import Change, Key, Put, Row, Rows, Table, Unfoldable
from recorder.projections.rules.reading import NoteMessage, time_of

GAPS = Table("gaps", ("gap_id",), resident="is_open")

#: Our own facts that are about a gap, or that make one.
GAP_NOTES = (
    Note.RECORDER_STARTED,
    Note.RECORDER_STOPPED,
    Note.CONNECTION_CLOSED,
    Note.CONNECTION_REFUSED,
    Note.CLOCK_JUMPED,
    Note.READING_PAUSED,
    Note.FRAME_NOT_FOLDED,
    Note.SNAPSHOT_COMPLETE,
    Note.GAP_HEALED,
    Note.GAP_UNVERIFIABLE,
)
#: The type of a frame of which not even a type can be read: no text, no JSON, no object.
UNREADABLE = ""

_STOPPED = "the recorder stopped"
#: We ended the connection ourselves, for what came on it: no message, or a larger one than allowed.
_NOT_TAKEN_CODES = frozenset({1002, 1007, 1009})
#: No blindness is measured that is longer: a number out of this range is nobody's measurement.
_MEASURED_S_MAX = 10 * 366 * 86_400


class State(StrEnum):
    """Where a gap stands."""

    OPEN = "open"
    CLOSED = "closed"
    HEALED = "healed"
    UNVERIFIABLE = "unverifiable"


_VERDICTS = {Note.GAP_HEALED: State.HEALED, Note.GAP_UNVERIFIABLE: State.UNVERIFIABLE}


def gap_keys(message: NoteMessage) -> Iterable[tuple[str, Key]]:
    """Return the rows that a note names; open ones are at hand anyway."""
    named = {
        Note.FRAME_NOT_FOLDED.value: "position",
        Note.GAP_HEALED.value: "gap_id",
        Note.GAP_UNVERIFIABLE.value: "gap_id",
    }.get(message.type)
    try:
        number = None if named is None else message.facts.whole(named)
    except FieldError:
        return ()
    return () if number is None else (("gaps", (number,)),)


def fold_gaps(rows: Rows, event: Event, facts: Fields) -> Sequence[Change]:
    """Return what a note changes in ``gaps``. Raises FieldError or Unfoldable."""
    match event.type:
        case Note.RECORDER_STARTED:
            return _started(rows, event, facts)
        case Note.RECORDER_STOPPED:
            return _stopped(rows, event)
        case Note.CONNECTION_CLOSED | Note.CONNECTION_REFUSED:
            # Frames that waited while nobody read bear the time at which they were read.
            since = time_of(facts, "certain_at") or time_of(facts, "last_frame_at")
            since = since or event.received_at
            return _lose(rows, event, _cause(facts), since, facts.words("reason"))
        case Note.CLOCK_JUMPED:
            return _clock_jumped(rows, event, facts)
        case Note.READING_PAUSED:
            return _paused(rows, event, facts)
        case Note.FRAME_NOT_FOLDED:
            return _not_folded(rows, event, facts)
        case Note.SNAPSHOT_COMPLETE:
            return _close(rows, event, facts)
        case Note.GAP_HEALED | Note.GAP_UNVERIFIABLE:
            return _judge(rows, event, facts)
        case _:
            return ()


def unreadable(event: Event) -> Sequence[Change]:
    """Return the gap that a frame makes of which not even a type can be read."""
    return [_unread(event.position, event.received_at, "no type can be read from it")]


# Opening


def _started(rows: Rows, event: Event, facts: Fields) -> Sequence[Change]:
    last_event_at = time_of(facts, "last_event_at")
    standing = _open_row(rows)
    if standing is not None and str(standing["causes"]).endswith(Cause.STOPPED):
        # That one was no loss of its own: whoever stopped had said so.
        return [
            _put(
                {**standing, "unobserved_from": min(standing["unobserved_from"], event.received_at)}
            )
        ]
    if last_event_at is None:
        return _lose(rows, event, Cause.FIRST_START, None, "nothing is known of what was before")
    # What came last may be our own word: only a frame shows that we heard something.
    since = time_of(facts, "last_frame_at") or last_event_at
    evidence = "the recorder before this one ended without noting it"
    if since > event.received_at:
        evidence += "; the clock was set back meanwhile, so how long it was away isn't known"
    return _lose(rows, event, Cause.KILLED, since, evidence)


def _stopped(rows: Rows, event: Event) -> Sequence[Change]:
    standing = _open_row(rows)
    if standing is not None and str(standing["causes"]).endswith(Cause.STOPPED):
        return ()
    return _lose(rows, event, Cause.STOPPED, event.received_at, _STOPPED)


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
    since = time_of(facts, "last_frame_at") or event.received_at
    way = "further than" if ahead_s > 0 else "less far than"
    evidence = f"the clock on the wall went {abs(ahead_s)} s {way} the monotonic one"
    (change,) = _lose(rows, event, cause, since, evidence)
    begins = _begins(change.values, event, facts)
    return [_put({**change.values, "unobserved_from": begins})]


def _paused(rows: Rows, event: Event, facts: Fields) -> Sequence[Change]:
    if not facts.flag("blind"):
        return ()
    since = time_of(facts, "last_frame_at") or event.received_at
    seconds = facts.required_amount("seconds")
    why = facts.words("why") or "the log was full"
    evidence = f"the socket was not read for {seconds} s: {why}"
    return _lose(rows, event, Cause.QUEUE_FULL, since, evidence)


def _lose(
    rows: Rows, event: Event, cause: Cause, since: datetime | None, evidence: str | None
) -> list[Put]:
    """Open a gap; while one is open, count the loss there."""
    standing = _open_row(rows)
    if standing is not None:
        return [_put(_again(standing, event, cause, evidence))]
    row = {
        "gap_id": event.position,
        "cause": cause.value,
        "from_at": since,
        "until_at": None,
        # Never later than now, whatever the clock said when the last frame came.
        "unobserved_from": min(since or event.received_at, event.received_at),
        "unobserved_until": None,
        "last_position_before": event.position - 1,
        "first_position_after": None,
        "state": State.OPEN.value,
        "is_open": True,
        "evidence": evidence,
        "losses": 1,
        "causes": cause.value,
        "last_loss": None,
        "last_loss_position": event.position,
        **_no_verdict(),
    }
    return [_put(row)]


def _again(row: Row, event: Event, cause: Cause, evidence: str | None) -> Row:
    told = str(row["causes"]).split(",")
    # The latest stands last: a stop that was noted is no kill.
    causes = [*(each for each in told if each != cause), cause.value]
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
    told = f"{facts.words('projection')}: {facts.words('reason')}"
    standing = rows.get("gaps", (position,))
    if standing is None:
        came_at = time_of(facts, "received_at") or event.received_at
        return [_unread(position, came_at, told)]
    evidence = str(standing["evidence"])
    # The same again where a table was folded anew.
    if told in evidence.split("; "):
        return ()
    return [_put({**standing, "evidence": f"{evidence}; {told}", "losses": standing["losses"] + 1})]


def _unread(position: int, came_at: datetime, evidence: str) -> Put:
    row = {
        "gap_id": position,
        "cause": Cause.UNDECODABLE.value,
        "from_at": came_at,
        "until_at": came_at,
        "unobserved_from": came_at,
        "unobserved_until": came_at,
        "last_position_before": position - 1,
        # No snapshot ended it, so nobody may conclude from it that there was one.
        "first_position_after": None,
        "state": State.CLOSED.value,
        "is_open": False,
        "evidence": evidence,
        "losses": 1,
        "causes": Cause.UNDECODABLE.value,
        "last_loss": None,
        "last_loss_position": position,
        **_no_verdict(),
    }
    return _put(row)


# Closing, and the verdict


def _close(rows: Rows, event: Event, facts: Fields) -> Sequence[Change]:
    standing = _open_row(rows)
    # A snapshot that was given up says so: then nobody knows what is missing.
    if standing is None or not facts.flag("complete"):
        return ()
    told = {
        "until_at": event.received_at,
        "unobserved_from": _begins(standing, event, facts),
        "unobserved_until": event.received_at,
        "first_position_after": event.position,
        "state": State.CLOSED.value,
        "is_open": False,
    }
    return [_put({**standing, **told})]


def _begins(row: Row, event: Event, facts: Fields) -> datetime:
    """Return since when it is blind, on the clock as it stands at this event."""
    measured_s = facts.amount("blind_s") or Decimal(0)
    if not 0 <= measured_s <= _MEASURED_S_MAX:
        raise Unfoldable(f"blind_s is no measured time: {measured_s}")
    known = event.received_at - timedelta(microseconds=int(measured_s * 1_000_000))
    base: datetime = row["unobserved_from"] if row["from_at"] is None else row["from_at"]
    return min(base, known)


def _judge(rows: Rows, event: Event, facts: Fields) -> Sequence[Change]:
    gap_id = facts.whole("gap_id")
    standing = rows.get("gaps", (gap_id,))
    if standing is None:
        raise Unfoldable(f"there is no gap {gap_id}")
    if standing["is_open"]:
        raise Unfoldable(f"gap {gap_id} is open: only a closed one can be judged")
    state, evidence = _VERDICTS[Note(event.type)], facts.words("evidence")
    told = {
        "state": state.value,
        "healed_by": _positions(facts) if state == State.HEALED else None,
        "verdict": evidence,
        "verdict_at": event.received_at,
        "verdict_position": event.position,
    }
    return [_put({**standing, **told})]


def _positions(facts: Fields) -> str:
    """Return the positions of the answers that healed it, in order: ``12,13,40``."""
    positions = facts.find("positions")
    if positions is None:
        return ""
    if not isinstance(positions, list) or not all(type(each) is int for each in positions):
        raise Unfoldable("positions is no list of whole numbers")
    return ",".join(str(each) for each in sorted(set(positions)))


def _no_verdict() -> dict[str, object]:
    names = ("healed_by", "verdict", "verdict_at", "verdict_position")
    return dict.fromkeys(names)


def _open_row(rows: Rows) -> Row | None:
    return next((row for row in rows.all("gaps").values() if row["is_open"]), None)


def _put(row: Row) -> Put:
    return Put("gaps", (row["gap_id"],), row)
