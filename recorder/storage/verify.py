"""Proves an account's log, or names the first position where it is damaged.

A damaged log is exactly what this is for, so nothing about a row is taken for granted: columns are
read as bytes where they could hold anything, and whatever no event can be made of is damage at that
position, not an error.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from attrs import frozen
from sqlalchemy import (
    ColumnElement,
    Connection,
    LargeBinary,
    Row,
    Text,
    cast,
    extract,
    select,
)

from recorder.log.chain import Damage, check_event
from recorder.log.comparison import NEVER, Comparison
from recorder.log.event import EMPTY_HEAD, Event, Head
from recorder.storage.read import PAGE_BYTES, PAGE_ROWS, bounded
from recorder.storage.schema import events
from recorder.storage.times import MICROSECONDS, moment_us

__all__ = ["Damage", "Verified", "verify_account"]

_MAY_BE_NULL = frozenset({"elapsed_ns", "connection_id"})


@frozen
class Verified:
    """The log is what was written: so many events, and the head to compare with a kept one."""

    events: int
    head: Head


def verify_account(
    connection: Connection,
    account: str,
    on_progress: Callable[[int], object],
    comparison: Comparison | None = None,
) -> Verified | Damage:
    """Check every event of the account from position 1; ``on_progress`` is told positions.

    With a ``comparison``, its checkpoints as well: they must have been read before this transaction
    began, since a running recorder makes new ones. Of several damages the first is returned. Memory
    stays bounded however long the log is. Raises only what the database itself raises.
    """
    head, received_us, awaited = EMPTY_HEAD, None, NEVER
    if comparison is not None:
        comparison.begin()
        awaited = comparison.awaited
    while page := _page(connection, account, head.position):
        for row in page:
            event = _event(account, head.position + 1, row)
            checked = event if isinstance(event, Damage) else check_event(head, event)
            if isinstance(checked, Damage):
                return (comparison and comparison.so_far()) or checked
            assert isinstance(event, Event)
            head, received_us = checked, event.received_us
            if head.position == awaited and comparison is not None:
                awaited = comparison.see(head, received_us)
        on_progress(head.position)
    contradicted = comparison.end(head, received_us) if comparison is not None else None
    return contradicted or Verified(head.position, head)


def _page(connection: Connection, account: str, after: int) -> list[Row[*tuple[Any, ...]]]:
    """Return the rows behind a position that was checked; behind 0, all that come first."""
    raw = _as_bytes if connection.dialect.name == "sqlite" else _as_read
    columns = [raw(column).label(column.name) for column in events.c if column.name != "account"]
    statement = select(*columns).where(events.c.account == account)
    if after > 0:
        statement = statement.where(events.c.position > after)
    statement = statement.order_by(events.c.position).limit(PAGE_ROWS)
    if connection.dialect.name == "postgresql":
        return list(connection.execute(bounded(statement)))
    found: list[Row[*tuple[Any, ...]]] = []
    weight = 0
    for row in connection.execute(statement):
        found.append(row)
        weight += len(row.payload or b"")
        if weight >= PAGE_BYTES:
            break
    return found


def _as_bytes(column: ColumnElement[Any]) -> ColumnElement[Any]:
    """SQLite: a text that is no UTF-8 would otherwise raise before we see it."""
    return cast(column, LargeBinary)


def _as_read(column: ColumnElement[Any]) -> ColumnElement[Any]:
    """PostgreSQL: its texts are sound, but a time may lie outside of what Python has."""
    if column is events.c.received_at:
        return cast(extract("epoch", column) * MICROSECONDS, Text)
    return column


def _event(account: str, expected: int, row: Row[*tuple[Any, ...]]) -> Event | Damage:
    """Return the event that stands in the row, or why there is none."""
    values: dict[str, Any] = {}
    for name, value in row._mapping.items():
        try:
            values[name] = _value(name, value)
        except ValueError as error:
            return Damage(expected, f"{name} can't be read: {error}")
    position = values.pop("position")
    received_us = values.pop("received_at")
    return Event(account=account, position=position, received_us=received_us, **values)


def _value(name: str, value: Any) -> Any:
    """Return the value that an event has in this column. Raises ValueError, saying what it is."""
    if value is None:
        if name in _MAY_BE_NULL:
            return None
        raise ValueError("is null")
    if name == "digest":
        return bytes(value)
    plain = value.decode() if isinstance(value, bytes) else value
    if name in ("position", "elapsed_ns"):
        return int(plain)
    return _moment(plain) if name == "received_at" else plain


def _moment(text: str) -> int:
    """Return microseconds from SQLite's text of a time, or from PostgreSQL's count of them."""
    return moment_us(text) if "-" in text[1:] else int(text.partition(".")[0])
