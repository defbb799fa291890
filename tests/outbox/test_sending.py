"""The short way of a command is the long way: the same rows, the same answers."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import text

from recorder.database.engine import Database, in_unit
from recorder.lease.sql import release, take
from recorder.outbox.sql import queue as outbox
from recorder.outbox.sql import sending
from tests.log.drafts import NOW

MINUTE = timedelta(minutes=1)
LIMIT = '{"side":"BUY","pair":"BTCZAR","quantity":"0.001","price":"1000000"}'
CANCEL = '{"orderId":"00000000-0000-4000-8000-000000000001","pair":"BTCZAR"}'


@pytest.fixture
def owned(database: Database) -> Database:
    def own(connection: Any) -> None:
        take(connection, "main", holder="me", now=NOW, ttl=MINUTE)
        outbox.ensure_control(connection, "main", NOW)

    in_unit(database.writer, own)
    return database


def queue(database: Database, command: str = "PLACE_LIMIT_ORDER", **given: Any) -> int:
    payload = CANCEL if command == "CANCEL_ORDER" else LIMIT
    return in_unit(database.writer, lambda c: outbox.enqueue(c, "main", command, payload, **given))


def claimed(database: Database, outbox_id: int, *, epoch: int = 1, now: datetime = NOW) -> bool:
    ids = {"customer_order_id": "r-1", "order_id": None, "sent_position": 6}
    claim = {"outbox_id": outbox_id, **ids}
    (is_claimed,) = in_unit(
        database.writer,
        lambda c: sending.claim_unlimited(
            c, "main", [claim], epoch=epoch, connection_id="c-1", now=now
        ),
    )
    return is_claimed


def do(database: Database, statement: str) -> None:
    in_unit(database.writer, lambda c: c.execute(text(statement)))


def test_the_queue_is_read_as_the_long_way_reads_it(owned: Database) -> None:
    for number in range(5):
        queue(owned, priority=number % 3)
    queue(owned, "CANCEL_ORDER", priority=-1)
    queue(owned, not_before=NOW + MINUTE)
    queue(owned, expires_at=NOW - MINUTE)
    queue(owned, expires_at=NOW + MINUTE)
    for limit in (3, 100):
        long = in_unit(owned.reader, outbox.queued, "main", NOW, limit)
        short = in_unit(owned.reader, sending.read_queue, "main", NOW, limit)
        assert short == (long, "on")
    assert in_unit(owned.reader, lambda c: sending.read_queue(c, "other", NOW, 9)) == ([], "off")


def test_strict_order_is_left_to_the_long_way(owned: Database) -> None:
    outbox_id = queue(owned)
    do(owned, f"UPDATE outbox SET in_order = {'1' if owned.dialect == 'sqlite' else 'true'}")
    assert in_unit(owned.reader, lambda c: sending.read_queue(c, "main", NOW, 9)) is None
    assert claimed(owned, outbox_id)
    assert in_unit(owned.reader, lambda c: sending.read_queue(c, "main", NOW, 9)) == ([], "off")


def test_a_claimed_command_goes_the_whole_way(owned: Database) -> None:
    outbox_id = queue(owned)
    assert [claimed(owned, outbox_id), claimed(owned, outbox_id)] == [True, False]
    in_unit(owned.writer, lambda c: sending.place(c, "main", outbox_id, 7))
    assert not in_unit(owned.writer, lambda c: sending.mark_sent(c, "main", outbox_id, 6, NOW))
    assert in_unit(owned.writer, lambda c: sending.mark_sent(c, "main", outbox_id, 7, NOW))
    (row,) = in_unit(owned.reader, lambda c: outbox.unresolved(c, "main"))
    assert (row.status, row.epoch, row.connection_id) == ("sent", 1, "c-1")
    assert (row.customer_order_id, row.order_id) == ("r-1", None)
    assert (row.sent_position, row.updated_at) == (7, NOW)


def test_what_may_not_be_claimed_is_not(owned: Database) -> None:
    outbox_id = queue(owned)
    expired, waiting = queue(owned, expires_at=NOW), queue(owned, not_before=NOW + MINUTE)
    assert not claimed(owned, expired)
    assert not claimed(owned, waiting)
    assert not claimed(owned, outbox_id, epoch=2)
    do(owned, "UPDATE controls SET trading = 'off'")
    assert not claimed(owned, outbox_id)
    do(owned, "UPDATE controls SET trading = 'cancel_only'")
    assert not claimed(owned, outbox_id)
    assert claimed(owned, queue(owned, "CANCEL_ORDER"))
    do(owned, "UPDATE controls SET trading = 'on'")
    in_unit(owned.writer, lambda c: release(c, "main", epoch=1, now=NOW))
    assert not claimed(owned, outbox_id)


def test_an_account_with_limits_goes_the_long_way_but_for_cancels(owned: Database) -> None:
    do(owned, "INSERT INTO limits (account, pair, max_open_orders) VALUES ('main', '*', 3)")
    assert not claimed(owned, queue(owned))
    assert claimed(owned, queue(owned, "CANCEL_ORDER"))
