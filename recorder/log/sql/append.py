"""The only way to write an event, and the hot path of the recorder.

Position and digest are given here and nowhere else, from heads that the caller owns. Not this code
but the key protects against two owners: the second one to append finds its position taken, and the
unit fails with LeaseLost.

Both databases are written as directly as they allow, by the driver under SQLAlchemy's connection.
SQLite gets one statement of many rows, so that its thread gives up the interpreter once per
statement and not once per row; PostgreSQL gets the same for a few rows, in one round trip with its
BEGIN, and COPY for many.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from typing import Any

from attrs import frozen
from sqlalchemy import Connection, Dialect
from sqlalchemy.dialects import postgresql

from recorder.database.prepared import (
    PIPELINED_BYTES_MAX,
    driver_connection,
    is_pipelined,
    pipelined,
)
from recorder.database.schema import events
from recorder.log.rules.digest import digest_event
from recorder.log.rules.event import Draft, Event, Head
from recorder.log.sql.read import head as read_head
from recorder.timestamps import time_text

#: Rows of the longest SQLite statement: 2,560 of the 32,766 variables that SQLite allows.
ROWS_MAX = 256
#: PostgreSQL gets up to so many rows by INSERT.
SENT_MAX = 16
_COLUMNS = tuple(column.name for column in events.c)
#: What each value is, so that PostgreSQL needs not guess.
_POSTGRESQL: Dialect = postgresql.dialect()  # type: ignore[no-untyped-call]
_CASTS = {column.name: column.type.compile(dialect=_POSTGRESQL) for column in events.c}

__all__ = ["Appended", "append", "read_head", "write_chained"]


@frozen
class Appended:
    """What an append did: the new head of each account, and the events in the order of drafts."""

    heads: dict[str, Head]
    events: tuple[Event, ...]


def append(connection: Connection, heads: Mapping[str, Head], drafts: Sequence[Draft]) -> Appended:
    """Append ``drafts`` behind ``heads``, which must name every account among them.

    Durable once the unit's COMMIT has returned. The database refuses a position that stands
    already or leaves a hole (LeaseLost from `in_unit`).
    """
    appended = chained(heads, drafts)
    write_chained(connection, appended.events)
    return appended


def write_chained(connection: Connection, made: Sequence[Event]) -> None:
    """Write events that have their positions and digests: `append` does it, and an import.

    They are taken as they are; the caller has checked them against the stored head.
    """
    if connection.dialect.name == "sqlite":
        _insert_many(connection, made)
    elif is_pipelined(connection) or is_little(made):
        # No COPY within a pipeline; the caller makes one for small batches only.
        _send(connection, made)
    else:
        _copy(connection, made)


def is_little(made: Sequence[Draft | Event]) -> bool:
    """Report so few and small events that one round trip takes them whole."""
    return (
        len(made) <= SENT_MAX
        and sum(len(each.payload) for each in made) <= PIPELINED_BYTES_MAX // 2
    )


def chained(heads: Mapping[str, Head], drafts: Sequence[Draft]) -> Appended:
    """Return the events that the drafts become: the next positions, digests chained to the head."""
    # Two plain dictionaries, because a Head per event would cost as much as its digest.
    positions = {account: head.position for account, head in heads.items()}
    digests = {account: head.digest for account, head in heads.items()}
    made = []
    for draft in drafts:
        account = draft.account
        position = positions[account] = positions[account] + 1
        digest = digests[account] = digest_event(digests[account], position, draft)
        made.append(
            Event(
                account,
                position,
                draft.received_us,
                draft.elapsed_ns,
                draft.connection_id,
                draft.origin,
                draft.type,
                draft.payload,
                draft.encoding,
                digest,
            )
        )
    grown = {draft.account for draft in drafts}
    return Appended(
        {account: Head(positions[account], digests[account]) for account in grown}, tuple(made)
    )


def _row(event: Event) -> tuple[Any, ...]:
    """Return the event in the order of the table's columns."""
    return (
        event.account,
        event.position,
        time_text(event.received_us),
        event.elapsed_ns,
        event.connection_id,
        event.origin,
        event.type,
        event.payload,
        event.encoding,
        event.digest,
    )


def _insert_many(connection: Connection, made: Sequence[Event]) -> None:
    cursor = driver_connection(connection).cursor()
    for chunk in _chunks(made):
        flat: list[Any] = []
        for event in chunk:
            flat.extend(_row(event))
        cursor.execute(_insert_statement("sqlite", len(chunk)), flat)


def _chunks(made: Sequence[Event]) -> Iterator[Sequence[Event]]:
    """Cut into powers of two, so that there are few different statements to keep prepared."""
    start = 0
    while start < len(made):
        left = len(made) - start
        size = ROWS_MAX if left >= ROWS_MAX else 1 << (left.bit_length() - 1)
        yield made[start : start + size]
        start += size


@cache
def _insert_statement(dialect: str, rows: int) -> str:
    """Return an INSERT of so many rows, with one value after the other."""
    if dialect == "sqlite":
        row = ", ".join("?" * len(_COLUMNS))
    else:
        row = ", ".join(f"%s::{_CASTS[name]}" for name in _COLUMNS)
    return f"INSERT INTO events ({', '.join(_COLUMNS)}) VALUES " + ", ".join([f"({row})"] * rows)


def _send(connection: Connection, made: Sequence[Event]) -> None:
    """Insert a few rows on PostgreSQL, in one round trip."""
    with pipelined(connection, 0):
        cursor = driver_connection(connection).cursor()
        for chunk in _chunks(made):
            flat: list[Any] = []
            for event in chunk:
                flat.extend(_zoned(_row(event)))
            cursor.execute(_insert_statement("postgresql", len(chunk)), flat)


def _copy(connection: Connection, made: Sequence[Event]) -> None:
    target = ", ".join(_COLUMNS)
    lines = "".join([_copy_line(event) for event in made])
    with (
        driver_connection(connection).cursor() as cursor,
        cursor.copy(f"COPY events ({target}) FROM STDIN") as copy,
    ):
        copy.write(lines)


def _copy_line(event: Event) -> str:
    """Return the event in COPY's text format: a third of what it costs value by value."""
    elapsed = "\\N" if event.elapsed_ns is None else event.elapsed_ns
    connection = "\\N" if event.connection_id is None else _escaped(event.connection_id)
    return (
        f"{_escaped(event.account)}\t{event.position}\t{time_text(event.received_us)}+00\t"
        f"{elapsed}\t{connection}\t{_escaped(event.origin)}\t{_escaped(event.type)}\t"
        f"{_escaped(event.payload)}\t{_escaped(event.encoding)}\t\\\\x{event.digest.hex()}\n"
    )


def _escaped(text: str) -> str:
    """Return the text as COPY reads it back to the character."""
    text = text.replace("\\", "\\\\").replace("\n", "\\n")
    return text.replace("\r", "\\r").replace("\t", "\\t")


def _zoned(row: tuple[Any, ...]) -> tuple[Any, ...]:
    """Return the row with its time in words that PostgreSQL reads as UTC, whatever its zone is."""
    return (*row[:2], f"{row[2]}+00", *row[3:])
