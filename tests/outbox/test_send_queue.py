"""Where commander and socket meet: whatever ends a session, the commander outlives it."""

from __future__ import annotations

import trio
import trio.testing

from recorder.outbox.tasks.send_queue import Dispatch, SendQueue


def command() -> Dispatch:
    """Return a command that can't be claimed: a queue never looks inside."""
    return Dispatch(
        claim=lambda *_: (),
        record=lambda *_: None,
        mark_sent=lambda *_: None,
        may_go=lambda _: True,
    )


async def test_a_command_is_handed_over_until_the_sender_is_through_with_it() -> None:
    queue = SendQueue()
    outbound, waiting = trio.open_memory_channel[Dispatch](1)
    queue.open(outbound)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(queue.hand_over, command())
        (await waiting.receive()).done.set()
    assert queue.is_open


async def test_handing_over_ends_with_the_session() -> None:
    queue = SendQueue()
    outbound, _waiting = trio.open_memory_channel[Dispatch](1)
    queue.open(outbound)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(queue.hand_over, command())
        await trio.testing.wait_all_tasks_blocked()
        queue.close()
    assert not queue.is_open


async def test_a_sender_that_is_gone_already_is_the_end_of_the_session() -> None:
    queue = SendQueue()
    outbound, waiting = trio.open_memory_channel[Dispatch](1)
    queue.open(outbound)
    waiting.close()

    await queue.hand_over(command())

    assert not queue.is_open
    queue.close()
