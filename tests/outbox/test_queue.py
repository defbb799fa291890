from __future__ import annotations

import threading
from datetime import datetime, timedelta
from itertools import product

import psycopg
import pytest
from sqlalchemy import Connection, text

from recorder.database.engine import Database, in_unit
from recorder.errors import Refused, StorageFailed
from recorder.lease.sql import release, take
from recorder.outbox.rules.states import TRANSITIONS, Status
from recorder.outbox.sql.queue import (
    claim,
    end_expired,
    ensure_control,
    find,
    queued,
    read_switch,
    unresolved,
)
from recorder.outbox.sql.sending import mark_sent, place
from recorder.outbox.sql.settle import change_status
from tests.log.drafts import NOW, run_sql
from tests.queries.orders import queue

MINUTE = timedelta(minutes=1)


@pytest.fixture
def owned(database: Database) -> Database:
    """A database in which epoch 1 owns the account and the switch is on."""

    def own(connection: Connection) -> None:
        take(connection, "main", holder="me", now=NOW, ttl=MINUTE)
        ensure_control(connection, "main", NOW)

    in_unit(database.writer, own)
    return database


def claimed(database: Database, outbox_id: int, *, epoch: int = 1, now: datetime = NOW) -> bool:
    return in_unit(
        database.writer,
        lambda c: claim(
            c,
            "main",
            outbox_id,
            epoch=epoch,
            connection_id="c-1",
            customer_order_id="ours",
            order_id=None,
            now=now,
        ),
    )


def status_of(database: Database, outbox_id: int) -> str:
    asked = "SELECT status FROM outbox WHERE outbox_id = :outbox_id"
    return str(run_sql(database, asked, outbox_id=outbox_id)[0][0])


@pytest.mark.parametrize("column", ["account", "command", "payload", "client_msg_id", "created_at"])
def test_what_was_ordered_can_not_be_changed(database: Database, column: str) -> None:
    queue(database)
    value = "created_by" if column != "created_at" else "expires_at"
    changed = f"UPDATE outbox SET expires_at = '2030-01-01 00:00:00', {column} = {value}"
    run_sql(database, "UPDATE outbox SET expires_at = '2031-01-01 00:00:00'")
    with pytest.raises(Refused, match="what was ordered"):
        run_sql(database, changed)


def test_a_command_can_not_be_deleted(database: Database) -> None:
    queue(database)
    with pytest.raises(Exception, match=r"refused|never deleted"):
        run_sql(database, "DELETE FROM outbox")
    assert run_sql(database, "SELECT count(*) FROM outbox") == [(1,)]


#: One legal way to each status.
WAYS: dict[Status, tuple[Status, ...]] = {
    Status.QUEUED: (),
    Status.SENDING: (Status.SENDING,),
    Status.SENT: (Status.SENDING, Status.SENT),
    Status.ACKNOWLEDGED: (Status.SENDING, Status.SENT, Status.ACKNOWLEDGED),
    Status.ACCEPTED: (Status.SENDING, Status.SENT, Status.ACKNOWLEDGED, Status.ACCEPTED),
    Status.REJECTED: (Status.SENDING, Status.SENT, Status.REJECTED),
    Status.IN_DOUBT: (Status.SENDING, Status.IN_DOUBT),
    Status.NOT_PLACED: (Status.SENDING, Status.IN_DOUBT, Status.NOT_PLACED),
    Status.EXPIRED: (Status.EXPIRED,),
    Status.WITHDRAWN: (Status.WITHDRAWN,),
    Status.REFUSED: (Status.REFUSED,),
}


#: What a rate limit's answer allows.
BACK = {(Status.SENDING, Status.QUEUED), (Status.SENT, Status.QUEUED)}


def change(database: Database, outbox_id: int, here: Status, there: Status) -> None:
    def unit(connection: Connection) -> bool:
        counted = {"attempts": 1} if (here, there) in BACK else {}
        return change_status(connection, "main", outbox_id, here, there, now=NOW, **counted)

    assert in_unit(database.writer, unit)


def test_the_database_allows_the_changes_of_the_table_of_states_and_no_other(
    database: Database,
) -> None:
    allowed = {(here, there) for here in TRANSITIONS for there in TRANSITIONS[here]}
    found = set()
    for here, there in product(Status, Status):
        outbox_id = queue(database)
        for step in WAYS[here]:
            run_sql(
                database,
                "UPDATE outbox SET status = :step WHERE outbox_id = :id",
                step=step.value,
                id=outbox_id,
            )
        try:
            change(database, outbox_id, here, there)
        except Refused:
            continue
        if here is not there:
            found.add((here, there))
    assert found == allowed


@pytest.mark.parametrize(
    ("status", "attempts"),
    [("queued", "0"), ("queued", "2"), ("sent", "1"), ("in_doubt", "1"), ("sending", "1")],
)
def test_attempts_rises_by_one_with_the_way_back_and_never_else(
    database: Database, status: str, attempts: str
) -> None:
    queue(database)
    run_sql(database, "UPDATE outbox SET status = 'sending'")
    with pytest.raises(Refused, match="attempts rises by one when a rate limit puts"):
        run_sql(database, f"UPDATE outbox SET status = '{status}', attempts = {attempts}")
    run_sql(database, "UPDATE outbox SET status = 'queued', attempts = attempts + 1")


def test_bytes_that_were_written_are_not_taken_for_those_of_the_next_sending(
    owned: Database,
) -> None:
    outbox_id = queue(owned)
    assert claimed(owned, outbox_id)
    in_unit(owned.writer, place, "main", outbox_id, 5)
    run_sql(owned, "UPDATE outbox SET status = 'queued', attempts = 1, sent_position = NULL")
    assert claimed(owned, outbox_id)
    in_unit(owned.writer, place, "main", outbox_id, 9)
    assert not in_unit(owned.writer, mark_sent, "main", outbox_id, 5, NOW)
    assert status_of(owned, outbox_id) == "sending"
    assert in_unit(owned.writer, mark_sent, "main", outbox_id, 9, NOW)


def test_every_change_of_status_is_written_down(owned: Database) -> None:
    outbox_id = queue(owned)
    assert claimed(owned, outbox_id)
    in_unit(owned.writer, lambda c: mark_sent(c, "main", outbox_id, 7, NOW))
    run_sql(owned, "UPDATE outbox SET status = 'in_doubt', reason = 'by hand'")
    asked = (
        "SELECT seq, from_status, to_status, reason, changed_by FROM outbox_transitions"
        " ORDER BY account, outbox_id, seq"
    )
    recorder, caller = ("recorder", "sqlite") if owned.dialect == "sqlite" else ("postgres",) * 2
    assert run_sql(owned, asked) == [
        (1, None, "queued", None, caller),
        (2, "queued", "sending", None, recorder),
        (3, "sending", "sent", None, recorder),
        (4, "sent", "in_doubt", "by hand", caller),
    ]


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE outbox_transitions SET to_status = 'sent'",
        "DELETE FROM outbox_transitions",
    ],
)
def test_the_history_of_commands_is_append_only(database: Database, statement: str) -> None:
    queue(database)
    with pytest.raises(Exception, match="append-only"):
        run_sql(database, statement)


def test_a_caller_can_take_back_what_is_still_queued(owned: Database) -> None:
    outbox_id = queue(owned)
    withdraw = "UPDATE outbox SET status = 'withdrawn', reason = 'changed my mind'"
    run_sql(owned, withdraw)
    assert not claimed(owned, outbox_id)
    other = queue(owned)
    assert claimed(owned, other)
    with pytest.raises(Refused, match="status can not change"):
        run_sql(owned, f"{withdraw} WHERE outbox_id = {other}")


def test_a_claim_names_its_owner(owned: Database) -> None:
    outbox_id = queue(owned)
    assert claimed(owned, outbox_id)
    [row] = in_unit(owned.reader, lambda c: unresolved(c, "main"))
    assert (row.status, row.epoch, row.connection_id, row.customer_order_id, row.updated_at) == (
        "sending",
        1,
        "c-1",
        "ours",
        NOW,
    )


def test_a_command_is_claimed_once(owned: Database) -> None:
    outbox_id = queue(owned)
    assert [claimed(owned, outbox_id), claimed(owned, outbox_id)] == [True, False]


def test_no_claim_with_another_epoch_or_a_released_lease(owned: Database) -> None:
    outbox_id = queue(owned)
    assert not claimed(owned, outbox_id, epoch=2)
    in_unit(owned.writer, lambda c: release(c, "main", epoch=1, now=NOW))
    assert not claimed(owned, outbox_id)
    in_unit(owned.writer, lambda c: take(c, "main", holder="other", now=NOW + MINUTE, ttl=MINUTE))
    assert not claimed(owned, outbox_id)
    assert status_of(owned, outbox_id) == "queued"


@pytest.mark.parametrize(
    ("switch", "permitted"),
    [
        ("on", {"PLACE_LIMIT_ORDER", "CANCEL_ORDER"}),
        ("cancel_only", {"CANCEL_ORDER"}),
        ("off", set()),
    ],
)
def test_the_switch_decides_at_the_claim(owned: Database, switch: str, permitted: set[str]) -> None:
    ids = {command: queue(owned, command) for command in ("PLACE_LIMIT_ORDER", "CANCEL_ORDER")}
    run_sql(owned, f"UPDATE controls SET trading = '{switch}'")
    assert {command for command, outbox_id in ids.items() if claimed(owned, outbox_id)} == permitted
    assert in_unit(owned.reader, lambda c: read_switch(c, "main")) == switch


def test_an_account_without_a_switch_sends_nothing(owned: Database) -> None:
    outbox_id = queue(owned)
    # As if it had never been there: no row can be deleted.
    with pytest.raises(StorageFailed, match="can not be deleted"):
        run_sql(owned, "DELETE FROM controls")
    trigger = " ON controls" if owned.dialect == "postgresql" else ""
    run_sql(owned, f"DROP TRIGGER controls_no_delete{trigger}")
    run_sql(owned, "DELETE FROM controls")
    assert not claimed(owned, outbox_id)
    assert in_unit(owned.reader, lambda c: read_switch(c, "main")) == "off"


def test_a_switch_changed_by_hand_records_who_and_when(owned: Database) -> None:
    run_sql(owned, "UPDATE controls SET trading = 'off', reason = 'panic'")
    [(by, at)] = run_sql(owned, "SELECT changed_by, changed_at FROM controls")
    assert by == ("sqlite" if owned.dialect == "sqlite" else "postgres")
    assert str(at)[:19] != str(NOW)[:19]


def test_a_switch_that_stands_is_left_as_it_is(owned: Database) -> None:
    run_sql(owned, "UPDATE controls SET trading = 'off'")
    in_unit(owned.writer, lambda c: ensure_control(c, "main", NOW))
    assert in_unit(owned.reader, lambda c: read_switch(c, "main")) == "off"


def test_what_expired_or_waits_is_not_claimed(owned: Database) -> None:
    expired = queue(owned, expires_at=NOW)
    waiting = queue(owned, not_before=NOW + MINUTE)
    assert not claimed(owned, expired)
    assert not claimed(owned, waiting)


def test_what_has_expired_is_ended_at_once_by_the_accounts_owner_alone(owned: Database) -> None:
    over, later, never = (
        queue(owned, expires_at=NOW),
        queue(owned, expires_at=NOW + MINUTE),
        queue(owned),
    )

    def end(epoch: int) -> int:
        return in_unit(owned.writer, lambda c: end_expired(c, "main", epoch=epoch, now=NOW))

    assert end(2) == 0
    assert end(1) == 1
    ended = [status_of(owned, each) for each in (over, later, never)]
    assert ended == ["expired", "queued", "queued"]


def test_the_queue_has_the_expired_first_then_the_order_of_sending(database: Database) -> None:
    later = queue(database, not_before=NOW + MINUTE, priority=99)
    plain = queue(database)
    urgent = queue(database, priority=1)
    cancel = queue(database, "CANCEL_ORDER", priority=-1)
    expired = queue(database, expires_at=NOW)

    def ids(limit: int) -> list[int]:
        rows = in_unit(database.reader, lambda c: queued(c, "main", NOW, limit))
        return [row.outbox_id for row in rows]

    assert ids(9) == [expired, cancel, urgent, plain, later]
    assert ids(2) == [expired, cancel]


def test_only_what_may_have_gone_out_comes_into_doubt(owned: Database) -> None:
    sending, sent, acknowledged, still_queued = (queue(owned) for _ in range(4))
    for outbox_id in (sending, sent, acknowledged):
        assert claimed(owned, outbox_id)
    for outbox_id in (sent, acknowledged):
        change(owned, outbox_id, Status.SENDING, Status.SENT)
    in_unit(
        owned.writer,
        lambda c: change_status(
            c, "main", acknowledged, "sent", "acknowledged", now=NOW, order_id="o-9"
        ),
    )

    def doubt(outbox_id: int, status: str) -> bool:
        return in_unit(
            owned.writer,
            lambda c: change_status(
                c, "main", outbox_id, status, "in_doubt", now=NOW + MINUTE, reason="killed"
            ),
        )

    assert doubt(sending, "sending") and doubt(sent, "sent")
    for outbox_id, status in ((acknowledged, "acknowledged"), (still_queued, "queued")):
        with pytest.raises(Refused, match="status can not change"):
            doubt(outbox_id, status)
    assert status_of(owned, still_queued) == "queued"
    assert status_of(owned, acknowledged) == "acknowledged"
    rows = in_unit(owned.reader, lambda c: unresolved(c, "main"))
    assert [(row.outbox_id, row.reason) for row in rows] == [
        (sending, "killed"),
        (sent, "killed"),
        (acknowledged, None),
    ]
    [found] = in_unit(owned.reader, lambda c: find(c, "main", order_id="o-9"))
    assert found.outbox_id == acknowledged


def test_a_change_from_another_status_than_expected_is_none(database: Database) -> None:
    outbox_id = queue(database)
    changed = in_unit(
        database.writer,
        lambda c: change_status(c, "main", outbox_id, "sent", "acknowledged", now=NOW),
    )
    assert not changed
    assert status_of(database, outbox_id) == "queued"


def test_the_daemon_is_woken_by_a_command_and_by_the_switch(postgres: Database) -> None:
    in_unit(postgres.writer, lambda c: ensure_control(c, "main", NOW))
    url = postgres.url.set(drivername="postgresql").render_as_string(hide_password=False)
    with psycopg.connect(url, autocommit=True) as listening:
        listening.execute("LISTEN recorder_outbox")
        queue(postgres)
        run_sql(postgres, "UPDATE controls SET trading = 'off'")
        woken = list(listening.notifies(timeout=10, stop_after=2))
    assert [(note.channel, note.payload) for note in woken] == [("recorder_outbox", "main")] * 2


def test_a_takeover_waits_for_a_claim_under_way_and_sees_it(postgres: Database) -> None:
    def own(connection: Connection) -> None:
        take(connection, "main", holder="old", now=NOW, ttl=MINUTE)
        ensure_control(connection, "main", NOW)

    in_unit(postgres.writer, own)
    outbox_id = queue(postgres)
    taken_over: list[list[int]] = []

    def take_over(connection: Connection) -> list[int]:
        later = NOW + 2 * MINUTE
        take(connection, "main", holder="new", now=later, ttl=MINUTE)
        return [row.outbox_id for row in unresolved(connection, "main")]

    rival = threading.Thread(target=lambda: taken_over.append(in_unit(postgres.writer, take_over)))

    def slow_claim(connection: Connection) -> bool:
        done = claim(
            connection,
            "main",
            outbox_id,
            epoch=1,
            connection_id="c",
            customer_order_id=None,
            order_id=None,
            now=NOW,
        )
        rival.start()
        waiting = text(
            "SELECT count(*) FROM pg_stat_activity"
            " WHERE wait_event_type = 'Lock' AND datname = current_database()"
        )
        while not connection.execute(waiting).scalar_one():
            connection.execute(text("SELECT pg_sleep(0.01), pg_stat_clear_snapshot()"))
        return done

    assert in_unit(postgres.writer, slow_claim)
    rival.join()
    assert taken_over == [[outbox_id]]
