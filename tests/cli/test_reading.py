"""status, balances, orders and events, on both databases."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from datetime import timedelta

import pytest
from attrs import evolve
from sqlalchemy import event, update

from recorder.cli.events import event_lines
from recorder.database.engine import Database, in_unit
from recorder.database.schema import projections
from recorder.lease.holder import this_holder
from recorder.lease.sql import take
from recorder.log.rules.event import Draft, Event, Note, noted
from recorder.queries.account_status import FAR_BEHIND_EVENTS, read_account_status, tables_behind
from recorder.timestamps import from_us
from tests.cli.scene import (
    ESCAPES,
    OPEN_ORDER_ID,
    ask,
    balance,
    fold,
    now_us,
    open_order,
    own,
    received,
    record_scene,
    start_notes,
)
from tests.log.drafts import NOW_US, frame, run_sql, write


def test_the_status_of_a_running_recorder_shows_head_connection_lease_and_lag(
    database: Database, database_url: str
) -> None:
    written = record_scene(database)

    answer = ask(database_url, "status")

    (reported,) = answer.rows
    assert answer.code == 0
    assert reported["recorder"] == "running"
    assert reported["live"] is True
    assert reported["warnings"] == []
    assert reported["head"]["position"] == len(written)
    assert reported["head"]["digest"] == written[-1].digest.hex()
    assert reported["connection"]["state"] == "authenticated"
    assert reported["connection"]["last_frame_age_s"] < 60
    assert reported["lease"]["epoch"] == 1
    assert {each["lag"] for each in reported["projections"]} == {0}
    assert reported["switch"]["trading"] == "on"
    assert reported["gaps_open"] == 0


def test_status_never_calls_a_row_connected_whose_recorder_is_gone(
    database: Database, database_url: str
) -> None:
    own(database, ended=True)
    write(database, *start_notes())
    fold(database)

    (reported,) = ask(database_url, "status").rows
    page = ask(database_url, "status", "--table").out

    assert reported["recorder"] == "not running"
    assert reported["live"] is False
    assert reported["connection"]["state"] == "unknown"
    assert "connection  unknown" in page
    assert "authenticated since" not in page


def test_status_shows_silence_and_an_open_gap(database: Database, database_url: str) -> None:
    own(database)
    write(database, *start_notes(), frame(kind="", at_us=NOW_US))
    fold(database)

    (reported,) = ask(database_url, "status").rows

    assert reported["gaps_open"] == 1
    assert any("nothing was received" in doubt for doubt in reported["warnings"])
    assert any("a gap is open" in doubt for doubt in reported["warnings"])


def test_status_counts_what_is_pending_in_the_outbox(database: Database, database_url: str) -> None:
    record_scene(database)
    for pair in ("BTCZAR", "ETHZAR"):
        payload = json.dumps({"pair": pair, "orderId": "o"})
        assert ask(database_url, "enqueue", "CANCEL_ORDER", payload).code == 0

    (reported,) = ask(database_url, "status").rows

    assert reported["outbox"] == {
        "queued": 2,
        "sending": 0,
        "sent": 0,
        "acknowledged": 0,
        "in_doubt": 0,
    }


def test_status_counts_through_the_partial_indexes_however_long_the_outbox_is(
    sqlite: Database,
) -> None:
    seen: list[str] = []

    @event.listens_for(sqlite.reader, "before_cursor_execute")
    def on_execute(_c: object, _u: object, statement: str, *_rest: object) -> None:
        if "FROM outbox" in statement:
            seen.append(statement)

    in_unit(sqlite.reader, read_account_status, "main")

    plans = [
        str(run_sql(sqlite, f"EXPLAIN QUERY PLAN {statement.replace('?', ':account')}", account=""))
        for statement in seen
    ]
    assert len(plans) == 2
    assert "outbox_queued" in plans[0]
    assert "outbox_unresolved" in plans[1]


def test_status_shows_every_account_of_the_database(database: Database, database_url: str) -> None:
    write(database, frame(account="b"), frame(account="a"))
    own(database, "c")

    everyone = ask(database_url, "status").rows
    one = ask(database_url, "status", "--account", "b").rows
    variable = ask(database_url, "status", environment={"RECORDER_ACCOUNT": "a"}).rows

    assert [reported["account"] for reported in everyone] == ["a", "b", "c"]
    assert [reported["account"] for reported in one] == ["b"]
    assert [reported["account"] for reported in variable] == ["a"]


def test_balances_are_exact_and_leave_out_what_is_zero(
    database: Database, database_url: str
) -> None:
    written = record_scene(database)

    answer = ask(database_url, "balances")

    assert [row["currency"] for row in answer.rows] == ["BTC", "ZAR"]
    assert answer.rows[0]["total"] == "0.00002887"
    assert answer.rows[1]["reserved"] == "900000.000000000000000001"
    assert answer.rows[1]["as_of_position"] == len(written)
    assert answer.rows[1]["live"] is True
    assert answer.err == ""
    everything = ask(database_url, "balances", "--all").rows
    assert [row["currency"] for row in everything] == ["BTC", "XRP", "ZAR"]


def test_a_balance_that_was_never_reported_is_not_taken_for_zero(
    database: Database, database_url: str
) -> None:
    own(database)
    unknown = {"currency": "DOGE", "available": None, "reserved": None, "total": None}
    write(database, *start_notes(), received("BALANCE_UPDATE", {"data": unknown}))
    fold(database)

    (row,) = ask(database_url, "balances").rows

    assert (row["currency"], row["total"]) == ("DOGE", None)


def test_balances_of_a_recorder_that_is_not_running_are_not_called_live(
    database: Database, database_url: str
) -> None:
    own(database, ended=True)
    write(database, *start_notes(), balance("BTC", "1"))
    fold(database)

    answer = ask(database_url, "balances")

    assert answer.rows[0]["live"] is False
    assert "the recorder isn't running" in answer.err
    assert "not now" in answer.err


def test_a_table_of_balances_shows_its_as_of_time(database: Database, database_url: str) -> None:
    written = record_scene(database)

    answer = ask(database_url, "balances", "--table")

    assert f"account 'main' as of position {len(written)}, folded 20" in answer.out
    assert "900100.500000000000000001" in answer.out
    assert "1 currency with nothing left out" in answer.out


@pytest.mark.parametrize(
    "command", ["balances", "orders", "positions", "conditionals", "events", "outbox"]
)
def test_an_empty_table_explains_itself(command: str, database_url: str) -> None:
    answer = ask(database_url, command, "--table")

    assert answer.code == 0
    assert "main" in answer.out


def test_balances_of_a_recorder_that_never_ran_explain_that(database_url: str) -> None:
    answer = ask(database_url, "balances", "--table")

    assert "no recorder ever ran for account 'main'" in answer.err


def test_a_process_that_is_alive_but_does_not_renew_is_not_called_gone(
    database: Database, database_url: str
) -> None:
    begun = from_us(now_us()) - timedelta(hours=1)
    ttl = timedelta(seconds=15)
    in_unit(database.writer, take, "main", holder=this_holder(), now=begun, ttl=ttl)

    (reported,) = ask(database_url, "status").rows

    assert (reported["recorder"], reported["live"]) == ("not running", False)
    assert "frozen or cut off from the database" in reported["warnings"][0]


def test_a_table_that_stands_still_under_a_running_recorder_is_a_doubt(
    database: Database, database_url: str
) -> None:
    written = record_scene(database)
    write(database, received("PONG", {}))
    before = ask(database_url, "status").rows[0]
    long_ago = from_us(now_us()) - timedelta(minutes=5)
    stopped = update(projections).where(projections.c.projection == "trades")
    in_unit(database.writer, lambda c: c.execute(stopped.values(updated_at=long_ago)))

    reported = ask(database_url, "status").rows[0]

    assert before["warnings"] == []
    (doubt,) = reported["warnings"]
    assert doubt.startswith(f"the table 'trades' stands still at position {len(written)} for 5 min")
    assert not reported["live"]
    assert f"warning     {doubt[:40]}" in ask(database_url, "status", "--table").out


def test_a_table_that_is_far_behind_is_a_doubt_even_while_it_moves(database: Database) -> None:
    record_scene(database)
    status = in_unit(database.reader, read_account_status, "main")
    far = evolve(status, position=status.position + FAR_BEHIND_EVENTS + 1)

    now = from_us(now_us())

    assert tables_behind(status, now) == ()
    assert len(tables_behind(far, now)) == len(status.checkpoints)
    assert "is 10,001 events behind the log" in tables_behind(far, now)[0]
    # Of one that isn't running that is reported already, and nothing keeps up.
    assert tables_behind(far, now + timedelta(hours=1)) == ()


def test_a_lease_that_outlives_its_process_has_not_ended_yet(
    database: Database, database_url: str
) -> None:
    gone = this_holder().rpartition("/")[0] + "/0"
    ttl = timedelta(minutes=5)
    in_unit(database.writer, take, "main", holder=gone, now=from_us(now_us()), ttl=ttl)

    page = ask(database_url, "status", "--table").out

    assert f"not running: {gone}, epoch 1; lease not released, ends " in page
    assert "process is gone" in page


def test_orders_are_the_live_ones_and_those_that_ended_lately(
    database: Database, database_url: str
) -> None:
    own(database)
    ended = {
        "orderId": "ended-1",
        "orderStatusType": "Filled",
        "currencyPair": "BTCZAR",
        "originalPrice": "10",
        "remainingQuantity": "0",
        "originalQuantity": "1",
        "orderSide": "buy",
        "orderType": "limit",
        "orderUpdatedAt": "2026-05-30T09:40:47.526Z",
        "orderCreatedAt": "2026-05-30T09:40:47.526Z",
    }
    write(
        database,
        *start_notes(),
        received("OPEN_ORDERS_UPDATE", {"data": [open_order()]}),
        received("ORDER_STATUS_UPDATE", {"data": ended}),
    )
    fold(database)

    lately = ask(database_url, "orders").rows
    listed = ask(database_url, "orders", "--open").rows
    everything = ask(database_url, "orders", "--all").rows
    newest = ask(database_url, "orders", "--all", "--limit", "1").rows

    assert [row["order_id"] for row in lately] == ["ended-1", OPEN_ORDER_ID]
    assert [row["order_id"] for row in listed] == [OPEN_ORDER_ID]
    assert listed[0]["price"] == "2100000"
    assert [row["order_id"] for row in everything] == [OPEN_ORDER_ID, "ended-1"]
    assert [row["order_id"] for row in newest] == ["ended-1"]


def test_the_history_of_an_order_is_each_of_its_transitions(
    database: Database, database_url: str
) -> None:
    record_scene(database)

    known = ask(database_url, "orders", "--history", OPEN_ORDER_ID)
    unknown = ask(database_url, "orders", "--history", "unknown")

    assert known.code == 0
    assert known.rows[0]["event_type"] == "OPEN_ORDERS_UPDATE"
    assert unknown.code == 2
    assert "knows no order 'unknown'" in unknown.err


def test_events_give_the_payload_as_it_stands_in_the_log(
    database: Database, database_url: str
) -> None:
    text = '{"type": "A",  "x": "\\ud800 \\u0000", "y": "é"}'
    (written,) = write(database, frame(text, kind="A"))

    (row,) = ask(database_url, "events").rows

    assert row["payload"] == text
    assert row["digest"] == written.digest.hex()
    assert row["received_at"] == "2026-03-01T12:00:00.123456Z"
    assert row["position"] == 1
    assert row["origin"] == "received"
    assert row["encoding"] == "text"


def positions(url: str, *argv: str) -> list[int]:
    return [row["position"] for row in ask(url, "events", *argv).rows]


def test_events_are_listed_oldest_first_and_can_be_continued(
    database: Database, database_url: str
) -> None:
    write(database, *(frame(kind="AB"[n % 2]) for n in range(30)))

    assert positions(database_url) == list(range(11, 31))
    assert positions(database_url, "--limit", "3") == [28, 29, 30]
    assert positions(database_url, "--after", "27") == [28, 29, 30]
    assert positions(database_url, "--after", "4", "--limit", "2") == [5, 6]
    assert positions(database_url, "--type", "A", "--limit", "2") == [27, 29]
    assert positions(database_url, "--after", "3", "--type", "B", "--limit", "2") == [4, 6]
    assert positions(database_url, "--origin", "noted") == []
    assert positions(database_url, "--after", "30") == []


def test_events_of_one_origin_are_found_among_the_others(
    database: Database, database_url: str
) -> None:
    note = noted("main", NOW_US, Note.RECORDER_STARTED, {})
    write(database, frame(), note, frame(), frame())

    assert positions(database_url, "--origin", "noted") == [2]
    assert positions(database_url, "--origin", "received", "--limit", "2") == [3, 4]


def test_events_of_several_accounts_are_not_mixed(database: Database, database_url: str) -> None:
    write(database, frame(account="a"), frame(account="b"))

    answer = ask(database_url, "events")

    assert answer.code == 2
    assert "choose with --account: 'a', 'b'" in answer.err
    assert positions(database_url, "--account", "b") == [1]


def test_following_prints_what_comes_after_it_began(database: Database, database_url: str) -> None:
    write(database, frame(kind="FIRST"))
    command = [sys.executable, "-m", "recorder", "events", "--follow", "--after", "0"]
    command += ["--limit", "2", "--database-url", database_url]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as following:
        assert following.stdout is not None
        first = json.loads(following.stdout.readline())
        # It has read to the end of the log, and follows now.
        write(database, frame(kind="SECOND"))
        second = json.loads(following.stdout.readline())
        assert following.wait() == 0

    assert [first["type"], second["type"]] == ["FIRST", "SECOND"]


def test_following_ends_at_ctrl_c_without_noise(sqlite: Database, sqlite_url: str) -> None:
    write(sqlite, frame(kind="FIRST"))
    command = [sys.executable, "-m", "recorder", "events", "--follow"]
    command += ["--database-url", sqlite_url]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as following:
        assert following.stdout is not None
        assert following.stderr is not None
        following.stdout.readline()
        following.send_signal(signal.SIGINT)
        assert following.stderr.read() == ""
        assert following.wait() == 130


def event_of(payload: str, kind: str = "") -> Event:
    draft = Draft("main", NOW_US, None, None, "received", kind, payload)
    return Event(
        draft.account,
        7,
        draft.received_us,
        None,
        None,
        draft.origin,
        kind,
        payload,
        "text",
        bytes(32),
    )


def test_a_line_of_the_log_fits_the_screen_and_can_not_drive_it() -> None:
    wide = event_lines(event_of(ESCAPES * 100, kind="BALANCE_UPDATE"), 160)
    narrow = event_lines(event_of(ESCAPES * 100, kind="BALANCE_UPDATE"), 60)

    assert len(wide) == 1
    assert len(wide[0]) == 160
    assert len(narrow) == 2
    assert "2026-03-01 12:00:00.123456" in narrow[0]
    assert all("\x1b" not in line and "\u202e" not in line for line in [*wide, *narrow])
    assert len(narrow[1]) <= 60


def test_hostile_names_from_the_exchange_reach_no_terminal(
    database: Database, database_url: str
) -> None:
    own(database)
    write(
        database,
        *start_notes(),
        balance("\x1b[2J[red]Z", "1"),
        received("OPEN_ORDERS_UPDATE", {"data": [open_order("o-\x1b[2J", status="[bold]Placed")]}),
    )
    fold(database)

    for command in ("balances", "orders", "orders --open", "events", "status"):
        answer = ask(database_url, *command.split(), "--table")
        assert answer.code == 0
        assert "\x1b" not in answer.out + answer.err
    assert "\\x1b[2J[red]Z" in ask(database_url, "balances", "--table").out
