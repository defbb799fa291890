"""Which orders were open at a moment, against a fold up to it and against the exchange's books."""

from __future__ import annotations

import json
import random
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from attrs import evolve
from sqlalchemy import Connection

from recorder.database.engine import Database, in_unit
from recorder.database.schema import orders
from recorder.exchange.lists import Fetched
from recorder.log.rules.event import Draft
from recorder.projections.rules.orders import Orders
from recorder.projections.rules.validity import index_value, seconds
from recorder.projections.sql.rebuild import check
from recorder.projections.sql.tables import Memory, project
from recorder.queries import as_of
from recorder.queries.as_of import ORDERS, Reading, known_at
from recorder.simulator import views
from recorder.simulator.views import Query
from recorder.timestamps import from_us, to_us
from tests.log.drafts import NOW_US, run_sql, write
from tests.outbox.trading import Account
from tests.projections.test_fetched_folds import history_of
from tests.projections.test_folds import frame, listed, status

KEPT = ("order_id", "state", "price", "original_quantity", "remaining_quantity", "updated_at")


def fold(database: Database, up_to: int) -> None:
    options: dict[str, Any] = {"up_to": up_to, "limit": 1_000, "now": from_us(NOW_US)}
    in_unit(database.projector, project, Orders(), Memory(), "main", **options)


def live(connection: Connection) -> list[dict[str, Any]]:
    """Return the live rows of `orders` as they stand."""
    wanted = orders.select().where(orders.c.live).order_by(orders.c.first_position)
    return [{name: row[name] for name in KEPT} for row in connection.execute(wanted).mappings()]


def assert_known(database: Database, *drafts: Draft) -> None:
    """Check each position against a fold of the log up to it."""
    written, stood = write(database, *drafts), []
    for each in written:
        fold(database, each.position)
        stood.append(in_unit(database.reader, live))
    for each, rows in zip(written, stood, strict=True):
        known = in_unit(database.reader, known_at, "main", each.position, ORDERS)
        assert [{name: row[name] for name in KEPT} for row in known] == rows
    assert any(stood)
    assert check(database, "main", Orders(), lambda _: None).differences == []


@pytest.mark.parametrize("seed", range(4))
def test_what_was_known_at_each_position_is_the_fold_up_to_it(
    database: Database, seed: int
) -> None:
    account = Account(random.Random(seed))
    account.live(25)
    account.connect()
    account.live(10)
    assert_known(database, *account.log)


@pytest.mark.parametrize("seed", range(4))
def test_that_holds_whatever_is_fetched_and_in_any_order(database: Database, seed: int) -> None:
    assert_known(database, *history_of(random.Random(seed)))


def test_an_order_that_was_given_up_and_listed_again_counts_as_open_in_between_at_no_time(
    database: Database,
) -> None:
    assert_known(database, listed("o-1"), listed(), listed("o-1"), listed("o-1", "o-2"), listed())


def books(account: Account) -> dict[str, Decimal]:
    """Return what remains of each order that is open at the exchange now."""
    return {order.order_id: order.remaining for order in account.exchange.open_orders()}


def true_at(database: Database, moment: datetime) -> dict[str, Mapping[str, Any]]:
    rows = in_unit(database.reader, as_of.true_at, "main", moment, ORDERS)
    return {row["order_id"]: row for row in rows}


@pytest.mark.parametrize("seed", range(4))
def test_what_was_true_at_a_time_is_what_the_exchange_had_open_then(
    database: Database, seed: int
) -> None:
    account, stood = Account(random.Random(seed)), {}
    for _ in range(60):
        account.live(1)
        stood[account.clock()] = books(account)
    # Which frame came when makes no difference to what is true.
    written = write(database, *account.log)
    fold(database, written[-1].position)

    for moment, open_then in stood.items():
        reported = true_at(database, moment)
        assert {name: row["remaining_quantity"] for name, row in reported.items()} == open_then
        assert all(row["certain"] for row in reported.values())
    assert any(stood.values())


@pytest.mark.parametrize("seed", range(4))
def test_nothing_wrong_is_certain_of_an_unobserved_time(database: Database, seed: int) -> None:
    """What the line lost is fetched: it reports when each order ended, not each of its fills."""
    account, stood = Account(random.Random(seed)), {}
    for step in range(60):
        if step == 19:
            account.clock.pass_s(1)
            account.converse_with(account.rest())
        received_facts = len(account.log)
        account.live(1)
        if 20 <= step < 40:
            del account.log[received_facts:]
        stood[account.clock()] = books(account)
        if step == 40:
            account.connect()
            query = Query({"showZeroVolumeCancels": "true", "limit": "100"})
            rows = json.dumps(views.order_history(account.exchange, query, []))
            at_us, kind = to_us(account.clock()), Fetched.ORDER_HISTORY.value
            account.log.append(Draft("main", at_us, 5, None, "fetched", kind, rows))
    written = write(database, *account.log)
    fold(database, written[-1].position)

    missed = list(stood)[20:40]
    for moment, open_then in stood.items():
        reported = true_at(database, moment)
        assert set(reported) >= set(open_then)
        for name, row in reported.items():
            assert not row["certain"] or name in open_then
        if moment not in missed:
            assert set(reported) == set(open_then)
    assert any(stood[moment] for moment in missed)


def test_an_order_of_unknown_end_may_have_ended_since_its_last_report(
    database: Database,
) -> None:
    start = datetime(2026, 1, 1, tzinfo=UTC)
    drafts = [
        status("Placed", "3", "2026-01-01T00:00:02.000Z"),
        status("Partially Filled", "2", "2026-01-01T00:00:04.000Z", executedQuantity="1"),
        listed(connection="c2"),
    ]
    at_us = [to_us(start + timedelta(seconds=each)) for each in (2.1, 4.1, 9)]
    stamped = [evolve(draft, received_us=us) for draft, us in zip(drafts, at_us, strict=True)]
    fold(database, write(database, *stamped)[-1].position)

    def reported(second: float) -> list[tuple[object, ...]]:
        rows = true_at(database, start + timedelta(seconds=second)).values()
        return [(row["state"], row["remaining_quantity"], row["certain"]) for row in rows]

    assert reported(1) == reported(9) == []
    assert reported(3) == [("open", 3, True)]
    assert reported(4) == reported(8.9) == [("partially_filled", 2, False)]


def test_a_refused_cancel_proves_nothing_about_the_state(database: Database) -> None:
    """It came in between a change and the word of it, with the state that was known by then."""
    refused = frame("FAILED_CANCEL_ORDER", {"orderId": "o-1", "message": "no"})
    written = write(
        database,
        status("Placed", "3", "2026-01-01T00:00:00.000Z"),
        refused,
        status("Partially Filled", "2", "2026-01-01T00:00:01.000Z", executedQuantity="1"),
    )
    fold(database, written[-1].position)

    (row,) = true_at(database, from_us(NOW_US + 1_000_000)).values()

    assert (row["state"], row["remaining_quantity"]) == ("partially_filled", 2)


def test_a_life_is_found_from_each_moment_in_it_and_from_no_other(database: Database) -> None:
    rng = random.Random(1)
    for _ in range(60):
        first = rng.choice((1, 2, rng.randrange(1, 100), rng.randrange(1, 1 << 40)))
        last = first + rng.choice((0, 1, rng.randrange(100), rng.randrange(1 << 39)))
        inside = {first, last, rng.randint(first, last)}
        for moment in inside:
            query = f"{as_of.index_values(':at')} SELECT value FROM around"
            found = {row[0] for row in run_sql(database, query, at=moment)}
            assert index_value(first, last) in found
            assert len(found) < 45
    assert seconds(datetime(1900, 1, 1, tzinfo=UTC)) == 1


def plan(database: Database, query: str, **values: object) -> list[str]:
    if database.dialect == "sqlite":
        return [str(row) for row in run_sql(database, f"EXPLAIN QUERY PLAN {query}", **values)]
    # The tables of a test are so small that reading them whole would be right.
    return [
        str(row)
        for row in run_sql(database, "SET LOCAL enable_seqscan = off", f"EXPLAIN {query}", **values)
    ]


@pytest.mark.parametrize(
    ("reading", "index"),
    [
        (ORDERS.known, "orders_validity_by_position"),
        (ORDERS.true, "orders_validity_by_time"),
    ],
)
def test_neither_reading_walks_the_orders(database: Database, reading: Reading, index: str) -> None:
    at: object = 7
    if index == "orders_validity_by_time":
        at = from_us(NOW_US) if database.dialect == "postgresql" else "2026-03-01 12:00:00.000000"
    steps = plan(database, ORDERS.query(reading), account="main", at=at, second=1)

    assert any(index in step for step in steps)
    walks = ("SCAN b ", "SCAN h", "SCAN e", "Seq Scan on orders", "Seq Scan on order_history")
    assert [step for step in steps if any(walk in f"{step} " for walk in walks)] == []
    assert [step for step in steps if "SCAN b'" in step] == []
