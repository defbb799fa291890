"""Wake-ups after a commit."""

from __future__ import annotations

import trio
import trio.testing

from recorder.log.event import Event
from recorder.tasks.committed import Committed


def event(position: int, kind: str, account: str = "main") -> Event:
    return Event(account, position, 1, None, None, "received", kind, "{}", "text", bytes(32))


async def test_a_type_of_its_own_wakes_a_listener_at_once(
    autojump_clock: trio.testing.MockClock,
) -> None:
    committed = Committed({"main": 0})
    listener = committed.listen("main", ["BALANCE_UPDATE"])
    committed.announce([event(1, "BALANCE_UPDATE")])
    await listener.wait(patience_s=60)
    assert trio.current_time() < 1
    assert committed.heads == {"main": 1}


async def test_other_types_wake_it_when_its_patience_is_over(
    autojump_clock: trio.testing.MockClock,
) -> None:
    committed = Committed({"main": 0})
    listener = committed.listen("main", ["BALANCE_UPDATE"])
    committed.announce([event(1, "PONG")])
    began = trio.current_time()
    await listener.wait(patience_s=60)
    assert trio.current_time() - began == 60


async def test_a_head_that_stands_still_wakes_nobody(
    autojump_clock: trio.testing.MockClock,
) -> None:
    committed = Committed({"main": 0, "other": 0})
    listener = committed.listen("main", ["PONG"])
    committed.announce([event(1, "PONG", account="other")])
    with trio.move_on_after(3_600) as scope:
        await listener.wait(patience_s=1)
    assert scope.cancelled_caught


async def test_wake_ups_that_came_before_the_wait_are_not_lost(
    autojump_clock: trio.testing.MockClock,
) -> None:
    committed = Committed({"main": 0})
    listener = committed.listen("main", ["PONG"])
    for position in (1, 2, 3):
        committed.announce([event(position, "PONG")])
    with trio.fail_after(1):
        await listener.wait(patience_s=60)
