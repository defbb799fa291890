"""Judging the outbox from the log."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import pytest
from attrs import define, field
from sqlalchemy import Connection

from recorder.database.engine import Database, in_unit
from recorder.errors import StorageUnavailable
from recorder.lease.sql import take
from recorder.log.rules.event import EMPTY_HEAD, Draft, Head, Note, noted
from recorder.log.sql.append import append
from recorder.outbox.rules.evidence import Evidence
from recorder.outbox.rules.states import Fact
from recorder.outbox.sql import queue as outbox
from recorder.outbox.sql import sending
from recorder.outbox.sql.queue import OutboxRow
from recorder.outbox.sql.settle import PLACING_COMMANDS, is_of_another, settle
from recorder.projections.rules.orders import Orders
from recorder.projections.sql.tables import Memory, project

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
LIMIT = '{"side":"BUY","pair":"BTCZAR","quantity":"0.001","price":"1000000"}'
CANCEL = '{"pair":"BTCZAR","orderId":"o-1"}'


@define
class Story:
    """A log and an outbox, told step by step."""

    database: Database
    heads: dict[str, Head] = field(factory=lambda: {"main": EMPTY_HEAD})

    def start(self) -> Story:
        in_unit(self.database.writer, take, "main", holder="x", now=NOW, ttl=timedelta(hours=1))
        in_unit(self.database.writer, outbox.ensure_control, "main", NOW)
        return self

    def append(self, draft: Draft) -> int:
        done = in_unit(self.database.writer, append, self.heads, [draft])
        self.heads.update(done.heads)
        return done.heads["main"].position

    def frame(self, kind: str, content: object, **more: Any) -> int:
        text = json.dumps({"type": kind, "data": content, **more})
        return self.append(Draft("main", 1, 1, "c1", "received", kind, text))

    def note(self, note: Note, connection_id: str | None, **facts: object) -> int:
        return self.append(noted("main", 1, note, facts, connection_id=connection_id))

    def send(
        self,
        command: str,
        payload: str,
        name: str,
        *,
        written: bool = True,
        order_name: str | None = None,
    ) -> int:
        """Queue, claim and send a command; return its id."""

        def unit(connection: Connection) -> int:
            number = outbox.enqueue(connection, "main", command, payload, client_msg_id=name)
            assert outbox.claim(
                connection,
                "main",
                number,
                epoch=1,
                connection_id="c1",
                customer_order_id=(order_name or f"cid-{name}")
                if command != "CANCEL_ORDER"
                else None,
                order_id="o-1" if command == "CANCEL_ORDER" else None,
                now=NOW,
            )
            done = append(
                connection, self.heads, [Draft("main", 1, 1, "c1", "sent", command, "{}")]
            )
            self.heads.update(done.heads)
            sending.place(connection, "main", number, done.heads["main"].position)
            return number

        number = in_unit(self.database.writer, unit)
        if written:
            position = self.heads["main"].position
            in_unit(self.database.writer, sending.mark_sent, "main", number, position, NOW)
        return number

    def fold_orders(self) -> None:
        """Let the table of orders catch up, which tells who was there first."""
        fold = partial(project, up_to=self.heads["main"].position, limit=1_000, now=NOW)
        in_unit(self.database.projector, fold, Orders(), Memory(), "main")

    def settle(self, *, orders_first: bool = True) -> None:
        if orders_first:
            self.fold_orders()
        up_to = self.heads["main"].position
        in_unit(self.database.projector, settle, "main", up_to=up_to, limit=100, now=NOW)

    def row(self, number: int) -> OutboxRow:
        (row,) = in_unit(self.database.reader, outbox.find, "main", client_msg_id=f"m{number}")
        return row


@pytest.fixture
def story(database: Database) -> Story:
    return Story(database).start()


def test_an_answer_acknowledges_and_the_engine_accepts(story: Story) -> None:
    story.send("PLACE_LIMIT_ORDER", LIMIT, "m1")
    answered = story.frame("PLACE_LIMIT_WS_RESPONSE", {"orderId": "o-1"}, clientMsgId="m1")
    story.settle()
    assert (story.row(1).status, story.row(1).acknowledged_position) == ("acknowledged", answered)
    assert story.row(1).order_id == "o-1"
    processed = story.frame("ORDER_PROCESSED", {"orderId": "o-1", "success": True})
    story.settle()
    assert (story.row(1).status, story.row(1).resolved_position) == ("accepted", processed)


def test_a_refusal_by_the_engine_keeps_the_exchanges_reason(story: Story) -> None:
    story.send("PLACE_LIMIT_ORDER", LIMIT, "m1")
    story.frame("PLACE_LIMIT_WS_RESPONSE", {"orderId": "o-1"}, clientMsgId="m1")
    failed = {"orderId": "o-1", "success": False, "failureReason": "Insufficient Balance"}
    story.frame("ORDER_PROCESSED", failed)
    story.settle()
    assert (story.row(1).status, story.row(1).reason) == ("rejected", "Insufficient Balance")


def test_an_answer_that_is_in_the_log_before_the_row_says_sent_is_found(story: Story) -> None:
    story.send("PLACE_LIMIT_ORDER", LIMIT, "m1", written=False)
    story.frame("PLACE_LIMIT_WS_RESPONSE", {"orderId": "o-1"}, clientMsgId="m1")
    story.settle()
    assert story.row(1).status == "acknowledged"


@pytest.mark.parametrize("written", [True, False])
def test_a_lost_connection_puts_what_it_left_unanswered_into_doubt(
    story: Story, written: bool
) -> None:
    story.send("PLACE_LIMIT_ORDER", LIMIT, "m1", written=written)
    story.note(Note.CONNECTION_CLOSED, "c1", reason="cut")
    story.settle()
    assert story.row(1).status == "in_doubt"


def test_what_was_answered_before_the_connection_was_lost_is_not_doubted(story: Story) -> None:
    story.send("PLACE_LIMIT_ORDER", LIMIT, "m1")
    story.frame("PLACE_LIMIT_WS_RESPONSE", {"orderId": "o-1"}, clientMsgId="m1")
    story.note(Note.CONNECTION_CLOSED, "c1", reason="cut")
    story.settle()
    assert story.row(1).status == "acknowledged"


def test_another_connections_end_doubts_nothing(story: Story) -> None:
    story.send("PLACE_LIMIT_ORDER", LIMIT, "m1")
    story.note(Note.CONNECTION_CLOSED, "c0", reason="cut")
    story.settle()
    assert story.row(1).status == "sent"


def test_what_was_claimed_and_then_not_sent_is_doubted_at_once_and_nothing_else(
    story: Story,
) -> None:
    story.send("PLACE_LIMIT_ORDER", LIMIT, "m1", written=False)
    story.send("PLACE_LIMIT_ORDER", LIMIT, "m2", written=False)
    story.note(Note.SEND_FAILED, "c1", outbox_id=1, client_msg_id="m1")
    story.settle()
    assert story.row(1).status == "in_doubt"
    assert "not sent" in str(story.row(1).reason)
    assert story.row(2).status == "sending"


def test_a_new_start_doubts_what_an_earlier_recorder_left(story: Story) -> None:
    story.send("PLACE_LIMIT_ORDER", LIMIT, "m1")
    story.note(Note.RECORDER_STARTED, None, epoch=2)
    story.settle()
    assert story.row(1).status == "in_doubt"


def test_doubt_ends_with_evidence_and_its_reason_goes(story: Story) -> None:
    story.send("PLACE_LIMIT_ORDER", LIMIT, "m1")
    story.note(Note.CONNECTION_CLOSED, "c1", reason="cut")
    order = {"orderId": "o-9", "customerOrderId": "cid-m1", "side": "buy", "quantity": "0.001"}
    listed = story.frame("OPEN_ORDERS_UPDATE", [order])
    story.settle()
    row = story.row(1)
    assert (row.status, row.order_id, row.resolved_position) == ("accepted", "o-9", listed)
    assert row.reason is None


def test_a_cancel_takes_effect_when_its_order_is_cancelled(story: Story) -> None:
    story.send("CANCEL_ORDER", CANCEL, "m1")
    requested = {"requested": True, "orderId": "o-1"}
    story.frame("CANCEL_ORDER_WS_RESPONSE", requested, clientMsgId="m1")
    story.frame("ORDER_STATUS_UPDATE", {"orderId": "o-1", "orderStatusType": "Cancelled"})
    story.settle()
    assert story.row(1).status == "accepted"


def test_a_cancel_that_came_too_late_is_rejected(story: Story) -> None:
    story.send("CANCEL_ORDER", CANCEL, "m1")
    story.frame("ORDER_STATUS_UPDATE", {"orderId": "o-1", "orderStatusType": "Filled"})
    story.settle()
    row = story.row(1)
    assert row.status == "rejected" and "Filled" in (row.reason or "")


def test_a_frame_from_before_the_question_proves_nothing(story: Story) -> None:
    story.frame("ORDER_STATUS_UPDATE", {"orderId": "o-1", "orderStatusType": "Cancelled"})
    story.send("CANCEL_ORDER", CANCEL, "m1")
    story.settle()
    assert story.row(1).status == "sent"


def test_judging_in_pieces_is_judging_at_once(story: Story) -> None:
    story.send("PLACE_LIMIT_ORDER", LIMIT, "m1")
    story.frame("PLACE_LIMIT_WS_RESPONSE", {"orderId": "o-1"}, clientMsgId="m1")
    story.frame("ORDER_PROCESSED", {"orderId": "o-1", "success": True})
    story.note(Note.CONNECTION_CLOSED, "c1", reason="cut")
    up_to = story.heads["main"].position
    position = 0
    while position < up_to:
        done = in_unit(story.database.projector, settle, "main", up_to=up_to, limit=1, now=NOW)
        assert done.position > position
        position = done.position
    assert story.row(1).status == "accepted"


def listed(order_id: str, name: str) -> list[dict[str, str]]:
    """Return the content of a list of one open order."""
    return [{"orderId": order_id, "customerOrderId": name, "side": "buy", "status": "Placed"}]


def test_an_order_that_another_command_placed_proves_nothing_of_one_of_its_name(
    story: Story,
) -> None:
    story.send("PLACE_LIMIT_ORDER", LIMIT, "m1", order_name="RETRY")
    story.note(Note.CONNECTION_CLOSED, "c1", reason="cut")
    story.send("PLACE_LIMIT_ORDER", LIMIT, "m2", order_name="RETRY")
    story.frame("PLACE_LIMIT_WS_RESPONSE", {"orderId": "o-2"}, clientMsgId="m2")
    story.frame("ORDER_PROCESSED", {"orderId": "o-2", "success": True})
    story.settle()
    story.frame("OPEN_ORDERS_UPDATE", listed("o-2", "RETRY"))
    story.settle()
    assert (story.row(1).status, story.row(1).order_id) == ("in_doubt", None)
    assert story.row(2).status == "accepted"


def test_an_order_from_before_the_command_proves_nothing_of_it(story: Story) -> None:
    story.frame("OPEN_ORDERS_UPDATE", listed("o-1", "MINE"))
    story.send("PLACE_LIMIT_ORDER", LIMIT, "m1", order_name="MINE")
    story.frame("OPEN_ORDERS_UPDATE", listed("o-1", "MINE"))
    story.settle()
    assert story.row(1).status == "sent"
    # The exchange's own word on the new one then counts.
    story.frame("PLACE_LIMIT_WS_RESPONSE", {"orderId": "o-2"}, clientMsgId="m1")
    duplicate = {"orderId": "o-2", "success": False, "failureReason": "Duplicate customerOrderId"}
    story.frame("ORDER_PROCESSED", duplicate)
    story.settle()
    assert (story.row(1).status, story.row(1).reason) == ("rejected", "Duplicate customerOrderId")


def test_a_new_order_of_the_commands_name_proves_that_it_was_placed(story: Story) -> None:
    story.send("PLACE_LIMIT_ORDER", LIMIT, "m1", order_name="MINE")
    story.note(Note.CONNECTION_CLOSED, "c1", reason="cut")
    story.frame("OPEN_ORDERS_UPDATE", listed("o-1", "MINE"))
    story.settle()
    assert (story.row(1).status, story.row(1).order_id) == ("accepted", "o-1")


def test_an_order_of_a_name_that_two_open_commands_bear_is_known_to_be_neithers(
    story: Story,
) -> None:
    first = story.send("PLACE_LIMIT_ORDER", LIMIT, "m1", order_name="mine")
    story.note(Note.CONNECTION_CLOSED, "c1")
    second = story.send("PLACE_LIMIT_ORDER", LIMIT, "m2", order_name="mine")
    story.settle()
    meant = Evidence(Fact.EFFECT_SEEN, PLACING_COMMANDS, order_id="o-9")
    for number in (first, second):
        assert in_unit(story.database.reader, is_of_another, meant, story.row(number))
    # Once the second is known to have placed another one, the order can be the first's.
    story.frame("PLACE_LIMIT_WS_RESPONSE", {"orderId": "o-2"}, clientMsgId="m2")
    story.settle()
    assert not in_unit(story.database.reader, is_of_another, meant, story.row(first))


def test_what_a_name_led_to_waits_until_orders_can_tell_who_was_first(story: Story) -> None:
    story.send("PLACE_LIMIT_ORDER", LIMIT, "m1", order_name="MINE")
    story.frame("OPEN_ORDERS_UPDATE", listed("o-1", "MINE"))
    with pytest.raises(StorageUnavailable, match="orders is folded up to 0"):
        story.settle(orders_first=False)
    assert story.row(1).status == "sent"
    story.settle()
    assert story.row(1).status == "accepted"
