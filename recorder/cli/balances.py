"""``recorder balances``: what the account holds, as far as anybody knows."""

from __future__ import annotations

from argparse import ArgumentParser
from collections.abc import Mapping
from typing import Any

from sqlalchemy import Connection, select

from recorder.cli.call import Call
from recorder.cli.exits import OK
from recorder.cli.flags import DATABASE, add_output, add_settings, position_or_moment
from recorder.cli.output import Column, count_of, quoted
from recorder.cli.plain import short_time
from recorder.cli.standing import Standing, as_of, doubts, read_standing
from recorder.errors import ConfigurationError
from recorder.storage.engine import in_unit
from recorder.storage.moments import (
    BLIND,
    HEALED,
    Moment,
    balances_known_at,
    find_moment,
)
from recorder.storage.schema import balances

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
    parser.add_argument(
        "--at",
        type=position_or_moment,
        metavar="WHEN",
        help="as known then: a position, or a time with a zone, as 2026-01-31T12:00:00Z",
    )
    add_settings(parser, DATABASE)
    add_output(parser)


def run(call: Call) -> int:
    """Print the balances of each account, and what keeps them from being the present ones."""
    if call.arguments.at is not None:
        return _run_at(call)

    def look(connection: Connection) -> list[tuple[Standing, list[Mapping[str, Any]]]]:
        return [
            (read_standing(connection, account), read_balances(connection, account))
            for account in call.accounts(connection)
        ]

    with call.database() as database:
        for standing, rows in in_unit(database.reader, look):
            _print(call, standing, rows)
    return OK


def read_balances(connection: Connection, account: str) -> list[Mapping[str, Any]]:
    """Return the rows of ``balances``, by currency."""
    wanted = select(balances).where(balances.c.account == account).order_by(balances.c.currency)
    return [dict(row) for row in connection.execute(wanted).mappings()]


def _print(call: Call, standing: Standing, rows: list[Mapping[str, Any]]) -> None:
    output, now = call.output, call.now()
    position, moved_at = as_of(standing, "balances")
    held = rows if call.arguments.all else [row for row in rows if not is_zero(row)]
    told = doubts(standing, now, "balances")
    if not output.as_json:
        when = f", folded {short_time(moved_at)} UTC" if moved_at else ""
        output.line(f"account {quoted(standing.account)} as of position {position:,}{when}")
    extra = {"as_of_position": position, "as_of": moved_at, "live": not told}
    output.rows(
        COLUMNS,
        [{**row, **extra} for row in held],
        empty=f"no balances of account {quoted(standing.account)}:"
        + (" all it held is zero now (--all shows it)" if rows else " none was ever stated"),
    )
    for doubt in told:
        output.warn(doubt)
    if not output.as_json and len(rows) > len(held) > 0:
        hidden = count_of(len(rows) - len(held), "currency", "currencies")
        output.line(f"{hidden} with nothing left out; --all shows them")


def _run_at(call: Call) -> int:
    """Print what was known at a moment; one of which nothing is known is exit code 2."""

    def look(connection: Connection) -> list[tuple[str, Moment, list[Mapping[str, Any]]]]:
        return [_known(call, connection, account) for account in call.accounts(connection)]

    with call.database() as database:
        for account, moment, rows in in_unit(database.reader, look):
            _print_at(call, account, moment, rows)
    return OK


def _known(
    call: Call, connection: Connection, account: str
) -> tuple[str, Moment, list[Mapping[str, Any]]]:
    now, standing = call.now(), read_standing(connection, account)
    is_running = standing.is_running(now)
    moment = find_moment(connection, account, call.arguments.at, now=now, is_running=is_running)
    folded, _ = as_of(standing, "balances")
    if folded < moment.position:
        raise ConfigurationError(
            f"the balances of account {quoted(account)} are folded up to position {folded} only,"
            f" not yet up to {moment.position}: ask again when the recorder has caught up"
        )
    return account, moment, balances_known_at(connection, account, moment.position)


def _print_at(call: Call, account: str, moment: Moment, rows: list[Mapping[str, Any]]) -> None:
    output = call.output
    held = rows if call.arguments.all else [row for row in rows if not is_zero(row)]
    if not output.as_json:
        when = f"position {moment.position:,}, received {short_time(moment.received_at)} UTC"
        output.line(f"account {quoted(account)} as known at {when}")
    extra = {
        "as_of_position": moment.position,
        "as_of": moment.received_at,
        "live": False,
        "observed": moment.observed,
    }
    output.rows(
        COLUMNS,
        [{**row, **extra} for row in held],
        empty=f"no balances of account {quoted(account)} then:"
        + (" all it held was zero (--all shows it)" if rows else " none had been stated yet"),
    )
    if moment.observed == BLIND:
        output.warn(
            "that moment lies in a gap: these are the last known values, the true may differ"
        )
    if moment.observed == HEALED:
        output.warn("that moment lies in a gap that was healed since: this is what was known then")


def is_zero(row: Mapping[str, Any]) -> bool:
    """Tell whether every stated amount is zero, and the total is stated. Unknown isn't zero."""
    return row["total"] is not None and not any(row[part] for part in _PARTS)
