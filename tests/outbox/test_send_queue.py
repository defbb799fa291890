"""Where commander and socket meet: whatever ends a session, the commander outlives it."""

from __future__ import annotations

import trio
import trio.testing

from recorder.outbox.tasks.send_queue import Dispatch, Link


def command() -> Dispatch:
    """Return a command that nobody may claim: a link never looks inside."""
    return Dispatch(
        take=lambda *_: (),
        place=lambda *_: None,
        written=lambda *_: None,
        may_go=lambda _: True,
    )


async def test_a_command_is_handed_over_until_the_sender_is_through_with_it() -> None:
    link = Link()
    outbound, waiting = trio.open_memory_channel[Dispatch](1)
    link.open(outbound)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(link.hand_over, command())
        (await waiting.receive()).done.set()
    assert link.is_open


async def test_handing_over_ends_with_the_session() -> None:
    link = Link()
    outbound, _waiting = trio.open_memory_channel[Dispatch](1)
    link.open(outbound)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(link.hand_over, command())
        await trio.testing.wait_all_tasks_blocked()
        link.close()
    assert not link.is_open


async def test_a_sender_that_is_gone_already_is_the_end_of_the_session() -> None:
    link = Link()
    outbound, waiting = trio.open_memory_channel[Dispatch](1)
    link.open(outbound)
    waiting.close()

    await link.hand_over(command())

    assert not link.is_open
    link.close()
