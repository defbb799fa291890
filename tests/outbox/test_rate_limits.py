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
from tests.outbox.test_settle import LIMIT, NOW, CommandHistory


@pytest.fixture
def history_of(database: Database) -> CommandHistory:
    return CommandHistory(database).start()


def limited(history_of: CommandHistory, name: str = "m1") -> None:
    history_of.frame("RATE_LIMIT_EXCEEDED", {"requestType": "PLACE_LIMIT_ORDER"}, clientMsgId=name)
    history_of.settle()


def send_again(history_of: CommandHistory) -> None:
    """Claim the only row as its next sending and write it."""
    heads = history_of.heads["main"].position
    run_sql(history_of.database, "UPDATE outbox SET not_before = NULL")
    claimed = in_unit(
        history_of.database.writer,
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
    position = history_of.frame("SOMETHING", {})
    assert position == heads + 1
    in_unit(history_of.database.writer, sending.place, "main", 1, position)
    in_unit(history_of.database.writer, sending.mark_sent, "main", 1, position, NOW)


def row(history_of: CommandHistory) -> OutboxRow:
    return history_of.row(1)


@pytest.mark.parametrize("written", [True, False])
def test_a_rate_limit_puts_the_command_back_to_be_tried_later(
    history_of: CommandHistory, written: bool
) -> None:
    history_of.send("PLACE_LIMIT_ORDER", LIMIT, "m1", written=written)
    limited(history_of)
    found = row(history_of)
    assert (found.status, found.attempts) == ("queued", 1)
    assert found.reason == "rate limit exceeded"
    assert found.not_before == NOW + timedelta(seconds=1)
    assert (found.epoch, found.connection_id, found.sent_position) == (None, None, None)
    assert found.resolved_position is None


def test_it_is_not_tried_for_ever(history_of: CommandHistory) -> None:
    history_of.send("PLACE_LIMIT_ORDER", LIMIT, "m1")
    for attempt in range(1, ATTEMPTS_MAX):
        limited(history_of, "m1" if attempt == 1 else f"m1-again{attempt - 1}")
        assert (row(history_of).status, row(history_of).attempts) == ("queued", attempt)
        send_again(history_of)
    limited(history_of, f"m1-again{ATTEMPTS_MAX - 1}")
    assert (row(history_of).status, row(history_of).reason) == ("rejected", "rate limit exceeded")
    assert row(history_of).attempts == ATTEMPTS_MAX - 1


def test_the_same_answer_again_does_not_queue_the_next_sending(history_of: CommandHistory) -> None:
    history_of.send("PLACE_LIMIT_ORDER", LIMIT, "m1")
    limited(history_of)
    limited(history_of)
    assert row(history_of).attempts == 1
    send_again(history_of)
    limited(history_of)
    assert (row(history_of).status, row(history_of).attempts) == ("sent", 1)
    history_of.frame("PLACE_LIMIT_WS_RESPONSE", {"orderId": "o-1"}, clientMsgId="m1-again1")
    history_of.settle()
    assert (row(history_of).status, row(history_of).reason) == ("acknowledged", None)


def test_what_is_in_doubt_is_rejected_and_never_queued(history_of: CommandHistory) -> None:
    history_of.send("PLACE_LIMIT_ORDER", LIMIT, "m1")
    history_of.note(Note.CONNECTION_CLOSED, "c1", reason="x")
    history_of.settle()
    assert row(history_of).status == "in_doubt"
    limited(history_of)
    assert row(history_of).status == "rejected"


def test_the_end_of_the_connection_does_not_touch_what_is_queued_again(
    history_of: CommandHistory,
) -> None:
    history_of.send("PLACE_LIMIT_ORDER", LIMIT, "m1")
    limited(history_of)
    history_of.note(Note.CONNECTION_CLOSED, "c1", reason="x")
    history_of.settle()
    assert row(history_of).status == "queued"


def test_a_later_not_before_of_the_caller_stands(history_of: CommandHistory) -> None:
    history_of.send("PLACE_LIMIT_ORDER", LIMIT, "m1")
    run_sql(history_of.database, "UPDATE outbox SET not_before = '2030-01-01 00:00:00'")
    limited(history_of)
    assert str(row(history_of).not_before)[:4] == "2030"


def test_each_step_is_written_down(history_of: CommandHistory) -> None:
    history_of.send("PLACE_LIMIT_ORDER", LIMIT, "m1")
    limited(history_of)
    asked = "SELECT to_status, reason FROM outbox_transitions ORDER BY seq"
    assert run_sql(history_of.database, asked) == [
        ("queued", None),
        ("sending", None),
        ("sent", None),
        ("queued", "rate limit exceeded"),
    ]
