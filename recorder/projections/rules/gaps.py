"""The stretches in which something may have been missed: how each opens, closes and ends.

    open ──complete snapshot──▶ closed ──evidence──▶ healed | unverifiable

A gap opens at the last known good moment (the last frame before the loss, a PONG being one) and
closes when the snapshot after it is complete. At most one such gap is open at a time; a further
loss while it is counts in its row (``losses``, ``causes``, ``last_loss``). The first start opens
one without a beginning: of what came before it, nothing is known. Closed doesn't mean healed: what
happened in between is not in the snapshot.

A frame that can't be read makes a gap of its own, which is closed at once: when it came is known,
and only what it reported is not. Its ``gap_id`` is the frame's position.

The verdict on a closed gap is a fact in the log (GAP_HEALED, GAP_UNVERIFIABLE) like everything
else; the last one stands.

``from_at`` and ``until_at`` are what the clock on the wall reported at the two events. It may have
been set in between, so what counts as not observed is ``unobserved_from`` to ``unobserved_until``,
whose order is never the wrong one: it ends when the clock that stands reports so, and began no
later than the monotonic clock measured (``unobserved_s`` in the notes).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from enum import StrEnum

from recorder.exchange.fields import FieldError, Fields
from recorder.log.rules.coverage import Cause
from recorder.log.rules.event import Event, Note, Origin
from recorder.projections.rules import retired_names
from recorder.projections.rules.fold import Change, Key, Put, Row, Rows, Table, Unfoldable
from recorder.projections.rules.reading import NoteMessage, time_of
from recorder.projections.rules.retired_names import CLOCKS_APART, UNOBSERVED, UNOBSERVED_S

GAPS = Table("gaps", ("gap_id",), resident="is_open")

#: Our own facts that are about a gap, or that make one.
GAP_NOTES = (
    Note.RECORDER_STARTED,
    Note.RECORDER_STOPPED,
    Note.CONNECTION_CLOSED,
    Note.CONNECTION_REFUSED,
    Note.CLOCK_JUMPED,
    CLOCKS_APART,
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
#: No measured time without observation is longer: a number out of this range is no
#: measurement.
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
            # Frames that waited while the socket was not read bear the time at which they were
            # read.
            since = time_of(facts, "certain_at") or time_of(facts, "last_frame_at")
            since = since or event.received_at
            return _lose(rows, event, _cause(facts), since, facts.words("reason"))
        case Note.CLOCK_JUMPED | retired_names.CLOCKS_APART:
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
    open_gap = _open_row(rows)
    if open_gap is not None and str(open_gap["causes"]).endswith(Cause.STOPPED):
        # That one was no loss of its own: the stop was noted before.
        return [
            _put(
                {**open_gap, "unobserved_from": min(open_gap["unobserved_from"], event.received_at)}
            )
        ]
    if last_event_at is None:
        return _lose(rows, event, Cause.FIRST_START, None, "nothing is known of what was before")
    # What came last may be our own word: only a frame shows that we received something.
    since = time_of(facts, "last_frame_at") or last_event_at
    evidence = "the recorder before this one ended without noting it"
    if since > event.received_at:
        evidence += "; the clock was set back meanwhile, so how long it was away isn't known"
    return _lose(rows, event, Cause.KILLED, since, evidence)


def _stopped(rows: Rows, event: Event) -> Sequence[Change]:
    open_gap = _open_row(rows)
    if open_gap is not None and str(open_gap["causes"]).endswith(Cause.STOPPED):
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
    if not facts.flag(*UNOBSERVED):
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
    open_gap = _open_row(rows)
    if open_gap is not None:
        return [_put(_again(open_gap, event, cause, evidence))]
    row = {
        "gap_id": event.position,
        "cause": cause.value,
        "from_at": since,
        "until_at": None,
        # Never later than now, whatever the clock reported when the last frame came.
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
    open_gap = rows.get("gaps", (position,))
    if open_gap is None:
        received_at_ = time_of(facts, "received_at") or event.received_at
        return [_unread(position, received_at_, reported)]
    evidence = str(open_gap["evidence"])
    # The same again where a table was folded again.
    if reported in evidence.split("; "):
        return ()
    return [
        _put({**open_gap, "evidence": f"{evidence}; {reported}", "losses": open_gap["losses"] + 1})
    ]


def _unread(position: int, received_at_: datetime, evidence: str) -> Put:
    row = {
        "gap_id": position,
        "cause": Cause.UNDECODABLE.value,
        "from_at": received_at_,
        "until_at": received_at_,
        "unobserved_from": received_at_,
        "unobserved_until": received_at_,
        "last_position_before": position - 1,
        # No snapshot ended it, so nothing may be inferred from one.
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
    return [_put({**open_gap, **reported})]


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
    open_gap = rows.get("gaps", (gap_id,))
    if open_gap is None:
        raise Unfoldable(f"there is no gap {gap_id}")
    if open_gap["is_open"]:
        raise Unfoldable(f"gap {gap_id} is open: only a closed one can be judged")
    state, evidence = _VERDICTS[Note(event.type)], facts.words("evidence")
    reported = {
        "state": state.value,
        "healed_by": _positions(facts) if state == State.HEALED else None,
        "verdict": evidence,
        "verdict_at": event.received_at,
        "verdict_position": event.position,
    }
    return [_put({**open_gap, **reported})]


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
