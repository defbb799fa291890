"""``recorder gaps``: what was observed of a period, what wasn't, and what is known about that."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any

from attrs import frozen
from sqlalchemy import Connection

from recorder.cli.call import Call
from recorder.cli.command import command, period, value, whole
from recorder.cli.exits import OK, WRONG
from recorder.cli.output import Column, Output, print_answers, quoted
from recorder.display import duration_text, plain, short_time
from recorder.gaps.sql.gaps import Known, count_gaps, read_gaps, read_known, read_unobserved, tail
from recorder.log.rules.coverage import Cause, Totals, share_text, timeline, totals
from recorder.queries.account_status import read_account_status, warnings

#: What no recorder of this protocol can know: the list of docs/explanation/gaps.md.
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
    Column("unobserved_s", "not observed", right=True, show=duration_text),
    Column("healed_s", "healed", right=True, show=duration_text),
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


@command(
    *period(
        "default: first start (a time with a zone, as 2026-01-31T12:00:00Z)",
        "default, and at most: now",
    ),
    value("--limit", whole(1), "N", "list the newest N gaps"),
)
def gaps_command(call: Call) -> int:
    """Print coverage and gaps of each account. One that was never recorded is exit code 2."""

    def look(connection: Connection) -> list[Answer | str]:
        return [_answer(call, connection, name) for name in call.accounts(connection)]

    return OK if print_answers(call.output, call.read(look)) else WRONG


def observed_totals(
    connection: Connection,
    account: str,
    known: Known,
    from_at: datetime,
    until_at: datetime,
    *,
    is_running: bool,
) -> Totals:
    """Return how much of a period was observed, the time after the last frame included."""
    unobserved = read_unobserved(connection, account, from_at, until_at)
    unobserved += tail(known, until_at, is_running=is_running)
    return totals(timeline(unobserved, from_at, until_at))


def _answer(call: Call, connection: Connection, account: str) -> Answer | str:
    """Return the answer for an account, or why there is none."""
    asked, known = call.arguments, read_known(connection, account)
    # Only now: a frame that came in between would look as if the clock was before it.
    now = call.now()
    since = known.since or now
    from_at, until_at = max(asked.from_at or since, since), min(asked.until_at or now, now)
    if from_at >= until_at:
        return (
            f"nothing of account {quoted(account)} is recorded in that period:"
            " name one that begins before it ends, between its first start and now"
        )
    status = read_account_status(connection, account)
    is_running = status.is_running(now)
    limit = asked.limit or (None if call.output.as_json else TABLE_ROWS)
    reasons = [*warnings(status, now, "connections")]
    if known.last_frame_at is not None and known.last_frame_at > now:
        last = short_time(known.last_frame_at)
        reasons.append(
            f"this machine's clock is before the last frame ({last} UTC):"
            " how long nothing has been received since then is not known"
        )
    return Answer(
        account,
        known,
        from_at,
        until_at,
        observed_totals(connection, account, known, from_at, until_at, is_running=is_running),
        count_gaps(connection, account, from_at, until_at),
        read_gaps(connection, account, from_at, until_at, limit=limit),
        is_running,
        reasons,
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

    def facts(self) -> dict[str, Any]:
        """Return everything that is printed, for a program."""
        sums = self.sums
        return {
            "account": self.account,
            "from": self.from_at,
            "until": self.until_at,
            "first_start": self.known.since,
            "last_good_time": self.known.last_frame_at,
            "recorder": "running" if self.is_running else "not running",
            "seconds": sums.period_s,
            "observed_s": sums.observed_s,
            "unobserved_s": sums.unobserved_s,
            "healed_s": sums.healed_s,
            "complete": not sums.unobserved_s and not self.unhealed,
            "unhealed": self.unhealed,
            "causes": self._causes(),
            "gaps": self.gaps,
            "warnings": self.warnings,
            "unknowable": UNKNOWABLE,
        }

    def _causes(self) -> list[dict[str, Any]]:
        """Return one row per cause: its seconds, how many gaps, and how many of them not healed."""
        seconds = {cause: (unobserved, healed) for cause, unobserved, healed in self.sums.causes}
        states: dict[str, dict[str, int]] = defaultdict(dict)
        for cause, state, number in self.counts:
            states[cause][state] = number
        none = (Decimal(0), Decimal(0))
        return [
            {
                "cause": cause.value,
                "unobserved_s": seconds.get(cause, none)[0],
                "healed_s": seconds.get(cause, none)[1],
                "gaps": sum(states[cause].values()),
                "unhealed": sum(states[cause].values()) - states[cause].get("healed", 0),
            }
            for cause in Cause
            if cause in seconds or cause in states
        ]

    def print_page(self, output: Output) -> None:
        """Print it for a person."""
        sums = self.sums

        def part(seconds: Decimal) -> str:
            return f"{duration_text(seconds)}  ({share_text(seconds, sums.period_s)})"

        missing = f"{self.unhealed:,}: what happened in them is missing from the tables"
        output.labelled(
            {
                "account": plain(self.account),
                "period": f"{short_time(self.from_at)} to {short_time(self.until_at)} UTC",
                "observed": part(sums.observed_s),
                "not observed": part(sums.unobserved_s),
                "healed": part(sums.healed_s),
                "unhealed": missing if self.unhealed else "none",
                "recorder": self._recorder(),
            }
        )
        output.line()
        output.rows(CAUSES, self._causes(), empty="no gap, and nothing not observed")
        output.line()
        output.rows(GAPS, self.gaps, empty="no gap touches the period")
        output.line("\nWhat can't be known at all (docs/explanation/gaps.md):")
        for item in UNKNOWABLE:
            output.line(f"- {item}")

    def _recorder(self) -> str:
        last_frame_at = self.known.last_frame_at
        running = "running" if self.is_running else "not running"
        if last_frame_at is None:
            return f"{running}; nothing was ever received from the exchange"
        last = f"{running}; last received {short_time(last_frame_at)} UTC"
        if last_frame_at > self.until_at:
            return f"{last}, after the period"
        then = "not observed since" + (", until the next frame" if self.is_running else "")
        return f"{last}, {then}"
