"""What a rate limit's answer makes of a command: the only way back to the queue."""

from __future__ import annotations

from datetime import timedelta

import pytest

from recorder.database.engine import Database, in_unit
from recorder.log.rules.event import Note
from recorder.outbox.rules.states import ATTEMPTS_MAX
from recorder.outbox.sql import queue as outbox
from recorder.outbox.sql import sending
from recorder.outbox.sql.queue import OutboxRow
from tests.log.drafts import run_sql
from tests.outbox.test_settle import LIMIT, NOW, Story


@pytest.fixture
def story(database: Database) -> Story:
    return Story(database).start()


def limited(story: Story, name: str = "m1") -> None:
    story.frame("RATE_LIMIT_EXCEEDED", {"requestType": "PLACE_LIMIT_ORDER"}, clientMsgId=name)
    story.settle()


def send_again(story: Story) -> None:
    """Claim the only row as its next sending and write it."""
    heads = story.heads["main"].position
    run_sql(story.database, "UPDATE outbox SET not_before = NULL")
    claimed = in_unit(
        story.database.writer,
        lambda c: outbox.claim(
            c,
            "main",
            1,
            epoch=1,
            connection_id="c1",
            customer_order_id="cid",
            order_id=None,
            now=NOW,
        ),
    )
    assert claimed
    position = story.frame("SOMETHING", {})
    assert position == heads + 1
    in_unit(story.database.writer, sending.place, "main", 1, position)
    in_unit(story.database.writer, sending.mark_sent, "main", 1, position, NOW)


def row(story: Story) -> OutboxRow:
    return story.row(1)


@pytest.mark.parametrize("written", [True, False])
def test_a_rate_limit_puts_the_command_back_to_be_tried_later(story: Story, written: bool) -> None:
    story.send("PLACE_LIMIT_ORDER", LIMIT, "m1", written=written)
    limited(story)
    found = row(story)
    assert (found.status, found.attempts) == ("queued", 1)
    assert found.reason == "rate limit exceeded"
    assert found.not_before == NOW + timedelta(seconds=1)
    assert (found.epoch, found.connection_id, found.sent_position) == (None, None, None)
    assert found.resolved_position is None


def test_it_is_not_tried_for_ever(story: Story) -> None:
    story.send("PLACE_LIMIT_ORDER", LIMIT, "m1")
    for attempt in range(1, ATTEMPTS_MAX):
        limited(story, "m1" if attempt == 1 else f"m1-again{attempt - 1}")
        assert (row(story).status, row(story).attempts) == ("queued", attempt)
        send_again(story)
    limited(story, f"m1-again{ATTEMPTS_MAX - 1}")
    assert (row(story).status, row(story).reason) == ("rejected", "rate limit exceeded")
    assert row(story).attempts == ATTEMPTS_MAX - 1


def test_the_same_answer_again_does_not_queue_the_next_sending(story: Story) -> None:
    story.send("PLACE_LIMIT_ORDER", LIMIT, "m1")
    limited(story)
    limited(story)
    assert row(story).attempts == 1
    send_again(story)
    limited(story)
    assert (row(story).status, row(story).attempts) == ("sent", 1)
    story.frame("PLACE_LIMIT_WS_RESPONSE", {"orderId": "o-1"}, clientMsgId="m1-again1")
    story.settle()
    assert (row(story).status, row(story).reason) == ("acknowledged", None)


def test_what_is_in_doubt_is_rejected_and_never_queued(story: Story) -> None:
    story.send("PLACE_LIMIT_ORDER", LIMIT, "m1")
    story.note(Note.CONNECTION_CLOSED, "c1", reason="x")
    story.settle()
    assert row(story).status == "in_doubt"
    limited(story)
    assert row(story).status == "rejected"


def test_the_end_of_the_connection_does_not_touch_what_is_queued_again(story: Story) -> None:
    story.send("PLACE_LIMIT_ORDER", LIMIT, "m1")
    limited(story)
    story.note(Note.CONNECTION_CLOSED, "c1", reason="x")
    story.settle()
    assert row(story).status == "queued"


def test_a_later_not_before_of_the_caller_stands(story: Story) -> None:
    story.send("PLACE_LIMIT_ORDER", LIMIT, "m1")
    run_sql(story.database, "UPDATE outbox SET not_before = '2030-01-01 00:00:00'")
    limited(story)
    assert str(row(story).not_before)[:4] == "2030"


def test_each_step_is_written_down(story: Story) -> None:
    story.send("PLACE_LIMIT_ORDER", LIMIT, "m1")
    limited(story)
    asked = "SELECT to_status, reason FROM outbox_transitions ORDER BY seq"
    assert run_sql(story.database, asked) == [
        ("queued", None),
        ("sending", None),
        ("sent", None),
        ("queued", "rate limit exceeded"),
    ]
