"""``recorder balances``: what the account holds, as far as any reader knows."""

from __future__ import annotations

from argparse import ArgumentParser
from collections.abc import Mapping
from typing import Any

from sqlalchemy import Connection, select

from recorder.cli.as_of import TRUE, Past, add_past, is_past, print_as_of, print_warnings, run_past
from recorder.cli.call import Call
from recorder.cli.exits import OK
from recorder.cli.flags import DATABASE, add_output, add_settings
from recorder.cli.output import Column, count_of, quoted
from recorder.database.engine import in_unit
from recorder.database.schema import balances
from recorder.display import short_time
from recorder.queries.account_status import AccountStatus, as_of, read_account_status, warnings
from recorder.queries.as_of import balances_known_at, balances_true_at

COLUMNS = (
    Column("currency"),
    Column("available", right=True),
    Column("reserved", right=True),
    Column("total", right=True),
    Column("basis", spare=True),
    Column("updated_at", "updated by exchange (UTC)", spare=True),
    Column("position", right=True, spare=True),
)
_PARTS = ("available", "reserved", "total", "lend_reserved", "borrow_reserved", "borrowed_amount")


def configure(parser: ArgumentParser) -> None:
    """Add this command's arguments."""
    parser.add_argument("--all", action="store_true", help="also currencies of which all is zero")
    add_past(parser)
    add_settings(parser, DATABASE)
    add_output(parser)


def run(call: Call) -> int:
    """Print the balances of each account, and what keeps them from being the present ones."""
    if is_past(call):
        return run_past(call, "balances", _read_at, _print_at)

    def look(connection: Connection) -> list[tuple[AccountStatus, list[Mapping[str, Any]]]]:
        return [
            (read_account_status(connection, account), read_balances(connection, account))
            for account in call.accounts(connection)
        ]

    with call.database() as database:
        for status, rows in in_unit(database.reader, look):
            _print(call, status, rows)
    return OK


def read_balances(connection: Connection, account: str) -> list[Mapping[str, Any]]:
    """Return the rows of ``balances``, by currency."""
    wanted = select(balances).where(balances.c.account == account).order_by(balances.c.currency)
    return [dict(row) for row in connection.execute(wanted).mappings()]


def _print(call: Call, status: AccountStatus, rows: list[Mapping[str, Any]]) -> None:
    output, now = call.output, call.now()
    position, moved_at = as_of(status, "balances")
    held = rows if call.arguments.all else [row for row in rows if not is_zero(row)]
    reported = warnings(status, now, "balances")
    if not output.as_json:
        when = f", folded {short_time(moved_at)} UTC" if moved_at else ""
        output.line(f"account {quoted(status.account)} as of position {position:,}{when}")
    extra = {"as_of_position": position, "as_of": moved_at, "live": not reported}
    output.rows(
        COLUMNS,
        [{**row, **extra} for row in held],
        empty=f"no balances of account {quoted(status.account)}:"
        + (" all it held is zero now (--all shows it)" if rows else " none was ever reported"),
    )
    for doubt in reported:
        output.warn(doubt)
    if not output.as_json and len(rows) > len(held) > 0:
        hidden = count_of(len(rows) - len(held), "currency", "currencies")
        output.line(f"{hidden} with nothing left out; --all shows them")


def _read_at(connection: Connection, past: Past) -> list[Mapping[str, Any]]:
    if past.reading == TRUE:
        return balances_true_at(connection, past.account, past.point.at)
    return balances_known_at(connection, past.account, past.point.position)


def _print_at(call: Call, past: Past, rows: list[Mapping[str, Any]]) -> None:
    held = rows if call.arguments.all else [row for row in rows if not is_zero(row)]
    print_as_of(call, past)
    call.output.rows(
        COLUMNS,
        [{**row, **past.columns} for row in held],
        empty=f"no balances of account {quoted(past.account)} then:"
        + (" all it held was zero (--all shows it)" if rows else " none had been reported yet"),
    )
    print_warnings(call, past, is_backfilled=False)


def is_zero(row: Mapping[str, Any]) -> bool:
    """Return whether every reported amount is zero, and the total is known. Unknown isn't zero."""
    return row["total"] is not None and not any(row[part] for part in _PARTS)
