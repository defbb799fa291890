"""What goes out next: chosen and claimed in one transaction, on a pipeline or not."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import psycopg
import pytest
from attrs import evolve
from sqlalchemy import Connection

from recorder.database.engine import Database, PersistentConnection, in_unit
from recorder.exchange.commands import WireNames
from recorder.exchange.pacing import KIND
from recorder.lease.sql import take
from recorder.outbox.rules.selection import Queue
from recorder.outbox.sql import queue as outbox
from recorder.outbox.sql.dispatch import (
    QUEUE_READ_MAX,
    TOGETHER_BYTES_MAX,
    Dispatched,
    Terms,
    dispatch,
    read_queue,
)
from tests.log.drafts import NOW, run_sql

MINUTE = timedelta(minutes=1)
#: A process that waits for a lock waits longer.
WAITING_S = 2.0
LIMIT = '{"side":"BUY","pair":"BTCZAR","quantity":"0.001","price":"1000000"}'
CANCEL = '{"orderId":"00000000-0000-4000-8000-000000000001","pair":"BTCZAR"}'
ENOUGH = dict.fromkeys(KIND.values(), 100)
TERMS = Terms(1, "c-1", WireNames({}), ENOUGH, together_part=1, together_max=4, next_position=10)

Dispatch = Callable[..., Dispatched]


@pytest.fixture
def owned(database: Database) -> Database:
    def own(connection: Connection) -> None:
        take(connection, "main", holder="me", now=NOW, ttl=MINUTE)
        outbox.ensure_control(connection, "main", NOW)

    in_unit(database.writer, own)
    return database


@pytest.fixture(params=["in one pipeline", "statement by statement"])
def sent(owned: Database, request: pytest.FixtureRequest) -> Iterator[Dispatch]:
    """Return what dispatches in a transaction of its own: on PostgreSQL as a pipeline, or not."""
    kept = PersistentConnection(owned.writer)

    def run(queue: Queue | None = None, terms: Terms = TERMS) -> Dispatched:
        return kept.run(
            lambda c: dispatch(c, "main", queue, terms, NOW),
            write_only=request.param == "in one pipeline",
        )

    yield run
    kept.close()


def is_pipeline(database: Database, request: pytest.FixtureRequest) -> bool:
    parameters: dict[str, Any] = request.node.callspec.params
    return database.dialect == "postgresql" and parameters["sent"] == "in one pipeline"


def queue(database: Database, command: str = "PLACE_LIMIT_ORDER", **given: Any) -> int:
    payload = given.pop("payload", CANCEL if command == "CANCEL_ORDER" else LIMIT)
    return in_unit(database.writer, lambda c: outbox.enqueue(c, "main", command, payload, **given))


def statuses(database: Database) -> list[str]:
    rows = run_sql(database, "SELECT status FROM outbox ORDER BY outbox_id")
    return [str(status) for (status,) in rows]


def ids(done: Dispatched) -> list[int]:
    return [taken.outbox_id for taken in done.taken]


def test_the_most_urgent_go_together_and_know_where_their_events_will_stand(
    owned: Database, sent: Dispatch
) -> None:
    first, urgent, cancel = queue(owned), queue(owned, priority=1), queue(owned, "CANCEL_ORDER")
    done = sent()
    assert ids(done) == [cancel, urgent, first]
    assert [taken.expected_position for taken in done.taken] == [11, 13, 15]
    placed = run_sql(owned, "SELECT outbox_id, sent_position FROM outbox ORDER BY 2")
    assert placed == [(cancel, 11), (urgent, 13), (first, 15)]
    assert statuses(owned) == ["sending"] * 3
    assert done.rest == Queue((), "on", {}, is_whole=True)
    assert sent() == Dispatched(rest=Queue((), "off", {}, is_whole=True))


def test_no_more_go_together_than_the_terms_allow(owned: Database, sent: Dispatch) -> None:
    rows = [queue(owned) for _ in range(6)]
    done = sent()
    assert ids(done) == rows[:4]
    assert done.rest is not None and [row.outbox_id for row in done.rest.rows] == rows[4:]
    assert ids(sent(done.rest, evolve(TERMS, together_part=10))) == rows[4:5]
    assert statuses(owned) == ["sending"] * 5 + ["queued"]


def test_a_kind_that_has_to_wait_lets_the_others_go(owned: Database, sent: Dispatch) -> None:
    queue(owned)
    cancel = queue(owned, "CANCEL_ORDER")
    done = sent(None, evolve(TERMS, allowance=ENOUGH | {"place": 0}))
    assert ids(done) == [cancel]
    assert statuses(owned) == ["queued", "sending"]


def test_what_was_withdrawn_since_the_queue_was_read_does_not_go(
    owned: Database, sent: Dispatch
) -> None:
    rows = [queue(owned) for _ in range(3)]
    known = in_unit(owned.reader, read_queue, "main", NOW)
    run_sql(owned, f"UPDATE outbox SET status = 'withdrawn' WHERE outbox_id = {rows[1]}")
    done = sent(known)
    assert ids(done) == [rows[0], rows[2]]
    assert (done.lost, done.rest) == (1, None)
    assert statuses(owned) == ["sending", "withdrawn", "sending"]


def test_a_lease_that_another_took_lets_nothing_go(owned: Database, sent: Dispatch) -> None:
    queue(owned)
    in_unit(owned.writer, take, "main", holder="another", now=NOW + 2 * MINUTE, ttl=MINUTE)
    assert sent().lost == 1
    assert statuses(owned) == ["queued"]


@pytest.mark.parametrize("switch", ["off", "cancel_only"])
def test_the_switch_counts_as_it_stands_in_the_transaction(
    owned: Database, sent: Dispatch, switch: str
) -> None:
    queue(owned)
    known = in_unit(owned.reader, read_queue, "main", NOW)
    run_sql(owned, f"UPDATE controls SET trading = '{switch}'")
    assert sent(known).lost == 1
    assert sent().taken == ()
    assert statuses(owned) == ["queued"]


@pytest.mark.parametrize("pipelined", [True, False])
@pytest.mark.parametrize(
    "change",
    [
        "UPDATE controls SET trading = 'off'",
        "UPDATE outbox SET status = 'withdrawn' WHERE status = 'queued'",
    ],
)
def test_the_log_does_not_wait_for_an_uncommitted_change(
    postgres: Database, change: str, pipelined: bool
) -> None:
    def own(connection: Connection) -> None:
        take(connection, "main", holder="me", now=NOW, ttl=MINUTE)
        outbox.ensure_control(connection, "main", NOW)

    in_unit(postgres.writer, own)
    queue(postgres)
    kept = PersistentConnection(postgres.writer)

    def run() -> Dispatched:
        return kept.run(lambda c: dispatch(c, "main", None, TERMS, NOW), write_only=pipelined)

    url = postgres.url.set(drivername="postgresql").render_as_string(hide_password=False)
    with psycopg.connect(url) as person:
        person.execute(change)
        began = time.monotonic()
        done = run()
        assert time.monotonic() - began < WAITING_S
        assert not done.taken and done.lost == 1
        person.rollback()
    assert len(run().taken) == 1
    kept.close()


@pytest.mark.parametrize("pipelined", [True, False])
def test_who_throws_the_switch_waits_for_a_claim_under_way(
    postgres: Database, pipelined: bool
) -> None:
    def own(connection: Connection) -> None:
        take(connection, "main", holder="me", now=NOW, ttl=MINUTE)
        outbox.ensure_control(connection, "main", NOW)

    in_unit(postgres.writer, own)
    queue(postgres)
    url = postgres.url.set(drivername="postgresql").render_as_string(hide_password=False)
    with psycopg.connect(url, autocommit=True) as person:
        person.execute("SET lock_timeout = '100ms'")

        def unit(connection: Connection) -> None:
            assert dispatch(connection, "main", None, TERMS, NOW).taken
            with pytest.raises(psycopg.errors.LockNotAvailable):
                person.execute("UPDATE controls SET trading = 'off'")

        kept = PersistentConnection(postgres.writer)
        kept.run(unit, write_only=pipelined)
        kept.close()
        person.execute("UPDATE controls SET trading = 'off'")
    assert statuses(postgres) == ["sending"]


def test_expired_rows_are_ended_where_there_is_time_for_it(
    owned: Database, sent: Dispatch, request: pytest.FixtureRequest
) -> None:
    queue(owned, expires_at=NOW)
    fine = queue(owned)
    done = sent()
    if is_pipeline(owned, request):
        assert done == Dispatched(needs_care=True)
        assert statuses(owned) == ["queued", "queued"]
    else:
        assert ids(done) == [fine]
        assert statuses(owned) == ["expired", "sending"]


def test_limits_are_asked_where_there_is_time_for_it(
    owned: Database, sent: Dispatch, request: pytest.FixtureRequest
) -> None:
    run_sql(owned, "INSERT INTO limits (account, pair, max_quantity) VALUES ('main', '*', '0.005')")
    large, small = queue(owned, payload=LIMIT.replace("0.001", "0.01")), queue(owned)
    cancel = queue(owned, "CANCEL_ORDER")
    done = sent()
    if is_pipeline(owned, request):
        assert (ids(done), done.needs_care, done.lost) == ([cancel], True, 2)
        assert statuses(owned) == ["queued", "queued", "sending"]
    else:
        assert (ids(done), done.lost) == ([cancel, small], 0)
        assert [(number, reason[:13]) for number, reason in done.refused] == [
            (large, "max_quantity:")
        ]
        assert statuses(owned) == ["refused", "sending", "sending"]
        assert run_sql(owned, "SELECT sent_position FROM outbox WHERE outbox_id = 2") == [(13,)]


def test_strict_order_is_read_beforehand(owned: Database, sent: Dispatch) -> None:
    strict, loose = queue(owned, in_order=True), queue(owned)
    assert sent() == Dispatched(is_long=True)
    known = in_unit(owned.reader, read_queue, "main", NOW)
    assert not known.is_short and known.unsettled == {"BTCZAR": strict}
    done = sent(known)
    # What may follow it depends on what becomes of it.
    assert (ids(done), done.rest) == ([strict], None)
    assert ids(sent()) == [loose]


def test_a_long_queue_is_read_beforehand(owned: Database, sent: Dispatch) -> None:
    rows = [queue(owned) for _ in range(QUEUE_READ_MAX)]
    assert sent() == Dispatched(is_long=True)
    known = in_unit(owned.reader, read_queue, "main", NOW)
    assert not known.is_short
    assert ids(sent(known)) == rows[:4]
    assert statuses(owned).count("sending") == 4


def test_a_heavy_command_goes_alone_and_with_care(
    owned: Database, sent: Dispatch, request: pytest.FixtureRequest
) -> None:
    first = queue(owned, payload=LIMIT + " " * TOGETHER_BYTES_MAX)
    queue(owned)
    done = sent()
    if is_pipeline(owned, request):
        assert done == Dispatched(needs_care=True)
    else:
        assert ids(done) == [first]


def test_what_can_not_be_sent_is_refused_with_the_reason(
    owned: Database, sent: Dispatch, request: pytest.FixtureRequest
) -> None:
    leg = f'{{"type":"PLACE_LIMIT","data":{LIMIT[:-1]},"customerOrderId":"same"}}}}'
    odd = queue(owned, "PLACE_BATCH_ORDERS", payload=f'{{"requests":[{leg},{leg}]}}')
    fine = queue(owned)
    done = sent()
    if is_pipeline(owned, request):
        assert done == Dispatched(needs_care=True)
    else:
        assert [number for number, _ in done.refused] == [odd]
        assert ids(done) == [fine]
        assert statuses(owned) == ["refused", "sending"]
