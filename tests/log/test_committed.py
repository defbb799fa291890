"""Wake-ups after a commit."""

from __future__ import annotations

import trio
import trio.testing
from attrs import evolve

from recorder.log.rules.event import Event
from recorder.log.tasks.committed import TAIL_BYTES_MAX, TAIL_EVENTS_MAX, Committed


def event(position: int, kind: str, account: str = "main") -> Event:
    return Event(account, position, 1, None, None, "received", kind, "{}", "text", bytes(32))


async def test_a_type_of_its_own_wakes_a_listener_at_once(
    autojump_clock: trio.testing.MockClock,
) -> None:
    committed = Committed({"main": 0})
    listener = committed.listen("main", ["BALANCE_UPDATE"])
    committed.announce([event(1, "BALANCE_UPDATE")])
    await listener.wait(wait_max_s=60)
    assert trio.current_time() < 1


async def test_other_types_wake_it_after_its_longest_wait(
    autojump_clock: trio.testing.MockClock,
) -> None:
    committed = Committed({"main": 0})
    listener = committed.listen("main", ["BALANCE_UPDATE"])
    committed.announce([event(1, "PONG")])
    began = trio.current_time()
    await listener.wait(wait_max_s=60)
    assert trio.current_time() - began == 60


async def test_a_head_that_has_not_moved_wakes_no_task(
    autojump_clock: trio.testing.MockClock,
) -> None:
    committed = Committed({"main": 0, "other": 0})
    listener = committed.listen("main", ["PONG"])
    committed.announce([event(1, "PONG", account="other")])
    with trio.move_on_after(3_600) as scope:
        await listener.wait(wait_max_s=1)
    assert scope.cancelled_caught


async def test_wake_ups_that_came_before_the_wait_are_not_lost(
    autojump_clock: trio.testing.MockClock,
) -> None:
    committed = Committed({"main": 0})
    listener = committed.listen("main", ["PONG"])
    for position in (1, 2, 3):
        committed.announce([event(position, "PONG")])
    with trio.fail_after(1):
        await listener.wait(wait_max_s=60)


def test_what_came_last_is_at_hand_by_positions_and_account() -> None:
    committed = Committed({"main": 0, "other": 0})
    first, second, third = event(1, "A"), event(2, "B"), event(3, "C")
    elsewhere = event(1, "A", account="other")
    committed.add([first, elsewhere, second])
    committed.add([third])

    assert committed.heads == {"main": 3, "other": 1}
    assert committed.recent("main", 0, 3) == [first, second, third]
    assert committed.recent("main", 1, 2) == [second]
    assert committed.recent("main", 3, 3) == []
    assert committed.recent("other", 0, 1) == [elsewhere]


def test_what_is_not_there_is_not_made_up() -> None:
    committed = Committed({"main": 5})
    assert committed.recent("main", 0, 5) is None
    committed.add([event(6, "A"), event(7, "B")])
    assert committed.recent("main", 4, 7) is None
    assert committed.recent("main", 5, 8) is None
    assert committed.recent("main", 5, 7) is not None


def test_the_oldest_are_let_go_by_number_and_by_size() -> None:
    committed = Committed({"main": 0})
    committed.add([event(position, "A") for position in range(1, TAIL_EVENTS_MAX + 2)])
    assert committed.recent("main", 0, 5) is None
    assert committed.recent("main", 1, TAIL_EVENTS_MAX + 1) is not None

    big = evolve(event(TAIL_EVENTS_MAX + 2, "A"), payload="x" * (TAIL_BYTES_MAX + 1))
    committed.add([big])
    assert committed.recent("main", TAIL_EVENTS_MAX + 1, TAIL_EVENTS_MAX + 2) is None
