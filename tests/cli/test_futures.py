"""positions and conditionals, on both databases."""

from __future__ import annotations

from attrs import evolve

from recorder.database.engine import Database
from recorder.log.rules.event import Note, noted
from tests.cli.scene import (
    ESCAPES,
    Answer,
    ask,
    fold,
    now_us,
    own,
    received,
    record_scene,
    snapshot_note,
    start_notes,
)
from tests.log.drafts import run_sql, write
from tests.projections.test_futures import (
    closing,
    conditional,
    position,
    reduction,
    removal,
)


def record_futures(database: Database) -> None:
    """Write one closed position, an open one, and two conditional orders, one removed."""
    own(database)
    frames = [
        position("1"),
        reduction(),
        closing(),
        position("0.000000000000000000000000000003", positionId="p-2", averageEntryPrice="17.50"),
        conditional(),
        conditional(orderId="k-2", takeProfitTriggerPrice="20", conditionalType="TAKE_PROFIT"),
        removal(),
    ]
    here = [evolve(each, connection_id="c-1", received_us=now_us()) for each in frames]
    write(database, *start_notes(), *here, snapshot_note())
    fold(database)


def texts(answer: Answer, *names: str) -> list[tuple[object, ...]]:
    assert answer.code == 0
    return [tuple(row[name] for name in names) for row in answer.rows]


def test_the_positions_that_are_held_are_shown_with_every_digit(
    database: Database, database_url: str
) -> None:
    record_futures(database)
    answer = ask(database_url, "positions")
    (row,) = answer.rows
    assert (row["position_id"], row["state"], row["live"]) == ("p-2", "open", True)
    assert row["quantity"] == "0.000000000000000000000000000003"
    assert row["as_of_position"] == 11
    everything = ask(database_url, "positions", "--all")
    assert texts(everything, "position_id", "state") == [("p-1", "closed"), ("p-2", "open")]
    page = ask(database_url, "positions", "--table").out
    assert "as of position 11" in page
    assert "p-1" not in page


def test_the_history_of_a_position_shows_the_result_of_each_close(
    database: Database, database_url: str
) -> None:
    record_futures(database)
    reported = ask(database_url, "positions", "--history", "p-1")
    assert texts(reported, "event_type", "state", "closed_pnl") == [
        ("OPEN_POSITION_UPDATE", "open", None),
        ("REDUCE_POSITION", "open", "0.9"),
        ("POSITION_CLOSED", "closed", None),
    ]
    unknown = ask(database_url, "positions", "--history", "p-9")
    assert (unknown.code, unknown.out) == (2, "")
    assert "knows no position 'p-9'" in unknown.err


def test_conditional_orders_are_shown_and_what_ended_them(
    database: Database, database_url: str
) -> None:
    record_futures(database)
    waiting = ask(database_url, "conditionals")
    assert texts(waiting, "order_id", "take_profit_trigger_price") == [("k-2", "20")]
    everything = ask(database_url, "conditionals", "--all")
    reported = texts(everything, "order_id", "state", "reason")
    assert reported == [("k-1", "removed", "CANCELLED_BY_USER"), ("k-2", "open", None)]
    history_of = ask(database_url, "conditionals", "--history", "k-1")
    assert texts(history_of, "event_type", "state") == [
        ("ADD_CONDITIONAL_ORDER", "open"),
        ("REMOVE_CONDITIONAL_ORDER", "removed"),
    ]
    assert ask(database_url, "conditionals", "--history", "k-9").code == 2
    assert "TAKE_PROFIT" in ask(database_url, "conditionals", "--table").out


def test_what_may_be_gone_is_warned_of(database: Database, database_url: str) -> None:
    record_futures(database)
    facts = {"complete": False, "balances": False, "open_orders": False}
    given_up = noted("main", now_us(), Note.SNAPSHOT_COMPLETE, facts, connection_id="c-2")
    write(database, given_up)
    fold(database)
    assert "position 'p-2' may be gone" in ask(database_url, "positions").err
    assert (
        "1 conditional order of account 'main' may be gone" in ask(database_url, "conditionals").err
    )


def test_an_account_without_futures_is_reported_as_such(
    database: Database, database_url: str
) -> None:
    record_scene(database)
    for command, sentence in (
        ("positions", "no open position of account 'main' is known"),
        ("conditionals", "no waiting conditional order of account 'main' is known"),
    ):
        answer = ask(database_url, command)
        assert (answer.code, answer.out) == (0, "")
        assert sentence in answer.err


def test_what_the_exchange_names_can_not_reach_the_terminal(
    database: Database, database_url: str
) -> None:
    own(database)
    hostile = {"pair": ESCAPES, "positionId": ESCAPES, "quantity": "1"}
    order = {"orderId": ESCAPES, "currencyPair": ESCAPES}
    write(
        database,
        received("OPEN_POSITION_UPDATE", {"data": hostile}),
        received("ADD_CONDITIONAL_ORDER", {"data": order}),
    )
    fold(database)
    run_sql(database, "UPDATE positions SET basis = 'unconfirmed'")
    for command in ("positions", "conditionals"):
        answer = ask(database_url, command, "--table")
        assert "\x1b" not in answer.out + answer.err
        assert "\\x1b[2J" in answer.out
