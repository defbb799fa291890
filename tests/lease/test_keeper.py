"""For how long a lease is trusted, and when another's may be taken."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import trio
import trio.testing
from attrs import define, evolve
from sqlalchemy import Engine

from recorder.database.engine import Database, in_unit
from recorder.errors import LeaseHeld, LeaseLost, StorageUnavailable
from recorder.lease.holder import is_alive_here, is_dead, this_holder
from recorder.lease.sql import Lease, current, take
from recorder.lease.tasks import Claimant, Contender, LeaseKeeper
from recorder.log.sql.append import read_head
from recorder.units import InlineRunner
from tests.log.drafts import NOW

TTL_S = 10.0
TTL = timedelta(seconds=TTL_S)
HOURS = timedelta(hours=5)


@define
class Clocks:
    """Trio's time, and a wall clock that can be made to jump."""

    jump: timedelta = timedelta()

    def monotonic_ns(self) -> int:
        return int(trio.current_time() * 1e9)

    def wall_us(self) -> int:
        return int(self.now().timestamp() * 1e6)

    def now(self) -> datetime:
        return NOW + timedelta(seconds=trio.current_time()) + self.jump


@define(eq=False)
class Away:
    """A database that can be taken away, and that may answer slowly."""

    engine: Engine
    is_away: bool = False
    takes_s: float = 0.0

    async def run(self, unit: Any, *args: Any, **kwargs: Any) -> Any:
        await trio.sleep(self.takes_s)
        if self.is_away:
            raise StorageUnavailable("the server is away")
        return await InlineRunner(self.engine).run(unit, *args, **kwargs)


def keeper_of(database: Database, runner: Any, clock: Clocks) -> LeaseKeeper:
    lease = in_unit(
        database.writer, lambda c: take(c, "main", holder="we", now=clock.now(), ttl=TTL)
    )
    return LeaseKeeper("main", lease.epoch, TTL_S, runner, clock, clock.now, clock.monotonic_ns())


async def test_a_lease_is_renewed_and_trusted_all_the_time(
    database: Database, autojump_clock: trio.testing.MockClock
) -> None:
    keeper = keeper_of(database, InlineRunner(database.writer), clock := Clocks())
    async with trio.open_nursery() as nursery:
        nursery.start_soon(keeper.run)
        for _ in range(50):
            await trio.sleep(1)
            assert keeper.is_trusted()
        lease = in_unit(database.reader, lambda c: current(c, "main"))
        assert lease is not None
        assert lease.epoch == 1
        assert lease.expires_at > clock.now()
        nursery.cancel_scope.cancel()


async def test_without_renewals_trust_ends_before_the_lease_with_the_reason(
    database: Database,
    autojump_clock: trio.testing.MockClock,
    caplog: pytest.LogCaptureFixture,
) -> None:
    runner = Away(database.writer)
    keeper = keeper_of(database, runner, Clocks())
    woken: list[float] = []
    keeper.on_trusted = lambda: woken.append(trio.current_time())
    async with trio.open_nursery() as nursery:
        nursery.start_soon(keeper.run)
        await trio.sleep(1)
        runner.is_away = True
        renewed = trio.current_time()
        while keeper.is_trusted():
            await trio.sleep(0.1)
        assert trio.current_time() - renewed < TTL_S
        await trio.sleep(2 * TTL_S)
        answer = [each for each in caplog.records if each.levelno == logging.ERROR]
        assert len(answer) == 1
        assert "no command is sent" in answer[0].getMessage()
        assert "the server is away" in answer[0].getMessage()
        assert not woken
        runner.is_away = False
        await trio.sleep(2)
        assert keeper.is_trusted()
        assert len(woken) == 1
        nursery.cancel_scope.cancel()


async def test_trust_counts_from_the_start_of_a_renewal_that_took_long(
    database: Database, autojump_clock: trio.testing.MockClock
) -> None:
    runner = Away(database.writer, takes_s=7.0)
    keeper = keeper_of(database, runner, Clocks())
    async with trio.open_nursery() as nursery:
        nursery.start_soon(keeper.run)
        await trio.sleep(7.5)
        assert 0 < keeper.trusted_s < 1
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("jump", [HOURS, -HOURS])
async def test_a_wall_clock_that_jumps_changes_no_trust(
    database: Database, autojump_clock: trio.testing.MockClock, jump: timedelta
) -> None:
    clock = Clocks()
    keeper = keeper_of(database, InlineRunner(database.writer), clock)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(keeper.run)
        await trio.sleep(1)
        clock.jump = jump
        for _ in range(30):
            await trio.sleep(1)
            assert keeper.is_trusted()
        nursery.cancel_scope.cancel()


async def test_a_lease_that_is_anothers_ends_us_and_reports_that_we_slept(
    database: Database, autojump_clock: trio.testing.MockClock
) -> None:
    clock = Clocks()
    keeper = keeper_of(database, InlineRunner(database.writer), clock)
    await trio.sleep(60)
    in_unit(database.writer, lambda c: take(c, "main", holder="other", now=clock.now(), ttl=TTL))
    assert not keeper.is_trusted()
    with pytest.RaisesGroup(LeaseLost) as ended:
        await keeper.run()
    assert "had not renewed its lease for 60.0 s" in str(ended.value.exceptions[0])


# Taking over.


def claimant_of(
    database: Database, clock: Clocks, holder: str = "second", *, standby: bool = True
) -> Claimant:
    runner = InlineRunner(database.writer)
    return Claimant(holder, TTL_S, clock, clock.now, clock.now, runner, standby=standby)


@pytest.mark.parametrize("jump", [HOURS, -HOURS, timedelta()])
async def test_a_standby_waits_for_a_living_owner_and_takes_over_a_silent_one(
    database: Database, autojump_clock: trio.testing.MockClock, jump: timedelta
) -> None:
    clock, other = Clocks(), Clocks(jump)
    me = this_holder()
    lease = in_unit(database.writer, lambda c: take(c, "main", holder=me, now=clock.now(), ttl=TTL))
    keeper = LeaseKeeper(
        "main",
        lease.epoch,
        TTL_S,
        InlineRunner(database.writer),
        clock,
        clock.now,
        clock.monotonic_ns(),
    )
    taken: list[Any] = []

    async def wait() -> None:
        taken.append(await claimant_of(database, other).take(["main"], trio.Event()))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(wait)
        with trio.move_on_after(100):
            await keeper.run()
        assert not taken
        stopped = trio.current_time()
        while not taken:
            await trio.sleep(0.1)
            assert not (taken and keeper.is_trusted())
        assert trio.current_time() - stopped <= TTL_S + 2
        assert not keeper.is_trusted()
    assert taken[0]["main"].lease.epoch == 2


async def test_a_dead_owner_is_not_waited_for(
    database: Database, autojump_clock: trio.testing.MockClock
) -> None:
    parts = this_holder().split("/")
    gone = "/".join((*parts[:3], "1"))
    clock = Clocks()
    in_unit(database.writer, lambda c: take(c, "main", holder=gone, now=clock.now(), ttl=TTL))
    taken = await claimant_of(database, clock).take(["main"], trio.Event())
    assert taken is not None
    assert trio.current_time() < 1
    assert (is_dead(gone), is_alive_here(gone)) == (True, False)


async def test_without_standby_it_waits_for_one_life_of_the_lease(
    database: Database, autojump_clock: trio.testing.MockClock
) -> None:
    clock = Clocks()
    keeper = keeper_of(database, InlineRunner(database.writer), clock)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(keeper.run)
        await trio.sleep(1)
        began = trio.current_time()
        with pytest.raises(LeaseHeld, match="is held by we"):
            await claimant_of(database, clock, standby=False).take(["main"], trio.Event())
        assert TTL_S < trio.current_time() - began < TTL_S + 3
        nursery.cancel_scope.cancel()


async def test_all_accounts_are_taken_or_none(
    database: Database, autojump_clock: trio.testing.MockClock
) -> None:
    clock, stop = Clocks(), trio.Event()
    keeper = keeper_of(database, InlineRunner(database.writer), clock)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(keeper.run)
        with trio.move_on_after(60):
            await claimant_of(database, clock).take(["main", "another"], stop)
        assert in_unit(database.reader, lambda c: current(c, "another")) is None
        nursery.cancel_scope.cancel()
    taken = await claimant_of(database, clock).take(["main", "another"], stop)
    assert taken is not None
    assert set(taken) == {"main", "another"}
    # The taking is in the log, so that no other process's next position is free.
    assert in_unit(database.reader, lambda c: read_head(c, "another")) == taken["another"].head
    assert taken["another"].head.position == 1


async def test_a_cancelled_candidate_waits_no_longer(
    database: Database, autojump_clock: trio.testing.MockClock
) -> None:
    clock, stop = Clocks(), trio.Event()
    in_unit(database.writer, lambda c: take(c, "main", holder="we", now=clock.now(), ttl=TTL))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(set_after, stop.set, 3.5)
        assert await claimant_of(database, clock).take(["main"], stop) is None
    assert trio.current_time() < 4


async def set_after(act: Callable[[], None], wait_s: float) -> None:
    await trio.sleep(wait_s)
    act()


async def test_a_holder_that_is_alive_here_is_judged_by_silence_alone(
    autojump_clock: trio.testing.MockClock,
) -> None:
    contender = Contender(Clocks())
    renewed = datetime(2026, 3, 1, tzinfo=UTC)
    here = Lease("main", 1, this_holder(), renewed, renewed, renewed + TTL)
    elsewhere = evolve(here, account="other", holder="elsewhere/boot/1/2")
    assert not contender.is_over(here, renewed + HOURS)
    assert contender.is_over(elsewhere, renewed + HOURS)
    await trio.sleep(TTL_S - 1)
    assert not contender.is_over(here, renewed)
    assert not contender.is_over(evolve(here, renewed_at=renewed + TTL / 2), renewed)
    await trio.sleep(TTL_S)
    assert contender.is_over(evolve(here, renewed_at=renewed + TTL / 2), renewed - HOURS)
    assert str(os.getpid()) in here.holder
