"""What an event reports to a fold: a message of the exchange, or a note of our own.

The origin decides whose words they are. A frame that calls itself SNAPSHOT_COMPLETE is a frame, not
a fact of ours.
"""

from __future__ import annotations

from collections.abc import Mapping

from attrs import frozen

from recorder.exchange.fields import FieldError, Fields, decode_object
from recorder.exchange.lists import FuturesList, read_futures_list, read_history
from recorder.exchange.messages import Message, Unrecognised
from recorder.exchange.parsing import parse_message
from recorder.log.rules.event import Event, Origin
from recorder.projections.rules.fold import Unfoldable

_FUTURES_LISTS = frozenset(each.value for each in FuturesList)


@frozen
class NoteMessage(Message):
    """A fact of our own; ``facts`` reads the members of its ``data``."""

    facts: Fields


def read_message(event: Event) -> Message:
    """Return what the event reports. Never raises: what can't be read is `Unrecognised`."""
    if event.encoding != "text":
        return Unrecognised(event.type, "the frame is no text")
    if event.origin == Origin.NOTED:
        return _read_note(event)
    if event.origin == Origin.RECEIVED:
        return parse_message(event.type, event.payload)
    if event.origin == Origin.FETCHED and event.type in _FUTURES_LISTS:
        return read_futures_list(event.type, event.payload)
    if event.origin == Origin.FETCHED:
        return read_history(event.type, event.payload)
    return Unrecognised(event.type, f"{event.origin} events are not folded")


def is_note(event: Event, *notes: str) -> bool:
    """Return whether the event is one of these facts of our own."""
    return event.origin == Origin.NOTED and event.type in notes


def is_received(event: Event) -> bool:
    """Return whether the event is a frame from the exchange."""
    return event.origin == Origin.RECEIVED


def is_fetched(event: Event) -> bool:
    """Return whether the event is an answer that was asked for over REST."""
    return event.origin == Origin.FETCHED


def unfoldable(message: Message) -> Unfoldable:
    """Return the error for a message that a fold should have been able to read."""
    return Unfoldable(message.reason if isinstance(message, Unrecognised) else "unexpected message")


def _read_note(event: Event) -> Message:
    try:
        payload: Mapping[str, object] = decode_object(event.payload)
        return NoteMessage(event.type, Fields(payload).inner("data"))
    except FieldError as error:
        return Unrecognised(event.type, str(error))
