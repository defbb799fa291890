"""``recorder conditionals``: the take-profit and stop-loss orders, and what became of others."""

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
from recorder.cli.output import Column, count_of, quoted
from recorder.database.engine import in_unit
from recorder.database.schema import conditional_order_history, conditional_orders
from recorder.queries.account_status import AccountStatus, read_account_status, warnings
from recorder.queries.as_of_futures import CONDITIONALS

_TERMS = (
    Column("pair"),
    Column("conditional_type", "type"),
    Column("quantity", right=True),
    Column("take_profit_trigger_price", "take profit", right=True),
    Column("stop_loss_trigger_price", "stop loss", right=True),
    Column("trigger_type", "triggered by", spare=True),
)
COLUMNS = (
    Column("order_id"),
    *_TERMS,
    Column("state"),
    Column("basis"),
    Column("reason", spare=True),
    Column("customer_order_id", spare=True),
    Column("updated_at", "updated (UTC)", spare=True),
)
HISTORY = (
    Column("position", right=True),
    Column("received_at", "received (UTC)"),
    Column("event_type", "event"),
    Column("state"),
    Column("basis"),
    *_TERMS,
    Column("reason", spare=True),
)

Rows = list[Mapping[str, Any]]


def configure(parser: ArgumentParser) -> None:
    """Add this command's arguments."""
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--all", action="store_true", help="also those that no longer wait")
    which.add_argument("--history", metavar="ORDER_ID", help="every change of one order")
    add_past(parser)
    add_settings(parser, DATABASE)
    add_output(parser)


def run(call: Call) -> int:
    """Print the conditional orders of each account, and what is doubtful about them."""
    if is_past(call):
        return run_at(call, CONDITIONALS, COLUMNS, "no waiting conditional order is known of then")
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
        line = conditional_order_history.c
        mine = (line.account == account, line.order_id == asked.history)
        return select(conditional_order_history).where(*mine).order_by(line.position)
    row = conditional_orders.c
    wanted = select(conditional_orders).where(row.account == account).order_by(row.first_position)
    return wanted if asked.all else wanted.where(row.is_open == true())


def _print(call: Call, status: AccountStatus, rows: Rows) -> None:
    output, history, name = call.output, call.arguments.history, quoted(status.account)
    if not output.as_json:
        output.line(f"account {name}")
    if history is None:
        empty = f"no waiting conditional order of account {name} is known"
        output.rows(COLUMNS, rows, empty=empty)
    else:
        empty = f"account {name} knows no conditional order {quoted(history)}"
        output.rows(HISTORY, rows, empty=empty)
    for doubt in warnings(status, call.now(), PROJECTION):
        output.warn(doubt)
    unsure = [] if history else [row for row in rows if row["basis"] == "unconfirmed"]
    if unsure:
        counted = count_of(len(unsure), "conditional order", "conditional orders")
        output.warn(
            f"{counted} of account {name} may be gone: VALR doesn't name them on connecting, and"
            " nothing has named them since; look them up at the exchange"
        )
