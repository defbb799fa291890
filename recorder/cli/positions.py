"""``recorder positions``: which futures positions the account holds, and what became of others."""

from __future__ import annotations

from argparse import ArgumentParser
from collections.abc import Mapping
from typing import Any

from sqlalchemy import Connection, Select, select, true

from recorder.cli.as_of import add_past, is_past
from recorder.cli.as_of_futures import PROJECTION, run_at
from recorder.cli.call import Call
from recorder.cli.exits import OK, WRONG
from recorder.cli.flags import DATABASE, add_output, add_settings
from recorder.cli.output import Column, quoted
from recorder.database.engine import in_unit
from recorder.database.schema import position_history, positions
from recorder.display import short_time
from recorder.queries.account_status import AccountStatus, as_of, read_account_status, warnings
from recorder.queries.as_of_futures import POSITIONS

COLUMNS = (
    Column("position_id"),
    Column("pair"),
    Column("side"),
    Column("quantity", right=True),
    Column("average_entry_price", "entry price", right=True, spare=True),
    Column("unrealised_pnl", "unrealised", right=True, spare=True),
    Column("realised_pnl", "realised", right=True, spare=True),
    Column("state"),
    Column("basis", spare=True),
    Column("updated_at", "updated by exchange (UTC)", spare=True),
)
HISTORY = (
    Column("position", right=True),
    Column("received_at", "received (UTC)"),
    Column("event_type", "event"),
    Column("state"),
    Column("quantity", right=True),
    Column("average_entry_price", "entry price", right=True, spare=True),
    Column("closed_quantity", "closed", right=True, spare=True),
    Column("close_price", "at price", right=True, spare=True),
    Column("closed_pnl", "result", right=True, spare=True),
    Column("closed_fees", "fees", right=True, spare=True),
    Column("basis", spare=True),
)

Rows = list[Mapping[str, Any]]


def configure(parser: ArgumentParser) -> None:
    """Add this command's arguments."""
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--all", action="store_true", help="also positions that are no longer held")
    which.add_argument(
        "--history", metavar="POSITION_ID", help="every value of one position, and each close"
    )
    add_past(parser)
    add_settings(parser, DATABASE)
    add_output(parser)


def run(call: Call) -> int:
    """Print the positions of each account, and what keeps them from being the present ones."""
    if is_past(call):
        return run_at(call, POSITIONS, COLUMNS, "no open position is known of then")
    asked = call.arguments

    def look(connection: Connection) -> list[tuple[AccountStatus, Rows]]:
        return [
            (read_account_status(connection, account), _read(connection, account, asked))
            for account in call.accounts(connection)
        ]

    with call.database() as database:
        found = in_unit(database.reader, look)
    for status, rows in found:
        _print(call, status, rows)
    is_known = asked.history is None or any(rows for _, rows in found)
    return OK if is_known else WRONG


def _read(connection: Connection, account: str, asked: Any) -> Rows:
    return [dict(row) for row in connection.execute(_wanted(account, asked)).mappings()]


def _wanted(account: str, asked: Any) -> Select[*tuple[Any, ...]]:
    if asked.history is not None:
        line = position_history.c
        mine = (line.account == account, line.position_id == asked.history)
        return select(position_history).where(*mine).order_by(line.position)
    row = positions.c
    wanted = select(positions).where(row.account == account).order_by(row.first_position)
    return wanted if asked.all else wanted.where(row.is_open == true())


def _print(call: Call, status: AccountStatus, rows: Rows) -> None:
    output, history = call.output, call.arguments.history
    position, moved_at = as_of(status, PROJECTION)
    reported = warnings(status, call.now(), PROJECTION)
    if not output.as_json:
        when = f", folded {short_time(moved_at)} UTC" if moved_at else ""
        output.line(f"account {quoted(status.account)} as of position {position:,}{when}")
    if history is None:
        extra = {"as_of_position": position, "as_of": moved_at, "live": not reported}
        empty = f"no open position of account {quoted(status.account)} is known"
        output.rows(COLUMNS, [{**row, **extra} for row in rows], empty=empty)
    else:
        empty = f"account {quoted(status.account)} knows no position {quoted(history)}"
        output.rows(HISTORY, rows, empty=empty)
    for doubt in reported:
        output.warn(doubt)
    for row in rows if history is None else ():
        if row["basis"] == "unconfirmed":
            name = quoted(row["position_id"])
            output.warn(
                f"position {name} may be gone: the exchange did not name it when it should have;"
                " the next complete snapshot will report"
            )
