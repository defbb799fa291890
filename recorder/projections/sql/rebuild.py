"""Folds the log again from position 1: to compare with the tables (check), or to replace them.

Both fold into temporary copies of a projection's tables, with the daemon's code and in bounded
memory. A check then compares and changes nothing; it may run beside a daemon, because it sees one
moment of the database. A rebuild puts the copies in the tables' place in one short transaction;
no other process may fold the account meanwhile, which its checkpoint proves.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import datetime
from typing import Any

import sqlalchemy
from attrs import frozen
from sqlalchemy import (
    ColumnElement,
    Connection,
    MetaData,
    Select,
    delete,
    insert,
    literal,
    select,
    update,
)

from recorder.database.engine import Database, in_unit
from recorder.database.failures import translated_errors
from recorder.database.schema import fold_failures, metadata, projections
from recorder.errors import StorageUnavailable
from recorder.log.sql.read import head, read_page
from recorder.projections.rules.fold import Projection
from recorder.projections.sql.folding import Memory, fold_events
from recorder.projections.sql.rows import LIVE, Tables
from recorder.projections.sql.tables import record_failures

#: Events folded between two tellings of progress.
BATCH_EVENTS = 500
#: A table that differs everywhere is shown by this many rows.
DIFFERENCES_MAX = 20

#: Is reported the position that was folded.
OnProgress = Callable[[int], object]


@frozen
class Difference:
    """A row in which a table and the log disagree.

    ``key`` is the row's primary key without the account; ``how`` is ``missing`` (the log makes it,
    the table lacks it), ``extra`` (the other way round) or ``different``.
    """

    table: str
    key: tuple[object, ...]
    how: str


@frozen
class Checked:
    """What a check found: up to which position it folded, and at most `DIFFERENCES_MAX` a table."""

    position: int
    differences: list[Difference]


@frozen
class Rebuilt:
    """What a rebuild made: the checkpoint, and how many events could not be folded."""

    position: int
    failures: int


def check(
    database: Database, account: str, projection: Projection, on_progress: OnProgress
) -> Checked:
    """Compare the projection's tables with the log up to its checkpoint; changes nothing."""
    return in_unit(database.scratch, _check, account, projection, on_progress)


def rebuild(
    database: Database,
    account: str,
    projection: Projection,
    on_progress: OnProgress,
    *,
    now: datetime,
) -> Rebuilt:
    """Make the projection's tables again from the whole log.

    The caller sees to it that no daemon owns the account. Raises StorageUnavailable, with the
    tables as they were, if one moved the checkpoint all the same.
    """
    with translated_errors(), database.scratch.connect() as connection:
        with connection.begin():
            before = _checkpoint(connection, account, projection)
            up_to = head(connection, account).position
            copies = _copies(connection, projection)
            failures = _fold_again(connection, account, projection, copies, up_to, on_progress)
        with connection.begin():
            _replace(connection, account, projection, copies)
            _set_checkpoint(connection, account, projection, before, up_to, now)
        return Rebuilt(up_to, failures)


def _check(
    connection: Connection, account: str, projection: Projection, on_progress: OnProgress
) -> Checked:
    up_to = _checkpoint(connection, account, projection) or 0
    copies = _copies(connection, projection)
    _fold_again(connection, account, projection, copies, up_to, on_progress)
    found: list[Difference] = []
    for name, copy in copies.items():
        found += _differences(connection, account, projection, LIVE[name], copy)
    return Checked(up_to, found)


def _checkpoint(connection: Connection, account: str, projection: Projection) -> int | None:
    wanted = select(projections.c.position).where(_is_of(projections, account, projection))
    return connection.execute(wanted).scalar_one_or_none()


def _copies(connection: Connection, projection: Projection) -> Tables:
    """Create empty temporary copies of the tables, and of the list of failures."""
    schema = "temp" if connection.dialect.name == "sqlite" else "pg_temp"
    names = [*(table.name for table in projection.tables), fold_failures.name]
    copies = {}
    for name in names:
        original = metadata.tables[name]
        copies[name] = original.to_metadata(MetaData(), schema=schema, name=f"again_{name}")
        copies[name].create(connection, checkfirst=False)
    return copies


def _fold_again(
    connection: Connection,
    account: str,
    projection: Projection,
    copies: Tables,
    up_to: int,
    on_progress: OnProgress,
) -> int:
    """Fold positions 1 to ``up_to`` into the copies; return how many events failed."""
    memory = Memory(copies)
    position = count = 0
    while position < up_to:
        page = read_page(
            connection, account, position, up_to=up_to, limit=BATCH_EVENTS, types=projection.types
        )
        failures = fold_events(connection, projection, memory, account, page.events)
        record_failures(connection, projection.name, account, failures, copies[fold_failures.name])
        memory.trim(projection)
        count += len(failures)
        position = up_to if page.is_last else page.events[-1].position
        on_progress(position)
    return count


def _differences(
    connection: Connection,
    account: str,
    projection: Projection,
    live: sqlalchemy.Table,
    copy: sqlalchemy.Table,
) -> Iterable[Difference]:
    extra = _keys_of_excess(connection, account, projection, live, copy)
    missing = _keys_of_excess(connection, account, projection, copy, live)
    for key in dict.fromkeys([*missing, *extra]):
        if not _stands(connection, account, projection, live, key):
            how = "missing"
        elif not _stands(connection, account, projection, copy, key):
            how = "extra"
        else:
            how = "different"
        yield Difference(live.name, key, how)


def _stands(
    connection: Connection,
    account: str,
    projection: Projection,
    table: sqlalchemy.Table,
    key: tuple[object, ...],
) -> bool:
    row = [column == value for column, value in zip(_key_of(table), key, strict=True)]
    found = select(literal(1)).where(_is_of(table, account, projection), *row)
    return connection.execute(found).first() is not None


def _key_of(table: sqlalchemy.Table) -> list[sqlalchemy.Column[Any]]:
    return [column for column in table.primary_key if column.name != "account"]


def _keys_of_excess(
    connection: Connection,
    account: str,
    projection: Projection,
    this: sqlalchemy.Table,
    other: sqlalchemy.Table,
) -> list[tuple[object, ...]]:
    """Return keys of rows that ``this`` has and ``other`` lacks, or has with another value."""
    excess = _all(this, account, projection).except_(_all(other, account, projection)).subquery()
    keys = [excess.c[column.name] for column in _key_of(this)]
    found = connection.execute(select(*keys).order_by(*keys).limit(DIFFERENCES_MAX))
    return [tuple(row) for row in found]


def _all(
    table: sqlalchemy.Table, account: str, projection: Projection
) -> Select[*tuple[object, ...]]:
    return select(*table.c).where(_is_of(table, account, projection))


def _is_of(table: sqlalchemy.Table, account: str, projection: Projection) -> ColumnElement[bool]:
    """Choose the account's rows; of a table that all projections share, this one's."""
    chosen = table.c.account == account
    return chosen & (table.c.projection == projection.name) if "projection" in table.c else chosen


def _replace(connection: Connection, account: str, projection: Projection, copies: Tables) -> None:
    for name, copy in copies.items():
        live = LIVE[name]
        connection.execute(delete(live).where(_is_of(live, account, projection)))
        names = [column.name for column in live.c]
        connection.execute(insert(live).from_select(names, select(*(copy.c[n] for n in names))))


def _set_checkpoint(
    connection: Connection,
    account: str,
    projection: Projection,
    before: int | None,
    position: int,
    now: datetime,
) -> None:
    """Move the checkpoint from where it stood before. Raises StorageUnavailable if it moved."""
    values = {
        "position": position,
        "version": projection.version,
        "updated_at": now,
        "error": None,
    }
    if before is None:
        named = {"account": account, "projection": projection.name}
        connection.execute(insert(projections).values(named | values))
        return
    move = update(projections).where(
        _is_of(projections, account, projection), projections.c.position == before
    )
    if connection.execute(move.values(values)).rowcount != 1:
        raise StorageUnavailable(
            f"{projection.name!r} of account {account!r} was folded while it was being rebuilt;"
            " stop the daemon and try again"
        )
