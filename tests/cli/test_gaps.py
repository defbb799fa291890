"""recorder gaps, on both databases: what it adds up to, and what it admits."""

from __future__ import annotations

import io
import json
from argparse import Namespace
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest

from recorder.cli.call import Call
from recorder.cli.gaps import UNKNOWABLE, gaps_command
from recorder.cli.output import Output
from recorder.clock import SystemClock
from recorder.database.engine import Database
from recorder.log.rules.event import Draft, Note, noted
from recorder.timestamps import from_us
from tests.cli.scene import ask, fold, now_us, own
from tests.log.drafts import frame, run_sql, write

HOUR_US = 3_600_000_000


def reported_at(us: int, kind: Note, connection_id: str | None = None, **facts: object) -> Draft:
    return noted("main", us, kind, facts, connection_id=connection_id)


def history(start_us: int) -> list[Draft]:
    """Return an hour: not observed for 10 s, then cut off from minute 20 to 21:30, then a bad
    frame.
    """

    def at(seconds: float) -> int:
        return start_us + int(seconds * 1_000_000)

    cut = {"reason": "the connection was cut", "by": "network", "code": None}
    last = from_us(at(1_200.000001)).isoformat()
    return [
        reported_at(at(0), Note.RECORDER_STARTED, epoch=1, last_event_at=None),
        reported_at(at(10), Note.SNAPSHOT_COMPLETE, complete=True, unobserved_s=10),
        reported_at(at(1_205), Note.CONNECTION_CLOSED, "c-1", **cut, last_frame_at=last),
        reported_at(at(1_290), Note.SNAPSHOT_COMPLETE, complete=True, unobserved_s=89.9),
        frame("{", at_us=at(2_000)),
        frame('{"type":"PONG"}', kind="PONG", at_us=at(3_600)),
    ]


def one(url: str, *argv: str) -> dict[str, Any]:
    answer = ask(url, "gaps", *argv)
    assert answer.code == 0, answer.err
    (row,) = answer.rows
    return row


@pytest.fixture
def start_us(database: Database) -> int:
    """Record that hour, which began two hours ago, by a recorder that has gone since."""
    begun = now_us() - 2 * HOUR_US
    own(database, ended=True)
    write(database, *history(begun))
    fold(database)
    return begun


def iso(us: int) -> str:
    return from_us(us).isoformat()


def test_a_period_adds_up_exactly_and_names_its_causes(database_url: str, start_us: int) -> None:
    hour = ("--from", iso(start_us), "--to", iso(start_us + HOUR_US))
    reported = one(database_url, *hour)

    assert reported["seconds"] == "3600"
    assert (reported["unobserved_s"], reported["healed_s"]) == ("99.999999", "0")
    assert reported["observed_s"] == "3500.000001"
    assert [(row["cause"], row["unobserved_s"], row["gaps"]) for row in reported["causes"]] == [
        ("first_start", "10", 1),
        ("connection_lost", "89.999999", 1),
        ("undecodable", "0", 1),
    ]
    assert [row["state"] for row in reported["gaps"]] == ["closed"] * 3
    assert (reported["unhealed"], reported["complete"]) == (3, False)
    assert reported["unknowable"] == list(UNKNOWABLE)


def test_the_time_since_a_recorder_last_ran_is_unobserved(database_url: str, start_us: int) -> None:
    reported = one(database_url)

    assert reported["recorder"] == "not running"
    (tail,) = [row for row in reported["causes"] if row["cause"] == "not_running"]
    assert 3_600 <= Decimal(tail["unobserved_s"]) < 3_700
    assert Decimal(reported["observed_s"]) == Decimal("3500.000001")
    parts = (Decimal(reported[name]) for name in ("observed_s", "unobserved_s", "healed_s"))
    assert sum(parts) == Decimal(reported["seconds"])
    assert any("isn't running" in doubt for doubt in reported["warnings"])


def test_healed_gaps_are_listed_separately_and_nothing_less_is_complete(
    database: Database, database_url: str, start_us: int
) -> None:
    def heal(gap_id: object) -> Draft:
        sentence = "all lists agree"
        us = start_us + 2_100_000_000
        return reported_at(us, Note.GAP_HEALED, gap_id=gap_id, evidence=sentence, positions=[5])

    period = ("--from", iso(start_us), "--to", iso(start_us + HOUR_US))
    write(database, heal(3), heal(5))
    fold(database)
    reported = one(database_url, *period)
    assert (reported["unobserved_s"], reported["healed_s"]) == ("10", "89.999999")
    assert (reported["unhealed"], reported["complete"]) == (1, False)

    write(database, heal(1))
    fold(database)
    reported = one(database_url, *period)
    assert (reported["unobserved_s"], reported["unhealed"], reported["complete"]) == ("0", 0, True)


def test_a_page_for_a_person_never_rounds_up(database_url: str, start_us: int) -> None:
    def asked(until_s: int) -> str:
        period = ("--from", iso(start_us + 10_000_000), "--to", iso(start_us + until_s * 1_000_000))
        return ask(database_url, "gaps", "--table", *period).out

    quiet, cut = asked(1_000), asked(1_201)
    assert "observed      16 min 30 s  (100.0000 %)" in quiet
    assert "observed      19 min 50 s  (99.9160 %)" in cut
    assert "not observed  0.999 s  (0.0839 %)" in cut
    assert "connection_lost" in cut
    assert all(spot in cut for spot in UNKNOWABLE)


def test_days_on_which_clocks_change_elsewhere_have_their_seconds(
    database: Database, database_url: str
) -> None:
    # Clocks went forward in Europe, back in the autumn; 2016 ended with a leap second.
    begin = "2016-12-30T00:00:00+00:00"
    write(database, *history(1_483_056_000_000_000))
    own(database)
    fold(database)
    for day in ("2016-12-31", "2026-03-29", "2026-10-25"):
        reported = one(
            database_url, "--from", f"{day}T00:00:00+02:00", "--to", f"{day}T23:00:00+01:00"
        )
        assert reported["seconds"] == "86400"
        assert reported["until"] == f"{day}T22:00:00.000000Z"
    assert one(database_url)["first_start"] == begin.replace("+00:00", ".000000Z")


def test_a_clock_that_is_before_the_last_frame_is_reported(
    database: Database, database_url: str
) -> None:
    own(database)
    begun = now_us() - 600_000_000
    write(database, *history(begun))
    fold(database)

    reported = one(database_url)

    assert any("clock is before the last frame" in each for each in reported["warnings"])
    parts = (Decimal(reported[name]) for name in ("observed_s", "unobserved_s", "healed_s"))
    assert sum(parts) == Decimal(reported["seconds"]) > 0


def test_a_frame_that_comes_in_while_it_is_asked_is_no_clock_that_stands_before_it(
    database: Database, database_url: str, start_us: int
) -> None:
    own(database)

    class Busy(SystemClock):
        """A clock of an account to which something is reported between any two looks."""

        def wall_us(self) -> int:
            asked_us = now_us()
            write(database, frame('{"type":"PONG"}', kind="PONG", at_us=asked_us + 1_000))
            return asked_us

    out = io.StringIO()
    asked = Namespace(from_at=None, until_at=None, limit=None)
    environment = {"RECORDER_DATABASE_URL": database_url}

    code = gaps_command.run(Call(asked, environment, Output(True, out, io.StringIO()), Busy()))

    assert code == 0
    reported = json.loads(out.getvalue())
    assert not any("clock" in doubt for doubt in reported["warnings"])


def test_before_the_first_start_there_is_no_answer(database_url: str, start_us: int) -> None:
    for period in (
        ("--to", iso(start_us)),
        ("--from", iso(now_us() + HOUR_US)),
        ("--account", "unknown"),
    ):
        answer = ask(database_url, "gaps", *period)
        assert (answer.code, answer.rows) == (2, [])
        assert "nothing of account" in answer.err
    early = from_us(start_us) - timedelta(days=9)
    assert (
        one(database_url, "--from", early.isoformat())["from"] == one(database_url)["first_start"]
    )


def test_the_newest_gaps_are_listed_where_a_limit_is_given(
    database: Database, database_url: str, start_us: int
) -> None:
    reported = one(database_url, "--limit", "1")
    assert [row["gap_id"] for row in reported["gaps"]] == [5]
    assert reported["unhealed"] == 3
    assert len(run_sql(database, "SELECT * FROM gaps")) == 3
