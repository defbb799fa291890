"""``recorder books``: what changed each balance over a period, and what nothing explains."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any

from attrs import asdict, frozen
from sqlalchemy import Connection

from recorder.cli.call import Call
from recorder.cli.exits import DAMAGED, OK, WRONG
from recorder.cli.flags import DATABASE, add_output, add_settings, moment, whole
from recorder.cli.output import Column, Output, count_of, quoted
from recorder.database.engine import in_unit
from recorder.display import plain, short_time
from recorder.gaps.sql.gaps import read_known, read_unobserved, tail
from recorder.log.rules.coverage import Totals, seconds_between, timeline, totals
from recorder.projections.rules.books import Basis, Explained
from recorder.queries.account_status import as_of, read_account_status, warnings
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
#: What stands for the name where the exchange gave an amount and no currency.
NO_CURRENCY = "(no currency named)"
UNMATCHED = (
    Column("order_id"),
    Column("pair"),
    Column("side"),
    Column("traded", "in trades", right=True),
    Column("booked", "in ledger", right=True),
)


@frozen
class ObservedTime:
    """How much of a period was seen; ``unrecorded_s`` of it lies before the first start.

    All null where the clock was set back so that the period has no length.
    """

    unobserved_s: Decimal | None
    healed_s: Decimal | None
    unrecorded_s: Decimal | None


@frozen
class Answer:
    """What is reported about one account."""

    account: str
    period: Period
    from_at: datetime | None
    until_at: datetime | None
    observation: ObservedTime
    currencies: Sequence[Explained]
    unmatched: Sequence[Unmatched]
    unchecked: int
    unread: int
    warnings: Sequence[str]

    @property
    def adds_up(self) -> bool:
        """True if nothing is left unexplained in any currency."""
        return all(each.adds_up for each in self.currencies)


def configure(parser: ArgumentParser) -> None:
    """Add this command's arguments."""
    zone = "(the exchange's time, with a zone, as 2026-01-31T12:00:00Z)"
    parser.add_argument(
        "--from",
        dest="from_at",
        type=moment,
        metavar="TIME",
        help=f"default: the first complete snapshot {zone}",
    )
    parser.add_argument(
        "--to", dest="until_at", type=moment, metavar="TIME", help="default, and at most: now"
    )
    parser.add_argument(
        "--from-position",
        type=whole(0),
        metavar="N",
        help="what was reported behind event N, instead of what happened in a time",
    )
    parser.add_argument(
        "--to-position", type=whole(0), metavar="N", help="and up to event N; default: the last"
    )
    parser.add_argument("--currency", metavar="CODE", help="only this one")
    add_settings(parser, DATABASE)
    add_output(parser)


def run(call: Call) -> int:
    """Print the books of each account: exit code 1 where they don't add up, 2 if not askable."""
    asked, now = call.arguments, call.now()
    by_time = (asked.from_at, asked.until_at) != (None, None)
    by_position = (asked.from_position, asked.to_position) != (None, None)
    if by_time and by_position:
        call.output.warn(
            "a period is one of times or one of positions: leave one pair of flags out"
        )
        return WRONG

    def look(connection: Connection) -> list[Answer | str]:
        names = call.accounts(connection)
        return [_answer(connection, name, asked, now, by_position) for name in names]

    with call.database() as database:
        answers = in_unit(database.reader, look)
    for answer in answers:
        if isinstance(answer, str):
            call.output.warn(answer)
            continue
        if call.output.as_json:
            call.output.json_line(facts(answer))
        else:
            _print_page(call.output, answer)
        for warning in answer.warnings:
            call.output.warn(warning)
    if any(isinstance(answer, str) for answer in answers):
        return WRONG
    adds_up = all(isinstance(answer, str) or answer.adds_up for answer in answers)
    return OK if adds_up else DAMAGED


def facts(answer: Answer) -> dict[str, Any]:
    """Return everything that is reported about one account, for a program."""
    period = answer.period
    ends = (period.begin, period.end) if period.is_by_position else (None, None)
    return {
        "account": answer.account,
        "by": "position" if period.is_by_position else "time",
        "from": answer.from_at,
        "until": answer.until_at,
        "from_position": ends[0],
        "to_position": ends[1],
        "as_of_position": period.as_of,
        **asdict(answer.observation),
        "unread": answer.unread,
        "adds_up": answer.adds_up,
        "currencies": [_currency_facts(each) for each in answer.currencies],
        "unmatched_fills": [asdict(each) for each in answer.unmatched],
        "unchecked_fills": answer.unchecked,
        "warnings": answer.warnings,
    }


def _currency_facts(reported: Explained) -> dict[str, Any]:
    return {
        "currency": reported.currency,
        "opening": asdict(reported.opening),
        "lines": [asdict(line) for line in reported.lines],
        "moved": reported.moved,
        "residual": reported.residual,
        "closing": asdict(reported.closing),
        "without_amount": reported.without_amount,
        "in_flight": reported.in_flight,
        "adds_up": reported.adds_up,
    }


def _answer(
    connection: Connection, account: str, asked: Namespace, now: datetime, by_position: bool
) -> Answer | str:
    """Return the account's books, or why there are none."""
    folded = folded_up_to(connection, account)
    if not folded:
        return f"nothing of account {quoted(account)} is folded yet: start `recorder run`"
    period = _period(connection, account, asked, now, by_position, folded)
    is_reported = not isinstance(period.end, int) or period.end <= folded
    if not is_reported or period.begin >= period.end:  # type: ignore[operator]
        return (
            f"there is nothing between {_end(period.begin)} and {_end(period.end)} for account"
            f" {quoted(account)}: name a beginning before the end, and no position behind"
            f" {folded:,}, up to which balances and ledger are folded"
        )
    from_at, until_at = (_time(connection, account, e) for e in (period.begin, period.end))
    reported = explain(connection, account, period, currency=asked.currency)
    if asked.currency is not None and not reported:
        return f"account {quoted(account)} has no currency {quoted(asked.currency)}"
    status = read_account_status(connection, account)
    is_running = status.is_running(now)
    return Answer(
        account,
        period,
        from_at,
        until_at,
        _observation(connection, account, from_at, until_at, now, is_running=is_running),
        reported,
        unmatched_fills(connection, account, period),
        unchecked_fills(connection, account, period),
        unread(connection, account, period),
        warnings(status, now, min(SOURCES, key=lambda name: as_of(status, name)[0])),
    )


def _period(
    connection: Connection,
    account: str,
    asked: Namespace,
    now: datetime,
    by_position: bool,
    folded: int,
) -> Period:
    snapshot = first_snapshot(connection, account)
    if by_position:
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
    return (
        time_of_position(connection, account, end) if end else read_known(connection, account).since
    )


def _observation(
    connection: Connection,
    account: str,
    from_at: datetime | None,
    until_at: datetime | None,
    now: datetime,
    *,
    is_running: bool,
) -> ObservedTime:
    known = read_known(connection, account)
    if from_at is None or until_at is None or from_at > until_at or known.since is None:
        return ObservedTime(None, None, None)
    end = min(until_at, now)
    begin = min(max(from_at, known.since), end)
    unobserved_intervals = read_unobserved(connection, account, begin, end)
    unobserved_intervals += tail(known, end, is_running=is_running)
    sums: Totals = totals(timeline(unobserved_intervals, begin, end))
    unrecorded = seconds_between(from_at, begin) if begin > from_at else Decimal(0)
    return ObservedTime(sums.unobserved_s, sums.healed_s, unrecorded)


# For a person


def _print_page(output: Output, answer: Answer) -> None:
    period = answer.period
    output.line(f"account     {plain(answer.account)}")
    output.line(f"period      after {_end(period.begin)}, up to {_end(period.end)}")
    output.line(
        f"as of       position {period.as_of:,}: balances and ledger are folded up to there"
    )
    output.line(f"observed    {_seen(answer.observation)}")
    if answer.unread:
        failed = count_of(answer.unread, "event", "events")
        output.line(f"unread      {failed} could not be folded (fold_failures): not in these books")
    output.line("")
    rows = [row for each in answer.currencies for row in _rows(each)]
    output.rows(LINES, rows, empty="nothing is held, and nothing moved")
    output.line("")
    # Under the table: a narrow screen must not leave out what keeps a number from being one.
    for row in rows:
        if row["note"]:
            output.line(f"- {plain(row['currency'] or NO_CURRENCY)}, {row['line']}: {row['note']}")
    if answer.unmatched:
        output.line("Orders whose fills differ between trades and ledger:")
        output.rows(UNMATCHED, [asdict(each) for each in answer.unmatched], empty="")
    if answer.unchecked:
        fills = count_of(answer.unchecked, "fill names", "fills name")
        output.line(f"{fills} no order: not compared between trades and ledger")
    output.line(_verdict(answer))


def _rows(reported: Explained) -> list[dict[str, Any]]:
    """Return the lines of one currency; none if nothing is and was held, and nothing moved."""
    if not reported.lines and reported.opening.total == reported.closing.total == 0:
        return []
    rows = [_end_row(reported, "opening")]
    rows += [
        {
            "currency": reported.currency,
            "line": line.kind,
            "amount": line.amount,
            "movements": line.movements,
            "backfilled": line.backfilled,
            "note": _line_note(line.without_amount, line.reported_later, line.assumed_fees),
        }
        for line in reported.lines
    ]
    residual = {"amount": reported.residual, "note": _residual_note(reported)}
    rows.append({"currency": reported.currency, "line": "residual", **residual})
    return [*rows, _end_row(reported, "closing")]


def _end_row(reported: Explained, which: str) -> dict[str, Any]:
    end = reported.opening if which == "opening" else reported.closing
    notes = {
        Basis.REPORTED: "" if end.total is not None else "reported without a total",
        Basis.INFERRED_ZERO: "zero by inference: a complete snapshot left it out",
        Basis.NOT_NAMED: "zero by inference: no snapshot named it",
        Basis.UNKNOWN: "not known",
    }
    return {
        "currency": reported.currency,
        "line": which,
        "amount": end.total,
        "note": notes[end.basis],
    }


def _line_note(without_amount: int, reported_later: int, assumed: Decimal) -> str:
    notes = []
    if without_amount:
        notes.append(f"{without_amount:,} without an amount, not in the sum")
    if reported_later:
        notes.append(f"{reported_later:,} reported after the period")
    if assumed:
        notes.append(f"{assumed:f} fees of unproved basis")
    return "; ".join(notes)


def _residual_note(reported: Explained) -> str:
    if reported.residual is None:
        return "not known, as an end isn't"
    if reported.in_flight:
        return "unexplained, but gone with the frames next to the period's ends: in flight"
    return "unexplained" if reported.residual else ""


def _seen(observation: ObservedTime) -> str:
    if (
        observation.unobserved_s is None
        or observation.healed_s is None
        or observation.unrecorded_s is None
    ):
        return "not measurable: a clock was set back in between"
    parts = [
        f"{observation.unobserved_s:f} s not observed",
        f"{observation.healed_s:f} s not observed but healed since",
    ]
    if observation.unrecorded_s:
        parts.append(f"{observation.unrecorded_s:f} s before the first start")
    return ", ".join(parts)


def _verdict(answer: Answer) -> str:
    unobserved = answer.observation.unobserved_s
    if answer.adds_up:
        unseen = (
            f"; changes that cancelled out in the {unobserved:f} s not observed are not known"
            if unobserved
            else ""
        )
        return f"the books add up{unseen}"
    open_ = [each for each in answer.currencies if not each.adds_up]
    names = ", ".join(plain(each.currency or NO_CURRENCY) for each in open_)
    where = f", {unobserved:f} s of the period not observed" if unobserved else ""
    return f"unexplained: {names}{where}"
