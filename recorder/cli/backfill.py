"""``recorder backfill``: asks the running recorder to fetch a period again over REST.

The request is one INSERT into `backfills`. The recorder that owns the account takes it, because
only that one may append to the log.
"""

from __future__ import annotations

import time
from argparse import ArgumentParser

from sqlalchemy import Connection

from recorder.cli.call import Call
from recorder.cli.exits import OK, WRONG
from recorder.cli.flags import DATABASE, add_output, add_settings, moment
from recorder.cli.output import quoted
from recorder.database.engine import Database, in_unit
from recorder.errors import ConfigurationError
from recorder.gaps.sql.backfill import Requested, request_period, requested
from recorder.projections.rules.backfills import COMPLETE
from recorder.queries.account_status import read_account_status

#: Between two looks how far it is.
LOOK_S = 0.25
_ENDS = ("complete", "incomplete")


def configure(parser: ArgumentParser) -> None:
    """Add this command's arguments."""
    parser.add_argument(
        "--from", type=moment, required=True, metavar="TIME", dest="since", help="from then on"
    )
    parser.add_argument(
        "--to", type=moment, metavar="TIME", dest="until", help="up to then [default: now]"
    )
    parser.add_argument(
        "--wait",
        action="store_true",
        help="wait until it is fetched and folded, and report the result",
    )
    add_settings(parser, DATABASE)
    add_output(parser)


def run(call: Call) -> int:
    """Request the period; the request is durable then. Exit code 2 if no recorder runs to fetch."""
    asked, account = call.arguments, call.one_account()
    until = asked.until or call.now()
    if asked.since >= until:
        raise ConfigurationError("the period is empty: --from has to be before --to, or now")
    with call.database() as database:
        status = in_unit(database.reader, read_account_status, account)
        if not status.is_running(call.now()):
            raise ConfigurationError(
                f"no recorder is running for account {quoted(account)}: start one with"
                " `recorder run`, then ask again (nothing was asked for)"
            )
        backfill_id = in_unit(
            database.writer, request_period, account, asked.since, until, "recorder backfill"
        )
        if not asked.wait:
            reported = {"account": account, "backfill_id": backfill_id, "state": "requested"}
            sentence = f"requested as {backfill_id}; the table backfills shows its progress"
            call.output.fact(reported, sentence)
            return OK
        done = _wait(call, database, account, backfill_id)
    call.output.fact(_facts(account, done), _sentence(done))
    return OK if done.state == COMPLETE else WRONG


def _wait(call: Call, database: Database, account: str, backfill_id: str) -> Requested:
    """Return what became of it. Raises ConfigurationError if the recorder goes away meanwhile."""
    while True:
        done, is_running = in_unit(database.reader, _look, call, account, backfill_id)
        if done.state in _ENDS:
            return done
        if not is_running:
            raise ConfigurationError(
                f"the recorder stopped meanwhile; the next one goes on with {backfill_id}"
            )
        time.sleep(LOOK_S)


def _look(
    connection: Connection, call: Call, account: str, backfill_id: str
) -> tuple[Requested, bool]:
    done = requested(connection, account, backfill_id)
    assert done is not None, "no row of backfills is ever deleted"
    return done, read_account_status(connection, account).is_running(call.now())


def _facts(account: str, done: Requested) -> dict[str, object]:
    return {
        "account": account,
        "backfill_id": done.backfill_id,
        "state": done.state,
        "from_at": done.from_at,
        "until_at": done.until_at,
        "run_id": done.run_id,
        "pages": done.pages,
        "rows": done.rows,
        "reason": done.reason,
    }


def _sentence(done: Requested) -> str:
    read = f"{done.pages} pages with {done.rows} rows were read"
    if done.state == COMPLETE:
        return f"{read} and folded: nothing is missing that the exchange's histories report"
    return f"{read}, but not all: {done.reason}"
