"""``recorder balances --at``, on both databases."""

from __future__ import annotations

import json

import pytest
from attrs import evolve

from recorder.database.engine import Database
from tests.cli.scene import OPEN_ORDER_ID, ask, balance, fold, own, received, record_scene
from tests.cli.test_futures import record_futures
from tests.log.drafts import write


def test_balances_at_a_position_are_those_known_then(database: Database, database_url: str) -> None:
    head = len(record_scene(database))
    write(database, balance("BTC", "7"))
    fold(database)

    before = ask(database_url, "balances", "--at", str(head))
    after = ask(database_url, "balances", "--at", str(head + 1))

    assert before.code == 0
    held = {row["currency"]: row for row in before.rows}
    assert set(held) == {"BTC", "ZAR"}
    assert held["BTC"]["available"] == "0.00002887"
    assert held["ZAR"]["reserved"] == "900000.000000000000000001"
    assert {row["as_of_position"] for row in before.rows} == {head}
    assert {row["live"] for row in before.rows} == {False}
    assert {row["observed"] for row in before.rows} == {"observed"}
    assert after.rows[0]["available"] == "7"


def test_balances_as_true_at_a_time_include_what_was_reported_later(
    database: Database, database_url: str
) -> None:
    record_scene(database)
    reported = balance("BTC", "7")
    sentence = json.loads(reported.payload)
    sentence["data"]["updatedAt"] = "2026-01-01T00:00:00Z"
    write(database, evolve(reported, payload=json.dumps(sentence), connection_id="c-2"))
    fold(database)

    answer = ask(database_url, "balances", "--as", "true", "--at", "2026-01-02T00:00:00Z")
    shown = ask(database_url, "balances", "--table", "--as", "true", "--at", "8")

    assert [(row["currency"], row["available"]) for row in answer.rows] == [("BTC", "7")]
    assert {row["as_of"] for row in answer.rows} == {"2026-01-02T00:00:00.000000Z"}
    assert {row["as_of_position"] for row in answer.rows} == {9}
    assert {(row["reading"], row["observed"]) for row in answer.rows} == {("true", "unobserved")}
    assert "before the log's first event" in answer.err
    assert "known up to position 9" in shown.out
    assert "0.00002887" in shown.out


@pytest.mark.parametrize("command", ["balances", "orders", "positions", "conditionals"])
def test_an_account_that_began_later_keeps_back_no_other_ones_answer(
    database: Database, database_url: str, command: str
) -> None:
    written = record_scene(database)
    own(database, "a-later-one")

    answer = ask(database_url, command, "--table", "--at", str(written[-1].position))

    assert answer.code == 2
    assert "account 'main' as known at position" in answer.out
    assert "position 8 of account 'a-later-one' is not there yet" in answer.err


def test_a_whole_second_is_shown_like_any_other_time(database: Database, database_url: str) -> None:
    record_scene(database)

    answer = ask(
        database_url, "balances", "--table", "--as", "true", "--at", "2026-01-02T02:00:00+02:00"
    )

    assert "account 'main' as true at 2026-01-02 00:00:00.000000 UTC, known up to" in answer.out


def test_a_reading_without_a_moment_is_refused(database: Database, database_url: str) -> None:
    record_scene(database)

    answer = ask(database_url, "balances", "--as", "true")

    assert answer.code == 2
    assert "--as goes with --at" in answer.err


def test_balances_at_a_time_name_the_position(database: Database, database_url: str) -> None:
    written = record_scene(database)
    later = written[-1].received_at.isoformat()

    answer = ask(database_url, "balances", "--table", "--at", later)

    assert answer.code == 0
    assert f"as known at position {written[-1].position}, received" in answer.out


def test_within_the_first_gap_the_answer_is_marked(database: Database, database_url: str) -> None:
    written = record_scene(database)

    answer = ask(database_url, "balances", "--at", str(written[3].position))

    assert [(row["currency"], row["observed"]) for row in answer.rows] == [("BTC", "unobserved")]
    assert "lies in a gap" in answer.err


@pytest.mark.parametrize(
    ("when", "sentence"),
    [
        ("99", "the head is 8"),
        ("2000-01-01T00:00:00Z", "nothing was known"),
        ("9000-01-01T00:00:00Z", "still to come"),
        ("2026-12-31T23:59:60Z", "leap second"),
        ("2026-03-29T02:30:00", "names no zone"),
        ("0", "at least 1"),
        ("yesterday", "a position of the log (1 and up), or a time like"),
        ("-1", "a position of the log (1 and up), or a time like"),
        ("2026-03-29", "is a day, not a time of it"),
        ("0001-01-01T00:00:00+02:00", "outside the years"),
    ],
)
def test_what_can_not_be_known_is_refused(
    database: Database, database_url: str, when: str, sentence: str
) -> None:
    assert len(record_scene(database)) == 8

    answer = ask(database_url, "balances", "--at", when)

    assert answer.code == 2
    assert sentence in answer.err
    assert answer.out == ""


def test_balances_that_are_not_folded_so_far_are_refused(
    database: Database, database_url: str
) -> None:
    head = len(record_scene(database))
    write(database, balance("BTC", "7"))

    answer = ask(database_url, "balances", "--at", str(head + 1))

    assert answer.code == 2
    assert f"folded up to position {head} only" in answer.err


def test_orders_at_a_moment_are_those_that_were_open_then(
    database: Database, database_url: str
) -> None:
    head = len(record_scene(database))
    gone = received("OPEN_ORDERS_UPDATE", {"data": []})
    write(database, gone)
    fold(database)

    before = ask(database_url, "orders", "--at", str(head))
    after = ask(database_url, "orders", "--at", str(head + 1))
    true = ask(database_url, "orders", "--as", "true", "--at", "2026-06-01T00:00:00Z")
    shown = ask(database_url, "orders", "--table", "--at", str(head))

    assert [(row["order_id"], row["state"]) for row in before.rows] == [(OPEN_ORDER_ID, "open")]
    (row,) = before.rows
    assert (row["foreign"], row["certain"], row["as_of_position"]) == (True, True, head)
    assert row["remaining_quantity"] == "0.0001"
    assert after.rows == []
    # It was reported of then for the last time: when it has ended since is unknown.
    assert [(row["order_id"], row["certain"]) for row in true.rows] == [(OPEN_ORDER_ID, False)]
    assert "may have ended before" in true.err
    assert f"as known at position {head}" in shown.out


@pytest.mark.parametrize("command", ["orders", "positions", "conditionals"])
@pytest.mark.parametrize("more", [("--all",), ("--history", "x")])
def test_a_moment_and_another_question_at_once_are_refused(
    database: Database, database_url: str, command: str, more: tuple[str, ...]
) -> None:
    record_scene(database)

    answer = ask(database_url, command, "--at", "8", *more)

    assert answer.code == 2
    assert "out" in answer.err


def test_positions_and_conditionals_at_a_moment(database: Database, database_url: str) -> None:
    record_futures(database)

    held = ask(database_url, "positions", "--at", "4")
    closed = ask(database_url, "positions", "--at", "7")
    waiting = ask(database_url, "conditionals", "--at", "9")
    true = ask(database_url, "positions", "--as", "true", "--at", "9")

    assert [(row["position_id"], row["quantity"]) for row in held.rows] == [("p-1", "1")]
    assert [row["position_id"] for row in closed.rows] == ["p-2"]
    assert [row["order_id"] for row in waiting.rows] == ["k-1", "k-2"]
    assert {row["reading"] for row in true.rows} == {"true"}
    assert "as known at position 7" in ask(database_url, "positions", "--table", "--at", "7").out
