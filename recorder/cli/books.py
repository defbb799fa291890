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
from recorder.gaps.sql.gaps import read_blinds, read_known, tail
from recorder.log.rules.coverage import Totals, seconds_between, timeline, totals
from recorder.projections.rules.books import Basis, Explained
from recorder.queries.account_status import as_of, doubts, read_standing
from recorder.queries.books import (
    SOURCES,
    Period,
    explain,
    first_snapshot,
    folded_up_to,
    moment_of,
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
class Sight:
    """How much of a period was seen; ``unrecorded_s`` of it lies before the first start.

    All null where the clock was set back so that the period has no length.
    """

    blind_s: Decimal | None
    healed_s: Decimal | None
    unrecorded_s: Decimal | None


@frozen
class Answer:
    """What is said about one account."""

    account: str
    period: Period
    from_at: datetime | None
    until_at: datetime | None
    sight: Sight
    currencies: Sequence[Explained]
    unmatched: Sequence[Unmatched]
    unchecked: int
    unread: int
    doubts: Sequence[str]

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
        help="what was told behind event N, instead of what happened in a time",
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
        for doubt in answer.doubts:
            call.output.warn(doubt)
    if any(isinstance(answer, str) for answer in answers):
        return WRONG
    adds_up = all(isinstance(answer, str) or answer.adds_up for answer in answers)
    return OK if adds_up else DAMAGED


def facts(answer: Answer) -> dict[str, Any]:
    """Return everything that is said about one account, for a program."""
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
        **asdict(answer.sight),
        "unread": answer.unread,
        "adds_up": answer.adds_up,
        "currencies": [_currency_facts(each) for each in answer.currencies],
        "unmatched_fills": [asdict(each) for each in answer.unmatched],
        "unchecked_fills": answer.unchecked,
        "doubts": answer.doubts,
    }


def _currency_facts(told: Explained) -> dict[str, Any]:
    return {
        "currency": told.currency,
        "opening": asdict(told.opening),
        "lines": [asdict(line) for line in told.lines],
        "moved": told.moved,
        "residual": told.residual,
        "closing": asdict(told.closing),
        "unstated": told.unstated,
        "in_flight": told.in_flight,
        "adds_up": told.adds_up,
    }


def _answer(
    connection: Connection, account: str, asked: Namespace, now: datetime, by_position: bool
) -> Answer | str:
    """Return the account's books, or why there are none."""
    folded = folded_up_to(connection, account)
    if not folded:
        return f"nothing of account {quoted(account)} is folded yet: start `recorder run`"
    period = _period(connection, account, asked, now, by_position, folded)
    is_told = not isinstance(period.end, int) or period.end <= folded
    if not is_told or period.begin >= period.end:  # type: ignore[operator]
        return (
            f"there is nothing between {_end(period.begin)} and {_end(period.end)} for account"
            f" {quoted(account)}: name a beginning before the end, and no position behind"
            f" {folded:,}, up to which balances and ledger are folded"
        )
    from_at, until_at = (_moment(connection, account, e) for e in (period.begin, period.end))
    told = explain(connection, account, period, currency=asked.currency)
    if asked.currency is not None and not told:
        return f"nobody has named a currency {quoted(asked.currency)} to account {quoted(account)}"
    standing = read_standing(connection, account)
    is_running = standing.is_running(now)
    return Answer(
        account,
        period,
        from_at,
        until_at,
        _sight(connection, account, from_at, until_at, now, is_running=is_running),
        told,
        unmatched_fills(connection, account, period),
        unchecked_fills(connection, account, period),
        unread(connection, account, period),
        doubts(standing, now, min(SOURCES, key=lambda name: as_of(standing, name)[0])),
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


def _moment(connection: Connection, account: str, end: int | datetime) -> datetime | None:
    if isinstance(end, datetime):
        return end
    return moment_of(connection, account, end) if end else read_known(connection, account).since


def _sight(
    connection: Connection,
    account: str,
    from_at: datetime | None,
    until_at: datetime | None,
    now: datetime,
    *,
    is_running: bool,
) -> Sight:
    known = read_known(connection, account)
    if from_at is None or until_at is None or from_at > until_at or known.since is None:
        return Sight(None, None, None)
    end = min(until_at, now)
    begin = min(max(from_at, known.since), end)
    blinds = read_blinds(connection, account, begin, end)
    blinds += tail(known, end, is_running=is_running)
    sums: Totals = totals(timeline(blinds, begin, end))
    unrecorded = seconds_between(from_at, begin) if begin > from_at else Decimal(0)
    return Sight(sums.blind_s, sums.healed_s, unrecorded)


# For a person


def _print_page(output: Output, answer: Answer) -> None:
    period = answer.period
    output.line(f"account     {plain(answer.account)}")
    output.line(f"period      behind {_end(period.begin)}, up to {_end(period.end)}")
    output.line(f"as of       position {period.as_of:,}, up to which all is folded")
    output.line(f"seen        {_seen(answer.sight)}")
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
        output.line("Fills that trades and ledger don't tell alike:")
        output.rows(UNMATCHED, [asdict(each) for each in answer.unmatched], empty="")
    if answer.unchecked:
        fills = count_of(answer.unchecked, "fill names", "fills name")
        output.line(f"{fills} no order: not compared between trades and ledger")
    output.line(_verdict(answer))


def _rows(told: Explained) -> list[dict[str, Any]]:
    """Return the lines of one currency; none if nothing is and was held, and nothing moved."""
    if not told.lines and told.opening.total == told.closing.total == 0:
        return []
    rows = [_end_row(told, "opening")]
    rows += [
        {
            "currency": told.currency,
            "line": line.kind,
            "amount": line.amount,
            "movements": line.movements,
            "backfilled": line.backfilled,
            "note": _line_note(line.unstated, line.told_later, line.assumed_fees),
        }
        for line in told.lines
    ]
    residual = {"amount": told.residual, "note": _residual_note(told)}
    rows.append({"currency": told.currency, "line": "residual", **residual})
    return [*rows, _end_row(told, "closing")]


def _end_row(told: Explained, which: str) -> dict[str, Any]:
    end = told.opening if which == "opening" else told.closing
    notes = {
        Basis.STATED: "" if end.total is not None else "stated without a total",
        Basis.ABSENT: "zero by inference: a complete snapshot left it out",
        Basis.NOT_NAMED: "zero by inference: no snapshot named it",
        Basis.UNKNOWN: "not known",
    }
    return {
        "currency": told.currency,
        "line": which,
        "amount": end.total,
        "note": notes[end.basis],
    }


def _line_note(unstated: int, told_later: int, assumed: Decimal) -> str:
    notes = []
    if unstated:
        notes.append(f"{unstated:,} without an amount, not in the sum")
    if told_later:
        notes.append(f"{told_later:,} told after the period")
    if assumed:
        notes.append(f"{assumed:f} fees of unproved basis")
    return "; ".join(notes)


def _residual_note(told: Explained) -> str:
    if told.residual is None:
        return "not known, as an end isn't"
    if told.in_flight:
        return "unexplained, but gone with the frames next to the period's ends: in flight"
    return "unexplained" if told.residual else ""


def _seen(sight: Sight) -> str:
    if sight.blind_s is None or sight.healed_s is None or sight.unrecorded_s is None:
        return "not measurable: a clock was set back in between"
    parts = [f"{sight.blind_s:f} s blind", f"{sight.healed_s:f} s blind but healed since"]
    if sight.unrecorded_s:
        parts.append(f"{sight.unrecorded_s:f} s before the first start")
    return ", ".join(parts)


def _verdict(answer: Answer) -> str:
    blind = answer.sight.blind_s
    if answer.adds_up:
        unseen = f"; of what cancelled out in {blind:f} s blind nothing is known" if blind else ""
        return f"the books add up{unseen}"
    open_ = [each for each in answer.currencies if not each.adds_up]
    names = ", ".join(plain(each.currency or NO_CURRENCY) for each in open_)
    where = f", {blind:f} s of the period blind" if blind else ""
    return f"unexplained: {names}{where}"
