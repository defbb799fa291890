"""Commands that show a table of current state: declare one as a `StateCommand`.

A command reads each account's rows now, as of an earlier position or time (`--at`), or the history
of one row, and warns of whatever keeps the answer from being the present state.
"""

from __future__ import annotations

from argparse import ArgumentParser
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any

from attrs import frozen
from sqlalchemy import ColumnElement, Connection, Select, Table, select

from recorder.cli.as_of import (
    Past,
    add_past,
    is_past,
    print_as_of,
    print_warnings,
    read_past,
    run_past,
)
from recorder.cli.call import Call
from recorder.cli.exits import OK, WRONG
from recorder.cli.flags import DATABASE, add_output, add_settings
from recorder.cli.output import Column, quoted
from recorder.database.engine import in_unit
from recorder.display import short_time
from recorder.errors import ConfigurationError
from recorder.queries.account_status import AccountStatus, as_of, read_account_status, warnings
from recorder.queries.as_of_rows import AsOfTable, Rows

CERTAIN = Column("certain", show=lambda value: "yes" if value else "no")


@frozen
class History:
    """The history of one row: its table, the column that names the row, and what is printed."""

    table: Table
    key: str
    columns: Sequence[Column]
    help: str
    metavar: str
    #: What the row is called in the message that there is none of that name.
    noun: str


@frozen
class StateCommand:
    """What a command shows, from which table, in which order, and with which warnings."""

    projection: str
    table: Table
    order_by: ColumnElement[Any]
    columns: Sequence[Column]
    all_help: str
    as_of: AsOfTable
    #: Both return the text for an account without a row to show, given all rows that were read.
    empty: Callable[[str, Rows], str]
    empty_as_of: Callable[[str, Rows], str]
    #: What leaves a row out unless ``--all`` is given: a condition of the query, and of a row.
    is_live: ColumnElement[bool] | None = None
    is_shown: Callable[[Mapping[str, Any]], bool] = lambda row: True
    #: What is printed about the rows that ``is_shown`` left out, given their number.
    hidden: Callable[[int], str] | None = None
    history: History | None = None
    warnings: Callable[[str, Rows], Iterable[str]] = lambda account, rows: ()
    #: Whether the heading and each row name the position of the answer.
    shows_position: bool = True

    def configure(self, parser: ArgumentParser) -> None:
        """Add this command's arguments."""
        which = parser.add_mutually_exclusive_group()
        which.add_argument("--all", action="store_true", help=self.all_help)
        parser.set_defaults(history=None)
        if self.history is not None:
            which.add_argument("--history", metavar=self.history.metavar, help=self.history.help)
        add_past(parser)
        add_settings(parser, DATABASE)
        add_output(parser)

    def run(self, call: Call) -> int:
        """Print the rows of each account; exit code 2 if a row that was named has no history."""
        if is_past(call):
            return self._run_as_of(call)

        def read(connection: Connection) -> list[tuple[AccountStatus, Rows]]:
            return [
                (read_account_status(connection, account), self._read(call, connection, account))
                for account in call.accounts(connection)
            ]

        with call.database() as database:
            found = in_unit(database.reader, read)
        for status, rows in found:
            self._print(call, status, rows)
        named = call.arguments.history
        return OK if named is None or any(rows for _, rows in found) else WRONG

    def _read(self, call: Call, connection: Connection, account: str) -> Rows:
        query = self._query(account, call.arguments.history, is_all=call.arguments.all)
        return [dict(row) for row in connection.execute(query).mappings()]

    def _query(self, account: str, named: str | None, *, is_all: bool) -> Select[*tuple[Any, ...]]:
        if self.history is not None and named is not None:
            line = self.history.table.c
            mine = (line.account == account, line[self.history.key] == named)
            return select(self.history.table).where(*mine).order_by(line.position)
        query = select(self.table).where(self.table.c.account == account).order_by(self.order_by)
        return query if is_all or self.is_live is None else query.where(self.is_live)

    def _print(self, call: Call, status: AccountStatus, rows: Rows) -> None:
        output, name, named = call.output, quoted(status.account), call.arguments.history
        position, folded_at = as_of(status, self.projection)
        found = warnings(status, call.now(), self.projection)
        if not output.as_json:
            when = f", folded {short_time(folded_at)} UTC" if folded_at else ""
            where = f" as of position {position:,}{when}" if self.shows_position else ""
            output.line(f"account {name}{where}")
        if self.history is not None and named is not None:
            empty = f"account {name} knows no {self.history.noun} {quoted(named)}"
            output.rows(self.history.columns, rows, empty=empty)
            shown = []
        else:
            shown = self._shown(call, rows)
            extra = {"as_of_position": position, "as_of": folded_at, "live": not found}
            printed = [{**row, **extra} for row in shown] if self.shows_position else shown
            output.rows(self.columns, printed, empty=self.empty(name, rows))
        for warning in (*found, *self.warnings(name, shown)):
            output.warn(warning)
        if self.hidden and not output.as_json and len(rows) > len(shown) > 0:
            output.line(self.hidden(len(rows) - len(shown)))

    def _shown(self, call: Call, rows: Rows) -> Rows:
        return rows if call.arguments.all else [row for row in rows if self.is_shown(row)]

    def _run_as_of(self, call: Call) -> int:
        is_certain_shown = self.history is not None
        if is_certain_shown and (call.arguments.all or call.arguments.history is not None):
            raise ConfigurationError("--at shows what was open then: leave --all and --history out")
        columns = (*self.columns, CERTAIN) if is_certain_shown else self.columns

        def show(call: Call, past: Past, rows: Rows) -> None:
            print_as_of(call, past)
            printed = [{**row, **past.columns} for row in self._shown(call, rows)]
            call.output.rows(columns, printed, empty=self.empty_as_of(quoted(past.account), rows))
            if is_certain_shown and any(not row["certain"] for row in rows):
                call.output.warn(
                    "it is not known whether the rows that are not certain were still open then,"
                    " or when they ended"
                )
            print_warnings(call, past, is_backfilled=False)

        return run_past(call, self.projection, partial(read_past, of=self.as_of), show)
