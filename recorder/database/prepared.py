"""Compiles statements once and runs them many times.

SQLAlchemy builds, keys and looks up a statement at every execution. For a batch of five rows that
costs several times what the database does. Here it compiles a statement once per dialect; the text
then goes to the driver, with values that the columns' types have converted.

The hot path writes to the driver's own connection, under SQLAlchemy's (`write`), so its errors are
the driver's own. On PostgreSQL small statements are sent without waiting for each other's results,
in one round trip (`pipelined`). Large ones are not: psycopg waits for ever for the results of
statements that didn't fit into the socket's buffer (its issue 685). Its executemany() pipelines
too, so large rows are written one by one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import psycopg
from attrs import frozen
from sqlalchemy import Connection, CursorResult, Dialect
from sqlalchemy.sql.base import Executable
from sqlalchemy.types import TypeEngine

from recorder.database.columns import Amount, UtcTime, amount_text, sqlite_time, utc_time

Converter = Callable[[Any], Any] | None

#: Fits into any socket's buffer.
PIPELINED_BYTES_MAX = 16_384


@frozen
class Prepared:
    """A compiled statement. ``order`` is None where the driver takes values by name."""

    sql: str
    converters: Mapping[str, Converter]
    order: tuple[str, ...] | None
    #: Values that the statement itself holds, such as a limit.
    fixed: Mapping[str, Any]
    #: (place in ``order``, converter) of the values that need one.
    converted: tuple[tuple[int, Callable[[Any], Any]], ...]

    def run(self, connection: Connection, rows: Sequence[Mapping[str, Any]]) -> CursorResult[Any]:
        """Execute it once per row of values; a single row's result can be read."""
        values = [*map(self._values, rows)]
        return connection.exec_driver_sql(self.sql, values if len(values) > 1 else values[0])

    def write(self, connection: Connection, rows: Sequence[Mapping[str, Any]]) -> Any:
        """Execute it once per row on the driver's connection; return the driver's cursor.

        Inside `pipelined` its ``rowcount`` is -1 until the end.
        """
        cursor = driver_connection(connection).cursor()
        values = [*map(self._values, rows)]
        if len(values) == 1 or (self.order is None and any(map(_is_large, values))):
            for row in values:
                cursor.execute(self.sql, row)
        else:
            cursor.executemany(self.sql, values)
        return cursor

    def _values(self, given: Mapping[str, Any]) -> Any:
        row = {**self.fixed, **given} if self.fixed else given
        converters = self.converters
        if self.order is None:
            return {
                name: row[name] if converter is None or row[name] is None else converter(row[name])
                for name, converter in converters.items()
            }
        values = [row[name] for name in self.order]
        for place, converter in self.converted:
            if values[place] is not None:
                values[place] = converter(values[place])
        return tuple(values)


def _is_large(row: Mapping[str, Any]) -> bool:
    texts = [len(value) for value in row.values() if isinstance(value, str)]
    return sum(texts) > PIPELINED_BYTES_MAX


def driver_connection(connection: Connection) -> Any:
    """Return the driver's own connection under SQLAlchemy's."""
    return connection.connection.driver_connection


def pipelined(connection: Connection, weight: int) -> AbstractContextManager[object]:
    """Send the writes inside, all by `Prepared.write`, in one round trip on PostgreSQL.

    A failure is raised at its end at the latest. Inside another pipeline it is part of that one. It
    does nothing for a ``weight`` in characters of more than `PIPELINED_BYTES_MAX`.
    """
    raw = driver_connection(connection)
    if not isinstance(raw, psycopg.Connection) or raw.pgconn.pipeline_status:
        return nullcontext()
    return raw.pipeline() if weight <= PIPELINED_BYTES_MAX else nullcontext()


def is_pipelined(connection: Connection) -> bool:
    """Return whether a write is only sent now, and its outcome not yet known."""
    raw = driver_connection(connection)
    return isinstance(raw, psycopg.Connection) and bool(raw.pgconn.pipeline_status)


def answered(connection: Connection) -> AbstractContextManager[object]:
    """Do the same as `pipelined`, with the results known at its end, inside another one too."""
    raw = driver_connection(connection)
    return raw.pipeline() if isinstance(raw, psycopg.Connection) else nullcontext()


def prepare(
    dialect: Dialect, statement: Executable, names: Iterable[str] | None = None
) -> Prepared:
    """Compile a statement whose parameters are all named; ``names`` for an INSERT's columns."""
    keys = None if names is None else list(names)
    compiled = statement.compile(dialect=dialect, column_keys=keys)  # type: ignore[attr-defined]
    converters = {
        name: parameter_converter(parameter.type, dialect)
        for name, parameter in compiled.binds.items()
    }
    order = tuple(compiled.positiontup) if compiled.positional else None
    fixed = {name: each.value for name, each in compiled.binds.items() if not each.required}
    converted = tuple(
        (place, converter)
        for place, name in enumerate(order or ())
        if (converter := converters[name]) is not None
    )
    return Prepared(str(compiled), converters, order, fixed, converted)


def parameter_converter(kind: TypeEngine[Any], dialect: Dialect) -> Converter:
    """Return the function that makes the driver's value of one that isn't None, if it needs one.

    For our own types it skips the calls that SQLAlchemy wraps around theirs.
    """
    if isinstance(kind, Amount):
        return amount_text if dialect.name == "sqlite" else None
    if isinstance(kind, UtcTime):
        return sqlite_time if dialect.name == "sqlite" else utc_time
    converter: Converter = kind.dialect_impl(dialect).bind_processor(dialect)
    return converter
