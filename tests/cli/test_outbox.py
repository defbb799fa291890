"""enqueue and outbox, on both databases."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from recorder.cli.outbox import MEANINGS
from recorder.database.engine import Database, in_unit
from recorder.outbox.rules.states import Status
from recorder.outbox.sql.queue import claim
from recorder.outbox.sql.sending import mark_sent
from recorder.outbox.sql.settle import change_status
from recorder.timestamps import from_us
from tests.cli.scene import ESCAPES, LIMIT_ORDER, ask, now_us, own, record_scene
from tests.log.drafts import frame, run_sql, write


def test_enqueue_prints_the_id_of_a_durable_row(database: Database, database_url: str) -> None:
    record_scene(database)

    answer = ask(
        database_url,
        "enqueue",
        "PLACE_LIMIT_ORDER",
        LIMIT_ORDER,
        *("--client-msg-id", "mine", "--priority", "-7"),
        *("--not-before", "2026-01-01T00:00:00Z", "--expires-at", "2027-01-01T02:00:00+02:00"),
    )

    assert (answer.code, answer.err) == (0, "")
    (reported,) = answer.rows
    (row,) = ask(database_url, "outbox").rows
    assert row["outbox_id"] == reported["outbox_id"]
    assert row["payload"] == LIMIT_ORDER
    assert (row["client_msg_id"], row["priority"]) == ("mine", -7)
    assert row["not_before"] == "2026-01-01T00:00:00.000000Z"
    assert row["expires_at"] == "2027-01-01T00:00:00.000000Z"


@pytest.mark.parametrize(
    ("command", "payload", "named"),
    [
        ("PLACE_LIMIT_ORDER", '{"side":"BUY"}', "quantity"),
        ("PLACE_LIMIT_ORDER", LIMIT_ORDER.replace('"0.001"', "0.001"), "quantity"),
        ("PLACE_LIMIT_ORDER", LIMIT_ORDER.replace("BUY", "HOLD"), "side"),
        ("PLACE_LIMIT_ORDER", "[]", "object"),
        ("PLACE_LIMIT_ORDER", "not json", "object"),
        ("PLACE_LIMIT_ORDER", "", "object"),
        ("SELL_EVERYTHING", "{}", "command"),
        ("CANCEL_ORDER", '{"pair":"BTCZAR\x00"}', "payload"),
        ("CANCEL_ORDER", '{"pair":"\ud800"}', "payload"),
    ],
)
def test_what_can_not_be_sent_is_refused_in_a_sentence_that_names_it(
    database_url: str, command: str, payload: str, named: str
) -> None:
    answer = ask(database_url, "enqueue", command, payload)

    assert answer.code == 2
    assert answer.out == ""
    assert answer.err.startswith("recorder: not queued: ")
    assert named in answer.err
    assert "Traceback" not in answer.err
    assert ask(database_url, "outbox").rows == []


def test_a_client_message_id_queues_one_command_only(database_url: str) -> None:
    arguments = ("enqueue", "PLACE_LIMIT_ORDER", LIMIT_ORDER, "--client-msg-id", "once")

    assert ask(database_url, *arguments).code == 0
    again = ask(database_url, *arguments)

    assert again.code == 2
    assert "client_msg_id" in again.err
    assert len(ask(database_url, "outbox").rows) == 1


def test_a_client_message_id_that_the_schema_refuses_is_named(database_url: str) -> None:
    for client_msg_id in ("", "x" * 101):
        answer = ask(
            database_url,
            "enqueue",
            "PLACE_LIMIT_ORDER",
            LIMIT_ORDER,
            "--client-msg-id",
            client_msg_id,
        )

        assert answer.code == 2
        assert "not queued: client_msg_id must be 1 to 100 characters" in answer.err


def test_a_command_for_an_account_without_a_recorder_is_warned_of(
    database: Database, database_url: str
) -> None:
    own(database)

    queued = ask(database_url, "enqueue", "PLACE_LIMIT_ORDER", LIMIT_ORDER, "--account", "mian")

    assert queued.code == 0
    assert "no recorder ever ran for account 'mian'" in queued.err
    assert "one that it knows: 'main'" in queued.err
    # Its trading switch was never set, neither on nor off.
    assert "switch" not in queued.err
    assert [row["account"] for row in ask(database_url, "outbox").rows] == ["mian"]
    reported = {row["account"]: row for row in ask(database_url, "status").rows}
    assert reported["mian"]["outbox"]["queued"] == 1
    assert not reported["mian"]["live"]


def test_a_command_whose_time_is_over_is_reported_as_not_to_be_sent(database_url: str) -> None:
    answer = ask(
        database_url,
        *("enqueue", "PLACE_LIMIT_ORDER", LIMIT_ORDER, "--expires-at", "2026-01-01T00:00:00Z"),
    )

    assert answer.code == 0
    assert "its --expires-at is over" in answer.err


def test_a_command_that_will_have_to_wait_is_reported_with_the_reason(
    database: Database, database_url: str
) -> None:
    own(database)
    run_sql(database, "UPDATE controls SET trading = 'off'")

    answer = ask(database_url, "enqueue", "PLACE_LIMIT_ORDER", LIMIT_ORDER)

    assert answer.code == 0
    assert "not been connected" in answer.err
    assert "the switch of account 'main' is off" in answer.err


def test_a_caller_that_may_only_queue_needs_no_other_right(
    postgres: Database, postgres_url: str
) -> None:
    record_scene(postgres)
    as_enqueuer = f"{postgres_url}&options=-c%20role%3Drecorder_enqueuer"

    answer = ask(as_enqueuer, "enqueue", "PLACE_LIMIT_ORDER", LIMIT_ORDER)

    assert (answer.code, answer.err) == (0, "")
    assert [row["status"] for row in ask(postgres_url, "outbox").rows] == ["queued"]
    run_sql(postgres, "UPDATE controls SET trading = 'off'")
    waits = ask(as_enqueuer, "enqueue", "PLACE_LIMIT_ORDER", LIMIT_ORDER)
    assert waits.code == 0
    assert "the switch of account 'main' is off" in waits.err


def test_a_command_that_is_queued_is_never_reported_as_a_failure(
    database: Database, database_url: str
) -> None:
    record_scene(database)
    # What is looked at behind the INSERT can't be read.
    run_sql(database, "ALTER TABLE reconciliations RENAME TO elsewhere")

    answer = ask(database_url, "enqueue", "PLACE_LIMIT_ORDER", LIMIT_ORDER)

    assert answer.code == 0
    assert answer.rows[0]["status"] == "queued"
    assert "whether it waits could not be looked up" in answer.err


def test_a_payload_can_come_from_standard_input(sqlite_url: str) -> None:
    command = [sys.executable, "-m", "recorder", "enqueue", "PLACE_LIMIT_ORDER", "-"]
    command += ["--database-url", sqlite_url]

    done = subprocess.run(command, input=LIMIT_ORDER.encode() + b"\n", capture_output=True)
    wrong = subprocess.run(command, input=b"\xff\xfe", capture_output=True)

    assert done.returncode == 0
    assert ask(sqlite_url, "outbox").rows[0]["payload"] == LIMIT_ORDER
    assert wrong.returncode == 2
    assert b"standard input is no UTF-8 text" in wrong.stderr


def test_the_outbox_shows_the_newest_commands_of_a_status(database_url: str) -> None:
    for _ in range(3):
        ask(database_url, "enqueue", "PLACE_LIMIT_ORDER", LIMIT_ORDER)

    everything = [row["outbox_id"] for row in ask(database_url, "outbox").rows]
    newest = [row["outbox_id"] for row in ask(database_url, "outbox", "--limit", "2").rows]
    doubtful = ask(database_url, "outbox", "--status", "in_doubt")

    assert everything == sorted(everything)
    assert newest == everything[1:]
    assert doubtful.rows == []
    assert "no command of status in_doubt" in doubtful.err


def sent_and_answered(database: Database, url: str) -> int:
    """Take one command from the queue to accepted, as the daemon does; return its id."""
    epoch = own(database).epoch
    outbox_id: int = ask(url, "enqueue", "PLACE_LIMIT_ORDER", LIMIT_ORDER).rows[0]["outbox_id"]
    now = from_us(now_us())
    in_unit(
        database.writer,
        claim,
        "main",
        outbox_id,
        epoch=epoch,
        connection_id="c-1",
        customer_order_id="cid",
        order_id=None,
        now=now,
    )
    (sent,) = write(database, frame('{"type":"PLACE_LIMIT_ORDER"}', kind="PLACE_LIMIT_ORDER"))
    in_unit(database.writer, mark_sent, "main", outbox_id, sent.position, now)
    payload = json.dumps({"type": "PLACE_LIMIT_WS_RESPONSE", "x": ESCAPES})
    (answer,) = write(database, frame(payload, kind="PLACE_LIMIT_WS_RESPONSE", at_us=now_us()))
    steps = (("sent", "acknowledged"), ("acknowledged", "accepted"))
    for (before, after), column in zip(
        steps, ("acknowledged_position", "resolved_position"), strict=True
    ):
        changed = in_unit(
            database.writer,
            change_status,
            "main",
            outbox_id,
            before,
            after,
            now=from_us(now_us()),
            **{column: answer.position},
        )
        assert changed
    return outbox_id


def test_a_commands_history_lists_every_change_and_the_events_that_prove_it(
    database: Database, database_url: str
) -> None:
    outbox_id = sent_and_answered(database, database_url)

    answer = ask(database_url, "outbox", "show", str(outbox_id))

    command, *history_of = answer.rows
    assert answer.code == 0
    assert (command["status"], command["meaning"]) == ("accepted", "it took effect")
    changes = [item["to_status"] for item in history_of if item["kind"] == "transition"]
    assert changes == ["queued", "sending", "sent", "acknowledged", "accepted"]
    events = {item["position"]: item["type"] for item in history_of if item["kind"] == "event"}
    assert events == {1: "PLACE_LIMIT_ORDER", 2: "PLACE_LIMIT_WS_RESPONSE"}
    assert [item["at"] for item in history_of] == sorted(item["at"] for item in history_of)


def test_a_commands_history_shows_the_exchanges_texts_without_control_characters(
    database: Database, database_url: str
) -> None:
    outbox_id = sent_and_answered(database, database_url)

    answer = ask(database_url, "outbox", "show", str(outbox_id), "--table")

    assert "accepted: it took effect" in answer.out
    assert "sent → acknowledged" in answer.out
    assert "customer_order_id  cid" in answer.out
    assert "\x1b" not in answer.out


def test_a_command_that_is_not_there_is_code_2(database_url: str) -> None:
    answer = ask(database_url, "outbox", "show", "99")

    assert answer.code == 2
    assert "there is no command 99" in answer.err


def test_every_status_has_a_meaning() -> None:
    assert set(MEANINGS) == set(Status)
