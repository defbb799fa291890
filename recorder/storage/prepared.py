"""Statements that are compiled once and run many times.

SQLAlchemy builds, keys and looks up a statement at every execution; for a batch of five rows that
costs several times what the database does. Here a statement is built and compiled by it once per
dialect, and its text then goes to the driver, with values that the columns' types have converted.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import sqlalchemy
from attrs import frozen
from sqlalchemy import Connection, CursorResult, Dialect
from sqlalchemy.sql.base import Executable

Converter = Callable[[Any], Any] | None


@frozen
class Prepared:
    """A compiled statement. ``order`` is None where the driver takes values by name."""

    sql: str
    converters: Mapping[str, Converter]
    order: tuple[str, ...] | None
    #: Values that the statement itself holds, such as a limit.
    fixed: Mapping[str, Any]

    def run(self, connection: Connection, rows: Sequence[Mapping[str, Any]]) -> CursorResult[Any]:
        """Execute it once per row of values; a single row's result can be read."""
        fixed = self.fixed
        values = [self._values({**fixed, **row} if fixed else row) for row in rows]
        return connection.exec_driver_sql(self.sql, values if len(values) > 1 else values[0])

    def _values(self, row: Mapping[str, Any]) -> Any:
        if self.order is None:
            return {
                name: converter(row[name]) if converter else row[name]
                for name, converter in self.converters.items()
            }
        converters = self.converters
        values = []
        for name in self.order:
            converter = converters[name]
            values.append(converter(row[name]) if converter else row[name])
        return tuple(values)


def prepare(
    dialect: Dialect, statement: Executable, names: Iterable[str] | None = None
) -> Prepared:
    """Compile a statement whose parameters are all named; ``names`` for an INSERT's columns."""
    keys = None if names is None else list(names)
    compiled = statement.compile(dialect=dialect, column_keys=keys)  # type: ignore[attr-defined]
    converters = {
        name: parameter.type.dialect_impl(dialect).bind_processor(dialect)
        for name, parameter in compiled.binds.items()
    }
    order = tuple(compiled.positiontup) if compiled.positional else None
    fixed = {name: each.value for name, each in compiled.binds.items() if not each.required}
    return Prepared(str(compiled), converters, order, fixed)


def columns_of(target: sqlalchemy.Table) -> list[str]:
    """Return the names of the table's columns, in their order."""
    return [column.name for column in target.c]
