"""Did my order go out? What no frame reports is asked over REST, and absence counts late."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio

from recorder.clock import SystemClock
from recorder.exchange.rest_requests import RestRequest
from recorder.rest.client import RestAnswer, open_rest
from tests.daemon.scene import LIMIT, Scene, connected, daemon, exchange, runtime, until

SETTLE_S, EVERY_S = 0.3, 0.1
MARKET = '{"pair":"BTCZAR","side":"BUY","quoteAmount":"1000"}'
PATIENT: dict[str, Any] = {"settle_s": str(SETTLE_S), "lookup_every_s": str(EVERY_S)}


@asynccontextmanager
async def looking(url: str, config: dict[str, Any] | None = None) -> AsyncIterator[Scene]:
    async with connected(url, config, **PATIENT) as scene:
        yield scene


def lookups(scene: Scene, outbox_id: int) -> list[tuple[Any, ...]]:
    """Return (what was asked, position, finding, reported) of each look-up, in order."""
    query = (
        "SELECT request, position, finding, answer FROM outbox_lookups"
        " WHERE account = 'main' AND outbox_id = :id ORDER BY seq"
    )
    return scene.books.ask(query, id=outbox_id)


def findings(scene: Scene, outbox_id: int) -> list[str]:
    return [row[2] for row in lookups(scene, outbox_id)]


def assert_sent_once(scene: Scene) -> None:
    texts = scene.books.ask("SELECT payload FROM events WHERE origin = 'sent'")
    names = [json.loads(text)["clientMsgId"] for (text,) in texts if "clientMsgId" in text]
    assert len(names) == len(set(names))
    assert set(scene.simulator.exchange.received.values()) <= {1}


def assert_answers_kept(scene: Scene, outbox_id: int) -> None:
    """Check that each look-up with an answer points at it, as a fetched event."""
    reported = [row for row in lookups(scene, outbox_id) if row[1] is not None]
    assert reported
    query = "SELECT origin, connection_id FROM events WHERE account = 'main' AND position = :at"
    for _, position, _, answer in reported:
        assert scene.books.ask(query, at=position) == [("fetched", None)]
        assert answer


async def lost(scene: Scene, command: str = "PLACE_LIMIT_ORDER", payload: str = LIMIT) -> int:
    """Queue a command that never arrives, and lose the connection."""
    scene.simulator.faults.change({"next_commands": ["lose_command"]})
    outbox_id = scene.books.queue(command, payload)
    await scene.until_status(outbox_id, "sent")
    await scene.simulator.drop("cut")
    return outbox_id


async def placed(scene: Scene, payload: str = LIMIT) -> tuple[int, str]:
    """Queue an order that comes to rest; return its outbox_id and VALR's id."""
    outbox_id = scene.books.queue("PLACE_LIMIT_ORDER", payload)
    await scene.until_status(outbox_id, "accepted")
    return outbox_id, str(
        scene.books.one("SELECT order_id FROM outbox WHERE outbox_id = :id", id=outbox_id)
    )


def cancel_of(order_id: str) -> str:
    return json.dumps({"pair": "BTCZAR", "orderId": order_id})


async def test_a_lost_order_counts_as_not_placed_after_three_look_ups_spread_over_time(
    database_url: str,
) -> None:
    async with looking(database_url) as scene:
        outbox_id = await lost(scene)
        await scene.until_status(outbox_id, "not_placed")

        assert scene.books.history_of(outbox_id)[-2:] == ["in_doubt", "not_placed"]
        # Two questions each: every state of the order, and the open ones.
        kept = lookups(scene, outbox_id)
        assert {row[2] for row in kept} == {"absent"}
        assert len([row for row in kept if "/history/detail/" in row[0]]) >= 3
        assert len([row for row in kept if row[0] == "/v1/orders/open"]) >= 3
        assert_answers_kept(scene, outbox_id)
        reason, position = scene.books.ask("SELECT reason, resolved_position FROM outbox")[0]
        assert reason.startswith("3 look-ups over")
        assert position == kept[-1][1]
        assert_sent_once(scene)


async def test_an_order_that_came_and_went_unseen_is_found_over_rest(database_url: str) -> None:
    async with looking(database_url) as scene:
        scene.simulator.faults.change({"next_commands": ["accept_then_cut"], "refuse_upgrade": 503})
        outbox_id = scene.books.queue("PLACE_LIMIT_ORDER", LIMIT)
        await until(lambda: scene.simulator.exchange.open_orders())
        # Gone before we are back: no frame will name it.
        scene.simulator.exchange.cancel_all()
        await scene.until_status(outbox_id, "accepted")
        scene.simulator.faults.change({"refuse_upgrade": 0})

        assert findings(scene, outbox_id)[-1] == "effect"
        assert_answers_kept(scene, outbox_id)
        order_id = scene.books.one("SELECT order_id FROM outbox")
        assert order_id in scene.simulator.exchange.trading.orders.all
        assert_sent_once(scene)


async def test_what_rest_does_not_know_yet_is_not_taken_for_absent(database_url: str) -> None:
    # REST receives of orders late, but sooner than absence begins to count.
    async with connected(database_url, settle_s="4", lookup_every_s="0.1") as scene:
        scene.simulator.faults.change({"next_commands": ["accept_then_cut"], "rest_behind_s": 3})
        outbox_id = scene.books.queue("PLACE_MARKET_ORDER", MARKET)
        await scene.until_status(outbox_id, "accepted")

        answer = findings(scene, outbox_id)
        assert answer[-1] == "effect"
        assert answer.count("absent") > 3
        assert "not_placed" not in scene.books.history_of(outbox_id)
        assert_sent_once(scene)


async def test_an_order_that_failed_unseen_is_rejected_with_its_reason(database_url: str) -> None:
    async with looking(database_url) as scene:
        scene.simulator.faults.change({"next_commands": ["accept_then_cut"]})
        outbox_id = scene.books.queue("PLACE_LIMIT_ORDER", LIMIT.replace("0.001", "0.9"))
        await scene.until_status(outbox_id, "rejected")

        assert findings(scene, outbox_id)[-1] == "refused"
        assert scene.books.one("SELECT reason FROM outbox") == "Insufficient Balance"
        assert_sent_once(scene)


@pytest.mark.parametrize("end", ["accepted", "rejected", "not_placed"])
async def test_a_cancel_in_doubt_is_resolved_by_its_order(database_url: str, end: str) -> None:
    async with looking(database_url) as scene:
        _, order_id = await placed(scene)
        fault = "accept_then_cut" if end == "accepted" else "lose_command"
        # No connection is accepted until the order's outcome is what it is to be.
        scene.simulator.faults.change({"next_commands": [fault], "refuse_upgrade": 503})
        cancel = scene.books.queue("CANCEL_ORDER", cancel_of(order_id))
        if end != "accepted":
            await scene.until_status(cancel, "sent")
            await scene.simulator.drop("cut")
        if end == "rejected":
            order = scene.simulator.exchange.trading.orders.all[order_id]
            scene.simulator.exchange.fill(order_id, order.remaining)
        if end == "not_placed":
            scene.simulator.faults.change({"refuse_upgrade": 0})
        await scene.until_status(cancel, end)
        scene.simulator.faults.change({"refuse_upgrade": 0})

        words = {"accepted": "effect", "rejected": "refused", "not_placed": "unchanged"}
        assert findings(scene, cancel)[-1] == words[end]
        if end == "rejected":
            query = "SELECT reason FROM outbox WHERE outbox_id = :id"
            assert scene.books.one(query, id=cancel) == "the order ended first: Filled"
        assert_sent_once(scene)


class FastClock(SystemClock):
    """A clock that is ahead by more than clocks are taken to be different."""

    def wall_us(self) -> int:
        return super().wall_us() + 20_000_000


@pytest.mark.parametrize("fault", ["swallow_outcome", "lose_command"])
async def test_a_cancel_by_name_ends_with_the_only_order_of_that_name(
    database_url: str, fault: str
) -> None:
    # By its clock every order ended long before the cancel went out.
    around = runtime(clock=FastClock())
    async with (
        exchange(time_window_s=1e9) as simulator,
        daemon(database_url, simulator, around, **PATIENT) as scene,
    ):
        await scene.until_connected(1)
        named = json.dumps({**json.loads(LIMIT), "customerOrderId": "mine"})
        _, order_id = await placed(scene, named)
        order = simulator.exchange.trading.orders.all[order_id]
        simulator.exchange.fill(order_id, order.remaining)
        simulator.faults.change({"next_commands": [fault]})
        text = json.dumps({"pair": "BTCZAR", "customerOrderId": "mine"})
        cancel = scene.books.queue("CANCEL_ORDER", text)
        await scene.until_status(cancel, "rejected")

        assert findings(scene, cancel)[-1] == "refused"
        query = "SELECT reason FROM outbox WHERE outbox_id = :id"
        assert scene.books.one(query, id=cancel) == "the order ended first: Filled"
        is_acknowledged = "acknowledged" in scene.books.history_of(cancel)
        assert is_acknowledged is (fault == "swallow_outcome")
        assert_sent_once(scene)


@pytest.mark.parametrize(
    ("fault", "end"), [("accept_then_cut", "accepted"), ("lose", "not_placed")]
)
async def test_a_change_in_doubt_is_resolved_by_what_the_order_shows(
    sqlite_url: str, fault: str, end: str
) -> None:
    async with looking(sqlite_url) as scene:
        _, order_id = await placed(scene)
        change = {"orderId": order_id, "pair": "BTCZAR", "newPrice": "1000001"}
        text = json.dumps(change | {"modifyMatchStrategy": "RETAIN_ORIGINAL"})
        if fault == "lose":
            modify = await lost(scene, "MODIFY_ORDER", text)
        else:
            scene.simulator.faults.change({"next_commands": [fault]})
            modify = scene.books.queue("MODIFY_ORDER", text)
        await scene.until_status(modify, end)
        assert findings(scene, modify)[-1] == ("effect" if end == "accepted" else "unchanged")
        assert_sent_once(scene)


async def test_an_acknowledged_change_ends_with_an_order_that_it_did_not_change(
    database_url: str,
) -> None:
    async with looking(database_url) as scene:
        _, order_id = await placed(scene)
        change = {"orderId": order_id, "pair": "BTCZAR", "newPrice": "1000001"}
        text = json.dumps(change | {"modifyMatchStrategy": "RETAIN_ORIGINAL"})
        scene.simulator.faults.change({"next_commands": ["answer_without_order"]})
        modify = scene.books.queue("MODIFY_ORDER", text)
        await until(lambda: findings(scene, modify).count("unchanged") > 2)
        # While the order stands, it may yet be changed.
        assert scene.books.status(modify) == "acknowledged"

        order = scene.simulator.exchange.trading.orders.all[order_id]
        scene.simulator.exchange.fill(order_id, order.remaining)
        await scene.until_status(modify, "rejected")
        query = "SELECT reason FROM outbox WHERE outbox_id = :id"
        assert scene.books.one(query, id=modify) == "the order ended first: Filled"
        assert_sent_once(scene)


def batch(*payloads: str) -> str:
    legs = [{"type": "PLACE_LIMIT", "data": json.loads(text)} for text in payloads]
    return json.dumps({"requests": legs})


TOO_MUCH = LIMIT.replace("0.001", "0.9")
BATCHES: Mapping[str, tuple[str, str]] = {
    "one_of_two_taken": (batch(TOO_MUCH, LIMIT), "accepted"),
    "all_failed": (batch(TOO_MUCH, TOO_MUCH), "rejected"),
}


@pytest.mark.parametrize("name", BATCHES)
async def test_a_batch_in_doubt_is_resolved_order_by_order(sqlite_url: str, name: str) -> None:
    text, end = BATCHES[name]
    async with looking(sqlite_url) as scene:
        scene.simulator.faults.change({"next_commands": ["accept_then_cut"], "refuse_upgrade": 503})
        outbox_id = scene.books.queue("PLACE_BATCH_ORDERS", text)
        await scene.until_status(outbox_id, end)
        scene.simulator.faults.change({"refuse_upgrade": 0})
        asked = [row[0] for row in lookups(scene, outbox_id)]
        assert asked[0].endswith("00") and asked[1].endswith("01")
        assert_sent_once(scene)


async def test_a_lost_batch_counts_as_not_placed_when_each_order_is_absent(sqlite_url: str) -> None:
    async with looking(sqlite_url) as scene:
        outbox_id = await lost(scene, "PLACE_BATCH_ORDERS", batch(LIMIT, LIMIT))
        await scene.until_status(outbox_id, "not_placed")
        assert_sent_once(scene)


@pytest.mark.parametrize(
    "problem", [{"rest_status": 500}, {"rest_status": 429}, {"rest_is_html": True}]
)
async def test_where_rest_does_not_answer_the_command_stays_in_doubt(
    database_url: str, problem: dict[str, Any]
) -> None:
    async with looking(database_url) as scene:
        scene.simulator.faults.change(problem)
        outbox_id = await lost(scene)
        await until(lambda: lookups(scene, outbox_id))
        await trio.sleep(SETTLE_S + 6 * EVERY_S)

        assert scene.books.status(outbox_id) == "in_doubt"
        assert set(findings(scene, outbox_id)) == {"no_answer"}
        assert_sent_once(scene)


class Rubbish:
    """A REST client whose every answer is nothing that an exchange reports."""

    def __init__(self, body: bytes) -> None:
        self.body = body

    async def get(self, request: RestRequest) -> RestAnswer:
        return RestAnswer(request, 200, self.body, {}, 1, 1)


@pytest.mark.parametrize(
    ("body", "encoding"),
    [
        (b"\xff\xfe\x00", "base64"),
        (b'["\\ud800"]', "text"),
        (b"[" * 300_000, "text"),
        (b"", "text"),
    ],
    ids=["bytes", "surrogate", "deep", "empty"],
)
async def test_rubbish_is_kept_and_proves_nothing(
    database_url: str, body: bytes, encoding: str
) -> None:
    @asynccontextmanager
    async def open_rubbish(*_: object) -> AsyncIterator[Any]:
        yield Rubbish(body)

    around = runtime(open_rest=open_rubbish)
    async with exchange() as simulator, daemon(database_url, simulator, around, **PATIENT) as scene:
        await scene.until_connected(1)
        outbox_id = await lost(scene)
        await until(lambda: lookups(scene, outbox_id))
        await trio.sleep(SETTLE_S + 6 * EVERY_S)

        assert scene.books.status(outbox_id) == "in_doubt"
        assert set(findings(scene, outbox_id)) == {"no_answer"}
        kept = "SELECT DISTINCT encoding FROM events WHERE origin = 'fetched'"
        assert scene.books.ask(kept) == [(encoding,)]
        assert_answers_kept(scene, outbox_id)


@asynccontextmanager
async def without_history(*given: Any) -> AsyncIterator[Any]:
    """Open a client that VALR reports no order's history."""
    async with open_rest(*given) as client:

        class WithoutHistory:
            async def get(self, request: RestRequest) -> RestAnswer:
                if "/history/" not in request.path_with_query:
                    return await client.get(request)
                body = b'{"code":-1,"message":"Not found"}'
                return RestAnswer(request, 404, body, {}, 1, 1)

        yield WithoutHistory()


@pytest.mark.parametrize(("fault", "end"), [("accept_then_cut", "accepted"), ("lose", "in_doubt")])
async def test_without_a_history_the_present_state_is_asked_for_and_absence_proves_nothing(
    sqlite_url: str, fault: str, end: str
) -> None:
    around = runtime(open_rest=without_history)
    async with exchange() as simulator, daemon(sqlite_url, simulator, around, **PATIENT) as scene:
        await scene.until_connected(1)
        if fault == "lose":
            outbox_id = await lost(scene)
            await until(lambda: len(lookups(scene, outbox_id)) > 3)
            await trio.sleep(SETTLE_S + 6 * EVERY_S)
        else:
            simulator.faults.change({"next_commands": [fault], "refuse_upgrade": 503})
            outbox_id = scene.books.queue("PLACE_LIMIT_ORDER", LIMIT)
            await until(lambda: simulator.exchange.open_orders())
            simulator.exchange.cancel_all()
            await scene.until_status(outbox_id, end)
            simulator.faults.change({"refuse_upgrade": 0})

        assert scene.books.status(outbox_id) == end
        asked = [row[0] for row in lookups(scene, outbox_id)]
        assert any(path.startswith("/v1/orders/BTCZAR/customerorderid/") for path in asked)
        assert_sent_once(scene)


async def test_many_lost_at_once_are_looked_up_with_one_list(sqlite_url: str) -> None:
    async with looking(sqlite_url) as scene:
        many = 120
        scene.simulator.faults.change({"next_commands": ["lose_command"] * many})
        queued = [scene.books.queue("PLACE_LIMIT_ORDER", LIMIT) for _ in range(many)]
        for outbox_id in queued:
            await scene.until_status(outbox_id, "sent", "in_doubt")
        await scene.simulator.drop("cut")
        count = (
            "SELECT count(DISTINCT position) FROM outbox_lookups WHERE request = '/v1/orders/open'"
        )
        lists = "SELECT count(*) FROM outbox_lookups WHERE request = '/v1/orders/open'"
        await until(lambda: scene.books.one(lists) >= many)

        assert scene.books.one(count) < many / 2
        assert_sent_once(scene)


async def test_absence_does_not_count_before_the_snapshot_of_a_new_connection(
    database_url: str,
) -> None:
    async with looking(database_url) as scene:
        scene.simulator.faults.change({"refuse_upgrade": 503})
        outbox_id = await lost(scene)
        await until(lambda: len(lookups(scene, outbox_id)) > 2 * (SETTLE_S / EVERY_S + 3))
        assert scene.books.status(outbox_id) == "in_doubt"

        scene.simulator.faults.change({"refuse_upgrade": 0})
        await scene.until_status(outbox_id, "not_placed")


async def test_a_late_frame_overturns_not_placed(database_url: str) -> None:
    async with looking(database_url) as scene:
        outbox_id = await lost(scene)
        await scene.until_status(outbox_id, "not_placed")
        name = scene.books.one("SELECT customer_order_id FROM outbox")
        late = {
            "orderId": "019ae6fb-c1b2-7e3d-9f27-49ff70d5e07f",
            "customerOrderId": name,
            "success": True,
            "failureReason": "",
        }
        await until(lambda: scene.simulator.peers)
        await scene.simulator.emit(json.dumps({"type": "ORDER_PROCESSED", "data": late}))
        await scene.until_status(outbox_id, "accepted")

        assert scene.books.history_of(outbox_id)[-3:] == ["in_doubt", "not_placed", "accepted"]
        assert_sent_once(scene)


async def test_what_was_never_answered_is_in_doubt_once_it_is_overdue(sqlite_url: str) -> None:
    async with looking(sqlite_url) as scene:
        scene.simulator.faults.change({"next_commands": ["lose_command"]})
        outbox_id = scene.books.queue("PLACE_LIMIT_ORDER", LIMIT)
        await scene.until_status(outbox_id, "in_doubt")
        await trio.sleep(SETTLE_S + 4 * EVERY_S)

        # The connection stands: no snapshot since, so absence doesn't count.
        assert scene.books.status(outbox_id) == "in_doubt"
        await scene.simulator.drop("cut")
        await scene.until_status(outbox_id, "not_placed")
        assert_sent_once(scene)


@pytest.mark.parametrize("problem", [{"rest_status": 500}, {"next_rest": ["cut"] * 100}])
async def test_what_was_never_answered_is_in_doubt_though_rest_is_silent(
    database_url: str, problem: dict[str, Any]
) -> None:
    async with looking(database_url) as scene:
        scene.simulator.faults.change({"next_commands": ["lose_command"], **problem})
        outbox_id = scene.books.queue("PLACE_LIMIT_ORDER", LIMIT)
        await scene.until_status(outbox_id, "in_doubt")

        assert set(findings(scene, outbox_id)) == {"no_answer"}
        reason = scene.books.one("SELECT reason FROM outbox")
        assert reason == f"no answer within {SETTLE_S} s"
        assert scene.simulator.connections == 1
        assert_sent_once(scene)


async def test_an_outcome_that_is_overdue_is_looked_up(sqlite_url: str) -> None:
    async with looking(sqlite_url) as scene:
        scene.simulator.faults.change({"next_commands": ["swallow_outcome"]})
        outbox_id = scene.books.queue("PLACE_LIMIT_ORDER", LIMIT)
        await scene.until_status(outbox_id, "accepted")

        assert "acknowledged" in scene.books.history_of(outbox_id)
        assert findings(scene, outbox_id) == ["effect"]


async def test_nothing_is_asked_while_nothing_is_in_doubt(sqlite_url: str) -> None:
    async with looking(sqlite_url) as scene:
        await placed(scene)
        await trio.sleep(SETTLE_S + 2 * EVERY_S)
        assert scene.books.count("outbox_lookups") == 0
        assert scene.books.count("events", "origin = 'fetched'") == 0


async def test_a_name_used_again_is_not_taken_for_the_earlier_order(sqlite_url: str) -> None:
    named = json.dumps({**json.loads(LIMIT), "customerOrderId": "mine"})
    async with looking(sqlite_url) as scene:
        _, order_id = await placed(scene, named)
        cancel = scene.books.queue("CANCEL_ORDER", cancel_of(order_id))
        await scene.until_status(cancel, "accepted")
        again = await lost(scene, payload=named)
        await until(lambda: len(lookups(scene, again)) > 3)
        await trio.sleep(SETTLE_S + 4 * EVERY_S)

        assert scene.books.status(again) == "in_doubt"
        assert set(findings(scene, again)) == {"unclear"}


async def test_a_key_that_may_only_view_can_look_up(sqlite_url: str) -> None:
    async with looking(sqlite_url) as scene:
        outbox_id = await lost(scene)
        await scene.until_status(outbox_id, "in_doubt")
        simulator = scene.simulator
        await scene.end()
        async with daemon(sqlite_url, simulator, trading="0", **PATIENT) as viewing:
            await viewing.until_status(outbox_id, "not_placed")
