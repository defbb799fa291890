"""``recorder books``: what changed each balance over a period, and what nothing explains."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any

from attrs import asdict, frozen
from sqlalchemy import Connection

from recorder.cli.call import Call
from recorder.cli.command import argument, command, period, value, whole
from recorder.cli.exits import DAMAGED, OK, WRONG
from recorder.cli.gaps import observed_totals
from recorder.cli.output import Column, Output, print_answers, quoted
from recorder.display import counted, duration_text, plain, short_time
from recorder.gaps.sql.gaps import read_known
from recorder.log.rules.coverage import seconds_between
from recorder.projections.rules.books import Basis, Explained, Line, Reported
from recorder.queries.account_status import AccountStatus, as_of, read_account_status, warnings
from recorder.queries.books import (
    SOURCES,
    Period,
    explain,
    first_snapshot,
    folded_up_to,
    time_of_position,
    unread,
)
from recorder.reconciliation.sql.fill_checks import Unmatched, unchecked_fills, unmatched_fills

LINES = (
    Column("currency"),
    Column("line"),
    Column("amount", right=True),
    Column("movements", right=True),
    Column("backfilled", "back-filled", right=True, spare=True),
)
UNMATCHED = (
    Column("order_id"),
    Column("pair"),
    Column("side"),
    Column("traded", "in trades", right=True),
    Column("booked", "in ledger", right=True),
)
#: What is printed for the name where the exchange gave an amount and no currency.
NO_CURRENCY = "(no currency named)"
#: What a program gets of a currency beside what its balances and lines are.
_DERIVED = ("moved", "residual", "without_amount", "adds_up")
_BASES = {
    Basis.REPORTED: "",
    Basis.INFERRED_ZERO: "zero by inference: a complete snapshot left it out",
    Basis.NOT_NAMED: "zero by inference: no snapshot named it",
    Basis.UNKNOWN: "not known",
}


@command(
    *period(
        "default: the first complete snapshot"
        " (the exchange's time, with a zone, as 2026-01-31T12:00:00Z)",
        "default, and at most: now",
    ),
    value(
        "--from-position",
        whole(0),
        "N",
        "what was reported behind event N, instead of what happened in a time",
    ),
    value("--to-position", whole(0), "N", "and up to event N; default: the last"),
    argument("--currency", metavar="CODE", help="only this one"),
)
def books_command(call: Call) -> int:
    """Print the books of each account: exit code 1 where they don't add up, 2 if not askable."""
    asked = call.arguments
    if _is_by_position(asked) and (asked.from_at, asked.until_at) != (None, None):
        call.output.warn(
            "a period is one of times or one of positions: leave one pair of flags out"
        )
        return WRONG

    def look(connection: Connection) -> list[Answer | str]:
        return [_answer(call, connection, account) for account in call.accounts(connection)]

    answers = call.read(look)
    if not print_answers(call.output, answers):
        return WRONG
    return OK if all(isinstance(each, str) or each.adds_up for each in answers) else DAMAGED


def _is_by_position(asked: Namespace) -> bool:
    return (asked.from_position, asked.to_position) != (None, None)


def _answer(call: Call, connection: Connection, account: str) -> Answer | str:
    """Return the account's books, or why there are none."""
    now = call.now()
    folded, currency = folded_up_to(connection, account), call.arguments.currency
    if not folded:
        return f"nothing of account {quoted(account)} is folded yet: start `recorder run`"
    period = _period(call.arguments, connection, account, now, folded)
    is_reported = not isinstance(period.end, int) or period.end <= folded
    if not is_reported or period.begin >= period.end:  # type: ignore[operator]
        return (
            f"there is nothing between {_end(period.begin)} and {_end(period.end)} for account"
            f" {quoted(account)}: name a beginning before the end, and no position behind"
            f" {folded:,}, up to which balances and ledger are folded"
        )
    explained = explain(connection, account, period, currency=currency)
    if currency is not None and not explained:
        return f"account {quoted(account)} has no currency {quoted(currency)}"
    from_at, until_at = (_time(connection, account, each) for each in (period.begin, period.end))
    status = read_account_status(connection, account)
    return Answer(
        account,
        period,
        from_at,
        until_at,
        _observed(connection, status, from_at, until_at, now),
        explained,
        unmatched_fills(connection, account, period),
        unchecked_fills(connection, account, period),
        unread(connection, account, period),
        warnings(status, now, min(SOURCES, key=lambda name: as_of(status, name)[0])),
    )


def _period(
    asked: Namespace, connection: Connection, account: str, now: datetime, folded: int
) -> Period:
    snapshot = first_snapshot(connection, account)
    if _is_by_position(asked):
        first = snapshot.position if snapshot else 0
        begin = first if asked.from_position is None else asked.from_position
        return Period(begin, folded if asked.to_position is None else asked.to_position, folded)
    began = snapshot.at if snapshot else read_known(connection, account).since
    return Period(asked.from_at or began or now, min(asked.until_at or now, now), folded)


def _end(end: int | datetime) -> str:
    return f"position {end:,}" if isinstance(end, int) else f"{short_time(end)} UTC"


def _time(connection: Connection, account: str, end: int | datetime) -> datetime | None:
    if isinstance(end, datetime):
        return end
    known = read_known(connection, account)
    return time_of_position(connection, account, end) if end else known.since


@frozen
class Observed:
    """How much of a period was observed; ``unrecorded_s`` of it lies before the first start.

    All null where the clock was set back so that the period has no length.
    """

    unobserved_s: Decimal | None = None
    healed_s: Decimal | None = None
    unrecorded_s: Decimal | None = None

    def __str__(self) -> str:
        if self.unobserved_s is None or self.healed_s is None:
            return "not measurable: a clock was set back in between"
        before = ""
        if self.unrecorded_s:
            before = f", {duration_text(self.unrecorded_s)} before the first start"
        return (
            f"{duration_text(self.unobserved_s)} not observed, {duration_text(self.healed_s)}"
            f" not observed but healed since{before}"
        )


def _observed(
    connection: Connection,
    status: AccountStatus,
    from_at: datetime | None,
    until_at: datetime | None,
    now: datetime,
) -> Observed:
    account, is_running = status.account, status.is_running(now)
    known = read_known(connection, account)
    if from_at is None or until_at is None or from_at > until_at or known.since is None:
        return Observed()
    end = min(until_at, now)
    begin = min(max(from_at, known.since), end)
    sums = observed_totals(connection, account, known, begin, end, is_running=is_running)
    unrecorded = seconds_between(from_at, begin) if begin > from_at else Decimal(0)
    return Observed(sums.unobserved_s, sums.healed_s, unrecorded)


@frozen
class Answer:
    """What is printed about one account."""

    account: str
    period: Period
    from_at: datetime | None
    until_at: datetime | None
    observed: Observed
    currencies: Sequence[Explained]
    unmatched: Sequence[Unmatched]
    unchecked: int
    unread: int
    warnings: Sequence[str]

    @property
    def adds_up(self) -> bool:
        """True if nothing is left unexplained in any currency."""
        return all(each.adds_up for each in self.currencies)

    def facts(self) -> dict[str, Any]:
        """Return everything that is printed, for a program."""
        period = self.period
        begin, end = (period.begin, period.end) if period.is_by_position else (None, None)
        return {
            "account": self.account,
            "by": "position" if period.is_by_position else "time",
            "from": self.from_at,
            "until": self.until_at,
            "from_position": begin,
            "to_position": end,
            "as_of_position": period.as_of,
            **asdict(self.observed),
            "unread": self.unread,
            "adds_up": self.adds_up,
            "currencies": [
                {**asdict(each), **{name: getattr(each, name) for name in _DERIVED}}
                for each in self.currencies
            ],
            "unmatched_fills": [asdict(each) for each in self.unmatched],
            "unchecked_fills": self.unchecked,
            "warnings": self.warnings,
        }

    def print_page(self, output: Output) -> None:
        """Print it for a person."""
        period, failed = self.period, counted(self.unread, "event", "events")
        lines = {
            "account": plain(self.account),
            "period": f"after {_end(period.begin)}, up to {_end(period.end)}",
            "as of": f"position {period.as_of:,}: balances and ledger are folded up to there",
            "observed": str(self.observed),
        }
        if self.unread:
            lines["unread"] = (
                f"{failed} could not be folded, or only in part (fold_failures): what is missing"
                " of them isn't in these books"
            )
        output.labelled(lines)
        output.line()
        rows = [row for each in self.currencies for row in _rows(each)]
        output.rows(LINES, rows, empty="nothing is held, and nothing moved")
        output.line()
        # Under the table: a narrow screen must not leave out what makes a number unreliable.
        for row in rows:
            if row["note"]:
                currency = plain(row["currency"] or NO_CURRENCY)
                output.line(f"- {currency}, {row['line']}: {row['note']}")
        if self.unmatched:
            output.line("Orders whose fills differ between trades and ledger:")
            output.rows(UNMATCHED, [asdict(each) for each in self.unmatched], empty="")
        if self.unchecked:
            fills = counted(self.unchecked, "fill names", "fills name")
            output.line(f"{fills} no order: not compared between trades and ledger")
        output.line(self._verdict())

    def _verdict(self) -> str:
        unobserved_s = self.observed.unobserved_s
        unobserved = duration_text(unobserved_s) if unobserved_s else ""
        if self.adds_up:
            unknown = f"; changes that cancelled out in the {unobserved} not observed are not known"
            return f"the books add up{unknown if unobserved else ''}"
        names = [
            plain(each.currency or NO_CURRENCY) for each in self.currencies if not each.adds_up
        ]
        where = f", {unobserved} of the period not observed" if unobserved else ""
        return f"unexplained: {', '.join(names)}{where}"


def _rows(explained: Explained) -> list[dict[str, Any]]:
    """Return the lines of one currency; none if nothing is and was held, and nothing moved."""
    opening, closing = explained.opening, explained.closing
    if not explained.lines and opening.total == closing.total == 0:
        return []
    if explained.residual is None:
        note = "not known, as an end isn't"
    elif explained.in_flight:
        note = "unexplained, but gone with the frames next to the period's ends: in flight"
    else:
        note = "unexplained" if explained.residual else ""
    rows = [
        _end_row("opening", opening),
        *(
            {**asdict(line), "line": line.kind, "note": _line_note(line)}
            for line in explained.lines
        ),
        {"line": "residual", "amount": explained.residual, "note": note},
        _end_row("closing", closing),
    ]
    return [{"currency": explained.currency, **row} for row in rows]


def _end_row(name: str, end: Reported) -> dict[str, Any]:
    has_no_total = end.basis == Basis.REPORTED and end.total is None
    note = "reported without a total" if has_no_total else _BASES[end.basis]
    return {"line": name, "amount": end.total, "note": note}


def _line_note(line: Line) -> str:
    notes = {
        f"{line.without_amount:,} without an amount, not in the sum": line.without_amount,
        f"{line.reported_later:,} reported after the period": line.reported_later,
        f"{line.assumed_fees:f} fees of unproved basis": line.assumed_fees,
    }
    return "; ".join(note for note, count in notes.items() if count)
