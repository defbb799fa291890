"""Projections of our own notes: each is a declaration, with a function for each kind of note."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from attrs import field, frozen

from recorder.exchange.fields import FieldError, Fields
from recorder.exchange.messages import Message
from recorder.log.rules.event import Event
from recorder.projections.rules.fold import Change, Key, Put, Row, Rows, Table, Unfoldable
from recorder.projections.rules.reading import NoteMessage, is_note, is_received, unfoldable

#: Returns what a note changes. Raises FieldError or Unfoldable.
FoldNote = Callable[[Rows, Event, Fields], Sequence[Change]]
#: A table, and how each part of the key of its row is read from a note.
RowKey = tuple[str, *tuple[Callable[[Fields], Any], ...]]


@frozen
class NoteFold:
    """A projection of notes. A frame that bears a note's type is none."""

    name: str
    version: int
    tables: tuple[Table, ...]
    notes: Mapping[str, FoldNote]
    #: The rows that a note may name.
    row_keys: tuple[RowKey, ...]
    #: Frames that it folds, by their type.
    frames: Mapping[str, Callable[[Event], Sequence[Change]]] = field(factory=dict)

    @property
    def types(self) -> frozenset[str]:
        """The types of the notes and frames that it folds."""
        return frozenset({*self.notes, *self.frames})

    def keys(self, message: Message) -> Iterable[tuple[str, Key]]:
        """Return the rows that a note names. Open ones are resident anyway."""
        if not isinstance(message, NoteMessage):
            return []
        try:
            named = [
                (table, tuple(read(message.facts) for read in reads))
                for table, *reads in self.row_keys
            ]
        except FieldError:
            return []
        return [(table, key) for table, key in named if None not in key]

    def fold(self, rows: Rows, event: Event, message: Message) -> Sequence[Change]:
        """Return what an event changes. Raises Unfoldable."""
        if is_received(event) and event.type in self.frames:
            return self.frames[event.type](event)
        if not is_note(event, *self.notes):
            return ()
        if not isinstance(message, NoteMessage):
            raise unfoldable(message)
        try:
            return self.notes[event.type](rows, event, message.facts)
        except FieldError as error:
            raise Unfoldable(str(error)) from error


def whole(name: str) -> Callable[[Fields], int | None]:
    """Return what reads a whole number of a note."""
    return lambda facts: facts.whole(name)


def text(name: str) -> Callable[[Fields], str | None]:
    """Return what reads a text of a note."""
    return lambda facts: facts.text(name)


def named_row(rows: Rows, table: str, key: object, missing: str) -> Row:
    """Return the row that a note is about. Raises Unfoldable with ``missing``."""
    row = rows.get(table, (key,))
    if row is None:
        raise Unfoldable(missing)
    return row


def put(table: Table, row: Row, event: Event | None = None) -> Put:
    """Return the change that sets a row; ``event`` becomes its last position."""
    key = tuple(row[column] for column in table.key)
    last = {} if event is None else {"last_position": event.position}
    return Put(table.name, key, {**row, **last})
