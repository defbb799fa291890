"""Limits and strict order as the tables have them, on both databases."""

from __future__ import annotations

import json
from datetime import timedelta
from decimal import Decimal
from functools import partial
from typing import Any

import pytest
from sqlalchemy import Connection, event, insert

from recorder.database import schema
from recorder.database.engine import Database, in_unit
from recorder.errors import Refused
from recorder.lease.sql import take
from recorder.outbox.rules.states import Status
from recorder.outbox.sql.dispatch import first_unsettled
from recorder.outbox.sql.limits import broken_limit, count_open_orders, last_price
from recorder.outbox.sql.queue import end_queued, queued
from recorder.outbox.sql.settle import change_status
from tests.log.drafts import NOW, run_sql
from tests.queries.orders import LIMIT, queue

MARKET = {"side": "SELL", "pair": "BTCZAR", "baseAmount": "2"}


def limit(database: Database, pair: str = "BTCZAR", **values: object) -> None:
    names = ", ".join(["account", "pair", *values])
    places = ", ".join(f":{name}" for name in ("account", "pair", *values))
    run_sql(
        database,
        f"INSERT INTO limits ({names}) VALUES ({places})",
        account="main",
        pair=pair,
        **values,
    )


def broken(database: Database, payload: object = LIMIT, command: str = "PLACE_LIMIT_ORDER") -> Any:
    refusal = in_unit(database.writer, broken_limit, "main", command, json.dumps(payload))
    return None if refusal is None else refusal.rule


def add(database: Database, table: str, **columns: object) -> None:
    row = {"account": "main", **columns}
    in_unit(database.writer, lambda c: c.execute(insert(getattr(schema, table)).values(row)))


def order(database: Database, order_id: str, **columns: object) -> None:
    known: dict[str, object] = {
        "order_id": order_id,
        "pair": "BTCZAR",
        "state": "open",
        "live": True,
        "listed": False,
        "first_position": 1,
        "last_position": 1,
    }
    add(database, "orders", **(known | columns))


def trade(database: Database, position: int, price: str, pair: str = "BTCZAR") -> None:
    add(
        database,
        "trades",
        position=position,
        pair=pair,
        price=Decimal(price),
        received_at=NOW,
    )


# The table


@pytest.mark.parametrize("column", ["max_quantity", "max_value", "max_price_deviation"])
@pytest.mark.parametrize("value", ["0", "-1", "x", "", "1e-3", "NaN", "0.0", ".5"])
def test_a_limit_that_is_no_positive_decimal_is_refused(
    database: Database, column: str, value: str
) -> None:
    # What PostgreSQL's numbers may be written as, is a number there.
    if database.dialect == "postgresql" and value in ("1e-3", ".5"):
        pytest.skip("a number to PostgreSQL")
    with pytest.raises(Exception, match=r"limits_max|invalid input syntax|refused"):
        limit(database, **{column: value})
    assert run_sql(database, "SELECT * FROM limits") == []


@pytest.mark.parametrize(
    ("pair", "values", "name"),
    [
        ("btczar", {"max_quantity": "1"}, "limits_pair"),
        ("", {"max_quantity": "1"}, "limits_pair"),
        ("BTC*", {"max_quantity": "1"}, "limits_pair"),
        ("BTCZAR", {"max_open_orders": -1}, "limits_max_open_orders"),
        ("BTCZAR", {"max_price_deviation": "5"}, "limits_max_price_deviation"),
        ("BTCZAR", {"max_price_deviation": "1"}, "limits_max_price_deviation"),
    ],
)
def test_a_limit_that_can_t_be_meant_is_refused(
    database: Database, pair: str, values: dict[str, object], name: str
) -> None:
    with pytest.raises(Exception, match=name):
        limit(database, pair, **values)


def test_a_limit_records_who_changed_it_and_when(database: Database) -> None:
    limit(database, max_value="1000.50")
    [(first, at)] = run_sql(database, "SELECT changed_by, changed_at FROM limits")
    run_sql(database, "UPDATE limits SET changed_by = 'me', changed_at = '2020-01-01 00:00:00'")
    run_sql(database, "UPDATE limits SET max_value = '2000'")
    [(by, changed)] = run_sql(database, "SELECT changed_by, changed_at FROM limits")
    caller = "sqlite" if database.dialect == "sqlite" else "postgres"
    assert (first, by) == (caller, caller)
    assert str(changed)[:10] >= str(at)[:10]


def test_who_queues_may_read_limits_and_ask_for_order_but_set_nothing(postgres: Database) -> None:
    enqueuer = "SET LOCAL ROLE recorder_enqueuer"
    run_sql(postgres, enqueuer, "SELECT * FROM limits")
    run_sql(
        postgres,
        enqueuer,
        "INSERT INTO outbox (account, command, payload, in_order)"
        " VALUES ('main', 'PLACE_LIMIT_ORDER', :payload, true)",
        payload=json.dumps(LIMIT),
    )
    for statement in (
        "INSERT INTO limits (account, pair) VALUES ('main', '*')",
        "UPDATE limits SET max_value = 1",
        "DELETE FROM limits",
    ):
        with pytest.raises(Exception, match="permission denied"):
            run_sql(postgres, enqueuer, statement)
    daemon = "SET LOCAL ROLE recorder_daemon"
    run_sql(postgres, daemon, "SELECT * FROM limits")
    with pytest.raises(Exception, match="permission denied"):
        run_sql(postgres, daemon, "UPDATE limits SET max_value = 1")


# Reading them


def test_without_a_limit_everything_passes(database: Database) -> None:
    assert broken(database) is None
    limit(database, "ETHZAR", max_quantity="0.0001")
    assert broken(database) is None


def test_the_stricter_of_the_pairs_own_and_everybodys_limit_holds(database: Database) -> None:
    limit(database, "*", max_quantity="0.0005")
    assert broken(database) == "max_quantity"
    limit(database, max_quantity="5", max_value="1000")
    assert broken(database) == "max_quantity"
    run_sql(database, "UPDATE limits SET max_quantity = '7' WHERE pair = '*'")
    assert broken(database) is None
    run_sql(database, "UPDATE limits SET max_value = '999' WHERE pair = 'BTCZAR'")
    assert broken(database) == "max_value"


def test_another_accounts_limits_don_t_hold(database: Database) -> None:
    run_sql(
        database,
        "INSERT INTO limits (account, pair, max_quantity) VALUES ('other', '*', '0.00001')",
    )
    assert broken(database) is None


def test_the_last_price_is_that_of_the_latest_fill(database: Database) -> None:
    def found() -> Decimal | None:
        return in_unit(database.writer, last_price, "main", "BTCZAR")

    assert found() is None
    limit(database, max_value="1000")
    assert broken(database, MARKET, "PLACE_MARKET_ORDER") == "max_value"
    trade(database, 5, "400")
    trade(database, 9, "7", "ETHZAR")
    assert found() == 400
    assert broken(database, MARKET, "PLACE_MARKET_ORDER") is None
    order(database, "o-1", executed_price=Decimal(600), last_position=20)
    for position, price in ((4, Decimal(600)), (20, None)):
        add(
            database,
            "order_history",
            order_id="o-1",
            position=position,
            event_type="ORDER_STATUS_UPDATE",
            state="open",
            applied=True,
            executed_price=price,
            received_at=NOW,
        )
    # The order's fill came before the trade; only its last news came after.
    assert found() == 400
    order(database, "o-2", executed_price=Decimal(600), last_position=21)
    add(
        database,
        "order_history",
        order_id="o-2",
        position=21,
        event_type="ORDER_STATUS_UPDATE",
        state="filled",
        applied=True,
        executed_price=Decimal(600),
        received_at=NOW,
    )
    assert found() == 600
    assert broken(database, MARKET, "PLACE_MARKET_ORDER") == "max_value"


def test_a_change_counts_with_what_stands(database: Database) -> None:
    change = {
        "pair": "BTCZAR",
        "orderId": "o-1",
        "modifyMatchStrategy": "REPRICE",
        "newPrice": "200",
    }
    limit(database, max_value="1000")
    assert broken(database, change, "MODIFY_ORDER") == "max_value"
    order(database, "o-1", customer_order_id="mine", original_quantity=Decimal(5), price=Decimal(1))
    assert broken(database, change, "MODIFY_ORDER") is None
    run_sql(database, "UPDATE limits SET max_value = '999'")
    assert broken(database, change, "MODIFY_ORDER") == "max_value"
    del change["orderId"]
    assert broken(database, change | {"customerOrderId": "mine"}, "MODIFY_ORDER") == "max_value"


def opened(database: Database) -> int:
    return in_unit(database.writer, count_open_orders, "main", "BTCZAR")


def move(database: Database, outbox_id: int, *way: str, **columns: Any) -> None:
    here = "queued"
    for there in way:
        more = columns if there == way[-1] else {}
        step = partial(change_status, now=NOW, **more)
        assert in_unit(database.writer, step, "main", outbox_id, here, there)
        here = there


SENT = ("sending", "sent")
ACKNOWLEDGED = (*SENT, "acknowledged")


def test_open_orders_are_those_in_the_book_and_those_on_their_way(database: Database) -> None:
    order(database, "o-1")
    order(database, "o-2", pair="ETHZAR")
    order(database, "o-3", live=False, state="filled")
    assert opened(database) == 1
    queue(database)
    assert opened(database) == 1
    for way in (("sending",), SENT, ("sending", "in_doubt"), ACKNOWLEDGED):
        before = opened(database)
        move(database, queue(database), *way)
        assert opened(database) == before + 1
    for way in ((*SENT, "rejected"), ("refused",), ("sending", "in_doubt", "not_placed")):
        before = opened(database)
        move(database, queue(database), *way)
        assert opened(database) == before


def test_an_order_counts_once_whether_its_command_or_the_book_shows_it(
    database: Database,
) -> None:
    by_id, by_name = queue(database), queue(database)
    move(database, by_id, *ACKNOWLEDGED, order_id="o-1")
    move(database, by_name, *SENT, customer_order_id="mine")
    assert opened(database) == 2
    order(database, "o-1", pair=None)
    order(database, "o-2", customer_order_id="mine")
    assert opened(database) == 2


def test_an_order_of_unknown_pair_counts_unless_its_command_names_another(
    database: Database,
) -> None:
    order(database, "o-1", pair=None)
    assert opened(database) == 1
    ours = queue(database, payload={**LIMIT, "pair": "ETHZAR"})
    move(database, ours, *ACKNOWLEDGED, order_id="o-1")
    assert opened(database) == 0


def test_an_accepted_command_counts_until_its_order_is_folded(database: Database) -> None:
    outbox_id = queue(database)
    move(database, outbox_id, *ACKNOWLEDGED, "accepted", order_id="o-9", resolved_position=7)
    assert opened(database) == 1
    add(database, "projections", projection="orders", position=6, version=1, updated_at=NOW)
    assert opened(database) == 1
    run_sql(database, "UPDATE projections SET position = 7")
    assert opened(database) == 0


@pytest.mark.parametrize("nth", range(1, 5))
def test_an_order_counts_once_whatever_is_folded_between_two_statements(
    postgres: Database, nth: int
) -> None:
    # On PostgreSQL each statement of a transaction sees what was committed before it.
    add(postgres, "projections", projection="orders", position=6, version=1, updated_at=NOW)
    outbox_id = queue(postgres)
    names = {"order_id": "o-9", "customer_order_id": "mine"}
    move(postgres, outbox_id, *ACKNOWLEDGED, **names)

    def fold() -> None:
        order(postgres, customer_order_id="mine", order_id="o-9")
        run_sql(postgres, "UPDATE projections SET position = 7")
        step = partial(change_status, now=NOW, resolved_position=7)
        in_unit(postgres.writer, step, "main", outbox_id, "acknowledged", "accepted")

    def count(connection: Connection) -> int:
        statements = 0

        def between(*_: object) -> None:
            nonlocal statements
            statements += 1
            if statements == nth:
                fold()

        event.listen(connection, "after_cursor_execute", between)
        found = count_open_orders(connection, "main", "BTCZAR")
        if statements < nth:
            fold()
        return found

    assert in_unit(postgres.writer, count) == 1
    assert opened(postgres) == 1


def test_the_legs_of_a_batch_on_its_way_count_each(database: Database) -> None:
    legs = [
        {"type": "PLACE_LIMIT", "data": LIMIT},
        {"type": "PLACE_LIMIT", "data": {**LIMIT, "customerOrderId": "mine"}},
        {"type": "PLACE_LIMIT", "data": {**LIMIT, "timeInForce": "IOC"}},
        {"type": "PLACE_LIMIT", "data": {**LIMIT, "pair": "ETHZAR"}},
    ]
    outbox_id = queue(database, "PLACE_BATCH_ORDERS", {"requests": legs})
    move(database, outbox_id, *SENT, customer_order_id="f" * 32)
    assert opened(database) == 2
    order(database, "o-1", customer_order_id="f" * 32 + "00")
    order(database, "o-2", customer_order_id="mine")
    assert opened(database) == 2


def test_one_more_than_allowed_is_refused(database: Database) -> None:
    limit(database, max_open_orders=2)
    order(database, "o-1")
    assert broken(database) is None
    move(database, queue(database), "sending")
    assert broken(database) == "max_open_orders"
    assert broken(database, {**LIMIT, "timeInForce": "FOK"}) is None


def test_only_the_accounts_owner_refuses(database: Database) -> None:
    in_unit(database.writer, take, "main", holder="me", now=NOW, ttl=timedelta(minutes=1))
    outbox_id = queue(database)

    def refused(epoch: int) -> bool:
        answer = partial(end_queued, epoch=epoch, reason="max_value: x", now=NOW)
        return in_unit(database.writer, answer, "main", outbox_id, Status.REFUSED)

    assert [refused(2), refused(1), refused(1)] == [False, True, False]
    assert run_sql(database, "SELECT status, reason FROM outbox") == [("refused", "max_value: x")]


# Strict order


def unsettled(database: Database) -> dict[str, int]:
    return in_unit(database.reader, first_unsettled, "main")


def test_unsettled_rows_are_not_read_while_no_row_asks_for_order(database: Database) -> None:
    queue(database)
    assert unsettled(database) == {}


def test_the_first_unsettled_command_of_each_pair_is_known(database: Database) -> None:
    settled, doubtful = queue(database), queue(database)
    move(database, settled, *SENT, "rejected")
    move(database, doubtful, "sending", "in_doubt")
    ether = queue(database, payload={**LIMIT, "pair": "ethzar"})
    both = [
        {"type": "PLACE_LIMIT", "data": {**LIMIT, "pair": "ETHZAR"}},
        {"type": "PLACE_LIMIT", "data": {**LIMIT, "pair": "XRPZAR"}},
    ]
    batch = queue(database, "PLACE_BATCH_ORDERS", {"requests": both})
    queue(database, in_order=True)
    assert unsettled(database) == {"BTCZAR": doubtful, "ETHZAR": ether, "XRPZAR": batch}
    move_from_doubt = in_unit(
        database.writer,
        lambda c: change_status(c, "main", doubtful, "in_doubt", "not_placed", now=NOW),
    )
    assert move_from_doubt
    assert unsettled(database)["BTCZAR"] == batch + 1


def test_rows_that_wait_for_others_don_t_hide_those_behind_them(database: Database) -> None:
    first = queue(database, in_order=True)
    for _ in range(5):
        queue(database, in_order=True)
    plain = queue(database)
    expired = queue(database, in_order=True, expires_at=NOW)
    known = unsettled(database)
    rows = in_unit(
        database.reader, lambda c: queued(c, "main", NOW, 9, unsettled=set(known.values()))
    )
    assert [row.outbox_id for row in rows] == [expired, first, plain]
    assert [row.in_order for row in rows] == [True, True, False]


def test_order_can_be_asked_for_in_plain_sql(database: Database) -> None:
    yes = "1" if database.dialect == "sqlite" else "true"
    run_sql(
        database,
        "INSERT INTO outbox (account, command, payload, in_order)"
        f" VALUES ('main', 'PLACE_LIMIT_ORDER', :payload, {yes})",
        payload=json.dumps(LIMIT),
    )
    [row] = in_unit(database.reader, lambda c: queued(c, "main", NOW, 9))
    assert (row.in_order, row.attempts) == (True, 0)


def test_a_new_command_has_not_been_tried(database: Database) -> None:
    with pytest.raises(Refused, match="attempts of a new command must be 0"):
        run_sql(
            database,
            "INSERT INTO outbox (account, command, payload, attempts)"
            " VALUES ('main', 'PLACE_LIMIT_ORDER', :payload, 3)",
            payload=json.dumps(LIMIT),
        )
