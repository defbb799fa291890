"""What opens a gap, what closes it, and what is reported of it in the end; without a database."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recorder.log.rules.coverage import Cause
from recorder.log.rules.event import Draft, Note, noted
from recorder.timestamps import from_us
from tests.projections.test_folds import events, fold, named

START_US = 1_700_000_000_000_000
SECOND = timedelta(seconds=1)


def at(second: float) -> datetime:
    return from_us(START_US + int(second * 1_000_000))


def note(kind: Note, second: float, **facts: object) -> Draft:
    about_connection = kind.startswith("CONNECTION")
    reported = {
        name: value.isoformat() if isinstance(value, datetime) else value
        for name, value in facts.items()
    }
    us = START_US + int(second * 1_000_000)
    return noted("main", us, kind, reported, connection_id="c1" if about_connection else None)


def frame(payload: str, second: float, kind: str = "", encoding: str = "text") -> Draft:
    us = START_US + int(second * 1_000_000)
    return Draft("main", us, 1, "c1", "received", kind, payload, encoding)


def started(second: float = 0, last: datetime | None = None) -> Draft:
    return note(Note.RECORDER_STARTED, second, epoch=1, last_event_at=last, last_frame_at=last)


def lost(second: float, last: float, **more: object) -> Draft:
    facts = {"reason": "the connection was cut", "by": "network", "code": None, "frames": 3}
    return note(Note.CONNECTION_CLOSED, second, **facts | more, last_frame_at=at(last))


def complete(
    second: float, unobserved_s: float | None = None, *, is_complete: bool = True
) -> Draft:
    measured = {} if unobserved_s is None else {"unobserved_s": unobserved_s}
    return note(Note.SNAPSHOT_COMPLETE, second, complete=is_complete, **measured)


def healed(second: float, gap_id: object, **more: object) -> Draft:
    return note(Note.GAP_HEALED, second, gap_id=gap_id, **more)


def gaps_of(*drafts: Draft) -> tuple[list[dict[str, Any]], list[int]]:
    """Return the gaps in order, and the positions that could not be folded."""
    tables, failed = fold(named("connections"), events(drafts))
    rows = tables.get("gaps", {})
    return [rows[key] for key in sorted(rows)], failed


def live(*drafts: Draft) -> list[dict[str, Any]]:
    """Return the gaps behind the first: those of a recorder whose first snapshot is complete."""
    (_, *rows), failed = gaps_of(started(), complete(1), *drafts)
    assert failed == []
    return rows


ENDS: dict[Cause, dict[str, object]] = {
    Cause.CONNECTION_LOST: {},
    Cause.SILENT: {"reason": "no PONG and no frame for 5 s"},
    Cause.NO_PONG: {"reason": "no PONG within 30 s"},
    Cause.STOPPED: {"reason": "the recorder stopped", "by": "recorder"},
    Cause.UNDECODABLE: {"reason": "no WebSocket message", "by": "recorder", "code": 1007},
}


@pytest.mark.parametrize("cause", ENDS)
def test_the_end_of_a_connection_opens_a_gap_at_its_last_frame(cause: Cause) -> None:
    (row,) = live(lost(20, last=12.5, **ENDS[cause]))
    assert (row["cause"], row["state"], row["is_open"]) == (cause, "open", True)
    assert (row["from_at"], row["unobserved_from"]) == (at(12.5), at(12.5))
    assert (row["until_at"], row["unobserved_until"]) == (None, None)
    assert row["evidence"] == ENDS[cause].get("reason", "the connection was cut")
    assert (row["last_position_before"], row["losses"]) == (2, 1)


def test_a_start_behind_a_kill_goes_back_to_the_last_frame_and_not_to_our_own_last_word() -> None:
    restart = note(Note.RECORDER_STARTED, 60, epoch=2, last_event_at=at(50), last_frame_at=at(45))
    (row,) = live(restart)
    assert (row["cause"], row["from_at"]) == ("killed", at(45))


def test_a_start_as_earlier_versions_noted_it_goes_back_to_the_last_event() -> None:
    (row,) = live(note(Note.RECORDER_STARTED, 60, epoch=2, last_event_at=at(50)))
    assert (row["cause"], row["from_at"]) == ("killed", at(50))


def test_a_stop_that_was_noted_is_no_kill_at_the_next_start() -> None:
    end = lost(20, last=15, **ENDS[Cause.STOPPED])
    (row,) = live(end, note(Note.RECORDER_STOPPED, 21), started(100, at(15)), complete(103, 2))
    assert (row["cause"], row["causes"], row["losses"]) == ("stopped", "stopped", 1)
    assert (row["state"], row["unobserved_from"], row["unobserved_until"]) == (
        "closed",
        at(15),
        at(103),
    )


def test_a_process_that_dies_while_a_gap_is_open_is_noted_in_it() -> None:
    (row,) = live(lost(20, last=15), started(100, at(15)), started(200, at(15)))
    assert (row["cause"], row["causes"]) == ("connection_lost", "connection_lost,killed")
    assert (row["losses"], row["last_loss_position"]) == (3, 5)


def test_no_loss_is_forgotten_while_a_gap_is_open() -> None:
    reported = [
        lost(20, last=15),
        lost(30, last=29, **ENDS[Cause.SILENT]),
        note(Note.CLOCK_JUMPED, 31, ahead_s=60.5, unobserved_s=16),
        lost(40, last=39, reason="closed with code 1001"),
    ]
    (row,) = live(*reported)
    assert row["cause"] == "connection_lost"
    assert row["causes"] == "silent,asleep,connection_lost"
    assert (row["losses"], row["last_loss"]) == (4, "closed with code 1001")
    assert (row["evidence"], row["from_at"]) == ("the connection was cut", at(15))


def test_a_machine_that_slept_observes_nothing_from_the_last_frame_before() -> None:
    slept = note(Note.CLOCK_JUMPED, 3_600, ahead_s=3_580.25, unobserved_s=3, last_frame_at=at(16))
    (row,) = live(slept, complete(3_605, 8))
    assert (row["cause"], row["unobserved_from"], row["unobserved_until"]) == (
        "asleep",
        at(16),
        at(3_605),
    )
    assert "3580.25 s further" in row["evidence"]


@pytest.mark.parametrize("measured_s", [0, 0.000001, 5, 3_600])
def test_a_clock_that_was_set_back_makes_no_negative_gap(measured_s: float) -> None:
    back = note(Note.CLOCK_JUMPED, -3_590, ahead_s=-3_600, unobserved_s=1, last_frame_at=at(9))
    (row,) = live(back, complete(-3_585, measured_s))
    assert (row["from_at"], row["until_at"]) == (at(9), at(-3_585))
    assert row["unobserved_until"] == at(-3_585)
    assert row["unobserved_from"] == at(-3_585 - measured_s)


def test_a_gap_of_which_the_clock_was_set_back_a_little_keeps_its_measured_length() -> None:
    (row,) = live(lost(20, last=15), complete(75, unobserved_s=120))
    assert (row["unobserved_from"], row["unobserved_until"]) == (at(-45), at(75))


def test_a_clock_set_back_while_no_recorder_ran_leaves_the_length_unknown() -> None:
    (row,) = live(started(-3_600, last=at(15)), complete(-3_595, 5))
    assert "isn't known" in row["evidence"]
    assert (row["unobserved_from"], row["unobserved_until"]) == (at(-3_600), at(-3_595))


def test_a_wrong_clock_at_boot_that_is_put_right_hides_nothing_before_the_last_frame() -> None:
    year_s = 365 * 86_400
    reported = [
        started(-year_s, last=at(15)),
        note(Note.CLOCK_JUMPED, 100, ahead_s=year_s, unobserved_s=3),
        complete(102, 5),
    ]
    (row,) = live(*reported)
    assert (row["unobserved_from"], row["unobserved_until"]) == (at(15), at(102))


def test_a_pause_is_a_gap_only_where_it_was_noted_as_unobserved() -> None:
    short = note(Note.READING_PAUSED, 20, seconds=2.5, unobserved=False, last_frame_at=at(17))
    earlier_version = note(Note.READING_PAUSED, 30, seconds=30)
    assert live(short, earlier_version) == []
    (row,) = live(
        short, note(Note.READING_PAUSED, 60, seconds=12.5, unobserved=True, last_frame_at=at(47))
    )
    assert (row["cause"], row["from_at"]) == ("queue_full", at(47))


def test_a_gap_behind_a_standstill_begins_at_the_last_frame_before_it() -> None:
    closed = note(Note.CONNECTION_CLOSED, 40, reason="cut", last_frame_at=at(39), certain_at=at(12))
    (row,) = live(closed)
    assert row["from_at"] == row["unobserved_from"] == at(12)


def test_a_long_standstill_is_reported_as_one() -> None:
    paused = note(
        Note.READING_PAUSED,
        60,
        seconds=12,
        unobserved=True,
        last_frame_at=at(47),
        why="it stood still",
    )
    (row,) = live(paused)
    assert row["evidence"] == "the socket was not read for 12 s: it stood still"


def test_a_snapshot_that_was_given_up_closes_nothing() -> None:
    (row,) = live(lost(20, last=15), complete(25, 10, is_complete=False))
    assert row["state"] == "open"


@pytest.mark.parametrize("encoding", ["text", "base64"])
def test_a_frame_without_a_type_is_a_gap_of_no_length_beside_any_other(encoding: str) -> None:
    rows = live(lost(20, last=15), frame("AAAA", 22, encoding=encoding))
    assert [(row["gap_id"], row["cause"], row["state"]) for row in rows] == [
        (3, "connection_lost", "open"),
        (4, "undecodable", "closed"),
    ]
    assert rows[1]["unobserved_from"] == rows[1]["unobserved_until"] == at(22)
    assert rows[1]["first_position_after"] is None


def not_folded(second: float, position: int, projection: str, **more: object) -> Draft:
    facts = {"projection": projection, "position": position, "reason": "no amount"}
    reported = {"origin": "received", "received_at": at(5)}
    return note(Note.FRAME_NOT_FOLDED, second, **facts | reported | more)


def test_a_frame_that_several_tables_could_not_take_is_one_gap_at_its_own_time() -> None:
    bad = frame('{"type":"BALANCE_UPDATE"}', 5, "BALANCE_UPDATE")
    reported = [bad, not_folded(9, 3, "balances"), not_folded(9, 3, "orders")]
    again = [not_folded(99, 3, "balances"), not_folded(99, 3, "orders")]
    for drafts in (reported, [*reported, *again]):
        (row,) = live(*drafts)
        assert (row["gap_id"], row["cause"], row["from_at"]) == (3, "undecodable", at(5))
        assert (row["evidence"], row["losses"]) == ("balances: no amount; orders: no amount", 2)


def test_what_is_not_the_exchanges_word_is_no_gap_when_it_can_not_be_folded() -> None:
    assert live(not_folded(9, 2, "connections", origin="noted")) == []


# The verdict


def test_a_closed_gap_is_healed_by_a_fact_with_its_evidence() -> None:
    reported = [lost(20, last=15), complete(25, 10), lost(30, last=29), complete(31, 2)]
    both = live(*reported, healed(40, 3, evidence="all four lists agree", positions=[9, 7, 9]))
    assert [row["state"] for row in both] == ["healed", "closed"]
    first = both[0]
    assert (first["healed_by"], first["verdict"]) == ("7,9", "all four lists agree")
    assert (first["verdict_at"], first["verdict_position"]) == (at(40), 7)
    assert (first["unobserved_from"], first["unobserved_until"]) == (at(15), at(25))


def test_the_last_verdict_stands() -> None:
    unsure = note(Note.GAP_UNVERIFIABLE, 40, gap_id=3, evidence="two fills without ids")
    reported = [lost(20, last=15), complete(25, 10), unsure]
    (row,) = live(*reported)
    assert (row["state"], row["healed_by"]) == ("unverifiable", None)
    assert row["verdict"] == "two fills without ids"
    (row,) = live(*reported, healed(50, 3, evidence="seen since"))
    assert (row["state"], row["healed_by"], row["verdict"]) == ("healed", "", "seen since")


@pytest.mark.parametrize("gap_id", [3, 99, None, "three"])
def test_what_is_open_or_unknown_has_no_verdict(gap_id: object) -> None:
    rows, failed = gaps_of(started(), complete(1), lost(20, last=15), healed(21, gap_id))
    assert [row["state"] for row in rows] == ["closed", "open"]
    assert failed == [4]


def test_a_frame_that_calls_itself_a_verdict_is_none() -> None:
    fake = frame('{"type":"GAP_HEALED","data":{"gap_id":1}}', 3, "GAP_HEALED")
    assert live(fake) == []


# Whatever comes

SECONDS = st.floats(-10_000, 10_000)
HISTORIES = st.lists(
    st.one_of(
        st.builds(lambda s, t: started(s, at(t)), SECONDS, SECONDS),
        st.builds(lambda s: note(Note.RECORDER_STOPPED, s), SECONDS),
        st.builds(lost, SECONDS, SECONDS),
        st.builds(
            lambda s, ahead_s, unobserved_s, t: note(
                Note.CLOCK_JUMPED,
                s,
                ahead_s=ahead_s,
                unobserved_s=unobserved_s,
                last_frame_at=at(t),
            ),
            SECONDS,
            st.integers(-9_999, 9_999),
            st.integers(0, 9_999),
            SECONDS,
        ),
        st.builds(complete, SECONDS, st.none() | st.integers(0, 9_999)),
        st.builds(lambda s: frame("{", s), SECONDS),
        st.builds(healed, SECONDS, st.integers(1, 12)),
    ),
    max_size=12,
)


@given(HISTORIES)
def test_no_history_makes_a_gap_of_negative_length_or_two_that_are_open(
    history_of: list[Draft],
) -> None:
    rows, _ = gaps_of(started(), *history_of)
    assert sum(row["is_open"] for row in rows) <= 1
    for row in rows:
        assert row["unobserved_from"] is not None
        assert row["is_open"] == (row["unobserved_until"] is None) == (row["state"] == "open")
        assert row["unobserved_until"] is None or row["unobserved_from"] <= row["unobserved_until"]
        assert row["losses"] >= 1
        assert row["cause"] in row["causes"].split(",")
