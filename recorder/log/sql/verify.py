"""Proves an account's log, or names the first position where it is damaged.

Nothing about a row is taken for granted: columns are read as bytes where they could hold anything,
and a row that is no event is damage at that position, not an error.

The walk follows the index of positions, as a look-up of an event does. The owner of the database
can make index and table differ; only a scan of the table finds a row that the index leaves out. So
`first_strays` scans it too.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from attrs import frozen
from sqlalchemy import (
    Connection,
    Row,
    Select,
    Text,
    cast,
    extract,
    func,
    select,
    text,
    type_coerce,
)
from sqlalchemy.types import NullType

from recorder.database.schema import events
from recorder.log.rules.chain import Damage, check_event
from recorder.log.rules.checkpoint_comparison import NEVER, Comparison
from recorder.log.rules.event import EMPTY_HEAD, Event, Head
from recorder.log.sql.read import PAGE_BYTES, PAGE_ROWS, POSITION_MAX, accounts, bounded
from recorder.timestamps import MICROSECONDS, time_us

__all__ = ["Damage", "Verified", "first_strays", "verify_account"]

_MAY_BE_NULL = frozenset({"elapsed_ns", "connection_id"})
#: What SQLite calls the value in each column that isn't a text. A table that is no longer STRICT
#: holds anything: bytes that read like the text of before would be found by no query for it.
_SQLITE_KINDS = {"position": "integer", "elapsed_ns": "integer", "digest": "blob"}
_STRAY = "a row is in the table that its index doesn't know at that position"


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
    stray: int | None = None,
) -> Verified | Damage:
    """Check every event of the account from position 1; ``on_progress`` is reported positions.

    With a ``comparison``, its checkpoints as well: they must have been read before this transaction
    began, since a running recorder makes new ones. ``stray`` is the result of `first_strays` for
    the account. Of several damages the first is returned. Memory stays bounded however long the log
    is. Raises only what the database itself raises.
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
    if stray is not None:
        return (comparison and comparison.so_far()) or Damage(min(stray, head.position + 1), _STRAY)
    contradicted = comparison.end(head, received_us) if comparison is not None else None
    return contradicted or Verified(head.position, head)


def first_strays(connection: Connection) -> Mapping[str, int]:
    """Return the first position of each account at which the table has a row beside its index.

    Reads the whole table once, without payloads. The transaction must be one of its own.
    """
    if connection.dialect.name == "sqlite":
        found = connection.execute(text(_SQLITE_STRAYS))
        named = ((name or b"", first) for name, first in found)
        return {name.decode(errors="replace"): _position_of(first) for name, first in named}
    heads = {account: _head_by_index(connection, account) for account in accounts(connection)}
    for way in ("enable_indexscan", "enable_indexonlyscan", "enable_bitmapscan"):
        connection.execute(text(f"SET LOCAL {way} = off"))
    strays = {}
    for account, first, last in connection.execute(text(_POSTGRESQL_STRAYS)):
        behind = heads.get(account, 0) + 1
        if first is not None or last >= behind:
            strays[str(account)] = _position_of(behind if first is None else first)
    return strays


def _head_by_index(connection: Connection, account: str) -> int:
    last = select(func.max(events.c.position)).where(events.c.account == account)
    return _position_of(connection.execute(last).scalar_one())


# The + keeps SQLite from looking the row up in the table, where it is, of course.
_SQLITE_STRAYS = """
    SELECT CAST(account AS BLOB), min(position) FROM events AS e NOT INDEXED
    WHERE typeof(account) <> 'text' OR NOT EXISTS (
        SELECT 1 FROM events AS i INDEXED BY sqlite_autoindex_events_1
        WHERE i.account = e.account AND i.position = e.position AND +i.rowid = +e.rowid
    )
    GROUP BY 1
"""
# What is in the table alone takes a place among the positions: then those behind it, or it itself,
# are no longer in theirs. Or it stands behind all of them.
_POSTGRESQL_STRAYS = """
    SELECT account, min(position) FILTER (WHERE place <> position), max(position) FROM (
        SELECT account, position,
            row_number() OVER (PARTITION BY account ORDER BY position) AS place
        FROM events
    ) AS e
    GROUP BY account
"""


def _position_of(found: object) -> int:
    """Return a position; what is none stands before all that are."""
    return found if type(found) is int else 1


def _page(connection: Connection, account: str, after: int) -> list[Row[*tuple[Any, ...]]]:
    """Return the rows behind a position that was checked; behind 0, all that come first."""
    if connection.dialect.name == "postgresql":
        return list(connection.execute(bounded(_postgresql_rows(account, after))))
    found: list[Row[*tuple[Any, ...]]] = []
    weight = 0
    start = after + 1 if after > 0 else -POSITION_MAX
    wanted = {"account": account, "start": start, "rows": PAGE_ROWS}
    for row in connection.execute(text(_SQLITE_ROWS), wanted):
        found.append(row)
        weight += len(row.payload or b"")
        if weight >= PAGE_BYTES:
            break
    return found


def _postgresql_rows(account: str, after: int) -> Select[*tuple[Any, ...]]:
    """Its texts are sound, but a time may lie outside of what Python has."""
    # As the driver gives them: a column may have been given another type.
    columns = [
        type_coerce(column, NullType()).label(column.name)
        for column in events.c
        if column.name != "received_at"
    ]
    count = cast(extract("epoch", events.c.received_at) * MICROSECONDS, Text).label("received_at")
    statement = select(*columns, count).where(events.c.account == account)
    if after > 0:
        statement = statement.where(events.c.position > after)
    return statement.order_by(events.c.position).limit(PAGE_ROWS)


def _has_its_kind(name: str) -> str:
    kind = f"typeof(e.{name}) = '{_SQLITE_KINDS.get(name, 'text')}'"
    return f"(e.{name} IS NULL OR {kind})" if name in _MAY_BE_NULL else kind


# SQLite takes from an index what stands there; so that gives the row's number only, and the cross
# join keeps the order of the two. A text that is no UTF-8 would raise, so all is read as bytes.
_SQLITE_ROWS = f"""
    SELECT {", ".join(f"CAST(e.{column.name} AS BLOB) AS {column.name}" for column in events.c)},
        {" AND ".join(_has_its_kind(column.name) for column in events.c)} AS is_typed
    FROM events AS i CROSS JOIN events AS e ON e.rowid = i.rowid
    WHERE i.account = :account AND i.position >= :start ORDER BY i.position LIMIT :rows
"""


def _event(account: str, expected: int, row: Row[*tuple[Any, ...]]) -> Event | Damage:
    """Return the event that stands in the row, or why there is none."""
    answer = dict(row._mapping)
    is_typed = answer.pop("is_typed", None)
    values: dict[str, Any] = {}
    for name, value in answer.items():
        try:
            values[name] = _value(name, value, is_sqlite=is_typed is not None)
        except ValueError as error:
            return Damage(expected, f"{name} can't be read: {error}")
    if is_typed == 0:
        return Damage(expected, "a value is of another type than its column's")
    if values["account"] != account:
        return Damage(expected, f"its row reports that it is of account {values['account']!r}")
    return Event(received_us=values.pop("received_at"), **values)


def _value(name: str, value: Any, *, is_sqlite: bool) -> Any:
    """Return the value that an event has in this column. Raises ValueError, saying what it is.

    SQLite's are bytes, whatever they are of. What PostgreSQL's driver gives shows the type.
    """
    if value is None:
        if name in _MAY_BE_NULL:
            return None
        raise ValueError("is null")
    if name == "digest":
        return _of_kind(value, bytes)
    plain = value.decode() if is_sqlite else value
    if name in ("position", "elapsed_ns"):
        return int(plain) if is_sqlite else _of_kind(plain, int)
    answer: str = _of_kind(plain, str)
    if name != "received_at":
        return answer
    # PostgreSQL counts the microseconds, in a text.
    return time_us(answer) if is_sqlite else int(answer.partition(".")[0])


def _of_kind(value: Any, kind: type) -> Any:
    if type(value) is not kind:
        raise ValueError("is of another type than its column's")
    return value
