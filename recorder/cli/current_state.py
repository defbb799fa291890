"""Commands that show a table of current state: declare one as a `StateCommand`.

A command reads each account's rows now, as of an earlier position or time (`--at`, `AsOfAnswer`),
or the history of one row, and warns of whatever keeps the answer from being the present state.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from attrs import frozen
from sqlalchemy import ColumnElement, Connection, Table, select

from recorder.cli.call import Call
from recorder.cli.command import (
    Argument,
    Command,
    argument,
    choice,
    command,
    exclusive,
    position_or_time,
    switch,
    value,
)
from recorder.cli.exits import OK, WRONG
from recorder.cli.output import Column, quoted
from recorder.display import short_time
from recorder.errors import ConfigurationError
from recorder.queries.account_status import AccountStatus, as_of, read_account_status, warnings
from recorder.queries.as_of import (
    HEALED,
    UNOBSERVED,
    AsOf,
    AsOfTable,
    Rows,
    find_as_of,
    known_at,
    true_at,
)

KNOWN, TRUE = "known", "true"
CERTAIN = Column("certain", show=lambda value: "yes" if value else "no")
AS_OF: tuple[Argument, ...] = (
    value(
        "--at",
        position_or_time,
        "WHEN",
        "as it was then: at a position, or at a time with a zone, as 2026-01-31T12:00:00Z",
    ),
    choice(
        "--as",
        (KNOWN, TRUE),
        "what was known then, or what was true then as known now [default: known]",
        dest="reading",
    ),
)


def is_as_of(call: Call) -> bool:
    """Return whether a past state was requested. Raises ConfigurationError for --as alone."""
    if call.arguments.at is None and call.arguments.reading is not None:
        raise ConfigurationError("--as goes with --at: name a position or time with --at")
    return call.arguments.at is not None


#: What a gap makes of an answer, by what was observed then and whether the truth was asked for.
_OF_A_GAP = {
    (UNOBSERVED, False): "these are the last known values; the true may differ",
    (UNOBSERVED, True): "these are the last known values; the true may differ",
    (HEALED, False): "it was healed since, and this is what was known then",
    (HEALED, True): "back-fill has the movements since, not the values at each moment; these are"
    " the last values reported before",
}


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

        def read(connection: Connection) -> list[tuple[str, AsOf, int, Rows]]:
            found = []
            for account in call.accounts(connection):
                try:
                    found.append((account, *self._read(call, connection, account)))
                except ConfigurationError as error:
                    refused.append(str(error))
            return found

        for account, point, folded, rows in call.read(read):
            self._print(call, account, point, folded, rows)
        for reason in dict.fromkeys(refused):
            call.output.warn(reason)
        return WRONG if refused else OK

    def _read(self, call: Call, connection: Connection, account: str) -> tuple[AsOf, int, Rows]:
        """Return the time or position that was named, how far the tables are folded, and rows."""
        asked, now, status = call.arguments, call.now(), read_account_status(connection, account)
        is_true, is_running = asked.reading == TRUE, status.is_running(now)
        point = find_as_of(
            connection, account, asked.at, now=now, is_running=is_running, may_precede=is_true
        )
        folded, _ = as_of(status, self.projection)
        if folded < point.position:
            raise ConfigurationError(
                f"the {self.projection.replace('_', ' ')} of account {quoted(account)} are folded"
                f" up to position {folded:,} only, not yet up to {point.position:,}: ask again"
                " when the recorder has caught up"
            )
        if is_true:
            rows = true_at(connection, account, point.at, self.of)
        else:
            rows = known_at(connection, account, point.position, self.of)
        return point, folded, self.marked(connection, account, rows)

    def _print(self, call: Call, account: str, point: AsOf, folded: int, rows: Rows) -> None:
        output, is_true, name = call.output, call.arguments.reading == TRUE, quoted(account)
        position, at = (folded, point.at) if is_true else (point.position, point.received_at)
        if not output.as_json:
            known = f"as known at position {position:,}, received {short_time(at)} UTC"
            true = f"as true at {short_time(at)} UTC, known up to position {folded:,}"
            output.line(f"account {name} {true if is_true else known}")
        of_answer = {
            "as_of_position": position,
            "as_of": at,
            "reading": TRUE if is_true else KNOWN,
            "live": False,
            "observed": point.observed,
        }
        limit = len(rows) if self.limit is None else self.limit
        printed = [{**row, **of_answer} for row in rows[:limit] if self.is_shown(row)]
        output.rows(self.columns, printed, empty=self.empty(name, rows))
        if limit < len(rows):
            output.remark(
                f"{limit:,} of {len(rows):,} rows shown; --limit N shows more, --json all"
            )
        if CERTAIN in self.columns and any(not row["certain"] for row in rows):
            output.warn(
                "whether the rows that are not certain were still open then is not known:"
                " they may have ended before"
            )
        if is_true and point.position == 0:
            output.warn("that time is before the log's first event: what isn't listed isn't known")
        elif effect := _OF_A_GAP.get((point.observed, is_true)):
            output.warn(f"that time lies in a gap: {effect}")


@frozen
class History:
    """The history of one row: its table, the column that names the row, and what is printed."""

    table: Table
    key: str
    columns: Sequence[Column]
    help: str
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

    def command(self) -> Command:
        """Return the command."""
        which = [switch("--all", self.all_help)]
        if self.history is not None:
            metavar = self.history.key.upper()
            which.append(argument("--history", metavar=metavar, help=self.history.help))
        return command(exclusive(*which), *AS_OF)(self.run)

    def run(self, call: Call) -> int:
        """Print the rows of each account; exit code 2 if a row that was named has no history."""
        if is_as_of(call):
            return self._run_as_of(call)

        def read(connection: Connection) -> list[tuple[AccountStatus, Rows]]:
            return [
                (read_account_status(connection, account), self._read(call, connection, account))
                for account in call.accounts(connection)
            ]

        found, named = call.read(read), _named(call)
        for status, rows in found:
            self._print(call, status, rows)
        return OK if named is None or any(rows for _, rows in found) else WRONG

    def _read(self, call: Call, connection: Connection, account: str) -> Rows:
        if self.history is not None and (named := _named(call)) is not None:
            line = self.history.table.c
            query = select(self.history.table).where(line[self.history.key] == named)
            query = query.where(line.account == account).order_by(line.position)
        else:
            query = select(self.table).where(self.table.c.account == account)
            if self.is_live is not None and not call.arguments.all:
                query = query.where(self.is_live)
            query = query.order_by(self.order_by)
        return [dict(row) for row in connection.execute(query).mappings()]

    def _print(self, call: Call, status: AccountStatus, rows: Rows) -> None:
        output, name, named = call.output, quoted(status.account), _named(call)
        position, folded_at = as_of(status, self.projection)
        found = warnings(status, call.now(), self.projection)
        if not output.as_json:
            when = f", folded {short_time(folded_at)} UTC" if folded_at else ""
            where = f" as of position {position:,}{when}" if self.shows_position else ""
            output.line(f"account {name}{where}")
        shown: Rows = []
        if self.history is not None and named is not None:
            empty = f"account {name} knows no {self.history.noun} {quoted(named)}"
            output.rows(self.history.columns, rows, empty=empty)
        else:
            shown = [row for row in rows if call.arguments.all or self.is_shown(row)]
            extra = {"as_of_position": position, "as_of": folded_at, "live": not found}
            printed = [{**row, **extra} for row in shown] if self.shows_position else shown
            output.rows(self.columns, printed, empty=self.empty(name, rows))
        for warning in (*found, *self.warnings(name, shown)):
            output.warn(warning)
        if self.hidden and not output.as_json and len(rows) > len(shown) > 0:
            output.line(self.hidden(len(rows) - len(shown)))

    def _run_as_of(self, call: Call) -> int:
        is_all, has_history = call.arguments.all, self.history is not None
        if has_history and (is_all or _named(call) is not None):
            raise ConfigurationError("--at shows what was open then: leave --all and --history out")
        columns = (*self.columns, CERTAIN) if has_history else self.columns
        return AsOfAnswer(
            self.projection,
            self.as_of,
            columns,
            self.empty_as_of,
            is_shown=lambda row: is_all or self.is_shown(row),
        ).run(call)


def _named(call: Call) -> str | None:
    """Return the row whose history was asked for."""
    named: str | None = getattr(call.arguments, "history", None)
    return named
