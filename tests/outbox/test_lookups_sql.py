"""Look-ups in SQL: whom to look up, what is kept, and that all of it is one transaction."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import Connection

from recorder.database.engine import Database, in_unit
from recorder.errors import RecorderError
from recorder.log.rules.event import Draft, Note
from recorder.log.sql.append import append
from recorder.outbox.rules.lookups import Finding
from recorder.outbox.rules.states import Fact
from recorder.outbox.sql.lookups import Look, doubts, only_order_named, record, states_before
from recorder.projections import PROJECTIONS
from recorder.projections.sql.tables import Memory, project
from tests.log.drafts import run_sql
from tests.outbox.test_settle import LIMIT, NOW, Story

AFTER = NOW + timedelta(minutes=1)


@pytest.fixture
def story(database: Database) -> Story:
    return Story(database).start()


def in_doubt(story: Story) -> int:
    """Send a command over a connection that ends before an answer; return its id."""
    story.note(Note.CONNECTION_OPENED, "c1", url="wss://x")
    number = story.send("PLACE_LIMIT_ORDER", LIMIT, "m1")
    end = {"code": 1006, "reason": "cut", "by": "exchange", "frames": 1, "last_frame_at": None}
    story.note(Note.CONNECTION_CLOSED, "c1", **end)
    story.settle()
    return number


def fold(story: Story) -> None:
    up_to = story.heads["main"].position
    for projection in PROJECTIONS:
        in_unit(
            story.database.projector,
            project,
            projection,
            Memory(),
            "main",
            up_to=up_to,
            limit=1_000,
            now=NOW,
        )


def keep(story: Story, *looks: Look, answered: bool = True) -> int | None:
    """Record looks with the answer that they are about; return its position."""

    def unit(connection: Connection) -> int | None:
        positions: list[int] = []
        if answered:
            drafts = [Draft("main", 1, None, None, "fetched", "", "[]")]
            done = append(connection, story.heads, drafts)
            story.heads.update(done.heads)
            positions = [done.heads["main"].position]
        record(connection, positions, account="main", looks=looks, now=AFTER)
        return positions[0] if positions else None

    return in_unit(story.database.writer, unit)


def kept(story: Story) -> list[tuple[Any, ...]]:
    query = (
        "SELECT outbox_id, seq, request, position, finding, answer FROM outbox_lookups ORDER BY seq"
    )
    return [tuple(row) for row in run_sql(story.database, query)]


def absent(number: int, fact: Fact | None = None, **columns: str) -> Look:
    return Look(number, "/v1/orders/open", Finding.ABSENT, "none", fact, dict(columns))


def test_what_went_out_and_is_open_is_to_be_looked_up(story: Story) -> None:
    number = in_doubt(story)
    (doubt,) = in_unit(story.database.reader, doubts, "main")
    assert (doubt.row.outbox_id, doubt.row.status) == (number, "in_doubt")
    assert doubt.sent_at.timestamp() == pytest.approx(1e-6)


def test_what_is_queued_or_settled_is_not_looked_up(story: Story) -> None:
    assert in_unit(story.database.reader, doubts, "main") == []
    number = in_doubt(story)
    keep(story, absent(number, Fact.EFFECT_SEEN))
    assert in_unit(story.database.reader, doubts, "main") == []


def test_only_the_snapshot_of_a_later_connection_is_fresh(story: Story) -> None:
    def has_snapshot() -> bool:
        fold(story)
        (doubt,) = in_unit(story.database.reader, doubts, "main")
        return doubt.has_snapshot

    whole = {"complete": True, "balances": True, "open_orders": True, "currencies": 1}
    story.note(Note.RECORDER_STARTED, None, version="1", epoch=1, last_event_at=None)
    story.note(Note.CONNECTION_OPENED, "c1", url="wss://x")
    story.send("PLACE_LIMIT_ORDER", LIMIT, "m1")
    # Of the very connection that the command went out over, and behind it.
    story.note(Note.SNAPSHOT_COMPLETE, "c1", **whole)
    assert not has_snapshot()
    end = {"code": 1006, "reason": "cut", "by": "exchange", "frames": 1, "last_frame_at": None}
    story.note(Note.CONNECTION_CLOSED, "c1", **end)
    story.settle()
    assert not has_snapshot()
    story.note(Note.CONNECTION_OPENED, "c2", url="wss://x")
    story.note(Note.SNAPSHOT_COMPLETE, "c2", **{**whole, "complete": False})
    assert not has_snapshot()
    story.note(Note.SNAPSHOT_COMPLETE, "c2", **whole)
    assert has_snapshot()


def test_a_name_means_an_order_that_is_the_only_one_the_log_knows_by_it(story: Story) -> None:
    def meant() -> str | None:
        return in_unit(story.database.reader, only_order_named, story.row(9), "mine")

    def processed(order_id: str) -> None:
        told = {"orderId": order_id, "customerOrderId": "mine", "success": True}
        story.frame("ORDER_PROCESSED", told)

    processed("o-1")
    story.send("CANCEL_ORDER", '{"pair":"BTCZAR","customerOrderId":"mine"}', "m9")
    assert meant() is None, "the orders are not folded yet"
    story.settle()
    assert meant() == "o-1"
    story.send("PLACE_LIMIT_ORDER", LIMIT, "m2", order_name="mine")
    story.settle()
    assert meant() is None, "one of its name may have been placed besides"
    processed("o-2")
    story.settle()
    assert meant() is None, "there are two"


def test_an_orders_past_is_what_was_told_of_it_before_the_command(story: Story) -> None:
    def tell(status: str, second: int) -> None:
        moment = f"2026-01-01T00:00:{second:02d}.500Z"
        told = {"orderId": "o-1", "orderStatusType": status, "orderUpdatedAt": moment}
        story.frame("ORDER_STATUS_UPDATE", told)

    tell("Placed", 1)
    tell("Order Modified", 2)
    story.send("CANCEL_ORDER", '{"pair":"BTCZAR","orderId":"o-1"}', "m1")
    tell("Partially Filled", 3)
    story.fold_orders()

    def past(order_id: str) -> object:
        return in_unit(story.database.reader, states_before, story.row(1), order_id)

    first = datetime(2026, 1, 1, 0, 0, 1, 500_000, tzinfo=UTC)
    second = first + timedelta(seconds=1)
    assert past("o-1") == {(first, "Placed"), (second, "Order Modified")}
    assert past("o-2") is None


def test_a_look_up_is_kept_with_its_answers_position(story: Story) -> None:
    number = in_doubt(story)
    position = keep(story, absent(number))
    assert keep(story, absent(number), answered=False) is None
    open_orders = "/v1/orders/open"
    assert kept(story) == [
        (number, 1, open_orders, position, "absent", "none"),
        (number, 2, open_orders, None, "absent", "none"),
    ]
    assert story.row(1).status == "in_doubt"


def test_what_a_look_up_proves_is_written_with_it(story: Story) -> None:
    number = in_doubt(story)
    position = keep(story, absent(number, Fact.EFFECT_SEEN, order_id="o-1"))
    row = story.row(1)
    assert (row.status, row.order_id, row.resolved_position) == ("accepted", "o-1", position)
    assert (row.reason, row.updated_at) == (None, AFTER)


def test_a_command_that_has_moved_on_keeps_its_status(story: Story) -> None:
    number = in_doubt(story)
    keep(story, absent(number, Fact.EFFECT_SEEN))
    keep(story, absent(number, Fact.NOT_FOUND, reason="late"))
    assert (story.row(1).status, story.row(1).reason) == ("accepted", None)
    assert len(kept(story)) == 2


def test_a_late_frame_overturns_not_placed(story: Story) -> None:
    number = in_doubt(story)
    keep(story, absent(number, Fact.NOT_FOUND, reason="3 look-ups found none"))
    assert (story.row(1).status, story.row(1).reason) == ("not_placed", "3 look-ups found none")
    late = {"orderId": "o-1", "customerOrderId": "cid-m1", "success": True}
    position = story.frame("ORDER_PROCESSED", late)
    story.settle()
    row = story.row(1)
    assert (row.status, row.reason, row.resolved_position) == ("accepted", None, position)


def test_a_cancel_that_counts_as_not_placed_is_not_overturned_by_the_next_one(story: Story) -> None:
    story.note(Note.CONNECTION_OPENED, "c1", url="wss://x")
    lost = story.send("CANCEL_ORDER", '{"pair":"BTCZAR","orderId":"o-1"}', "m1")
    story.note(Note.CONNECTION_CLOSED, "c1", reason="cut")
    story.settle()
    keep(story, Look(lost, "x", Finding.UNCHANGED, "open", Fact.NOT_FOUND, {"reason": "open"}))
    story.send("CANCEL_ORDER", '{"pair":"BTCZAR","orderId":"o-1"}', "m2")
    story.frame("ORDER_STATUS_UPDATE", {"orderId": "o-1", "orderStatusType": "Cancelled"})
    story.settle()
    assert (story.row(1).status, story.row(2).status) == ("not_placed", "accepted")


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE outbox_lookups SET answer = 'something else'",
        "DELETE FROM outbox_lookups",
        "INSERT INTO outbox_lookups SELECT account, outbox_id, seq, looked_at, request, position,"
        " finding, answer FROM outbox_lookups",
        "INSERT INTO outbox_lookups SELECT account, outbox_id, seq + 1, looked_at, request,"
        " position, 'maybe', answer FROM outbox_lookups",
    ],
)
def test_what_was_looked_up_can_not_be_changed(story: Story, statement: str) -> None:
    number = in_doubt(story)
    keep(story, absent(number))
    before = kept(story)
    with pytest.raises(RecorderError):
        run_sql(story.database, statement)
    assert kept(story) == before
