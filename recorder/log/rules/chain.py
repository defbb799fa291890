"""Checks the log event by event: is this the one that follows, and is it what was written?

A chain of digests shows any event that was changed, dropped, added or moved. It can't show a tail
that was cut off: for that, the head found here is compared with one that was kept elsewhere.
"""

from __future__ import annotations

from attrs import frozen

from recorder.exchange.frames import frame_type, is_deep
from recorder.log.rules.checkpoint import Finding
from recorder.log.rules.digest import digest_event
from recorder.log.rules.event import Encoding, Event, Head, Origin

_ORIGINS = frozenset(Origin)
_ENCODINGS = frozenset(Encoding)


@frozen
class Damage:
    """The first position at which the log contradicts itself or a checkpoint, and how."""

    position: int
    what: str
    finding: Finding = Finding.ALTERED


def check_event(head: Head, event: Event) -> Head | Damage:
    """Return the head behind ``event``, or what is wrong with it behind ``head``."""
    expected = head.position + 1
    if event.position > expected:
        return Damage(expected, f"missing; the next one that stands is {event.position}")
    if event.position < expected:
        return Damage(event.position, f"out of order; expected {expected}")
    wrong = _wrong_field(event)
    if wrong:
        return Damage(expected, wrong)
    if digest_event(head.digest, expected, event) != event.digest:
        return Damage(expected, "its digest doesn't follow from its content and the one before")
    return Head(expected, event.digest)


def _wrong_field(event: Event) -> str | None:
    if event.origin not in _ORIGINS:
        return f"unknown origin {event.origin!r}"
    if event.encoding not in _ENCODINGS:
        return f"unknown encoding {event.encoding!r}"
    # What was fetched has no type of its own in its payload.
    if event.origin == Origin.FETCHED or event.type == (reported := frame_type(event.payload)):
        return None
    if event.type == "" and is_deep(event.payload):
        # Former versions found no type in what is nested too deeply for them.
        return None
    return f"type is {event.type!r}, but its payload reports {reported!r}"
