"""``recorder backfill`` and ``recorder reconcile``: ask the running recorder for work over REST.

A request is one INSERT. The recorder that owns the account takes it, because only that one may
append to the log.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, TypeVar

from attrs import asdict
from sqlalchemy import Connection

from recorder.cli.call import Call
from recorder.cli.command import argument, command, period, switch, whole
from recorder.cli.exits import DAMAGED, OK, WRONG
from recorder.cli.output import Column, quoted
from recorder.database.engine import Database, in_unit
from recorder.errors import ConfigurationError
from recorder.gaps.sql.backfill import Requested, request_period, requested
from recorder.projections.rules.backfills import COMPLETE
from recorder.projections.rules.reconciliations import CLEAN, DIFFERING, RUNNING
from recorder.queries.account_status import read_account_status
from recorder.reconciliation.sql.reconciliation import (
    Reconciliation,
    differences_of,
    latest,
    reconciliation_of,
    request,
)

T = TypeVar("T")

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


@command(
    *period("from then on", "up to then [default: now]", required=("--from",)),
    switch("--wait", "wait until it is fetched and folded, and report the result"),
)
def backfill_command(call: Call) -> int:
    """Request the period; the request is durable then. Exit code 2 if no recorder runs to fetch."""
    asked, account = call.arguments, call.one_account()
    until = asked.until_at or call.now()
    if asked.from_at >= until:
        raise ConfigurationError("the period is empty: --from has to be before --to, or now")
    with call.database() as database:
        _require_running(call, database, account)
        backfill_id = in_unit(
            database.writer, request_period, account, asked.from_at, until, "recorder backfill"
        )
        if not asked.wait:
            facts = {"account": account, "backfill_id": backfill_id, "state": "requested"}
            sentence = f"requested as {backfill_id}; the table backfills shows its progress"
            call.output.fact(facts, sentence)
            return OK

        def ended(connection: Connection) -> Requested | None:
            made = requested(connection, account, backfill_id)
            assert made is not None, "no row of backfills is ever deleted"
            return made if made.state in ("complete", "incomplete") else None

        done = _wait(call, database, account, ended, f"the next one goes on with {backfill_id}")
    names = ("backfill_id", "state", "from_at", "until_at", "run_id", "pages", "rows", "reason")
    facts = {"account": account, **{name: getattr(done, name) for name in names}}
    is_complete = done.state == COMPLETE
    end = f", but not all: {done.reason}"
    if is_complete:
        end = " and folded: nothing is missing that the exchange's histories report"
    call.output.fact(facts, f"{done.pages:,} pages with {done.rows:,} rows were read{end}")
    return OK if is_complete else WRONG


def _require_running(call: Call, database: Database, account: str) -> None:
    if not in_unit(database.reader, read_account_status, account).is_running(call.now()):
        raise ConfigurationError(
            f"no recorder is running for account {quoted(account)}: start one with"
            " `recorder run`, then ask again (nothing was asked for)"
        )


def _wait(
    call: Call,
    database: Database,
    account: str,
    ended: Callable[[Connection], T | None],
    otherwise: str,
) -> T:
    """Return what ``ended`` finds. Raises ConfigurationError if the recorder stops meanwhile."""

    def look(connection: Connection) -> tuple[T | None, bool]:
        found = ended(connection)
        return found, read_account_status(connection, account).is_running(call.now())

    while True:
        found, is_running = in_unit(database.reader, look)
        if found is not None:
            return found
        if not is_running:
            raise ConfigurationError(f"the recorder stopped meanwhile; {otherwise}")
        time.sleep(LOOK_S)


@command(
    argument(
        "--past",
        type=whole(1),
        nargs="?",
        const=20,
        metavar="N",
        help="ask for nothing: show the last N comparisons and what they found [20]",
    ),
    switch("--no-wait", "ask, and don't wait for what comes of it"),
)
def reconcile_command(call: Call) -> int:
    """Compare, and print the differences: exit code 0 for none, 1 for some, 2 if it failed."""
    account = call.one_account()
    with call.database() as database:
        if call.arguments.past is not None:
            in_unit(database.reader, call.recorded_accounts)
            return _show_past(call, database, account)
        _require_running(call, database, account)
        request_id = in_unit(database.writer, request, account, "recorder reconcile")
        if call.arguments.no_wait:
            facts = {"account": account, "request_id": request_id, "state": "requested"}
            call.output.fact(facts, f"requested as {request_id}")
            return OK

        def ended(connection: Connection) -> Reconciliation | None:
            made = reconciliation_of(connection, account, request_id)
            return made if made is not None and made.state != RUNNING else None

        otherwise = "ask again when one runs (what it had begun will end as incomplete)"
        made = _wait(call, database, account, ended, otherwise)
        found = in_unit(database.reader, differences_of, account, made.reconciliation_id)
    if call.output.as_json:
        _print_facts(call, account, made, found)
    else:
        if found:
            call.output.rows(DIFFERENCES, found, empty="")
        call.output.line(_sentence(made))
    return {CLEAN: OK, DIFFERING: DAMAGED}.get(made.state, WRONG)


def _print_facts(
    call: Call, account: str, made: Reconciliation, found: list[dict[str, Any]]
) -> None:
    for row in ({"account": account, **asdict(made)}, *found):
        call.output.json_line(row)


def _show_past(call: Call, database: Database, account: str) -> int:
    def look(connection: Connection) -> list[tuple[Reconciliation, list[dict[str, Any]]]]:
        return [
            (made, differences_of(connection, account, made.reconciliation_id))
            for made in latest(connection, account, call.arguments.past)
        ]

    every = in_unit(database.reader, look)
    if call.output.as_json:
        for made, found in every:
            _print_facts(call, account, made, found)
        return OK
    call.output.rows(PAST, [asdict(made) for made, _ in every], empty="nothing was ever compared")
    if differences := [each for _, found in every for each in found]:
        call.output.line()
        call.output.rows(DIFFERENCES, differences, empty="")
    return OK


def _sentence(made: Reconciliation) -> str:
    counts = f"{made.balances or 0:,} balances, {made.open_orders or 0:,} open orders"
    if made.history_rows is not None:
        counts += f" and {made.history_rows:,} rows of the histories"
    if made.state == CLEAN:
        return f"nothing differs: {counts} were compared"
    if made.state == DIFFERING:
        return f"{made.differences:,} values differ; {counts} were compared"
    return f"it could not be compared whole: {made.reason}"
