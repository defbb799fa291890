"""Reads the log: heads, and events in the order of their positions.

Rows become events directly: the column types that serve everything else cost more than the reading
itself. A long log is streamed in pages bounded in rows and in bytes, so that memory holds
`PAGE_BYTES` and one payload at most.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from typing import Any

from attrs import frozen
from sqlalchemy import (
    ColumnElement,
    Connection,
    DateTime,
    Dialect,
    Integer,
    Row,
    Select,
    Text,
    bindparam,
    func,
    literal_column,
    or_,
    select,
    type_coerce,
)

from recorder.database.prepared import Prepared, prepare
from recorder.database.schema import events
from recorder.errors import LogDamaged
from recorder.log.rules.event import EMPTY_HEAD, Event, Head
from recorder.timestamps import time_us, to_us

#: A page of a stream: at most this many rows, …
PAGE_ROWS = 1_000
#: … and no further row once the payloads have this many bytes: frames may have megabytes each.
PAGE_BYTES = 8 * 1024 * 1024
#: Beyond every position there will be.
POSITION_MAX = 2**63 - 1


@frozen
class Page:
    """Some events in order, and whether they are the last that were asked for."""

    events: list[Event]
    is_last: bool


def head(connection: Connection, account: str) -> Head:
    """Return the last position of the account's log and its digest, or `EMPTY_HEAD`."""
    last = (
        select(events.c.position, events.c.digest)
        .where(events.c.account == account)
        .order_by(events.c.position.desc())
        .limit(1)
    )
    row = connection.execute(last).one_or_none()
    return Head(row.position, bytes(row.digest)) if row else EMPTY_HEAD


def accounts(connection: Connection) -> list[str]:
    """Return the accounts that have events, sorted. One look-up each, however long the log."""
    found: list[str] = []
    while True:
        following = select(func.min(events.c.account))
        if found:
            following = following.where(events.c.account > found[-1])
        account = connection.execute(following).scalar_one()
        # Bytes in the place of a name, which stand behind all of them, are `recorder verify`'s.
        if not isinstance(account, str):
            # The database may sort by other rules than Python does.
            return sorted(found)
        found.append(account)


def may_read(connection: Connection, table: str) -> bool:
    """Return whether the role of this connection may read a table; one that isn't there, it may."""
    if connection.dialect.name != "postgresql":
        return True
    granted = func.has_table_privilege(func.to_regclass(table), "SELECT")
    return bool(connection.execute(select(func.coalesce(granted, True))).scalar_one())


def event_at(connection: Connection, account: str, position: int) -> Event | None:
    """Return the event at this position, or None where there is none."""
    found = events_after(connection, account, position - 1, up_to=position, limit=1)
    return found[0] if found else None


def events_after(
    connection: Connection,
    account: str,
    after: int,
    *,
    up_to: int | None = None,
    limit: int,
    types: Collection[str] | None = None,
) -> list[Event]:
    """Return at most ``limit`` events behind position ``after``, in order.

    ``up_to`` is the last position wanted; ``types`` passes all other events by. Raises LogDamaged
    for a row that no event can be read from.
    """
    statement = _behind(connection, account, after, up_to, types).limit(limit)
    return [_event(row) for row in connection.execute(statement)]


def read_page(
    connection: Connection,
    account: str,
    after: int,
    *,
    up_to: int | None = None,
    limit: int = PAGE_ROWS,
    types: Collection[str] | None = None,
) -> Page:
    """Return events like `events_after`, but no more than fill `PAGE_BYTES` (and at least one)."""
    end = POSITION_MAX if up_to is None else up_to
    wanted = {"account": account, "after": after, "up_to": end, "rows": limit}
    kinds = None if types is None else frozenset(types)
    rows = _prepared_page(connection.dialect, kinds).run(connection, [wanted])
    if connection.dialect.name == "sqlite":
        return _first_bytes(rows, limit)
    found = [*map(_event, rows)]
    return Page(found, is_last=len(found) < limit and _weight(found) < PAGE_BYTES)


def _prepared_page(dialect: Dialect, types: frozenset[str] | None) -> Prepared:
    """Return the statement of `read_page`, compiled when first asked for."""
    if (dialect.name, types) not in _PAGES:
        columns = [_raw(dialect, column) for column in events.c]
        statement = (
            select(*columns)
            .where(events.c.account == bindparam("account"))
            .where(events.c.position > bindparam("after"))
            .where(events.c.position <= bindparam("up_to"))
            .order_by(events.c.position)
            .limit(bindparam("rows", type_=Integer()))
        )
        if types is not None:
            # One alternative each: a list of values would be expanded at every execution.
            kinds = [events.c.type == literal_column(_quoted(kind)) for kind in sorted(types)]
            statement = statement.where(or_(*kinds))
        if dialect.name != "sqlite":
            statement = bounded(statement)
        _PAGES[dialect.name, types] = prepare(dialect, statement)
    return _PAGES[dialect.name, types]


#: One per dialect and set of types: as many as there are projections.
_PAGES: dict[tuple[str, frozenset[str] | None], Prepared] = {}


def _quoted(kind: str) -> str:
    # The empty one is that of frames of which not even a type can be read.
    assert not kind or kind.replace("_", "").isalnum(), "types that are folded are plain words"
    return f"'{kind}'"


def stream_events(
    connection: Connection,
    account: str,
    after: int = 0,
    *,
    up_to: int | None = None,
    types: Collection[str] | None = None,
) -> Iterator[Event]:
    """Yield the events behind position ``after``, in order, holding a page of them at a time."""
    while True:
        page = read_page(connection, account, after, up_to=up_to, types=types)
        yield from page.events
        if page.is_last:
            return
        after = page.events[-1].position


def _first_bytes(rows: Iterable[Row[*tuple[Any, ...]]], limit: int) -> Page:
    """Take rows while there is room. SQLite fetches them one by one, so the rest costs nothing."""
    found: list[Event] = []
    weight = 0
    for row in rows:
        event = _event(row)
        found.append(event)
        weight += len(event.payload)
        if weight >= PAGE_BYTES:
            return Page(found, is_last=False)
    return Page(found, is_last=len(found) < limit)


def bounded(statement: Select[*tuple[Any, ...]]) -> Select[*tuple[Any, ...]]:
    """Return the statement, on PostgreSQL, cut behind the row whose payload fills `PAGE_BYTES`.

    Its driver takes all rows of a result at once.
    """
    page = statement.subquery()
    octets = func.coalesce(func.octet_length(page.c.payload), 0)
    before = func.sum(octets).over(order_by=page.c.position) - octets
    weighed = select(page, before.label("before")).subquery()
    columns = [column for column in weighed.c if column.name != "before"]
    return select(*columns).where(weighed.c.before < PAGE_BYTES).order_by(weighed.c.position)


def _weight(found: Iterable[Event]) -> int:
    """Return the bytes of the payloads, as `bounded` counts them."""
    return sum(len(event.payload.encode()) for event in found)


def _behind(
    connection: Connection,
    account: str,
    after: int,
    up_to: int | None,
    types: Collection[str] | None,
) -> Select[*tuple[Any, ...]]:
    columns = [_raw(connection.dialect, column) for column in events.c]
    statement = select(*columns).where(events.c.account == account, events.c.position > after)
    if up_to is not None:
        statement = statement.where(events.c.position <= up_to)
    if types is not None:
        statement = statement.where(events.c.type.in_(sorted(types)))
    return statement.order_by(events.c.position)


def _raw(dialect: Dialect, column: ColumnElement[Any]) -> ColumnElement[Any]:
    """Return the column as the driver gives it: a text on SQLite, an aware time on PostgreSQL."""
    if column is not events.c.received_at:
        return column
    kind = Text() if dialect.name == "sqlite" else DateTime(timezone=True)
    return type_coerce(column, kind).label("received_at")


def _event(row: Row[*tuple[Any, ...]]) -> Event:
    (account, position, received, elapsed_ns, connection_id, origin, kind, payload, *rest) = row
    try:
        received_us = time_us(received) if isinstance(received, str) else to_us(received)
    except ValueError as error:
        where = f"event {position} of account {account!r}"
        raise LogDamaged(f"{where}: received_at: {error}; run `recorder verify`") from error
    encoding, digest = rest
    return Event(
        account,
        position,
        received_us,
        elapsed_ns,
        connection_id,
        origin,
        kind,
        payload,
        encoding,
        bytes(digest),
    )
