"""The bounded queue before the log."""

from __future__ import annotations

import pytest
import trio
import trio.testing

from recorder.errors import ConfigurationError, LeaseLost, RecorderError, StorageFailed
from recorder.log.rules.event import Draft
from recorder.log.tasks.inbox import (
    BATCH_FRAMES_MAX,
    DRAFT_OVERHEAD_BYTES,
    Inbox,
    Submission,
    with_unwritten,
)


def draft(payload: str = "x") -> Draft:
    return Draft("main", 1, None, None, "received", "", payload)


NOTED = Draft("main", 1, None, None, "noted", "RECORDER_STARTED", "{}")


async def test_entries_come_out_in_the_order_they_went_in() -> None:
    inbox = Inbox(10, 10_000)
    entries = [draft(str(number)) for number in range(5)]
    for entry in entries:
        inbox.put(entry)
    assert await inbox.take() == entries


async def test_a_full_inbox_makes_frames_wait_until_a_batch_is_durable() -> None:
    inbox = Inbox(2, 10_000)
    inbox.put(draft())
    inbox.put(draft())
    waited = trio.Event()

    async def wait() -> None:
        await inbox.wait_room()
        waited.set()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(wait)
        batch = await inbox.take()
        await trio.testing.wait_all_tasks_blocked()
        assert not waited.is_set(), "taken out is not durable yet"
        inbox.settle(batch)
        await waited.wait()
    assert inbox.frames == 0 and inbox.bytes == 0


async def test_bytes_fill_the_inbox_as_well_as_frames() -> None:
    inbox = Inbox(1_000, 5_000)
    inbox.put(draft("x" * 5_000))
    assert inbox.is_full


async def test_facts_of_our_own_are_taken_when_it_is_full() -> None:
    inbox = Inbox(1, 10_000)
    inbox.put(draft())
    inbox.put(draft("a fact"))
    assert [entry.payload for entry in await inbox.take() if isinstance(entry, Draft)] == [
        "x",
        "a fact",
    ]


async def test_one_transaction_is_bounded_in_frames() -> None:
    inbox = Inbox(10_000, 10_000_000)
    for _ in range(BATCH_FRAMES_MAX + 3):
        inbox.put(draft())
    assert len(await inbox.take()) == BATCH_FRAMES_MAX
    assert len(await inbox.take()) == 3


async def test_a_huge_frame_goes_alone_rather_than_never() -> None:
    inbox = Inbox(10, 1_000)
    inbox.put(draft("x" * 20_000_000))
    inbox.put(draft())
    first = await inbox.take()
    assert len(first) == 1
    assert inbox.bytes == 20_000_001 + 2 * DRAFT_OVERHEAD_BYTES


async def test_a_closed_inbox_is_drained_and_then_ends() -> None:
    inbox = Inbox(10, 10_000)
    inbox.put(draft())
    inbox.close()
    assert len(await inbox.take()) == 1
    assert await inbox.take() == []
    with pytest.raises(trio.ClosedResourceError):
        inbox.put(draft())


async def test_frames_that_are_not_durable_are_counted_without_facts_of_our_own() -> None:
    inbox = Inbox(10, 10_000)
    for entry in (draft(), draft(), NOTED, Submission([draft()])):
        inbox.put(entry)
    assert inbox.received == 2
    batch = await inbox.take()
    inbox.put(draft())
    assert inbox.received == 3, "what is under way is not durable"
    inbox.settle(batch)
    assert inbox.received == 1


async def test_closing_wakes_a_task_that_waits_for_entries() -> None:
    inbox = Inbox(10, 10_000)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(inbox.take)
        await trio.testing.wait_all_tasks_blocked()
        inbox.close()


async def test_a_submission_waits_for_its_outcome() -> None:
    inbox = Inbox(10, 10_000)
    submission = Submission([draft()])
    outcomes: list[object] = []

    async def submit() -> None:
        outcomes.append(await inbox.submit(submission))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(submit)
        assert await inbox.take() == [submission]
        await trio.testing.wait_all_tasks_blocked()
        assert outcomes == []
        submission.outcome = [7]
        submission.committed.set()
    assert outcomes == [[7]]


@pytest.mark.parametrize("kind", [StorageFailed, LeaseLost, ConfigurationError])
def test_what_ends_a_recorder_counts_the_frames_that_were_not_written(
    kind: type[RecorderError],
) -> None:
    inbox = Inbox(10, 10_000)
    error = kind("why")
    assert with_unwritten(error, inbox) is error
    inbox.put(Draft("main", 1, None, "c", "received", "X", "{}"))
    assert str(with_unwritten(error, inbox)) == "why\n1 events were received but not written"
