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
class CommandHistory:
    """A log and an outbox, reported step by step."""

    database: Database
    heads: dict[str, Head] = field(factory=lambda: {"main": EMPTY_HEAD})

    def start(self) -> CommandHistory:
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
        """Let the table of orders catch up, which reports who was there first."""
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
def history_of(database: Database) -> CommandHistory:
    return CommandHistory(database).start()


def test_an_answer_acknowledges_and_the_engine_accepts(history_of: CommandHistory) -> None:
    history_of.send("PLACE_LIMIT_ORDER", LIMIT, "m1")
    answered = history_of.frame("PLACE_LIMIT_WS_RESPONSE", {"orderId": "o-1"}, clientMsgId="m1")
    history_of.settle()
    assert (history_of.row(1).status, history_of.row(1).acknowledged_position) == (
        "acknowledged",
        answered,
    )
    assert history_of.row(1).order_id == "o-1"
    processed = history_of.frame("ORDER_PROCESSED", {"orderId": "o-1", "success": True})
    history_of.settle()
    assert (history_of.row(1).status, history_of.row(1).resolved_position) == (
        "accepted",
        processed,
    )


def test_a_refusal_by_the_engine_keeps_the_exchanges_reason(history_of: CommandHistory) -> None:
    history_of.send("PLACE_LIMIT_ORDER", LIMIT, "m1")
    history_of.frame("PLACE_LIMIT_WS_RESPONSE", {"orderId": "o-1"}, clientMsgId="m1")
    failed = {"orderId": "o-1", "success": False, "failureReason": "Insufficient Balance"}
    history_of.frame("ORDER_PROCESSED", failed)
    history_of.settle()
    assert (history_of.row(1).status, history_of.row(1).reason) == (
        "rejected",
        "Insufficient Balance",
    )


def test_an_answer_that_is_in_the_log_before_the_row_is_sent_is_found(
    history_of: CommandHistory,
) -> None:
    history_of.send("PLACE_LIMIT_ORDER", LIMIT, "m1", written=False)
    history_of.frame("PLACE_LIMIT_WS_RESPONSE", {"orderId": "o-1"}, clientMsgId="m1")
    history_of.settle()
    assert history_of.row(1).status == "acknowledged"


@pytest.mark.parametrize("written", [True, False])
def test_a_lost_connection_puts_what_it_left_unanswered_into_doubt(
    history_of: CommandHistory, written: bool
) -> None:
    history_of.send("PLACE_LIMIT_ORDER", LIMIT, "m1", written=written)
    history_of.note(Note.CONNECTION_CLOSED, "c1", reason="cut")
    history_of.settle()
    assert history_of.row(1).status == "in_doubt"


def test_what_was_answered_before_the_connection_was_lost_is_not_doubted(
    history_of: CommandHistory,
) -> None:
    history_of.send("PLACE_LIMIT_ORDER", LIMIT, "m1")
    history_of.frame("PLACE_LIMIT_WS_RESPONSE", {"orderId": "o-1"}, clientMsgId="m1")
    history_of.note(Note.CONNECTION_CLOSED, "c1", reason="cut")
    history_of.settle()
    assert history_of.row(1).status == "acknowledged"


def test_another_connections_end_puts_nothing_in_doubt(history_of: CommandHistory) -> None:
    history_of.send("PLACE_LIMIT_ORDER", LIMIT, "m1")
    history_of.note(Note.CONNECTION_CLOSED, "c0", reason="cut")
    history_of.settle()
    assert history_of.row(1).status == "sent"


def test_what_was_claimed_and_then_not_sent_is_doubted_at_once_and_nothing_else(
    history_of: CommandHistory,
) -> None:
    history_of.send("PLACE_LIMIT_ORDER", LIMIT, "m1", written=False)
    history_of.send("PLACE_LIMIT_ORDER", LIMIT, "m2", written=False)
    history_of.note(Note.SEND_FAILED, "c1", outbox_id=1, client_msg_id="m1")
    history_of.settle()
    assert history_of.row(1).status == "in_doubt"
    assert "not sent" in str(history_of.row(1).reason)
    assert history_of.row(2).status == "sending"


def test_a_new_start_puts_in_doubt_what_an_earlier_recorder_left(
    history_of: CommandHistory,
) -> None:
    history_of.send("PLACE_LIMIT_ORDER", LIMIT, "m1")
    history_of.note(Note.RECORDER_STARTED, None, epoch=2)
    history_of.settle()
    assert history_of.row(1).status == "in_doubt"


def test_doubt_ends_with_evidence_and_its_reason_goes(history_of: CommandHistory) -> None:
    history_of.send("PLACE_LIMIT_ORDER", LIMIT, "m1")
    history_of.note(Note.CONNECTION_CLOSED, "c1", reason="cut")
    order = {"orderId": "o-9", "customerOrderId": "cid-m1", "side": "buy", "quantity": "0.001"}
    listed = history_of.frame("OPEN_ORDERS_UPDATE", [order])
    history_of.settle()
    row = history_of.row(1)
    assert (row.status, row.order_id, row.resolved_position) == ("accepted", "o-9", listed)
    assert row.reason is None


def test_a_cancel_takes_effect_when_its_order_is_cancelled(history_of: CommandHistory) -> None:
    history_of.send("CANCEL_ORDER", CANCEL, "m1")
    requested = {"requested": True, "orderId": "o-1"}
    history_of.frame("CANCEL_ORDER_WS_RESPONSE", requested, clientMsgId="m1")
    history_of.frame("ORDER_STATUS_UPDATE", {"orderId": "o-1", "orderStatusType": "Cancelled"})
    history_of.settle()
    assert history_of.row(1).status == "accepted"


def test_a_cancel_that_came_too_late_is_rejected(history_of: CommandHistory) -> None:
    history_of.send("CANCEL_ORDER", CANCEL, "m1")
    history_of.frame("ORDER_STATUS_UPDATE", {"orderId": "o-1", "orderStatusType": "Filled"})
    history_of.settle()
    row = history_of.row(1)
    assert row.status == "rejected" and "Filled" in (row.reason or "")


def test_a_frame_from_before_the_question_proves_nothing(history_of: CommandHistory) -> None:
    history_of.frame("ORDER_STATUS_UPDATE", {"orderId": "o-1", "orderStatusType": "Cancelled"})
    history_of.send("CANCEL_ORDER", CANCEL, "m1")
    history_of.settle()
    assert history_of.row(1).status == "sent"


def test_judging_in_pieces_is_judging_at_once(history_of: CommandHistory) -> None:
    history_of.send("PLACE_LIMIT_ORDER", LIMIT, "m1")
    history_of.frame("PLACE_LIMIT_WS_RESPONSE", {"orderId": "o-1"}, clientMsgId="m1")
    history_of.frame("ORDER_PROCESSED", {"orderId": "o-1", "success": True})
    history_of.note(Note.CONNECTION_CLOSED, "c1", reason="cut")
    up_to = history_of.heads["main"].position
    position = 0
    while position < up_to:
        done = in_unit(history_of.database.projector, settle, "main", up_to=up_to, limit=1, now=NOW)
        assert done.position > position
        position = done.position
    assert history_of.row(1).status == "accepted"


def listed(order_id: str, name: str) -> list[dict[str, str]]:
    """Return the content of a list of one open order."""
    return [{"orderId": order_id, "customerOrderId": name, "side": "buy", "status": "Placed"}]


def test_an_order_that_another_command_placed_proves_nothing_of_one_of_its_name(
    history_of: CommandHistory,
) -> None:
    history_of.send("PLACE_LIMIT_ORDER", LIMIT, "m1", order_name="RETRY")
    history_of.note(Note.CONNECTION_CLOSED, "c1", reason="cut")
    history_of.send("PLACE_LIMIT_ORDER", LIMIT, "m2", order_name="RETRY")
    history_of.frame("PLACE_LIMIT_WS_RESPONSE", {"orderId": "o-2"}, clientMsgId="m2")
    history_of.frame("ORDER_PROCESSED", {"orderId": "o-2", "success": True})
    history_of.settle()
    history_of.frame("OPEN_ORDERS_UPDATE", listed("o-2", "RETRY"))
    history_of.settle()
    assert (history_of.row(1).status, history_of.row(1).order_id) == ("in_doubt", None)
    assert history_of.row(2).status == "accepted"


def test_an_order_from_before_the_command_proves_nothing_of_it(history_of: CommandHistory) -> None:
    history_of.frame("OPEN_ORDERS_UPDATE", listed("o-1", "MINE"))
    history_of.send("PLACE_LIMIT_ORDER", LIMIT, "m1", order_name="MINE")
    history_of.frame("OPEN_ORDERS_UPDATE", listed("o-1", "MINE"))
    history_of.settle()
    assert history_of.row(1).status == "sent"
    # The exchange's own word on the new one then counts.
    history_of.frame("PLACE_LIMIT_WS_RESPONSE", {"orderId": "o-2"}, clientMsgId="m1")
    duplicate = {"orderId": "o-2", "success": False, "failureReason": "Duplicate customerOrderId"}
    history_of.frame("ORDER_PROCESSED", duplicate)
    history_of.settle()
    assert (history_of.row(1).status, history_of.row(1).reason) == (
        "rejected",
        "Duplicate customerOrderId",
    )


def test_a_new_order_of_the_commands_name_proves_that_it_was_placed(
    history_of: CommandHistory,
) -> None:
    history_of.send("PLACE_LIMIT_ORDER", LIMIT, "m1", order_name="MINE")
    history_of.note(Note.CONNECTION_CLOSED, "c1", reason="cut")
    history_of.frame("OPEN_ORDERS_UPDATE", listed("o-1", "MINE"))
    history_of.settle()
    assert (history_of.row(1).status, history_of.row(1).order_id) == ("accepted", "o-1")


def test_an_order_of_a_name_that_two_open_commands_bear_is_known_to_be_neithers(
    history_of: CommandHistory,
) -> None:
    first = history_of.send("PLACE_LIMIT_ORDER", LIMIT, "m1", order_name="mine")
    history_of.note(Note.CONNECTION_CLOSED, "c1")
    second = history_of.send("PLACE_LIMIT_ORDER", LIMIT, "m2", order_name="mine")
    history_of.settle()
    meant = Evidence(Fact.EFFECT_SEEN, PLACING_COMMANDS, order_id="o-9")
    for number in (first, second):
        assert in_unit(history_of.database.reader, is_of_another, meant, history_of.row(number))
    # Once the second is known to have placed another one, the order can be the first's.
    history_of.frame("PLACE_LIMIT_WS_RESPONSE", {"orderId": "o-2"}, clientMsgId="m2")
    history_of.settle()
    assert not in_unit(history_of.database.reader, is_of_another, meant, history_of.row(first))


def test_what_a_name_led_to_waits_until_orders_show_which_was_first(
    history_of: CommandHistory,
) -> None:
    history_of.send("PLACE_LIMIT_ORDER", LIMIT, "m1", order_name="MINE")
    history_of.frame("OPEN_ORDERS_UPDATE", listed("o-1", "MINE"))
    with pytest.raises(StorageUnavailable, match="orders is folded up to 0"):
        history_of.settle(orders_first=False)
    assert history_of.row(1).status == "sent"
    history_of.settle()
    assert history_of.row(1).status == "accepted"
