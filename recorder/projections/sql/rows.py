"""Rows of projections: loads what a fold may look at, and writes what it changed.

Which tables are meant is an argument (`LIVE`, or temporary copies of them), so that a rebuild runs
the same code as the daemon. All statements are limited to one account.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from functools import cache
from typing import Any

import sqlalchemy
from attrs import define, field
from sqlalchemy import ColumnElement, Connection, delete, func, select, true, tuple_
from sqlalchemy.dialects import postgresql, sqlite

from recorder.database.prepared import Prepared, prepare
from recorder.database.schema import metadata, projections
from recorder.projections.rules.fold import Add, Alike, Change, Key, Projection, Put, Row, Table

#: Table name → the table that is read and written for it.
Tables = Mapping[str, sqlalchemy.Table]

LIVE: Tables = metadata.tables
#: Keys in one SELECT or DELETE: three columns each stay far below SQLite's 32,766 variables.
KEYS_MAX = 500


def fold_position(connection: Connection, account: str, names: Collection[str]) -> int:
    """Return the position that all of these folds have reached; 0 while one has no row."""
    ours = (projections.c.account == account, projections.c.projection.in_(names))
    wanted = select(func.count(), func.min(projections.c.position)).where(*ours)
    count, position = connection.execute(wanted).one()
    return int(position) if count == len(names) else 0


def load_resident(
    connection: Connection, tables: Tables, table: Table, account: str
) -> dict[Key, Row]:
    """Return the rows that the fold always sees of this table."""
    target = tables[table.name]
    wanted = select(target).where(target.c.account == account)
    if table.resident is None:
        return {}
    if table.resident != "*":
        wanted = wanted.where(target.c[table.resident] == true())
    return _keyed(connection, wanted, table)


def load_keys(
    connection: Connection, tables: Tables, table: Table, account: str, keys: Collection[Key]
) -> dict[Key, Row]:
    """Return the rows with these keys, and those alike, as far as they stand."""
    target = tables[table.name]
    found: dict[Key, Row] = {}
    for some in _pieces([key for key in keys if not isinstance(key, Alike)]):
        wanted = select(target).where(target.c.account == account, _one_of(target, table, some))
        found.update(_keyed(connection, wanted, table))
    alike = [key for key in keys if isinstance(key, Alike)]
    for column in dict.fromkeys(each.column for each in alike):
        values = [each.value for each in alike if each.column == column]
        for start in range(0, len(values), KEYS_MAX):
            some_values = values[start : start + KEYS_MAX]
            is_alike = target.c[column].in_(some_values)
            wanted = select(target).where(target.c.account == account, is_alike)
            found.update(_keyed(connection, wanted, table))
    return found


def clear(connection: Connection, tables: Tables, cleared: Iterable[Table], account: str) -> None:
    """Delete the account's rows of these tables."""
    for table in cleared:
        target = tables[table.name]
        connection.execute(delete(target).where(target.c.account == account))


@define
class Changes:
    """The changes of a batch, reduced to what has to be written: the last word on each key."""

    _last: dict[str, dict[Key, Row | None]] = field(factory=dict)
    _added: dict[str, list[Row]] = field(factory=dict)

    def take(self, changes: Iterable[Change]) -> None:
        """Take the changes of the next event."""
        for change in changes:
            if isinstance(change, Add):
                self._added.setdefault(change.table, []).append(change.values)
            else:
                values = change.values if isinstance(change, Put) else None
                self._last.setdefault(change.table, {})[change.key] = values

    def write(
        self, connection: Connection, tables: Tables, projection: Projection, account: str
    ) -> None:
        """Write them, a statement or two per table."""
        for table in projection.tables:
            last = self._last.get(table.name, {})
            put = [row for row in last.values() if row is not None]
            # First what goes: another row may come to its place.
            _remove(connection, tables, table, account, [key for key in last if last[key] is None])
            _put(connection, tables, table, account, put)
            _add(connection, tables, table, account, self._added.get(table.name, []))


def _put(
    connection: Connection, tables: Tables, table: Table, account: str, rows: Sequence[Row]
) -> None:
    if not rows:
        return
    assert not table.once, f"{table.name} only grows; a row of it can't be set"
    target = tables[table.name]
    whole = [_whole(target, account, row) for row in rows]
    _prepared(connection, target, table, once=False).write(connection, whole)


def _add(
    connection: Connection, tables: Tables, table: Table, account: str, rows: Sequence[Row]
) -> None:
    if not rows:
        return
    target = tables[table.name]
    whole = [_whole(target, account, row) for row in rows]
    _prepared(connection, target, table, once=True).write(connection, whole)


def _remove(
    connection: Connection, tables: Tables, table: Table, account: str, keys: Sequence[Key]
) -> None:
    target = tables[table.name]
    for some in _pieces(keys):
        gone = delete(target).where(target.c.account == account, _one_of(target, table, some))
        connection.execute(gone)


def _prepared(
    connection: Connection, target: sqlalchemy.Table, table: Table, *, once: bool
) -> Prepared:
    """Return the statement that writes rows of this table, compiled when first asked for."""
    wanted = (connection.dialect.name, target, table, once)
    if wanted not in _PREPARED:
        identity = ("account", *table.key)
        statement = _insert(connection, target)
        if once:
            write = statement.on_conflict_do_nothing(index_elements=identity)
        else:
            others = {c.name: c for c in statement.excluded if c.name not in identity}
            write = statement.on_conflict_do_update(index_elements=identity, set_=others)
        _PREPARED[wanted] = prepare(connection.dialect, write, target.c.keys())
    return _PREPARED[wanted]


#: One per dialect and table; temporary copies of tables are few, and live as long as the process.
_PREPARED: dict[tuple[str, sqlalchemy.Table, Table, bool], Prepared] = {}


def _insert(connection: Connection, target: sqlalchemy.Table) -> sqlite.Insert | postgresql.Insert:
    return (
        sqlite.insert(target) if connection.dialect.name == "sqlite" else postgresql.insert(target)
    )


def _whole(target: sqlalchemy.Table, account: str, row: Row) -> dict[str, Any]:
    """Return a value for every column: what a fold leaves out is null."""
    names = _names(target)
    unknown = row.keys() - names.keys()
    assert not unknown, f"{target.name} has no column {sorted(unknown)}"
    return {**names, **row, "account": account}


@cache
def _names(target: sqlalchemy.Table) -> dict[str, None]:
    return dict.fromkeys(target.c.keys())


def _keyed(connection: Connection, wanted: sqlalchemy.Select[Any], table: Table) -> dict[Key, Row]:
    found: dict[Key, Row] = {}
    for stored in connection.execute(wanted).mappings():
        row = dict(stored)
        del row["account"]
        found[tuple(row[name] for name in table.key)] = row
    return found


def _one_of(target: sqlalchemy.Table, table: Table, keys: Sequence[Key]) -> ColumnElement[bool]:
    columns = [target.c[name] for name in table.key]
    if len(columns) == 1:
        return columns[0].in_([key[0] for key in keys])
    return tuple_(*columns).in_(keys)


def _pieces(keys: Sequence[Key]) -> Iterable[Sequence[Key]]:
    return (keys[start : start + KEYS_MAX] for start in range(0, len(keys), KEYS_MAX))
