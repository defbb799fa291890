"""Lookup-ups in SQL: whom to look up, what is kept, and that all of it is one transaction."""

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
from recorder.outbox.sql.lookups import (
    Lookup,
    in_doubt_commands,
    only_order_named,
    record,
    states_before,
)
from recorder.projections import PROJECTIONS
from recorder.projections.sql.tables import Memory, project
from tests.log.drafts import run_sql
from tests.outbox.test_settle import LIMIT, NOW, CommandHistory

AFTER = NOW + timedelta(minutes=1)


@pytest.fixture
def history_of(database: Database) -> CommandHistory:
    return CommandHistory(database).start()


def in_doubt(history_of: CommandHistory) -> int:
    """Send a command over a connection that ends before an answer; return its id."""
    history_of.note(Note.CONNECTION_OPENED, "c1", url="wss://x")
    number = history_of.send("PLACE_LIMIT_ORDER", LIMIT, "m1")
    end = {"code": 1006, "reason": "cut", "by": "exchange", "frames": 1, "last_frame_at": None}
    history_of.note(Note.CONNECTION_CLOSED, "c1", **end)
    history_of.settle()
    return number


def fold(history_of: CommandHistory) -> None:
    up_to = history_of.heads["main"].position
    for projection in PROJECTIONS:
        in_unit(
            history_of.database.projector,
            project,
            projection,
            Memory(),
            "main",
            up_to=up_to,
            limit=1_000,
            now=NOW,
        )


def keep(history_of: CommandHistory, *looks: Lookup, answered: bool = True) -> int | None:
    """Record looks with the answer that they are about; return its position."""

    def unit(connection: Connection) -> int | None:
        positions: list[int] = []
        if answered:
            drafts = [Draft("main", 1, None, None, "fetched", "", "[]")]
            done = append(connection, history_of.heads, drafts)
            history_of.heads.update(done.heads)
            positions = [done.heads["main"].position]
        record(connection, positions, account="main", lookups=looks, now=AFTER)
        return positions[0] if positions else None

    return in_unit(history_of.database.writer, unit)


def kept(history_of: CommandHistory) -> list[tuple[Any, ...]]:
    query = (
        "SELECT outbox_id, seq, request, position, finding, answer FROM outbox_lookups ORDER BY seq"
    )
    return [tuple(row) for row in run_sql(history_of.database, query)]


def absent(number: int, fact: Fact | None = None, **columns: str) -> Lookup:
    return Lookup(number, "/v1/orders/open", Finding.ABSENT, "none", fact, dict(columns))


def test_what_went_out_and_is_open_is_to_be_looked_up(history_of: CommandHistory) -> None:
    number = in_doubt(history_of)
    (doubt,) = in_unit(history_of.database.reader, in_doubt_commands, "main")
    assert (doubt.row.outbox_id, doubt.row.status) == (number, "in_doubt")
    assert doubt.sent_at.timestamp() == pytest.approx(1e-6)


def test_what_is_queued_or_settled_is_not_looked_up(history_of: CommandHistory) -> None:
    assert in_unit(history_of.database.reader, in_doubt_commands, "main") == []
    number = in_doubt(history_of)
    keep(history_of, absent(number, Fact.EFFECT_SEEN))
    assert in_unit(history_of.database.reader, in_doubt_commands, "main") == []


def test_only_the_snapshot_of_a_later_connection_is_fresh(history_of: CommandHistory) -> None:
    def has_snapshot() -> bool:
        fold(history_of)
        (doubt,) = in_unit(history_of.database.reader, in_doubt_commands, "main")
        return doubt.has_snapshot

    whole = {"complete": True, "balances": True, "open_orders": True, "currencies": 1}
    history_of.note(Note.RECORDER_STARTED, None, version="1", epoch=1, last_event_at=None)
    history_of.note(Note.CONNECTION_OPENED, "c1", url="wss://x")
    history_of.send("PLACE_LIMIT_ORDER", LIMIT, "m1")
    # Of the very connection that the command went out over, and behind it.
    history_of.note(Note.SNAPSHOT_COMPLETE, "c1", **whole)
    assert not has_snapshot()
    end = {"code": 1006, "reason": "cut", "by": "exchange", "frames": 1, "last_frame_at": None}
    history_of.note(Note.CONNECTION_CLOSED, "c1", **end)
    history_of.settle()
    assert not has_snapshot()
    history_of.note(Note.CONNECTION_OPENED, "c2", url="wss://x")
    history_of.note(Note.SNAPSHOT_COMPLETE, "c2", **{**whole, "complete": False})
    assert not has_snapshot()
    history_of.note(Note.SNAPSHOT_COMPLETE, "c2", **whole)
    assert has_snapshot()


def test_a_name_means_an_order_that_is_the_only_one_the_log_knows_by_it(
    history_of: CommandHistory,
) -> None:
    def meant() -> str | None:
        return in_unit(history_of.database.reader, only_order_named, history_of.row(9), "mine")

    def processed(order_id: str) -> None:
        reported = {"orderId": order_id, "customerOrderId": "mine", "success": True}
        history_of.frame("ORDER_PROCESSED", reported)

    processed("o-1")
    history_of.send("CANCEL_ORDER", '{"pair":"BTCZAR","customerOrderId":"mine"}', "m9")
    assert meant() is None, "the orders are not folded yet"
    history_of.settle()
    assert meant() == "o-1"
    history_of.send("PLACE_LIMIT_ORDER", LIMIT, "m2", order_name="mine")
    history_of.settle()
    assert meant() is None, "one of its name may have been placed besides"
    processed("o-2")
    history_of.settle()
    assert meant() is None, "there are two"


def test_an_orders_past_is_what_was_reported_of_it_before_the_command(
    history_of: CommandHistory,
) -> None:
    def report(status: str, second: int) -> None:
        moment = f"2026-01-01T00:00:{second:02d}.500Z"
        reported = {"orderId": "o-1", "orderStatusType": status, "orderUpdatedAt": moment}
        history_of.frame("ORDER_STATUS_UPDATE", reported)

    report("Placed", 1)
    report("Order Modified", 2)
    history_of.send("CANCEL_ORDER", '{"pair":"BTCZAR","orderId":"o-1"}', "m1")
    report("Partially Filled", 3)
    history_of.fold_orders()

    def past(order_id: str) -> object:
        return in_unit(history_of.database.reader, states_before, history_of.row(1), order_id)

    first = datetime(2026, 1, 1, 0, 0, 1, 500_000, tzinfo=UTC)
    second = first + timedelta(seconds=1)
    assert past("o-1") == {(first, "Placed"), (second, "Order Modified")}
    assert past("o-2") is None


def test_a_look_up_is_kept_with_its_answers_position(history_of: CommandHistory) -> None:
    number = in_doubt(history_of)
    position = keep(history_of, absent(number))
    assert keep(history_of, absent(number), answered=False) is None
    open_orders = "/v1/orders/open"
    assert kept(history_of) == [
        (number, 1, open_orders, position, "absent", "none"),
        (number, 2, open_orders, None, "absent", "none"),
    ]
    assert history_of.row(1).status == "in_doubt"


def test_what_a_look_up_proves_is_written_with_it(history_of: CommandHistory) -> None:
    number = in_doubt(history_of)
    position = keep(history_of, absent(number, Fact.EFFECT_SEEN, order_id="o-1"))
    row = history_of.row(1)
    assert (row.status, row.order_id, row.resolved_position) == ("accepted", "o-1", position)
    assert (row.reason, row.updated_at) == (None, AFTER)


def test_a_command_that_has_moved_on_keeps_its_status(history_of: CommandHistory) -> None:
    number = in_doubt(history_of)
    keep(history_of, absent(number, Fact.EFFECT_SEEN))
    keep(history_of, absent(number, Fact.NOT_FOUND, reason="late"))
    assert (history_of.row(1).status, history_of.row(1).reason) == ("accepted", None)
    assert len(kept(history_of)) == 2


def test_a_late_frame_overturns_not_placed(history_of: CommandHistory) -> None:
    number = in_doubt(history_of)
    keep(history_of, absent(number, Fact.NOT_FOUND, reason="3 look-ups found none"))
    assert (history_of.row(1).status, history_of.row(1).reason) == (
        "not_placed",
        "3 look-ups found none",
    )
    late = {"orderId": "o-1", "customerOrderId": "cid-m1", "success": True}
    position = history_of.frame("ORDER_PROCESSED", late)
    history_of.settle()
    row = history_of.row(1)
    assert (row.status, row.reason, row.resolved_position) == ("accepted", None, position)


def test_a_cancel_that_counts_as_not_placed_is_not_overturned_by_the_next_one(
    history_of: CommandHistory,
) -> None:
    history_of.note(Note.CONNECTION_OPENED, "c1", url="wss://x")
    lost = history_of.send("CANCEL_ORDER", '{"pair":"BTCZAR","orderId":"o-1"}', "m1")
    history_of.note(Note.CONNECTION_CLOSED, "c1", reason="cut")
    history_of.settle()
    keep(
        history_of, Lookup(lost, "x", Finding.UNCHANGED, "open", Fact.NOT_FOUND, {"reason": "open"})
    )
    history_of.send("CANCEL_ORDER", '{"pair":"BTCZAR","orderId":"o-1"}', "m2")
    history_of.frame("ORDER_STATUS_UPDATE", {"orderId": "o-1", "orderStatusType": "Cancelled"})
    history_of.settle()
    assert (history_of.row(1).status, history_of.row(2).status) == ("not_placed", "accepted")


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE outbox_lookups SET answer = 'something else'",
        "DELETE FROM outbox_lookups",
        "INSERT INTO outbox_lookups SELECT account, outbox_id, seq, looked_at, asked, position,"
        " finding, answer FROM outbox_lookups",
        "INSERT INTO outbox_lookups SELECT account, outbox_id, seq + 1, looked_at, asked, position,"
        " 'maybe', reported FROM outbox_lookups",
    ],
)
def test_what_was_looked_up_can_not_be_changed(history_of: CommandHistory, statement: str) -> None:
    number = in_doubt(history_of)
    keep(history_of, absent(number))
    before = kept(history_of)
    with pytest.raises(RecorderError):
        run_sql(history_of.database, statement)
    assert kept(history_of) == before
