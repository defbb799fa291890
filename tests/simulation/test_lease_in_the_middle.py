"""The lease runs out, or a clock jumps, in the middle of something: with whole recorders."""

from __future__ import annotations

import pytest
import trio
import trio.testing

from recorder.errors import LeaseLost
from tests.daemon.scene import LIMIT
from tests.simulation.fight import HOURS, TTL_S, Fight, stage
from tests.simulation.process import Process

#: Less than a lease lasts, more than it is trusted for.
TOO_LONG_S = TTL_S * 0.9


async def live(it: Fight, name: str) -> Process:
    """Start a recorder and wait until it is let in."""
    process = it.start(name)
    await trio.sleep(5)
    assert process.is_owner
    return process


def freeze_at_claim(it: Fight, process: Process, outbox_id: int, for_s: float) -> None:
    """Freeze the process when its claim is durable, before it receives of that."""

    def after_unit() -> None:
        if it.books.status(outbox_id) == "sending":
            process.after_unit = lambda: None
            process.freeze(for_s)

    process.after_unit = after_unit


def epoch(it: Fight) -> int:
    return int(it.books.one("SELECT epoch FROM leases"))


async def test_a_claim_that_slept_through_its_lease_is_not_sent_and_ends_its_owner(
    database_url: str, autojump_clock: trio.testing.MockClock
) -> None:
    async with stage(database_url, seed=1) as it:
        old = await live(it, "a")
        new = it.start("b")
        outbox_id = it.books.queue("PLACE_LIMIT_ORDER", LIMIT)
        freeze_at_claim(it, old, outbox_id, 3 * TTL_S)
        await trio.sleep(2 * TTL_S + 2)
        assert new.is_owner and not old.ended.is_set()
        assert it.books.status(outbox_id) == "in_doubt"
        await trio.sleep(4 * TTL_S)
        assert isinstance(old.error, LeaseLost)
        assert "another process" in str(old.error)
        await trio.sleep(120)
        assert it.books.history_of(outbox_id) == ["queued", "sending", "in_doubt", "not_placed"]
        assert not it.simulator.exchange.received


async def test_a_claim_whose_lease_is_trusted_no_more_is_noted_as_failed_and_not_sent(
    database_url: str, autojump_clock: trio.testing.MockClock
) -> None:
    async with stage(database_url, seed=1) as it:
        process = await live(it, "a")
        outbox_id = it.books.queue("PLACE_LIMIT_ORDER", LIMIT)
        freeze_at_claim(it, process, outbox_id, TOO_LONG_S)
        await trio.sleep(TTL_S + 2)
        assert it.books.has_note("SEND_FAILED")
        assert it.books.status(outbox_id) == "in_doubt"
        assert not it.simulator.exchange.received
        again = it.books.queue("PLACE_LIMIT_ORDER", LIMIT)
        await trio.sleep(20)
        assert it.books.status(again) == "accepted"
        # Absence counts once a snapshot of another connection was seen.
        process.cut()
        await trio.sleep(120)
        assert it.books.status(outbox_id) == "not_placed"
        assert it.simulator.exchange.received.total() == 1
        assert epoch(it) == 1 and not process.ended.is_set()


async def test_a_claim_that_slept_through_its_expiry_is_not_sent(
    database_url: str, autojump_clock: trio.testing.MockClock
) -> None:
    async with stage(database_url, seed=1) as it:
        process = await live(it, "a")
        outbox_id = it.books.queue("PLACE_LIMIT_ORDER", LIMIT, expires_at=it.time_in(2))
        # The lease is trusted all the time.
        freeze_at_claim(it, process, outbox_id, TTL_S / 2)
        await trio.sleep(TTL_S)
        assert it.books.has_note("SEND_FAILED")
        assert it.books.status(outbox_id) == "in_doubt"
        process.cut()
        await trio.sleep(120)
        assert it.books.history_of(outbox_id) == ["queued", "sending", "in_doubt", "not_placed"]
        assert not it.simulator.exchange.received
        assert epoch(it) == 1 and not process.ended.is_set()


async def test_what_a_recorder_that_slept_wants_to_append_is_refused_and_ends_it(
    database_url: str, autojump_clock: trio.testing.MockClock
) -> None:
    async with stage(database_url, seed=1) as it:
        old = await live(it, "a")
        it.start("b")
        old.freeze(3 * TTL_S)
        await trio.sleep(2 * TTL_S + 3)
        assert epoch(it) == 2
        # It wakes with a full socket: it has much to write, before it asks for its lease.
        for _ in range(50):
            await it.simulator.emit('{"type":"SOMETHING_NEW","data":{}}')
        await trio.sleep(2 * TTL_S)
        assert isinstance(old.error, LeaseLost)
        assert "another process" in str(old.error)
        # The new owner's fifty, and none of the old one's.
        assert it.books.count("events", "type = 'SOMETHING_NEW'") == 50


async def test_no_command_goes_while_a_renewal_takes_longer_than_the_lease_is_trusted(
    database_url: str, autojump_clock: trio.testing.MockClock
) -> None:
    async with stage(database_url, seed=1) as it:
        process = await live(it, "a")
        process.storage.renewal_takes_s = TTL_S
        await trio.sleep(TTL_S)
        outbox_id = it.books.queue("PLACE_LIMIT_ORDER", LIMIT)
        await trio.sleep(4 * TTL_S)
        assert it.books.status(outbox_id) == "queued"
        process.storage.renewal_takes_s = 0.0
        await trio.sleep(TTL_S + 3)
        assert it.books.status(outbox_id) == "accepted"
        assert it.simulator.exchange.received.total() == 1
        assert epoch(it) == 1


@pytest.mark.parametrize(
    ("whose", "jump_s"),
    [("owner", HOURS), ("owner", -5 * HOURS), ("standby", -HOURS), ("standby", 5 * HOURS)],
)
async def test_a_wall_clock_that_jumps_costs_no_owner_the_account(
    database_url: str, autojump_clock: trio.testing.MockClock, whose: str, jump_s: float
) -> None:
    async with stage(database_url, seed=1) as it:
        owner = await live(it, "a")
        standby = it.start("b")
        for each in (owner, standby):
            # SQLite's processes share a machine, and see each other live.
            each.alive_here = lambda holder: True
        await trio.sleep(10)
        (owner if whose == "owner" else standby).clock.jump_s = jump_s
        for _ in range(20):
            outbox_id = it.books.queue("PLACE_LIMIT_ORDER", LIMIT)
            await trio.sleep(3)
            assert it.books.status(outbox_id) == "accepted"
        assert epoch(it) == 1 and not owner.ended.is_set()
        owner.kill()
        await trio.sleep(TTL_S + 4)
        assert epoch(it) == 2 and standby.is_owner


async def test_expiry_goes_by_the_recorders_clock_at_the_moment_of_the_claim(
    database_url: str, autojump_clock: trio.testing.MockClock
) -> None:
    async with stage(database_url, seed=1) as it:
        process = await live(it, "a")
        process.clock.jump_s = -HOURS
        late = it.books.queue("PLACE_LIMIT_ORDER", LIMIT, expires_at=it.time_in(-60))
        await trio.sleep(3)
        assert it.books.status(late) == "accepted"
        process.clock.jump_s = HOURS
        early = it.books.queue("PLACE_LIMIT_ORDER", LIMIT, expires_at=it.time_in(60))
        await trio.sleep(3)
        assert it.books.status(early) == "expired"
        process.clock.jump_s = 0.0
        # With a clock that is right it reconnects, for the snapshot that ends the gap.
        await trio.sleep(20)
        timely = it.books.queue("PLACE_LIMIT_ORDER", LIMIT, expires_at=it.time_in(60))
        await trio.sleep(3)
        assert it.books.status(timely) == "accepted"
        assert it.simulator.exchange.received.total() == 2
        assert epoch(it) == 1
