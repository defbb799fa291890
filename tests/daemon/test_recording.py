"""All that the exchange sent is in the log and in order, and the tables equal its state."""

from __future__ import annotations

import json
from decimal import Decimal
from functools import partial
from typing import Any

import pytest

from recorder.simulator.faults import GARBAGE
from tests.daemon.scene import (
    LIMIT,
    WAIT_MAX_S,
    Scene,
    amounts,
    assert_chained,
    connected,
    daemon,
    exchange,
    received,
    recording,
    until,
)

MARKET = '{"side":"BUY","pair":"BTCZAR","quoteAmount":"500"}'


async def live_a_day(scene: Scene) -> None:
    """Trade, pay in, pay out, and let the market move."""
    for price in (1_000_000, 1_100_000, 1_190_000):
        scene.books.queue("PLACE_LIMIT_ORDER", LIMIT.replace("1000000", str(price)))
    market = scene.books.queue("PLACE_MARKET_ORDER", MARKET)
    await scene.until_status(market, "accepted", "rejected")
    for _ in range(40):
        await scene.simulator.tick()
    await scene.simulator.reward("USDC", Decimal("1.234567890123456789"))
    await scene.simulator.deposit("BTC", Decimal("0.00000001"), 0)
    await scene.simulator.withdraw("ETH", Decimal("4"))
    for _ in range(5):
        await scene.simulator.tick()
    await scene.until_recorded()


async def test_every_frame_is_recorded_as_it_came_and_in_order(database_url: str) -> None:
    async with recording(database_url) as scene:
        await live_a_day(scene)
        await scene.simulator.drop("reset")
        await until(lambda: scene.simulator.connections == 2)
        await scene.until_live()

        assert received(scene.books) == scene.simulator.sent
        assert {number for number, _ in scene.simulator.sent} == {1, 2}
        assert assert_chained(scene.books) > len(scene.simulator.sent)


async def test_the_tables_are_the_exchanges_own_books(database_url: str) -> None:
    async with recording(database_url) as scene:
        await live_a_day(scene)
        engine = scene.simulator.exchange
        books = scene.books

        balances = amounts(books.ask("SELECT currency, available, reserved, total FROM balances"))
        held = engine.account.books.balances
        assert balances == {
            code: (each.available, each.reserved, each.total) for code, each in held.items()
        }

        listed = books.ask("SELECT order_id, price, remaining_quantity FROM open_orders")
        live = {each.order_id: (each.price, each.remaining) for each in engine.open_orders()}
        assert amounts(listed) == live
        states = "SELECT order_id, original_quantity FROM orders WHERE live"
        assert set(amounts(books.ask(states))) == set(live)

        traded = books.ask("SELECT trade_id, price, quantity, fee FROM trades")
        assert engine.trading.trades
        assert amounts(traded) == {
            each.trade_id: (each.price, each.quantity, each.fee) for each in engine.trading.trades
        }

        booked = "SELECT transaction_id, type, debit_value, credit_value FROM ledger"
        assert ledger_of(books.ask(booked)) == {
            each.transaction_id: (each.kind, amount_of(each.debit), amount_of(each.credit))
            for each in engine.account.books.ledger
        }
        assert books.count("fold_failures") == 0


def ledger_of(rows: list[tuple[Any, ...]]) -> dict[str, tuple[Any, ...]]:
    def number(value: Any) -> Decimal | None:
        return None if value is None else Decimal(value)

    return {key: (kind, number(debit), number(credit)) for key, kind, debit, credit in rows}


def amount_of(money: tuple[str, Decimal] | None) -> Decimal | None:
    return None if money is None else money[1]


@pytest.mark.parametrize("auth", ["headers", "message"])
async def test_what_we_send_is_recorded_before_its_answer(sqlite_url: str, auth: str) -> None:
    async with connected(sqlite_url, auth=auth) as scene:
        await until(lambda: scene.books.count("events", "type = 'SUBSCRIBED'"))
        first = scene.books.ask(
            "SELECT origin, type FROM events WHERE connection_id IS NOT NULL"
            " AND type IN ('AUTHENTICATE', 'AUTHENTICATED', 'SUBSCRIBE', 'SUBSCRIBED')"
            " ORDER BY position"
        )

    begun = [("sent", "AUTHENTICATE")] if auth == "message" else []
    assert first == [
        *begun,
        ("received", "AUTHENTICATED"),
        ("sent", "SUBSCRIBE"),
        ("received", "SUBSCRIBED"),
    ]


async def test_garbage_is_recorded_and_the_next_frame_is_still_folded(database_url: str) -> None:
    async with connected(database_url) as scene:
        for number, garbage in enumerate(GARBAGE.values()):
            await scene.simulator.emit(garbage)
            await scene.simulator.reward("USDC", Decimal(number + 1))
        expected = scene.simulator.exchange.account.books.balances["USDC"].total
        await until(lambda: scene.books.count("ledger") == len(GARBAGE))
        totals = "SELECT currency, total FROM balances WHERE currency = 'USDC'"
        await until(lambda: amounts(scene.books.ask(totals)) == {"USDC": (expected,)})

        texts = [text for _, text in received(scene.books)]
        storable = [each for each in GARBAGE.values() if isinstance(each, str)]
        assert all(each in texts for each in storable if "\x00" not in each)
        assert scene.books.count("events", "encoding = 'base64'") == 2
        failed = scene.books.ask(
            "SELECT DISTINCT events.payload FROM fold_failures JOIN events"
            " ON events.account = fold_failures.account"
            " AND events.position = fold_failures.position"
        )
        assert GARBAGE["wrong_shape"] in {row[0] for row in failed}
        assert scene.simulator.connections == 1
        assert not scene.books.has_note("PROJECTOR_FAILED")
        assert_chained(scene.books)


async def test_a_list_of_tens_of_thousands_of_orders_is_recorded_and_folded(
    database_url: str,
) -> None:
    listed = [
        {
            "orderId": f"01972090-c325-7c8d-beed-{number:012d}",
            "side": "sell",
            "quantity": "0.0001",
            "price": str(2_100_000 + number),
            "currencyPair": "BTCZAR",
            "createdAt": "2026-05-30T09:40:47.525Z",
            "originalQuantity": "0.0001",
            "filledPercentage": "0.00",
            "customerOrderId": f"{number:050d}",
            "type": "limit",
            "status": "Placed",
            "updatedAt": "2026-05-30T09:40:47.526Z",
            "timeInForce": "GTC",
        }
        for number in range(25_000)
    ]
    frame = json.dumps({"type": "OPEN_ORDERS_UPDATE", "data": listed})
    assert len(frame) > 10_000_000
    async with recording(database_url, backfill="0") as scene:
        await scene.simulator.emit(frame)
        for table in ("open_orders", "orders"):
            full = partial(_counts, scene, table, len(listed))
            await until(full, wait_max_s=3 * WAIT_MAX_S)

        prices = scene.books.ask("SELECT price FROM open_orders")
        assert {Decimal(price) for (price,) in prices} == {Decimal(row["price"]) for row in listed}
        assert frame in (text for _, text in received(scene.books))


def _counts(scene: Scene, table: str, rows: int) -> bool:
    return scene.books.count(table) == rows


async def test_frames_that_come_twice_are_recorded_twice_and_counted_once(
    database_url: str,
) -> None:
    async with exchange() as simulator:
        simulator.faults.duplicate = True
        async with daemon(database_url, simulator) as scene:
            await scene.until_live()
            await live_a_day(scene)
            engine = simulator.exchange
            await until(lambda: scene.books.count("ledger") == len(engine.account.books.ledger))

            assert received(scene.books) == simulator.sent
            assert scene.books.count("trades") == len(engine.trading.trades)
            total = scene.books.one("SELECT total FROM balances WHERE currency = 'USDC'")
            assert Decimal(total) == engine.account.books.balances["USDC"].total
            assert max(simulator.exchange.received.values()) == 1


async def test_a_sub_account_is_named_and_recorded(sqlite_url: str) -> None:
    config = {"sub_account_id": "1234567890"}
    async with connected(sqlite_url, config, sub_account_id="1234567890") as scene:
        await until(lambda: scene.books.count("balances") == 4)
        assert scene.simulator.refused == 0


async def test_a_currency_no_longer_held_is_absent_after_reconnecting(database_url: str) -> None:
    async with recording(database_url) as scene:
        # Spent without a frame: the next snapshot doesn't name it any more.
        assert scene.simulator.exchange.withdraw("ETH", Decimal("4"))
        await scene.simulator.drop("cut")
        query = "SELECT basis, available, reserved, total FROM balances WHERE currency = 'ETH'"
        await until(lambda: scene.books.ask(query)[0][0] == "inferred_zero")

        assert [Decimal(each) for each in scene.books.ask(query)[0][1:]] == [0, 0, 0]
        others = "SELECT DISTINCT basis FROM balances WHERE currency <> 'ETH'"
        assert scene.books.ask(others) == [("reported",)]
        gaps = "SELECT cause, state FROM gaps ORDER BY gap_id"
        closed = [("first_start", "closed"), ("connection_lost", "closed")]
        await until(lambda: scene.books.ask(gaps) == closed)


async def test_the_final_state_of_an_order_that_vanished_meanwhile_is_unknown(
    database_url: str,
) -> None:
    async with connected(database_url) as scene:
        placed = scene.books.queue("PLACE_LIMIT_ORDER", LIMIT)
        await scene.until_status(placed, "accepted")
        await until(lambda: scene.books.count("open_orders") == 1)
        # Cancelled without a frame: the next list doesn't name it any more.
        assert scene.simulator.exchange.cancel_all()
        await scene.simulator.drop("cut")

        await until(lambda: scene.books.count("open_orders") == 0)
        await until(lambda: scene.books.ask("SELECT state FROM orders") == [("end_unknown",)])
        assert scene.books.count("orders", "live") == 0


async def test_an_account_without_orders_is_observed_though_no_list_arrives(
    database_url: str,
) -> None:
    async with recording(database_url) as scene:
        placed = scene.books.queue("PLACE_LIMIT_ORDER", LIMIT)
        await scene.until_status(placed, "accepted")
        await until(lambda: scene.books.count("open_orders") == 1)
        assert scene.simulator.exchange.cancel_all()
        scene.simulator.faults.change({"no_empty_list": True})
        await scene.simulator.drop("cut")

        # REST reports that there are none: that stands for the list.
        await until(lambda: scene.books.count("gaps", "state <> 'open'") == 2)
        await until(lambda: scene.books.ask("SELECT state FROM orders") == [("end_unknown",)])
        assert scene.books.count("open_orders") == 0
        query = (
            "SELECT origin, payload FROM events WHERE type = 'REST_OPEN_ORDERS' ORDER BY position"
        )
        assert scene.books.ask(query)[0] == ("fetched", "[]")
        noted = scene.books.one("SELECT position FROM events WHERE type = 'NO_OPEN_ORDERS'")
        complete = "SELECT max(position) FROM events WHERE type = 'SNAPSHOT_COMPLETE'"
        assert noted < scene.books.one(complete)
