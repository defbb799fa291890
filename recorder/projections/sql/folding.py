"""Fold events into tables, inside the caller's transaction.

Rows that the fold asked for stay in a `Memory` between batches, so that a busy projector mostly
writes. A row that the database refuses (a text longer than an index takes, a number out of range)
must not stop the events after it: the batch is then folded again event by event, each behind a
savepoint, and only the event that made the row fails.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

import psycopg
from attrs import define, field, frozen
from sqlalchemy import Connection, exc

from recorder.database.prepared import pipelined
from recorder.errors import RowRefused
from recorder.exchange.messages import Message
from recorder.log.rules.event import Event
from recorder.projections.rules.fold import IN_PART, Key, Projection, Rows, Unfoldable
from recorder.projections.rules.reading import read_message
from recorder.projections.sql.rows import LIVE, Changes, Tables, load_keys, load_resident

#: Rows remembered between batches beside the resident ones: a few megabytes.
ROWS_REMEMBERED_MAX = 5_000
#: SQLSTATE classes that are about the row: a value, a constraint, a size the server can't take.
_ABOUT_THE_ROW = ("22", "23", "54")
#: A reason is for a person to read; what it quotes of a frame may be long.
_REASON_CHARACTERS_MAX = 500


class Failure(NamedTuple):
    """An event that was not folded, or in part, and why; its origin, and when it came."""

    position: int
    reason: str
    origin: str
    received_us: int


@define
class Memory:
    """The rows of one projection of one account that a fold has looked at.

    It is valid for one checkpoint only: at another checkpoint the caller forgets it.
    """

    tables: Tables = LIVE
    #: The checkpoint at which it holds; None while a batch is under way, or after it failed.
    position: int | None = None
    rows: Rows = field(factory=Rows)
    #: What was looked for, found or not: (table, key).
    _known: set[tuple[str, Key]] = field(factory=set)
    _is_resident_loaded: bool = False

    def forget(self) -> None:
        """Drop everything; what is needed is loaded again."""
        self.position = None
        self.rows = Rows()
        self._known.clear()
        self._is_resident_loaded = False

    def knows(self, keys: Collection[tuple[str, Key]]) -> bool:
        """Return whether folding what looks at these keys needs nothing from the tables."""
        return self._is_resident_loaded and self._known.issuperset(keys)

    def load(
        self,
        connection: Connection,
        projection: Projection,
        account: str,
        keys: Iterable[tuple[str, Key]],
    ) -> None:
        """Load the resident rows, and those of ``keys`` that aren't known yet."""
        if not self._is_resident_loaded:
            for table in projection.tables:
                resident = load_resident(connection, self.tables, table, account)
                self.rows.tables.setdefault(table.name, {}).update(resident)
            self._is_resident_loaded = True
        missing = set(keys) - self._known
        for table in projection.tables:
            wanted = [key for name, key in missing if name == table.name and table.resident != "*"]
            if wanted:
                found = load_keys(connection, self.tables, table, account, wanted)
                # What stands here already is newer than or equal to the stored row.
                self.rows.tables[table.name] = found | self.rows.tables.get(table.name, {})
        self._known |= missing

    def trim(self, projection: Projection) -> None:
        """Keep the resident rows alone, once there are too many others."""
        if len(self._known) <= ROWS_REMEMBERED_MAX and self._count() <= ROWS_REMEMBERED_MAX:
            return
        self._known.clear()
        for table in projection.tables:
            held = self.rows.tables.get(table.name, {})
            if table.resident is None:
                held.clear()
            elif table.resident != "*":
                kept = {key: row for key, row in held.items() if row[table.resident]}
                self.rows.tables[table.name] = kept

    def _count(self) -> int:
        return sum(map(len, self.rows.tables.values()))


class Reading(NamedTuple):
    """An event and what it reports."""

    event: Event
    message: Message


@frozen
class Folded:
    """What a batch changes, not written yet."""

    changes: Changes
    failures: tuple[Failure, ...]
    #: Characters of what was folded: about as much is written.
    weight: int


def fold_only(
    connection: Connection,
    projection: Projection,
    memory: Memory,
    account: str,
    events: Sequence[Event],
) -> Folded:
    """Fold ``events`` and write nothing; ``memory`` then holds what isn't durable yet."""
    readings = [Reading(event, read_message(event)) for event in events]
    return _fold(connection, projection, memory, account, readings)


def fold_known(projection: Projection, memory: Memory, events: Sequence[Event]) -> Folded | None:
    """Fold ``events`` without a database; None, with nothing done, where a row isn't remembered."""
    readings = [Reading(event, read_message(event)) for event in events]
    if not memory.knows(_keys(projection, readings)):
        return None
    return _fold_readings(projection, memory, readings)


def write_folded(
    connection: Connection, projection: Projection, memory: Memory, account: str, folded: Folded
) -> None:
    """Write what was folded. Raises RowRefused if the database can't hold a row of it."""
    with refusals(), pipelined(connection, folded.weight):
        folded.changes.write(connection, memory.tables, projection, account)


@contextmanager
def refusals() -> Iterator[None]:
    """Raise RowRefused for the database's errors about a row within."""
    try:
        yield
    except ROW_ERRORS as error:
        if not is_about_the_row(error):
            raise
        raise RowRefused(f"the database refused a row: {_described(error)}") from error


def fold_events(
    connection: Connection,
    projection: Projection,
    memory: Memory,
    account: str,
    events: Sequence[Event],
) -> tuple[Failure, ...]:
    """Fold ``events`` and write what they change; return those that could not be folded."""
    readings = [Reading(event, read_message(event)) for event in events]
    folded = _fold(connection, projection, memory, account, readings)
    try:
        with connection.begin_nested():
            write_folded(connection, projection, memory, account, folded)
    except RowRefused:
        memory.forget()
        return _fold_one_by_one(connection, projection, memory, account, readings)
    return folded.failures


def _fold_one_by_one(
    connection: Connection,
    projection: Projection,
    memory: Memory,
    account: str,
    readings: Iterable[Reading],
) -> tuple[Failure, ...]:
    failures: list[Failure] = []
    for reading in readings:
        try:
            with connection.begin_nested():
                folded = _fold(connection, projection, memory, account, [reading])
                write_folded(connection, projection, memory, account, folded)
                failures += folded.failures
        except RowRefused as error:
            memory.forget()
            failures.append(_failure(reading.event, str(error)))
    return tuple(failures)


def _fold(
    connection: Connection,
    projection: Projection,
    memory: Memory,
    account: str,
    readings: Sequence[Reading],
) -> Folded:
    memory.load(connection, projection, account, _keys(projection, readings))
    return _fold_readings(projection, memory, readings)


def _fold_readings(projection: Projection, memory: Memory, readings: Sequence[Reading]) -> Folded:
    changes = Changes()
    failures: list[Failure] = []
    for event, message in readings:
        try:
            made = projection.fold(memory.rows, event, message)
        except Unfoldable as error:
            failures.append(_failure(event, str(error)))
            continue
        for change in made:
            memory.rows.take(change)
        changes.take(made)
        if message.unreadable:
            failures.append(_failure(event, IN_PART + "; ".join(message.unreadable)))
    weight = sum(len(reading.event.payload) for reading in readings)
    return Folded(changes, tuple(failures), weight)


def _keys(projection: Projection, readings: Iterable[Reading]) -> Collection[tuple[str, Key]]:
    return {key for reading in readings for key in projection.keys(reading.message)}


def _failure(event: Event, reason: str) -> Failure:
    """Return the failure with a reason that any database can hold."""
    plain = reason.encode(errors="replace").decode().replace("\x00", "�")
    reason = plain[:_REASON_CHARACTERS_MAX]
    return Failure(event.position, reason, event.origin, event.received_us)


#: What a refused row is raised as, among other things: see `is_about_the_row`.
ROW_ERRORS = (exc.StatementError, sqlite3.Error, psycopg.Error, UnicodeError, OverflowError)


def is_about_the_row(error: Exception) -> bool:
    """Report a row that the database can't hold from a database that can't work."""
    answer = error.orig if isinstance(error, exc.DBAPIError) else error
    if isinstance(answer, psycopg.Error):
        state = answer.sqlstate
        return (
            isinstance(answer, psycopg.DataError) if state is None else state[:2] in _ABOUT_THE_ROW
        )
    if isinstance(answer, sqlite3.Error):
        return isinstance(answer, (sqlite3.DataError, sqlite3.IntegrityError))
    return True


def _described(error: Exception) -> str:
    return str(getattr(error, "orig", None) or error)
