"""Gaps in both databases: the same however the log is cut, and the view reports what the code
reports.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from sqlalchemy import Connection, text

from recorder.database.engine import Database, in_unit
from recorder.gaps.sql.gaps import (
    count_gaps,
    last_frame_time,
    read_gaps,
    read_known,
    read_unobserved,
    tail,
)
from recorder.lease.sql import take
from recorder.log.rules.coverage import Kind, Stretch, timeline, totals
from recorder.log.rules.event import Draft, Note, noted
from recorder.projections.rules.connections import CONNECTIONS
from recorder.projections.sql.rebuild import check
from recorder.projections.sql.tables import Memory, project
from recorder.timestamps import from_us
from tests.log.drafts import run_sql, write

ACCOUNTS = ("cut", "whole")
#: Some histories reach beyond the present: the clock was set back since.
SPAN_S = 6_000


def now_us() -> int:
    return (datetime.now(UTC) - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)


def history_of(rng: random.Random, length: int) -> Iterator[Draft]:
    """Yield what may happen to a recorder, in an order and with clocks that no real one has."""
    begin = now_us() - SPAN_S * 900_000

    def moment() -> int:
        return begin + rng.randrange(SPAN_S * 1_000_000)

    def note(kind: Note, **facts: object) -> Draft:
        # No connection ends twice.
        name = f"{rng.getrandbits(64):016x}" if kind == Note.CONNECTION_CLOSED else None
        return noted("x", moment(), kind, facts, connection_id=name)

    def iso() -> str:
        return from_us(moment()).isoformat()

    yield note(Note.RECORDER_STARTED, epoch=1, last_event_at=None)
    for number in range(length):
        yield rng.choice(
            (
                lambda: note(Note.SNAPSHOT_COMPLETE, complete=True, unobserved_s=rng.random() * 99),
                lambda: note(Note.SNAPSHOT_COMPLETE, complete=True),
                lambda: note(Note.CONNECTION_CLOSED, reason="cut", by="x", last_frame_at=iso()),
                lambda: note(Note.CLOCK_JUMPED, ahead_s=rng.choice((-60, 60)), unobserved_s=1),
                lambda: note(Note.READING_PAUSED, seconds=20, unobserved=True, last_frame_at=iso()),
                lambda: note(Note.RECORDER_STOPPED),
                lambda: note(Note.RECORDER_STARTED, last_event_at=iso(), last_frame_at=iso()),
                lambda: Draft("x", moment(), 1, "c", "received", "", "{", "text"),
                lambda: Draft("x", moment(), 1, "c", "received", "PONG", "{}", "text"),
                lambda number=number: note(
                    Note.FRAME_NOT_FOLDED, position=number, projection="p", reason="r"
                ),
                lambda number=number: note(Note.GAP_HEALED, gap_id=number // 2, evidence="e"),
                lambda number=number: note(Note.GAP_UNVERIFIABLE, gap_id=number // 3),
            )
        )()


def fold(database: Database, account: str, up_to: int, limit: int) -> int:
    """Fold a batch as the daemon does; return the checkpoint."""
    options: dict[str, Any] = {"up_to": up_to, "limit": limit, "now": datetime.now(UTC)}
    done = in_unit(database.projector, project, CONNECTIONS, Memory(), account, **options)
    return done.position


def report(database: Database, seed: int, length: int = 60) -> random.Random:
    """Write one history for two accounts, and fold it for one of them in many small batches."""
    rng = random.Random(seed)
    drafts = list(history_of(rng, length))
    for account in ACCOUNTS:
        for draft in drafts:
            draft.account = account
        write(database, *drafts)
    position = 0
    while position < len(drafts):
        position = fold(database, "cut", rng.randint(position + 1, len(drafts)), rng.randint(1, 9))
    fold(database, "whole", len(drafts), 1_000)
    return rng


@pytest.mark.parametrize("seed", range(8))
def test_gaps_are_the_same_however_the_log_is_cut_and_when_they_are_made_again(
    database: Database, seed: int
) -> None:
    report(database, seed)

    def rows(connection: Connection, account: str) -> list[dict[str, Any]]:
        found = connection.execute(
            text("SELECT * FROM gaps WHERE account = :account ORDER BY gap_id"),
            {"account": account},
        )
        return [dict(row) | {"account": ""} for row in found.mappings()]

    cut, whole = (in_unit(database.reader, rows, account) for account in ACCOUNTS)
    assert cut == whole != []
    for account in ACCOUNTS:
        assert check(database, account, CONNECTIONS, lambda position: None).differences == []


def seen(database: Database, account: str) -> list[Stretch]:
    """Return the view's rows as stretches; those that touch and are alike are one."""

    def unit(connection: Connection) -> list[tuple[Any, ...]]:
        asked = "SELECT from_at, until_at, kind, cause FROM coverage WHERE account = :account"
        return [tuple(row) for row in connection.execute(text(asked), {"account": account})]

    def moment(value: Any) -> datetime:
        if isinstance(value, str):
            return datetime.fromisoformat(value).replace(tzinfo=UTC)
        assert isinstance(value, datetime)
        return value.astimezone(UTC)

    merged: list[Stretch] = []
    for begin, end, kind, cause in sorted(
        (moment(row[0]), moment(row[1]), *row[2:]) for row in in_unit(database.reader, unit)
    ):
        if merged and (merged[-1].kind, merged[-1].cause) == (kind, cause):
            assert merged[-1].until_at == begin
            begin = merged.pop().from_at
        merged.append(Stretch(begin, end, Kind(kind), cause))
    return merged


@pytest.mark.parametrize("is_running", [False, True])
@pytest.mark.parametrize("seed", range(100, 106))
def test_the_view_reports_what_the_code_reports(
    database: Database, seed: int, is_running: bool
) -> None:
    report(database, seed)
    if is_running:
        ttl, now = timedelta(hours=1), datetime.now(UTC)
        in_unit(database.writer, take, "whole", holder="x", now=now, ttl=ttl)

    reported = seen(database, "whole")

    def unit(connection: Connection) -> list[Stretch]:
        known, until_at = read_known(connection, "whole"), reported[-1].until_at
        assert known.since is not None
        unobserved_intervals = read_unobserved(connection, "whole", known.since, until_at)
        unobserved_intervals += tail(known, until_at, is_running=is_running)
        return timeline(unobserved_intervals, known.since, until_at)

    assert reported == in_unit(database.reader, unit)
    assert totals(reported).period_s == sum((each.seconds for each in reported), Decimal(0))
    sums = run_sql(database, "SELECT sum(microseconds), sum(seconds) FROM coverage")
    ((whole_us, seconds),) = sums
    both = sum((each.seconds for name in ACCOUNTS for each in seen(database, name)), Decimal(0))
    # A moment passes between two looks.
    assert abs(float(str(whole_us)) - float(both) * 1e6) < 60_000_000
    assert abs(float(str(seconds)) - float(both)) < 60


def test_microseconds_are_exact_where_the_second_is_nearly_over(database: Database) -> None:
    run_sql(
        database,
        "INSERT INTO gaps (account, gap_id, cause, state, is_open, last_position_before,"
        " unobserved_from, unobserved_until) VALUES ('main', 1, 'killed', 'closed', :no, 0,"
        " '2024-02-29 23:59:59.999999', '2024-03-01 00:00:00.000001')".replace("'2024", "'2024"),
        no=False,
    )
    asked = "SELECT microseconds, kind, cause FROM coverage ORDER BY from_at LIMIT 1"
    assert run_sql(database, asked) == [(2, "unobserved", "killed")]


def test_what_is_read_of_a_period_is_what_touches_it(database: Database) -> None:
    day = datetime(2026, 3, 1, tzinfo=UTC)
    rows = [(1, 0, 10), (2, 10, 20), (3, 15, 15), (4, 30, 40)]
    for gap_id, begin, end in rows:
        run_sql(
            database,
            "INSERT INTO gaps (account, gap_id, cause, state, is_open, last_position_before,"
            " unobserved_from, unobserved_until)"
            " VALUES ('main', :gap_id, 'killed', 'closed', :no, 0, :begin, :end)",
            gap_id=gap_id,
            no=False,
            begin=stored(database, day + timedelta(seconds=begin)),
            end=stored(database, day + timedelta(seconds=end)),
        )

    def unit(connection: Connection) -> tuple[Any, ...]:
        period = day + timedelta(seconds=12), day + timedelta(seconds=30)
        found = read_gaps(connection, "main", *period)
        newest = read_gaps(connection, "main", *period, limit=1)
        unobserved_intervals = read_unobserved(connection, "main", *period)
        counts = count_gaps(connection, "main", *period)
        ids = [row["gap_id"] for row in found], [row["gap_id"] for row in newest]
        return *ids, len(unobserved_intervals), counts

    assert in_unit(database.reader, unit) == ([2, 3], [3], 1, [("killed", "closed", 2)])


def stored(database: Database, moment: datetime) -> object:
    """Return a time as a driver wants it."""
    if database.dialect == "sqlite":
        return moment.strftime("%Y-%m-%d %H:%M:%S.%f")
    return moment


def test_only_a_frame_shows_that_the_exchange_sent_something(database: Database) -> None:
    def received_facts(account: str) -> datetime | None:
        return in_unit(database.reader, last_frame_time, account)

    assert received_facts("main") is None
    frames = [Draft("main", 1_000_000 * s, 1, "c", "received", "PONG", "{}") for s in (5, 9)]
    write(database, *frames, Draft("main", 11_000_000, 1, "c", "sent", "PING", "{}"))
    assert received_facts("main") == from_us(9_000_000)
    assert received_facts("other") is None
