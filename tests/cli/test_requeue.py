"""outbox show with look-ups, and outbox requeue: a resend is a person's act, on both databases."""

from __future__ import annotations

import json
from typing import Any

import pytest
from sqlalchemy import Connection

from recorder.database.engine import Database, in_unit
from recorder.log.rules.event import Draft
from recorder.log.sql.append import append, read_head
from recorder.outbox.rules.lookups import Finding
from recorder.outbox.rules.states import Fact, Status
from recorder.outbox.sql.lookups import Lookup, record
from recorder.outbox.sql.queue import claim
from recorder.outbox.sql.sending import mark_sent
from recorder.outbox.sql.settle import change_status
from recorder.timestamps import from_us
from tests.cli.scene import ESCAPES, LIMIT_ORDER, ask, now_us, own
from tests.log.drafts import frame, run_sql, write

#: The steps that lead from queued to each status, after which it was queued again or not.
STEPS = {
    "queued": [],
    "sending": ["sending"],
    "sent": ["sending", "sent"],
    "acknowledged": ["sending", "sent", "acknowledged"],
    "in_doubt": ["sending", "sent", "in_doubt"],
    "accepted": ["sending", "sent", "acknowledged", "accepted"],
    "rejected": ["sending", "sent", "rejected"],
    "not_placed": ["sending", "sent", "in_doubt", "not_placed"],
    "expired": ["expired"],
    "withdrawn": ["withdrawn"],
    "refused": ["refused"],
}
OPEN = ("queued", "sending", "sent", "acknowledged", "in_doubt")


def command_of(url: str, database: Database, status: str, *flags: str) -> int:
    """Queue a command and bring it to a status; return its id."""
    (reported,) = ask(url, "enqueue", "PLACE_LIMIT_ORDER", LIMIT_ORDER, *flags).rows
    before = "queued"
    for step in STEPS[status]:
        now = from_us(now_us())
        outbox_id: int = reported["outbox_id"]
        assert in_unit(database.writer, change_status, "main", outbox_id, before, step, now=now)
        before = step
    return int(reported["outbox_id"])


def test_every_status_is_tried() -> None:
    assert set(STEPS) == set(Status)


def test_a_command_is_queued_again_as_a_new_one_that_points_to_it(
    database: Database, database_url: str
) -> None:
    old = command_of(database_url, database, "not_placed", "--priority", "7")

    answer = ask(database_url, "outbox", "requeue", str(old))

    assert (answer.code, answer.err) == (0, "")
    assert answer.rows == [
        {"account": "main", "outbox_id": old + 1, "requeue_of": old, "status": "queued"}
    ]
    first, second = ask(database_url, "outbox").rows
    for name in ("command", "payload", "priority", "in_order"):
        assert first[name] == second[name]
    assert first["client_msg_id"] != second["client_msg_id"]
    assert (second["requeue_of"], second["customer_order_id"]) == (old, None)
    assert first["status"] == "not_placed"
    reported = ask(database_url, "outbox", "show", str(old)).rows[0]
    assert reported["requeued_as"] == [old + 1]
    shown = ask(database_url, "outbox", "show", str(old + 1), "--table").out
    assert f"a resend of command {old}" in shown


@pytest.mark.parametrize("status", list(Status))
def test_only_what_came_to_nothing_is_queued_again(
    database: Database, database_url: str, status: str
) -> None:
    old = command_of(database_url, database, status)

    plain = ask(database_url, "outbox", "requeue", str(old))

    if status in OPEN or status == "accepted":
        assert plain.code == 2
        assert plain.err.startswith(f"recorder: not queued: command {old} ")
        assert len(ask(database_url, "outbox").rows) == 1
    else:
        assert plain.code == 0
    again = ask(database_url, "outbox", "requeue", str(old), "--again")
    assert again.code == (2 if status in OPEN else 0)


def test_a_resend_of_open_outcome_is_not_sent_beside_another(
    database: Database, database_url: str
) -> None:
    old = command_of(database_url, database, "rejected")
    assert ask(database_url, "outbox", "requeue", str(old)).code == 0

    twice = ask(database_url, "outbox", "requeue", str(old))

    assert twice.code == 2
    assert f"the same as {old + 1}, by requeueing" in twice.err
    run_sql(database, f"UPDATE outbox SET status = 'withdrawn' WHERE outbox_id = {old + 1}")
    assert ask(database_url, "outbox", "requeue", str(old)).code == 0


@pytest.mark.parametrize("open_", ["a resend of the resend", "another resend", "the first one"])
def test_nothing_is_requeued_beside_another_that_asks_for_the_same(
    database: Database, database_url: str, open_: str
) -> None:
    def requeue(outbox_id: int, *flags: str) -> int:
        return ask(database_url, "outbox", "requeue", str(outbox_id), *flags).code

    def withdraw(outbox_id: int) -> None:
        run_sql(database, f"UPDATE outbox SET status = 'withdrawn' WHERE outbox_id = {outbox_id}")

    old = command_of(database_url, database, "not_placed")
    second, third = old + 1, old + 2
    assert requeue(old) == 0
    withdraw(second)
    which = {"a resend of the resend": second, "another resend": old, "the first one": old}[open_]
    assert requeue(which) == 0
    asked = second if which == old else old
    if open_ == "the first one":
        withdraw(third)
        # A late frame has shown that it was placed.
        steps = ("main", old, "not_placed", "accepted")
        assert in_unit(database.writer, change_status, *steps, now=from_us(now_us()))

    assert requeue(asked) == 2
    assert len(ask(database_url, "outbox").rows) == 3
    assert requeue(asked, "--again") == 0


@pytest.mark.parametrize(
    "arguments",
    [("requeue", "99"), ("requeue",), ("show", "1", "--again"), ("--again",)],
    ids=" ".join,
)
def test_a_wrong_question_is_code_2(database_url: str, arguments: tuple[str, ...]) -> None:
    answer = ask(database_url, "outbox", *arguments)
    assert answer.code == 2
    assert answer.err.startswith("recorder: ")
    assert "Traceback" not in answer.err


@pytest.mark.parametrize("status", OPEN)
def test_plain_sql_can_not_point_to_what_is_open_either(
    database: Database, database_url: str, status: str
) -> None:
    old = command_of(database_url, database, status)
    queue = (
        "INSERT INTO outbox (account, command, payload, requeue_of)"
        f" SELECT account, command, payload, {{}} FROM outbox WHERE outbox_id = {old}"
    )
    for number in (old, old + 100):
        with pytest.raises(Exception, match="requeue_of must name a command of this account"):
            run_sql(database, queue.format(number))


def test_whose_resend_a_command_is_can_not_be_changed(
    database: Database, database_url: str
) -> None:
    old = command_of(database_url, database, "rejected")
    assert ask(database_url, "outbox", "requeue", str(old)).code == 0
    for text in ("NULL", str(old + 1)):
        with pytest.raises(Exception, match="what was ordered can not be changed"):
            change = f"UPDATE outbox SET requeue_of = {text} WHERE outbox_id = {old + 1}"
            run_sql(database, change)


def looked_up(database: Database, url: str) -> int:
    """Take a command into doubt and look it up twice, the second time in vain."""
    epoch = own(database).epoch
    (reported,) = ask(url, "enqueue", "PLACE_LIMIT_ORDER", LIMIT_ORDER).rows
    outbox_id: int = reported["outbox_id"]
    (sent,) = write(database, frame("{}", kind="PLACE_LIMIT_ORDER"))
    now = from_us(now_us())
    ids: dict[str, Any] = {"connection_id": "c-1", "customer_order_id": "cid", "order_id": None}
    in_unit(database.writer, claim, "main", outbox_id, epoch=epoch, now=now, **ids)
    in_unit(database.writer, mark_sent, "main", outbox_id, sent.position, now)
    in_unit(database.writer, change_status, "main", outbox_id, "sent", "in_doubt", now=now)
    look = Lookup(outbox_id, "/v1/orders/open", Finding.NO_ANSWER, f"problem {ESCAPES}")

    def unit(connection: Connection) -> None:
        heads = {"main": read_head(connection, "main")}
        answer = Draft("main", now_us(), None, None, "fetched", "", json.dumps([]))
        done = append(connection, heads, [answer])
        positions = [done.heads["main"].position]
        found = Lookup(outbox_id, "/v1/orders/open", Finding.ABSENT, "none", Fact.NOT_FOUND)
        record(connection, positions, account="main", lookups=[found], now=from_us(now_us()))

    in_unit(database.writer, record, (), account="main", lookups=[look], now=from_us(now_us()))
    in_unit(database.writer, unit)
    return outbox_id


def test_the_history_lists_every_look_up_and_its_answer(
    database: Database, database_url: str
) -> None:
    outbox_id = looked_up(database, database_url)

    command, *history_of = ask(database_url, "outbox", "show", str(outbox_id)).rows

    assert command["status"] == "not_placed"
    lookups = [item for item in history_of if item["kind"] == "lookup"]
    assert [(each["finding"], each["position"]) for each in lookups] == [
        ("no_answer", None),
        ("absent", 2),
    ]
    changes = [item["to_status"] for item in history_of if item["kind"] == "transition"]
    assert changes == ["queued", "sending", "sent", "in_doubt", "not_placed"]
    assert [item["kind"] for item in history_of][-2:] == ["lookup", "transition"]
    positions = [item["position"] for item in history_of if item["kind"] == "event"]
    assert positions == [1, 2]


def test_the_history_of_look_ups_is_shown_to_people(database: Database, database_url: str) -> None:
    outbox_id = looked_up(database, database_url)

    reported = ask(database_url, "outbox", "show", str(outbox_id), "--table").out

    assert "look-up /v1/orders/open (no answer): no_answer: problem" in reported
    assert "look-up /v1/orders/open (event 2): absent: none" in reported
    assert "\x1b" not in reported
