"""``recorder gaps``: what was observed of a period, what wasn't, and what is known about that."""

from __future__ import annotations

from argparse import ArgumentParser
from collections.abc import Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any

from attrs import frozen
from sqlalchemy import Connection

from recorder.cli.call import Call
from recorder.cli.exits import OK, WRONG
from recorder.cli.flags import DATABASE, add_output, add_settings, moment, whole
from recorder.cli.output import Column, Output, quoted
from recorder.database.engine import in_unit
from recorder.display import plain, short_time
from recorder.gaps.sql.gaps import (
    Known,
    count_gaps,
    read_gaps,
    read_known,
    read_unobserved,
    tail,
)
from recorder.log.rules.coverage import Cause, Totals, share_text, timeline, totals
from recorder.queries.account_status import read_account_status, warnings

#: What no recorder of this protocol can know, however well it is connected; see
#: docs/explanation/gaps.md.
UNKNOWABLE = (
    "two fills (NEW_ACCOUNT_TRADE) without an id look the same as one that was sent twice",
    "two ledger records (NEW_ACCOUNT_HISTORY_RECORD) without an id look the same as one that was"
    " sent twice",
    "frames have no numbers: one that the exchange never sent leaves no trace",
    "frames of types that no table knows are in the log alone",
)
#: Rows of the table unless --limit sets another number; a program gets all.
TABLE_ROWS = 1_000

CAUSES = (
    Column("cause"),
    Column("unobserved_s", "not observed (s)", right=True),
    Column("healed_s", "healed (s)", right=True),
    Column("gaps", right=True),
    Column("unhealed", right=True),
)
GAPS = (
    Column("gap_id", right=True),
    Column("cause"),
    Column("state"),
    Column("unobserved_from", "from (UTC)"),
    Column("unobserved_until", "until (UTC)"),
    Column("losses", right=True, spare=True),
    Column("causes", "all causes", spare=True),
    Column("evidence", spare=True),
    Column("verdict", spare=True),
    Column("last_position_before", "position before", right=True, spare=True),
    Column("first_position_after", "position after", right=True, spare=True),
)


@frozen
class Answer:
    """The answer for one account: the period, its sums, its gaps, and whether the end is known."""

    account: str
    known: Known
    from_at: datetime
    until_at: datetime
    sums: Totals
    counts: Sequence[tuple[str, str, int]]
    gaps: Sequence[Mapping[str, Any]]
    is_running: bool
    warnings: Sequence[str]

    @property
    def unhealed(self) -> int:
        """How many gaps of the period are not healed, those without length included."""
        return sum(number for _, state, number in self.counts if state != "healed")


def configure(parser: ArgumentParser) -> None:
    """Add this command's arguments."""
    zone = "(a time with a zone, as 2026-01-31T12:00:00Z)"
    parser.add_argument(
        "--from", dest="from_at", type=moment, metavar="TIME", help=f"default: first start {zone}"
    )
    parser.add_argument(
        "--to", dest="until_at", type=moment, metavar="TIME", help="default, and at most: now"
    )
    parser.add_argument("--limit", type=whole(1), metavar="N", help="list the newest N gaps")
    add_settings(parser, DATABASE)
    add_output(parser)


def run(call: Call) -> int:
    """Print coverage and gaps of each account. One that was never recorded is exit code 2."""

    def look(connection: Connection) -> list[tuple[str, Answer | None]]:
        return [(name, _answer(call, connection, name)) for name in call.accounts(connection)]

    with call.database() as database:
        answers = in_unit(database.reader, look)
    for name, answer in answers:
        if answer is None:
            call.output.warn(
                f"nothing of account {quoted(name)} is recorded in that period:"
                " name one that begins before it ends, between its first start and now"
            )
        elif call.output.as_json:
            call.output.json_line(facts(answer))
        else:
            _print_page(call.output, answer)
        for warning in answer.warnings if answer else ():
            call.output.warn(warning)
    return OK if all(answer is not None for _, answer in answers) else WRONG


def facts(answer: Answer) -> dict[str, Any]:
    """Return everything that is reported about one account, for a program."""
    sums = answer.sums
    return {
        "account": answer.account,
        "from": answer.from_at,
        "until": answer.until_at,
        "first_start": answer.known.since,
        "last_good_time": answer.known.last_frame_at,
        "recorder": "running" if answer.is_running else "not running",
        "seconds": sums.period_s,
        "observed_s": sums.observed_s,
        "unobserved_s": sums.unobserved_s,
        "healed_s": sums.healed_s,
        "complete": not sums.unobserved_s and not answer.unhealed,
        "unhealed": answer.unhealed,
        "causes": _cause_rows(answer),
        "gaps": answer.gaps,
        "warnings": answer.warnings,
        "unknowable": UNKNOWABLE,
    }


def _answer(call: Call, connection: Connection, account: str) -> Answer | None:
    asked, known = call.arguments, read_known(connection, account)
    if known.since is None:
        return None
    # Only now: a frame that came in between would look as if the clock stood before it.
    now = call.now()
    from_at = max(asked.from_at or known.since, known.since)
    until_at = min(asked.until_at or now, now)
    if from_at >= until_at:
        return None
    status = read_account_status(connection, account)
    is_running = status.is_running(now)
    unobserved_intervals = [
        *read_unobserved(connection, account, from_at, until_at),
        *tail(known, until_at, is_running=is_running),
    ]
    limit = asked.limit or (None if call.output.as_json else TABLE_ROWS)
    return Answer(
        account,
        known,
        from_at,
        until_at,
        totals(timeline(unobserved_intervals, from_at, until_at)),
        count_gaps(connection, account, from_at, until_at),
        read_gaps(connection, account, from_at, until_at, limit=limit),
        is_running,
        [*warnings(status, now, "connections"), *_clock_warnings(known, now)],
    )


def _clock_warnings(known: Known, now: datetime) -> list[str]:
    if known.last_frame_at is None or known.last_frame_at <= now:
        return []
    return [
        f"this machine's clock is before the last frame ({short_time(known.last_frame_at)} UTC):"
        " how long nothing has been received since then is not known"
    ]


def _cause_rows(answer: Answer) -> list[dict[str, Any]]:
    """Return one row per cause: its seconds, how many gaps, and how many of them not healed."""
    seconds = {cause: (unobserved, healed) for cause, unobserved, healed in answer.sums.causes}
    named = {*seconds, *(cause for cause, _, _ in answer.counts)}
    order = {cause.value: rank for rank, cause in enumerate(Cause)}
    rows = []
    for cause in sorted(named, key=lambda each: order[each]):
        unobserved_s, healed_s = seconds.get(cause, (Decimal(0), Decimal(0)))
        states = [(state, number) for each, state, number in answer.counts if each == cause]
        row = {
            "cause": cause,
            "unobserved_s": unobserved_s,
            "healed_s": healed_s,
            "gaps": sum(number for _, number in states),
            "unhealed": sum(number for state, number in states if state != "healed"),
        }
        rows.append(row)
    return rows


def _print_page(output: Output, answer: Answer) -> None:
    sums = answer.sums
    output.line(f"account       {plain(answer.account)}")
    output.line(f"period        {short_time(answer.from_at)} to {short_time(answer.until_at)} UTC")
    parts = (
        ("observed", sums.observed_s),
        ("not observed", sums.unobserved_s),
        ("healed", sums.healed_s),
    )
    for name, seconds in parts:
        output.line(f"{name:<12}  {seconds:f} s  ({share_text(seconds, sums.period_s)})")
    output.line(f"unhealed      {_unhealed_line(answer)}")
    output.line(f"recorder      {_recorder_line(answer)}")
    output.line("")
    output.rows(CAUSES, _cause_rows(answer), empty="no gap, and nothing not observed")
    output.line("")
    output.rows(GAPS, answer.gaps, empty="no gap touches the period")
    output.line("")
    output.line("What can't be known at all (docs/reference/gaps.md):")
    for spot in UNKNOWABLE:
        output.line(f"- {spot}")


def _unhealed_line(answer: Answer) -> str:
    if not answer.unhealed:
        return "none"
    return f"{answer.unhealed:,}: what happened in them is missing from the tables"


def _recorder_line(answer: Answer) -> str:
    last_frame_at = answer.known.last_frame_at
    running = "running" if answer.is_running else "not running"
    if last_frame_at is None:
        return f"{running}; nothing was ever received from the exchange"
    if last_frame_at > answer.until_at:
        return f"{running}; last received {short_time(last_frame_at)} UTC, after the period"
    then = "not observed since, until the next frame" if answer.is_running else "not observed since"
    return f"{running}; last received {short_time(last_frame_at)} UTC, {then}"
