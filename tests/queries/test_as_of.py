"""What was known at a moment, against a fold of the log up to it, on both databases."""

from __future__ import annotations

import json
import random
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from attrs import evolve
from sqlalchemy import Connection, event, insert

from recorder.database.engine import Database, in_unit
from recorder.database.schema import balance_history, balances, gaps
from recorder.errors import ConfigurationError
from recorder.log.rules.event import Draft, Note, noted
from recorder.projections.rules.balances import Balances
from recorder.projections.sql.tables import Memory, project
from recorder.queries.as_of import (
    BALANCES,
    find_as_of,
    known_at,
    position_at,
    true_at,
)
from recorder.timestamps import from_us
from tests.log.drafts import NOW_US, frame, run_sql, write

HOUR_US = 3_600_000_000
KEPT = ("currency", "available", "total", "basis", "updated_at", "position")


def history_of(rng: random.Random, length: int) -> list[Draft]:
    """Return balances of a few currencies on two connections, some late, some reported again."""
    drafts = []
    for step in range(length):
        amount = str(rng.randrange(4))
        answer = {
            "currency": {"symbol": rng.choice(("BTC", "ETH", "ZAR")), "shortName": "x"},
            "available": amount,
            "reserved": "0",
            "total": amount,
            "updatedAt": from_us(NOW_US + rng.randrange(length) * 1000).isoformat(),
        }
        kind = rng.choice(("BALANCE_UPDATE", "BALANCE_UPDATE", "NEW_TRADE"))
        payload = json.dumps({"type": kind, "data": answer})
        connection_id = f"c-{step * 2 // length}"
        at_us = NOW_US + step * 1000
        drafts.append(frame(payload, kind=kind, at_us=at_us, connection_id=connection_id))
    return drafts


def fold(database: Database, up_to: int) -> None:
    """Fold the balances of the log up to a position."""
    options: dict[str, Any] = {"up_to": up_to, "limit": 1_000, "now": from_us(NOW_US)}
    in_unit(database.projector, project, Balances(), Memory(), "main", **options)


def present(connection: Connection) -> list[dict[str, Any]]:
    """Return the rows of `balances` as they stand."""
    wanted = balances.select().order_by(balances.c.currency)
    return [{name: row[name] for name in KEPT} for row in connection.execute(wanted).mappings()]


@pytest.mark.parametrize("seed", range(5))
def test_what_was_known_at_each_position_is_the_fold_of_the_log_up_to_it(
    database: Database, seed: int
) -> None:
    written = write(database, *history_of(random.Random(seed), 40))
    folded = []
    for each in written:
        fold(database, each.position)
        folded.append(in_unit(database.reader, present))

    for each, stood in zip(written, folded, strict=True):
        known = in_unit(database.reader, known_at, "main", each.position, BALANCES)
        assert [{name: row[name] for name in KEPT} for row in known] == stood
    assert folded[0] != folded[-1]


@pytest.mark.parametrize("seed", range(5))
def test_what_was_true_at_a_time_is_the_statement_of_the_latest_time_up_to_it(
    database: Database, seed: int
) -> None:
    """Reported late, reported again, without a time, inferred: the oracle reads every report."""
    rng = random.Random(seed)
    drafts = history_of(rng, 40)
    for step in range(0, 40, 7):
        undated = json.loads(drafts[step].payload)
        del undated["data"]["updatedAt"]
        drafts[step] = evolve(drafts[step], payload=json.dumps(undated))
    facts = {"complete": True, "balances": True, "open_orders": True}
    when = NOW_US + 40_000
    drafts += [
        noted("main", when, Note.SNAPSHOT_COMPLETE, facts, connection_id="c-1"),
        *history_of(rng, 10),
    ]
    write(database, *drafts)
    fold(database, len(drafts))
    reported = run_sql(database, "SELECT count(*) FROM balance_history WHERE updated_at IS NULL")
    assert reported != [(0,)]

    for step in (-1, 0, 1, 7, 13, 20, 39, 40, 60):
        moment = from_us(NOW_US + step * 1000)
        found = in_unit(database.reader, true_at, "main", moment, BALANCES)
        assert found == in_unit(database.reader, latest_statements, moment)
    assert found


def latest_statements(connection: Connection, moment: datetime) -> list[dict[str, Any]]:
    """Return what `true_at` should, by reading the whole history."""
    latest: dict[str, tuple[datetime, int, dict[str, Any]]] = {}
    for row in connection.execute(balance_history.select()).mappings():
        has_time = row["basis"] == "reported" and row["updated_at"] is not None
        at = row["updated_at"] if has_time else row["received_at"]
        newest = latest.get(row["currency"])
        if at <= moment and (newest is None or (at, row["position"]) > newest[:2]):
            latest[row["currency"]] = (at, row["position"], dict(row))
    return [latest[currency][2] for currency in sorted(latest)]


def test_of_a_time_before_the_log_something_may_be_true_and_nothing_is_known(
    database: Database,
) -> None:
    answer = {"currency": {"shortName": "BTC"}, "total": "2", "updatedAt": "2026-01-01T00:00:00Z"}
    payload = json.dumps({"type": "BALANCE_UPDATE", "data": answer})
    write(database, frame(payload, kind="BALANCE_UPDATE"))
    fold(database, 1)
    before = datetime(2026, 2, 1, tzinfo=UTC)
    options: dict[str, Any] = {"now": from_us(NOW_US), "is_running": False}

    moment = in_unit(
        database.reader,
        lambda connection: find_as_of(connection, "main", before, may_precede=True, **options),
    )

    assert (moment.position, moment.at, moment.observed) == (0, before, "unobserved")
    (row,) = in_unit(database.reader, true_at, "main", before, BALANCES)
    assert row["total"] == 2
    assert in_unit(database.reader, known_at, "main", 0, BALANCES) == []


def test_a_time_is_the_last_position_that_had_come_in(database: Database) -> None:
    write(database, *(frame(at_us=NOW_US + step // 2 * 1000) for step in range(9)))

    def at(offset_us: int) -> int | None:
        return in_unit(database.reader, position_at, "main", from_us(NOW_US + offset_us))

    assert [at(-1), at(0), at(999), at(1000), at(3999), at(4000), at(HOUR_US)] == [
        None, 2, 2, 4, 8, 9, 9,
    ]  # fmt: skip


def test_of_a_clock_set_back_an_hour_the_later_passing_counts(database: Database) -> None:
    """The clock goes 0, 1, … 9 minutes, is set back an hour, and passes the same times again."""
    minute = 60_000_000
    first = [frame(at_us=NOW_US + step * minute) for step in range(10)]
    again = [frame(at_us=NOW_US - HOUR_US + step * minute) for step in range(70)]
    write(database, *first, *again)
    row = {
        "account": "main",
        "gap_id": 11,
        "cause": "clock_set_back",
        "last_position_before": 10,
        "first_position_after": 12,
        "state": "closed",
        "is_open": False,
        "unobserved_from": from_us(NOW_US - HOUR_US),
        "unobserved_until": from_us(NOW_US - HOUR_US + minute),
    }
    in_unit(database.writer, lambda connection: connection.execute(insert(gaps), [row]) and None)
    latest = {
        step: max(
            index
            for index, draft in enumerate([*first, *again], 1)
            if draft.received_us <= NOW_US + step * minute
        )
        for step in (-60, -59, -30, -1, 0, 5, 9, 20)
    }

    for step, position in latest.items():
        moment = from_us(NOW_US + step * minute)
        assert in_unit(database.reader, position_at, "main", moment) == position


def test_a_time_in_a_gap_is_marked_until_and_after_it_is_healed(database: Database) -> None:
    write(database, *(frame(at_us=NOW_US + step * 1_000_000) for step in range(10)))
    row = {
        "account": "main",
        "gap_id": 4,
        "cause": "connection_lost",
        "last_position_before": 3,
        "first_position_after": 6,
        "state": "closed",
        "is_open": False,
        "unobserved_from": from_us(NOW_US + 2_000_000),
        "unobserved_until": from_us(NOW_US + 5_000_000),
    }
    in_unit(database.writer, lambda connection: connection.execute(insert(gaps), [row]) and None)

    def observed(at: int | datetime) -> str:
        options = {"now": from_us(NOW_US + HOUR_US), "is_running": False}

        def look(connection: Connection) -> str:
            return find_as_of(connection, "main", at, **options).observed  # type: ignore[arg-type]

        return in_unit(database.reader, look)

    def time(tenths: int) -> datetime:
        return from_us(NOW_US + tenths * 100_000)

    assert [observed(at) for at in (3, 4, 5, 6)] == [
        "observed",
        "unobserved",
        "unobserved",
        "observed",
    ]
    assert [observed(time(at)) for at in (19, 20, 25, 49, 50)] == [
        "observed", "unobserved", "unobserved", "unobserved", "observed",
    ]  # fmt: skip
    # After the last frame no recorder listened.
    assert observed(time(95)) == "unobserved"
    run_sql(database, "UPDATE gaps SET state = 'healed'")
    assert [observed(4), observed(time(25))] == ["healed", "healed"]


def test_times_that_can_not_be_answered_are_refused(database: Database) -> None:
    write(database, frame(), frame())
    now = from_us(NOW_US + HOUR_US)

    def refusal(at: int | datetime) -> str:
        with pytest.raises(ConfigurationError) as caught:
            in_unit(
                database.reader,
                lambda connection: find_as_of(connection, "main", at, now=now, is_running=False),
            )
        return str(caught.value)

    assert "the head is 2" in refusal(3)
    assert "still to come" in refusal(now + timedelta(microseconds=1))
    assert "does not mean that it held nothing" in refusal(datetime(2000, 1, 1, tzinfo=UTC))


def asked_of_the_past(database: Database) -> list[tuple[str, Any]]:
    """Return every question that the readings of a moment ask of an account that has a past."""
    write(database, *history_of(random.Random(1), 20))
    fold(database, 20)
    seen: list[tuple[str, Any]] = []

    @event.listens_for(database.reader, "before_cursor_execute")
    def on_execute(_c: object, _u: object, statement: str, values: Any, *_rest: object) -> None:
        if statement.startswith(("SELECT", "WITH")):
            seen.append((statement, values))

    in_unit(database.reader, position_at, "main", from_us(NOW_US + 5_500))
    in_unit(database.reader, known_at, "main", 7, BALANCES)
    in_unit(database.reader, true_at, "main", from_us(NOW_US + 5_500), BALANCES)
    return seen


def test_no_reading_scans_the_log_or_a_history(sqlite: Database) -> None:
    seen = asked_of_the_past(sqlite)

    def plan(connection: Connection) -> list[str]:
        return [
            str(row)
            for statement, values in list(seen)
            for row in connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", values)
        ]

    steps = in_unit(sqlite.writer, plan)
    assert len(seen) >= 4
    assert any("SEARCH h " in step and "currency=? AND position=?" in step for step in steps)
    for index in ("balance_history_updated_at", "balance_history_undated"):
        assert any(f"USING INDEX {index}" in step.replace("COVERING ", "") for step in steps)
    walked = ("events", "h", "e")
    assert [step for step in steps if any(f"SCAN {name}" in step for name in walked)] == []


def test_no_reading_scans_a_history_on_postgresql_either(postgres: Database) -> None:
    seen = asked_of_the_past(postgres)

    def plan(connection: Connection) -> list[str]:
        # The tables of a test are so small that reading them whole would be right.
        connection.exec_driver_sql("SET LOCAL enable_seqscan = off")
        return [
            str(row)
            for statement, values in list(seen)
            for row in connection.exec_driver_sql(f"EXPLAIN {statement}", values)
        ]

    steps = in_unit(postgres.writer, plan)
    assert len(seen) >= 4
    for index in ("balance_history_pkey", "balance_history_updated_at", "balance_history_undated"):
        assert any(index in step for step in steps), steps
    walked = ("Seq Scan on events", "Seq Scan on balance_history")
    assert [step for step in steps if any(walk in step for walk in walked)] == []
