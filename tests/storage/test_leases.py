from __future__ import annotations

import threading
from datetime import datetime, timedelta

import pytest

from recorder.errors import LeaseHeld
from recorder.storage.engine import Database, in_unit
from recorder.storage.leases import Lease, current, release, renew, take
from tests.storage.drafts import NOW

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


def test_a_running_lease_keeps_others_out_and_says_who_holds_it(database: Database) -> None:
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
