"""``recorder reconcile``: has the running recorder compare what it holds with the exchange now.

The request is one INSERT into `reconciliation_requests`; the recorder that owns the account takes
it, because only it may append to the log.
"""

from __future__ import annotations

import time
from argparse import ArgumentParser
from typing import Any

from attrs import asdict
from sqlalchemy import Connection

from recorder.cli.call import Call
from recorder.cli.exits import DAMAGED, OK, WRONG
from recorder.cli.flags import DATABASE, add_output, add_settings, whole
from recorder.cli.output import Column, quoted
from recorder.database.engine import Database, in_unit
from recorder.errors import ConfigurationError
from recorder.projections.rules.reconciliations import CLEAN, DIFFERING, RUNNING
from recorder.queries.account_status import read_account_status
from recorder.reconciliation.sql.reconciliation import (
    Reconciliation,
    differences_of,
    latest,
    reconciliation_of,
    request,
)

#: Between two looks how far it is.
LOOK_S = 0.25
DIFFERENCES = (
    Column("reconciliation_id", "of", right=True),
    Column("list"),
    Column("key"),
    Column("field"),
    Column("ours", right=True),
    Column("theirs", "the exchange's", right=True),
    Column("state"),
    Column("position", "our event", right=True, spare=True),
    Column("answer_position", "answer", right=True, spare=True),
)
PAST = (
    Column("reconciliation_id", "id", right=True),
    Column("started_at", "started (UTC)"),
    Column("requested_by", "asked by"),
    Column("state"),
    Column("differences", right=True),
    Column("balances", right=True, spare=True),
    Column("open_orders", "open orders", right=True, spare=True),
    Column("history_rows", "history rows", right=True, spare=True),
    Column("reason", spare=True),
)


def configure(parser: ArgumentParser) -> None:
    """Add this command's arguments."""
    parser.add_argument(
        "--past",
        type=whole(1),
        nargs="?",
        const=20,
        metavar="N",
        help="ask for nothing: show the last N comparisons and what they found [20]",
    )
    parser.add_argument(
        "--no-wait", action="store_true", help="ask, and don't wait for what comes of it"
    )
    add_settings(parser, DATABASE)
    add_output(parser)


def run(call: Call) -> int:
    """Compare, and print the differences: exit code 0 for none, 1 for some, 2 if it failed."""
    account = call.one_account()
    with call.database() as database:
        if call.arguments.past is not None:
            in_unit(database.reader, call.recorded_accounts)
            return _show_past(call, database, account, call.arguments.past)
        status = in_unit(database.reader, read_account_status, account)
        if not status.is_running(call.now()):
            raise ConfigurationError(
                f"no recorder is running for account {quoted(account)}: start one with"
                " `recorder run`, then ask again (nothing was asked for)"
            )
        request_id = in_unit(database.writer, request, account, "recorder reconcile")
        if call.arguments.no_wait:
            reported = {"account": account, "request_id": request_id, "state": "requested"}
            call.output.fact(reported, f"requested as {request_id}")
            return OK
        made = _wait(call, database, account, request_id)
        found = in_unit(database.reader, differences_of, account, made.reconciliation_id)
    _show(call, account, made, found)
    return {CLEAN: OK, DIFFERING: DAMAGED}.get(made.state, WRONG)


def _wait(call: Call, database: Database, account: str, request_id: str) -> Reconciliation:
    """Return what was made for it. Raises ConfigurationError if the recorder goes away."""

    def look(connection: Connection) -> tuple[Reconciliation | None, bool]:
        made = reconciliation_of(connection, account, request_id)
        return made, read_account_status(connection, account).is_running(call.now())

    while True:
        made, is_running = in_unit(database.reader, look)
        if made is not None and made.state != RUNNING:
            return made
        if not is_running:
            raise ConfigurationError(
                "the recorder stopped meanwhile; ask again when one runs"
                " (what it had begun will end as incomplete)"
            )
        time.sleep(LOOK_S)


def _show(call: Call, account: str, made: Reconciliation, found: list[dict[str, Any]]) -> None:
    if call.output.as_json:
        call.output.json_line({"account": account, **asdict(made)})
        for each in found:
            call.output.json_line(each)
        return
    if found:
        call.output.rows(DIFFERENCES, found, empty="")
    call.output.line(_sentence(made))


def _show_past(call: Call, database: Database, account: str, limit: int) -> int:
    def look(connection: Connection) -> list[tuple[Reconciliation, list[dict[str, Any]]]]:
        return [
            (made, differences_of(connection, account, made.reconciliation_id))
            for made in latest(connection, account, limit)
        ]

    every = in_unit(database.reader, look)
    if call.output.as_json:
        for made, found in every:
            call.output.json_line({"account": account, **asdict(made)})
            for each in found:
                call.output.json_line(each)
        return OK
    lines = [asdict(each) for each, _ in every]
    call.output.rows(PAST, lines, empty="nothing was ever compared")
    if found := [each for _, some in every for each in some]:
        call.output.line("")
        call.output.rows(DIFFERENCES, found, empty="")
    return OK


def _sentence(made: Reconciliation) -> str:
    counts = f"{made.balances or 0} balances, {made.open_orders or 0} open orders"
    if made.history_rows is not None:
        counts += f" and {made.history_rows} rows of the histories"
    if made.state == CLEAN:
        return f"nothing differs: {counts} were compared"
    if made.state == DIFFERING:
        return f"{made.differences} values differ; {counts} were compared"
    return f"it could not be compared whole: {made.reason}"
