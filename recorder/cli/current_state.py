"""Commands that show a table of current state: declare one as a `StateCommand`.

A command reads each account's rows now, as of an earlier position or time (`--at`, `AsOfAnswer`),
or the history of one row, and warns of whatever keeps the answer from being the present state.
"""

from __future__ import annotations

from argparse import ArgumentParser
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from attrs import frozen
from sqlalchemy import ColumnElement, Connection, Select, Table, select

from recorder.cli.call import Call
from recorder.cli.exits import OK, WRONG
from recorder.cli.flags import DATABASE, add_output, add_settings, position_or_time
from recorder.cli.output import Column, Output, quoted
from recorder.database.engine import in_unit
from recorder.display import short_time
from recorder.errors import ConfigurationError
from recorder.queries.account_status import AccountStatus, as_of, read_account_status, warnings
from recorder.queries.as_of import HEALED, UNOBSERVED, AsOf, find_as_of
from recorder.queries.as_of_rows import AsOfTable, Rows, known_at, true_at

KNOWN = "known"
TRUE = "true"
CERTAIN = Column("certain", show=lambda value: "yes" if value else "no")


def add_as_of(parser: ArgumentParser) -> None:
    """Add ``--at`` and ``--as``."""
    parser.add_argument(
        "--at",
        type=position_or_time,
        metavar="WHEN",
        help="as it was then: at a position, or at a time with a zone, as 2026-01-31T12:00:00Z",
    )
    parser.add_argument(
        "--as",
        dest="reading",
        choices=(KNOWN, TRUE),
        help="what was known then, or what was true then as known now [default: known]",
    )


def is_as_of(call: Call) -> bool:
    """Return whether a past state was requested. Raises ConfigurationError for --as alone."""
    if call.arguments.at is None and call.arguments.reading is not None:
        raise ConfigurationError("--as goes with --at: name a position or time with --at")
    return call.arguments.at is not None


@frozen
class _Past:
    """The position or time that was named, in which reading, and how far the tables are folded."""

    account: str
    point: AsOf
    reading: str
    folded: int

    @property
    def columns(self) -> Mapping[str, Any]:
        """What every row of a JSON answer has."""
        is_true = self.reading == TRUE
        return {
            "as_of_position": self.folded if is_true else self.point.position,
            "as_of": self.point.at if is_true else self.point.received_at,
            "reading": self.reading,
            "live": False,
            "observed": self.point.observed,
        }

    @property
    def heading(self) -> str:
        name, point = quoted(self.account), self.point
        if self.reading == TRUE:
            until = f"known up to position {self.folded:,}"
            return f"account {name} as true at {short_time(point.at)} UTC, {until}"
        received = short_time(point.received_at)
        return f"account {name} as known at position {point.position:,}, received {received} UTC"

    @property
    def warning(self) -> str | None:
        """What a gap makes of the answer."""
        if self.reading == TRUE and self.point.position == 0:
            return "that time is before the log's first event: what isn't listed isn't known"
        if self.point.observed == UNOBSERVED:
            return "that time lies in a gap: these are the last known values; the true may differ"
        if self.point.observed == HEALED and self.reading == KNOWN:
            return "that time lies in a gap that was healed since: this is what was known then"
        if self.point.observed == HEALED:
            return (
                "that time lies in a gap: back-fill has the movements since, not the values at"
                " each moment; these are the last values reported before"
            )
        return None


@frozen
class AsOfAnswer:
    """How a command answers ``--at``: what it reads, and what it prints."""

    projection: str
    of: AsOfTable
    columns: Sequence[Column]
    #: The text for an account without a row to show, given its name and all rows that were read.
    empty: Callable[[str, Rows], str]
    is_shown: Callable[[Mapping[str, Any]], bool] = lambda row: True
    #: Returns the rows of an account with what other tables add to them.
    marked: Callable[[Connection, str, Rows], Rows] = lambda connection, account, rows: rows
    limit: int | None = None

    def run(self, call: Call) -> int:
        """Print the rows of each account; exit code 2 if one of the accounts has no answer."""
        refused: list[str] = []

        def read(connection: Connection) -> Iterator[tuple[_Past, Rows]]:
            for account in call.accounts(connection):
                try:
                    past = self._find(call, connection, account)
                except ConfigurationError as error:
                    refused.append(str(error))
                    continue
                if past.reading == TRUE:
                    rows = true_at(connection, account, past.point.at, self.of)
                else:
                    rows = known_at(connection, account, past.point.position, self.of)
                yield past, self.marked(connection, account, rows)

        with call.database() as database:
            for past, rows in in_unit(database.reader, lambda connection: [*read(connection)]):
                self._print(call.output, past, rows)
        for reason in dict.fromkeys(refused):
            call.output.warn(reason)
        return WRONG if refused else OK

    def _find(self, call: Call, connection: Connection, account: str) -> _Past:
        now, status = call.now(), read_account_status(connection, account)
        reading = call.arguments.reading or KNOWN
        point = find_as_of(
            connection,
            account,
            call.arguments.at,
            now=now,
            is_running=status.is_running(now),
            may_precede=reading == TRUE,
        )
        folded, _ = as_of(status, self.projection)
        if folded < point.position:
            raise ConfigurationError(
                f"the {self.projection.replace('_', ' ')} of account {quoted(account)} are folded"
                f" up to position {folded} only, not yet up to {point.position}: ask again when the"
                " recorder has caught up"
            )
        return _Past(account, point, reading, folded)

    def _print(self, output: Output, past: _Past, rows: Rows) -> None:
        if not output.as_json:
            output.line(past.heading)
        limit = len(rows) if self.limit is None else self.limit
        printed = [{**row, **past.columns} for row in rows[:limit] if self.is_shown(row)]
        output.rows(self.columns, printed, empty=self.empty(quoted(past.account), rows))
        if limit < len(rows):
            output.remark(
                f"{limit:,} of {len(rows):,} rows shown; --limit N shows more, --json all"
            )
        if CERTAIN in self.columns and any(not row["certain"] for row in rows):
            output.warn(
                "whether the rows that are not certain were still open then is not known:"
                " they may have ended before"
            )
        if past.warning is not None:
            output.warn(past.warning)


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
        add_as_of(parser)
        add_settings(parser, DATABASE)
        add_output(parser)

    def run(self, call: Call) -> int:
        """Print the rows of each account; exit code 2 if a row that was named has no history."""
        if is_as_of(call):
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
        asked, has_history = call.arguments, self.history is not None
        if has_history and (asked.all or asked.history is not None):
            raise ConfigurationError("--at shows what was open then: leave --all and --history out")
        columns = (*self.columns, CERTAIN) if has_history else self.columns
        return AsOfAnswer(
            self.projection,
            self.as_of,
            columns,
            self.empty_as_of,
            is_shown=lambda row: asked.all or self.is_shown(row),
        ).run(call)
