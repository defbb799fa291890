"""Compared with the exchange's own books, while trading goes on and after a frame was swallowed."""

from __future__ import annotations

import json
import random
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
import trio
from attrs import evolve

from recorder.cli import main
from recorder.database.engine import open_database
from recorder.projections import PROJECTIONS
from recorder.projections.sql.rebuild import check
from recorder.reconciliation import tasks as reconciler
from recorder.rest import recorded_fetch
from recorder.simulator.requests import Placing
from tests.daemon.scene import LIMIT, Scene, connected, daemon, exchange, until
from tests.daemon.test_backfill import PAIR, PRICE, rest

#: Nothing is compared unless it is asked for; gaps are fetched at once.
REQUESTED: dict[str, Any] = {"reconcile_every_s": "0", "backfill_after_s": "0.05"}
WAIT_MAX_S = 60.0


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Settle in a moment: the exchange is on this machine."""
    monkeypatch.setattr(reconciler, "SETTLE_S", 0.3)
    monkeypatch.setattr(reconciler, "READY_WAIT_S", 3.0)
    monkeypatch.setattr(reconciler, "HISTORY_SETTLE", timedelta(seconds=0.3))
    monkeypatch.setattr(reconciler, "HISTORY_LAG", timedelta(seconds=0.3))


async def compare(scene: Scene) -> dict[str, Any]:
    """Ask for a comparison as any reader may, and return its row once it has ended."""
    before = scene.books.count("reconciliations", "state <> 'running'")
    scene.books.do("INSERT INTO reconciliation_requests (account) VALUES ('main')")
    ended = "state <> 'running'"
    await until(lambda: scene.books.count("reconciliations", ended) > before, WAIT_MAX_S)
    names = "reconciliation_id", "state", "reason", "balances", "open_orders", "differences"
    query = f"SELECT {', '.join(names)} FROM reconciliations ORDER BY reconciliation_id DESC"
    return dict(zip(names, scene.books.ask(query)[0], strict=True))


def found(scene: Scene, made: dict[str, Any]) -> list[tuple[Any, ...]]:
    return scene.books.ask(
        "SELECT list, key, field, ours, theirs, state FROM differences"
        f" WHERE reconciliation_id = {made['reconciliation_id']} ORDER BY difference_id"
    )


async def ready(scene: Scene) -> None:
    await scene.until_live()
    await until(lambda: scene.books.count("gaps", "state NOT IN ('open', 'closed')") == 1)


async def trade_on(scene: Scene) -> None:
    rng = random.Random(7)
    while True:
        await scene.simulator.tick()
        await scene.simulator.reward("USDC", Decimal(rng.randint(1, 9)) / 100)
        await trio.sleep(0.05)


def rest_unobserved(scene: Scene) -> str:
    """Place an order of which no frame reports; return its id."""
    placing = Placing(PAIR, "buy", Decimal("0.004"), PRICE, post_only=True, time_in_force="GTC")
    order = scene.simulator.exchange.trading.place(placing)
    scene.simulator.exchange.account.take()
    return order.order_id


def assert_rebuilt_alike(url: str) -> None:
    """Check that every table is what its log folds into."""
    with open_database(url) as database:
        for projection in PROJECTIONS:
            assert check(database, "main", projection, lambda _: None).differences == []


async def test_nothing_differs_while_trading_goes_on(database_url: str) -> None:
    async with connected(database_url, **REQUESTED) as scene:
        await ready(scene)
        rest(scene.simulator)
        await scene.simulator.flush()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trade_on, scene)
            for _ in range(2):
                made = await compare(scene)
                assert (made["state"], made["reason"]) == ("clean", None)
                assert made["balances"] >= 3
                assert made["open_orders"] >= 1
            nursery.cancel_scope.cancel()
    assert_rebuilt_alike(database_url)


async def test_a_balance_whose_frame_was_swallowed_is_found_and_its_end_is_reported(
    database_url: str,
) -> None:
    async with connected(database_url, **REQUESTED) as scene:
        await ready(scene)
        scene.simulator.exchange.reward("USDC", Decimal("0.5"))
        made = await compare(scene)
        assert made["state"] == "differing"
        rows = [row for row in found(scene, made) if row[0] == "balances"]
        assert {(row[1], row[2], row[5]) for row in rows} == {
            ("USDC", "available", "open"),
            ("USDC", "total", "open"),
        }
        for _, _, _, ours, theirs, _ in rows:
            assert Decimal(theirs) - Decimal(ours) == Decimal("0.5")
        # The transaction's own frame was swallowed too; the history reported of it.
        ((_, key, field, ours, theirs, state),) = [
            row for row in found(scene, made) if row[0] == "ledger"
        ]
        assert (field, ours, state) == ("row", None, "filled_in")
        assert "0.5" in theirs
        assert scene.books.count("ledger", "transaction_id = :key", key=key) == 1

        # It stands, so it is found again; then a frame reports the truth, and it is gone.
        again = await compare(scene)
        assert {row[5] for row in found(scene, made)} == {"found_again", "filled_in"}
        await scene.simulator.reward("USDC", Decimal("0.1"))
        last = await compare(scene)
        assert last["state"] == "clean"
        assert {row[5] for row in found(scene, again)} == {"gone"}
    assert_rebuilt_alike(database_url)


async def test_an_order_and_a_fill_of_which_no_frame_came_are_found(database_url: str) -> None:
    async with connected(database_url, **REQUESTED) as scene:
        await ready(scene)
        order_id = rest_unobserved(scene)
        made = await compare(scene)
        assert ("open_orders", order_id, "row", None) in [row[:4] for row in found(scene, made)]
        trades = len(scene.simulator.exchange.trading.trades)
        scene.simulator.exchange.fill(order_id, Decimal("0.001"))
        filled = scene.simulator.exchange.trading.trades[trades:]
        made = await compare(scene)
        keys = {row[1] for row in found(scene, made) if row[0] == "trades"}
        assert keys == {trade.trade_id for trade in filled}
        assert scene.books.count("trades", "source = 'backfill'") == len(filled)
    assert_rebuilt_alike(database_url)


async def test_a_fill_that_the_history_does_not_list_or_lists_otherwise_is_found(
    database_url: str,
) -> None:
    async with connected(database_url, **REQUESTED) as scene:
        await ready(scene)
        simulator = scene.simulator
        order_id = rest(simulator)
        reported = simulator.exchange.fill(order_id, Decimal("0.001"))
        (trade,) = [each for each in reported if each["type"] == "NEW_ACCOUNT_TRADE"]
        real = simulator.exchange.trading.trades[-1]
        dear = {**trade, "data": {**trade["data"], "price": "1000001"}}
        invented = {**trade, "data": {**trade["data"], "id": "invented"}}
        simulator.send([each if each is not trade else dear for each in reported])
        simulator.send([invented])
        await scene.until_recorded()
        await trio.sleep(0.7)

        made = await compare(scene)

        fill = f"{PAIR} buy {PRICE} 0.001"
        shown = [row for row in found(scene, made) if row[0] == "trades"]
        assert ("trades", real.trade_id, "price", "1000001", str(PRICE), "open") in shown
        ((ours, theirs, state),) = [row[3:] for row in shown if row[1] == "invented"]
        assert ours.startswith(fill)
        assert (theirs, state, len(shown)) == (None, "open", 2)
        # It was no invention, the history had not received of it.
        simulator.exchange.trading.trades.append(evolve(real, trade_id="invented"))
        await compare(scene)
        states = {row[1]: row[5] for row in found(scene, made)}
        assert (states["invented"], states[real.trade_id]) == ("gone", "found_again")
    assert_rebuilt_alike(database_url)


async def test_an_order_that_ended_unobserved_is_found(database_url: str) -> None:
    async with connected(database_url, **REQUESTED) as scene:
        await ready(scene)
        order_id = rest(scene.simulator)
        await scene.simulator.flush()
        await scene.until_recorded()
        assert (await compare(scene))["state"] == "clean"
        (order,) = scene.simulator.exchange.open_orders()
        assert order.order_id == order_id
        scene.simulator.exchange.trading.cancel(order)
        scene.simulator.exchange.account.take()
        made = await compare(scene)
        reported = [row for row in found(scene, made) if row[1] == order_id]
        assert {row[0] for row in reported} <= {"open_orders", "orders"}
        assert reported


@pytest.mark.parametrize("problem", [{"rest_status": 500}, {"rest_status": 403}])
async def test_what_is_not_answered_is_not_called_equal(
    sqlite_url: str, problem: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recorded_fetch, "RETRY_FIRST_S", 0.01)
    async with connected(sqlite_url, **REQUESTED) as scene:
        await ready(scene)
        monkeypatch.setattr(reconciler, "HISTORY_WAIT_S", 1.0)
        scene.simulator.faults.change(problem)
        made = await compare(scene)
        assert made["state"] == "incomplete"
        assert f"balances: HTTP {problem['rest_status']}" in made["reason"]
        assert f"open_orders: HTTP {problem['rest_status']}" in made["reason"]
        assert "histories: " in made["reason"]
        assert (made["balances"], made["differences"]) == (None, 0)


async def test_a_difference_stays_open_where_only_the_first_look_was_answered(
    sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recorded_fetch, "RETRY_FIRST_S", 0.01)
    async with connected(sqlite_url, **REQUESTED) as scene:
        await ready(scene)
        scene.simulator.exchange.reward("USDC", Decimal("0.5"))
        first = await compare(scene)
        scene.simulator.faults.change({"next_rest": ["none", *["error"] * reconciler.TRIES]})
        second = await compare(scene)
        assert (second["state"], second["balances"]) == ("incomplete", None)
        assert second["reason"].startswith("balances: HTTP 500")
        assert {row[5] for row in found(scene, first) if row[0] == "balances"} == {"open"}


async def test_a_limit_is_waited_out(sqlite_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recorded_fetch, "RETRY_FIRST_S", 0.1)
    async with connected(sqlite_url, **REQUESTED) as scene:
        await ready(scene)
        scene.simulator.faults.change({"next_rest": ["error", "cut", "html"]})
        assert (await compare(scene))["state"] == "clean"


async def test_without_a_connection_it_is_incomplete_and_reports_why(sqlite_url: str) -> None:
    async with connected(sqlite_url, **REQUESTED) as scene:
        await ready(scene)
        scene.simulator.faults.refuse_upgrade = 503
        await scene.simulator.drop("cut")
        await until(lambda: scene.books.count("gaps", "state = 'open'") == 1)
        made = await compare(scene)
        assert made["state"] == "incomplete"
        assert "no connection" in made["reason"]


async def test_a_connection_that_breaks_in_the_middle_leaves_no_difference(
    sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reconciler, "SETTLE_S", 1.0)
    async with connected(sqlite_url, **REQUESTED) as scene:
        await ready(scene)
        scene.books.do("INSERT INTO reconciliation_requests (account) VALUES ('main')")
        await until(lambda: scene.books.has_note("RECONCILIATION_ANSWER"))
        await scene.simulator.drop("cut")
        scene.simulator.exchange.reward("USDC", Decimal("0.5"))
        await until(lambda: scene.books.count("reconciliations", "state <> 'running'") == 1, 60)
        state, reason = scene.books.ask("SELECT state, reason FROM reconciliations")[0]
        assert state == "incomplete"
        assert "lost meanwhile" in reason
        assert scene.books.count("differences", "state = 'open'") == 0


async def test_one_that_was_broken_off_is_ended_by_the_next_start(
    sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reconciler, "SETTLE_S", 30.0)
    async with exchange() as simulator:
        async with daemon(sqlite_url, simulator, **REQUESTED) as scene:
            await ready(scene)
            scene.books.do("INSERT INTO reconciliation_requests (account) VALUES ('main')")
            await until(lambda: scene.books.has_note("RECONCILIATION_ANSWER"))
        async with daemon(sqlite_url, simulator, **REQUESTED) as scene:
            await until(lambda: scene.books.count("reconciliations", "state = 'incomplete'") == 1)
            reason = scene.books.one("SELECT reason FROM reconciliations")
            assert reason == "the recorder ended in the middle of it"


async def test_it_is_made_by_schedule(sqlite_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async with connected(sqlite_url, **(REQUESTED | {"reconcile_every_s": "0.5"})) as scene:
        await ready(scene)
        clean = "state = 'clean' AND requested_by = 'schedule'"
        await until(lambda: scene.books.count("reconciliations", clean) >= 2, WAIT_MAX_S)


async def test_orders_of_others_are_foreign_and_ours_are_not(database_url: str) -> None:
    async with connected(database_url, **REQUESTED) as scene:
        await ready(scene)
        alone = scene.books.queue("PLACE_LIMIT_ORDER", LIMIT)
        named = LIMIT.replace("}", ',"customerOrderId":"mine1"}')
        legs = [{"type": "PLACE_LIMIT", "data": json.loads(each)} for each in (LIMIT, named)]
        batch = scene.books.queue("PLACE_BATCH_ORDERS", json.dumps({"requests": legs}))
        await scene.until_status(alone, "accepted")
        await scene.until_status(batch, "accepted")
        foreign = rest(scene.simulator)
        await scene.simulator.flush()
        await until(lambda: scene.books.count("orders") == 4)
        cancel = scene.books.queue(
            "CANCEL_ORDER", json.dumps({"orderId": foreign, "pair": "BTCZAR"})
        )
        await scene.until_status(cancel, "accepted")
        await scene.until_folded()
        assert scene.books.ask("SELECT order_id FROM foreign_orders") == [(foreign,)]


async def test_the_command_requests_waits_and_reports(
    sqlite_url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    def call(*flags: str) -> tuple[int, str]:
        code = main(["reconcile", *flags], {"RECORDER_DATABASE_URL": sqlite_url})
        return code, capsys.readouterr().out

    async with connected(sqlite_url, **REQUESTED) as scene:
        await ready(scene)
        code, out = await trio.to_thread.run_sync(call, "--table")
        assert code == 0
        assert "nothing differs" in out
        scene.simulator.exchange.reward("USDC", Decimal("0.5"))
        code, out = await trio.to_thread.run_sync(call, "--json")
        reported = [json.loads(line) for line in out.splitlines()]
        assert code == 1
        assert reported[0]["state"] == "differing"
        assert {row["list"] for row in reported[1:]} == {"balances", "ledger"}
    code, out = call("--past", "--json")
    assert code == 0
    assert json.loads(out.splitlines()[0])["state"] == "differing"
    code, _ = call()
    assert code == 2
