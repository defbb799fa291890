from __future__ import annotations

import threading
from datetime import datetime, timedelta

import pytest
from sqlalchemy import Connection

from recorder.database.engine import Database, in_unit
from recorder.errors import LeaseHeld
from recorder.lease.sql import Lease, current, has_run_out, release, renew, take
from tests.log.drafts import NOW

TTL = timedelta(seconds=30)


def taken(database: Database, holder: str, now: datetime = NOW, **options: object) -> Lease:
    return in_unit(
        database.writer,
        lambda c: take(c, "main", holder=holder, now=now, ttl=TTL, **options),  # type: ignore[arg-type]
    )


def test_the_first_taker_owns_the_account(database: Database) -> None:
    lease = taken(database, "first")
    assert (lease.epoch, lease.expires_at) == (1, NOW + TTL)
    assert in_unit(database.reader, lambda c: current(c, "main")) == lease
    assert in_unit(database.reader, lambda c: current(c, "other")) is None


def test_a_running_lease_keeps_others_out_and_names_its_holder(database: Database) -> None:
    taken(database, "host-1:77")
    with pytest.raises(LeaseHeld, match=r"host-1:77 until 2026-03-01 12:00:30\+00:00"):
        taken(database, "host-2:5", NOW + TTL - timedelta(microseconds=1))


def test_a_lease_that_ran_out_is_taken_under_the_next_epoch(database: Database) -> None:
    taken(database, "first")
    assert taken(database, "second", NOW + TTL).epoch == 2
    assert taken(database, "third", NOW + 2 * TTL).epoch == 3


def test_a_process_proved_dead_is_not_waited_for(database: Database) -> None:
    taken(database, "killed")
    assert taken(database, "second", dead=lambda holder: holder == "killed").epoch == 2
    with pytest.raises(LeaseHeld):
        taken(database, "third", dead=lambda holder: holder == "killed")


def test_a_renewed_lease_runs_on(database: Database) -> None:
    lease = taken(database, "first")
    later = NOW + TTL / 2
    assert in_unit(
        database.writer, lambda c: renew(c, "main", epoch=lease.epoch, now=later, ttl=TTL)
    )
    with pytest.raises(LeaseHeld):
        taken(database, "second", NOW + TTL)


def test_a_lost_lease_can_be_neither_renewed_nor_released(database: Database) -> None:
    lost = taken(database, "first")
    held = taken(database, "second", NOW + TTL)
    later = NOW + TTL + timedelta(seconds=1)
    assert not in_unit(
        database.writer, lambda c: renew(c, "main", epoch=lost.epoch, now=later, ttl=TTL)
    )
    assert not in_unit(database.writer, lambda c: release(c, "main", epoch=lost.epoch, now=later))
    assert in_unit(database.reader, lambda c: current(c, "main")) == held


def test_a_released_lease_is_taken_at_once(database: Database) -> None:
    lease = taken(database, "first")
    assert in_unit(database.writer, lambda c: release(c, "main", epoch=lease.epoch, now=NOW))
    assert taken(database, "second").epoch == 2


def test_a_lease_given_back_is_over_by_any_clock(database: Database) -> None:
    lease = taken(database, "first")
    in_unit(database.writer, lambda c: release(c, "main", epoch=lease.epoch, now=NOW))
    early = NOW - timedelta(hours=5)
    assert taken(database, "second", early, over=lambda _lease, _now: False).epoch == 2


def test_whether_a_lease_is_over_is_for_the_taker_to_judge(database: Database) -> None:
    first = taken(database, "first")
    seen: list[Lease] = []

    def is_over(lease: Lease, now: datetime) -> bool:
        seen.append(lease)
        return len(seen) > 1

    late = NOW + timedelta(hours=5)
    assert has_run_out(first, late)
    with pytest.raises(LeaseHeld):
        taken(database, "second", late, over=is_over)
    assert taken(database, "second", NOW, over=is_over).epoch == 2
    assert seen == [first, first]
    assert first.ttl == TTL


def test_without_a_time_of_ours_the_server_s_clock_counts(postgres: Database) -> None:
    def take_now(connection: Connection, holder: str) -> Lease:
        return take(connection, "main", holder=holder, now=None, ttl=TTL)

    first = in_unit(postgres.writer, take_now, "first")
    assert first.ttl == TTL
    with pytest.raises(LeaseHeld):
        in_unit(postgres.writer, take_now, "second")
    assert in_unit(postgres.writer, lambda c: renew(c, "main", epoch=1, now=None, ttl=TTL))
    renewed = in_unit(postgres.reader, lambda c: current(c, "main"))
    assert renewed is not None
    assert renewed.expires_at > first.expires_at
    assert in_unit(postgres.writer, lambda c: release(c, "main", epoch=1))
    assert in_unit(postgres.writer, take_now, "second").epoch == 2


def test_sqlite_has_no_clock_of_its_own(sqlite: Database) -> None:
    with pytest.raises(ValueError, match="no clock"):
        in_unit(sqlite.writer, lambda c: take(c, "main", holder="we", now=None, ttl=TTL))


def test_of_those_who_take_at_once_one_gets_it(database: Database) -> None:
    ready = threading.Barrier(4)
    outcomes: list[str] = []

    def race(holder: str) -> None:
        ready.wait()
        try:
            taken(database, holder)
        except LeaseHeld:
            outcomes.append("held")
        else:
            outcomes.append("taken")

    rivals = [threading.Thread(target=race, args=(f"p-{number}",)) for number in range(4)]
    for rival in rivals:
        rival.start()
    for rival in rivals:
        rival.join()
    assert sorted(outcomes) == ["held", "held", "held", "taken"]
