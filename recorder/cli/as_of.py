"""What the commands share that answer for a moment of the past: ``--at`` and ``--as``."""

from __future__ import annotations

from argparse import ArgumentParser
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from attrs import frozen
from sqlalchemy import Connection

from recorder.cli.call import Call
from recorder.cli.exits import OK, WRONG
from recorder.cli.flags import position_or_time
from recorder.cli.output import quoted
from recorder.database.engine import in_unit
from recorder.display import short_time
from recorder.errors import ConfigurationError
from recorder.queries.account_status import as_of, read_account_status
from recorder.queries.as_of import HEALED, UNOBSERVED, AsOf, find_as_of
from recorder.queries.as_of_rows import AsOfTable, Rows, known_at, true_at

KNOWN = "known"
TRUE = "true"


@frozen
class Past:
    """The moment that was asked for, and in which reading.

    ``folded`` is the position up to which the tables are folded: as far as anything is known now.
    """

    account: str
    point: AsOf
    reading: str
    folded: int

    @property
    def columns(self) -> Mapping[str, Any]:
        """What every row of a JSON answer bears."""
        is_true = self.reading == TRUE
        return {
            "as_of_position": self.folded if is_true else self.point.position,
            "as_of": self.point.at if is_true else self.point.received_at,
            "reading": self.reading,
            "live": False,
            "observed": self.point.observed,
        }


def add_past(parser: ArgumentParser, *, readings: tuple[str, ...] = (KNOWN, TRUE)) -> None:
    """Add ``--at``, and ``--as`` where there is more than one reading."""
    parser.add_argument(
        "--at",
        type=position_or_time,
        metavar="WHEN",
        help="as it was then: at a position, or at a time with a zone, as 2026-01-31T12:00:00Z",
    )
    parser.set_defaults(reading=None)
    if len(readings) > 1:
        parser.add_argument(
            "--as",
            dest="reading",
            choices=readings,
            help="what was known then, or what was true then as known now [default: known]",
        )


def is_past(call: Call) -> bool:
    """Return whether a moment was asked for. Raises ConfigurationError for a reading of none."""
    if call.arguments.at is None and call.arguments.reading is not None:
        raise ConfigurationError("--as goes with --at: name a position or time with --at")
    return call.arguments.at is not None


def find_past(call: Call, connection: Connection, account: str, projection: str) -> Past:
    """Return the moment that was asked for.

    Raises ConfigurationError where it can't be reported, or where the tables aren't folded so far
    yet.
    """
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
    folded, _ = as_of(status, projection)
    if folded < point.position:
        raise ConfigurationError(
            f"the {projection.replace('_', ' ')} of account {quoted(account)} are folded up to"
            f" position {folded} only, not yet up to {point.position}: ask again when the recorder"
            " has caught up"
        )
    return Past(account, point, reading, folded)


def read_past(connection: Connection, past: Past, of: AsOfTable) -> Rows:
    """Return the rows of a table as of the moment, in the reading that the user chose."""
    if past.reading == TRUE:
        return true_at(connection, past.account, past.point.at, of)
    return known_at(connection, past.account, past.point.position, of)


def run_past(
    call: Call,
    projection: str,
    read: Callable[[Connection, Past], Rows],
    show: Callable[[Call, Past, Rows], None],
) -> int:
    """Show what stood at the moment asked for, of each account.

    Exit code 2 if one of the accounts can't be answered; the others are answered all the same.
    others.
    """
    untold: list[str] = []

    def look(connection: Connection) -> Iterator[tuple[Past, Rows]]:
        for account in call.accounts(connection):
            try:
                past = find_past(call, connection, account, projection)
            except ConfigurationError as error:
                untold.append(str(error))
                continue
            yield past, read(connection, past)

    with call.database() as database:
        for past, rows in in_unit(database.reader, lambda connection: [*look(connection)]):
            show(call, past, rows)
    for why in dict.fromkeys(untold):
        call.output.warn(why)
    return WRONG if untold else OK


def print_as_of(call: Call, past: Past) -> None:
    """Print the heading of a table: whose, which moment, and in which reading."""
    if call.output.as_json:
        return
    point = past.point
    if past.reading == TRUE:
        until = f"known up to position {past.folded:,}"
        words = f"as true at {short_time(point.at)} UTC, {until}"
    else:
        result = short_time(point.received_at)
        words = f"as known at position {point.position:,}, received {result} UTC"
    call.output.line(f"account {quoted(past.account)} {words}")


def print_warnings(call: Call, past: Past, *, is_backfilled: bool) -> None:
    """Report on the error stream what a gap makes of the answer.

    ``is_backfilled`` reports whether back-fill adds to these rows what was missed.
    """
    point, output = past.point, call.output
    if past.reading == TRUE and point.position == 0:
        output.warn("that moment lies before the log's first event: what isn't listed isn't known")
    elif point.observed == UNOBSERVED:
        output.warn(
            "that moment lies in a gap: these are the last known values, the true may differ"
        )
    elif point.observed == HEALED and past.reading == KNOWN:
        output.warn("that moment lies in a gap that was healed since: this is what was known then")
    elif point.observed == HEALED and not is_backfilled:
        output.warn(
            "that moment lies in a gap: back-fill has the movements since, not the values at each"
            " moment; these are the last that were reported before"
        )
