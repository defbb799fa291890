"""Did my order go out? Each command comes to the end that the exchange gave it, and goes once."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import trio
from sqlalchemy.exc import DBAPIError

from tests.daemon.scene import FINAL, LIMIT, Books, Scene, connected, daemon, exchange, until

#: Long enough for a commander to have sent what it was not to send.
HASTE_S = 1.3


def payload(**members: object) -> str:
    return json.dumps({"pair": "BTCZAR", **members})


def order_of(books: Books, outbox_id: int) -> str:
    query = "SELECT order_id FROM outbox WHERE outbox_id = :id"
    return str(books.one(query, id=outbox_id))


def sent_ids(books: Books) -> Counter[str]:
    """Return how often each clientMsgId stands in a frame that we wrote."""
    texts = books.ask("SELECT payload FROM events WHERE origin = 'sent'")
    return Counter(json.loads(text)["clientMsgId"] for (text,) in texts if "clientMsgId" in text)


async def placed(scene: Scene, text: str = LIMIT) -> int:
    """Queue an order that comes to rest, and wait until it does."""
    outbox_id = scene.books.queue("PLACE_LIMIT_ORDER", text)
    await scene.until_status(outbox_id, "accepted")
    return outbox_id


async def test_each_kind_of_command_comes_to_its_end(database_url: str) -> None:
    async with connected(database_url) as scene:
        books = scene.books
        resting = await placed(scene)
        target = {"orderId": order_of(books, resting)}
        market = books.queue("PLACE_MARKET_ORDER", payload(side="BUY", quoteAmount="500"))
        await scene.until_status(market, *FINAL)
        change = payload(**target, modifyMatchStrategy="RETAIN_ORIGINAL", newPrice="1000001")
        modified = books.queue("MODIFY_ORDER", change)
        await scene.until_status(modified, *FINAL)
        cancelled = books.queue("CANCEL_ORDER", payload(**target))
        await scene.until_status(cancelled, *FINAL)
        legs = [
            {"type": "PLACE_LIMIT", "data": json.loads(LIMIT)},
            {"type": "PLACE_LIMIT", "data": json.loads(LIMIT.replace("1000000", "1000002"))},
        ]
        batch = books.queue("PLACE_BATCH_ORDERS", json.dumps({"requests": legs}))
        await scene.until_status(batch, *FINAL)

        ways = {books.status(each) for each in (resting, market, modified, cancelled, batch)}
        assert ways == {"accepted"}
        assert books.history_of(resting)[:3] == ["queued", "sending", "sent"]
        await until(lambda: books.count("open_orders") == 2)
        assert set(sent_ids(books).values()) == {1}
        assert set(scene.simulator.exchange.received.values()) == {1}


NO_ORDER = "019ae6fb-c1b2-7e3d-9f27-49ff70d5e07f"
REJECTED: Mapping[str, tuple[str, str]] = {
    "more_than_is_held": ("PLACE_LIMIT_ORDER", LIMIT.replace("0.001", "1000")),
    "an_unknown_pair": ("PLACE_LIMIT_ORDER", LIMIT.replace("BTCZAR", "NOPE")),
    "no_such_order": ("CANCEL_ORDER", payload(orderId=NO_ORDER)),
    "nothing_to_change": (
        "MODIFY_ORDER",
        payload(orderId=NO_ORDER, modifyMatchStrategy="REPRICE", newPrice="1"),
    ),
}
REASONS = {
    "more_than_is_held": "Insufficient Balance",
    "no_such_order": "An error occurred while cancelling",
    "nothing_to_change": "no reason",
}


@pytest.mark.parametrize(
    ("invalid_by", "pair"), [("response", "Invalid Request"), ("invalid", "pair: must be")]
)
async def test_what_the_exchange_refuses_is_rejected_with_its_reason(
    sqlite_url: str, invalid_by: str, pair: str
) -> None:
    reasons = {**REASONS, "an_unknown_pair": pair}
    async with connected(sqlite_url, {"invalid_by": invalid_by}) as scene:
        queued = {
            name: scene.books.queue(command, text) for name, (command, text) in REJECTED.items()
        }
        for name, outbox_id in queued.items():
            await scene.until_status(outbox_id, *FINAL)
            assert (name, scene.books.status(outbox_id)) == (name, "rejected")
            query = "SELECT reason FROM outbox WHERE outbox_id = :id"
            assert reasons[name] in scene.books.one(query, id=outbox_id)


async def test_a_swallowed_answer_is_made_up_for_by_what_follows(database_url: str) -> None:
    async with connected(database_url) as scene:
        scene.simulator.faults.change({"next_commands": ["swallow_answer"]})
        await placed(scene)

        # The outbox may be judged before the list is folded.
        await until(lambda: scene.books.count("open_orders") == 1)


async def test_a_swallowed_outcome_is_made_up_for_by_the_next_list(sqlite_url: str) -> None:
    async with connected(sqlite_url) as scene:
        scene.simulator.faults.change({"next_commands": ["swallow_outcome"]})
        outbox_id = scene.books.queue("PLACE_LIMIT_ORDER", LIMIT)
        await scene.until_status(outbox_id, "acknowledged")
        await placed(scene)

        await scene.until_status(outbox_id, "accepted")


async def test_an_order_cut_off_before_its_answer_is_in_doubt_until_the_list_names_it(
    database_url: str,
) -> None:
    async with connected(database_url) as scene:
        scene.simulator.faults.change({"next_commands": ["accept_then_cut"]})
        outbox_id = scene.books.queue("PLACE_LIMIT_ORDER", LIMIT)
        await scene.until_status(outbox_id, "accepted")

        assert scene.simulator.connections == 2
        history_of = scene.books.history_of(outbox_id)
        assert history_of[:2] == ["queued", "sending"]
        assert "in_doubt" in history_of
        assert history_of[-1] == "accepted"
        assert set(scene.simulator.exchange.received.values()) == {1}
        assert len(scene.simulator.exchange.open_orders()) == 1


async def test_a_lost_command_stays_in_doubt_and_is_never_sent_again(database_url: str) -> None:
    async with connected(database_url) as scene:
        scene.simulator.faults.change({"next_commands": ["lose_command"]})
        lost = scene.books.queue("PLACE_LIMIT_ORDER", LIMIT, client_msg_id="lost")
        await scene.until_status(lost, "sent")
        for sessions in (2, 3):
            await scene.simulator.drop("cut")
            await scene.until_connected(sessions)
        # What came after it went out, so the commander has passed it by.
        await placed(scene)

        assert scene.books.status(lost) == "in_doubt"
        assert sent_ids(scene.books)["lost"] == 1
        assert scene.simulator.exchange.received["lost"] == 0


async def test_what_a_dead_recorder_left_unanswered_is_in_doubt_for_the_next_one(
    database_url: str,
) -> None:
    async with exchange() as simulator:
        simulator.faults.change({"next_commands": ["lose_command"]})
        async with daemon(database_url, simulator) as first:
            await first.until_connected(1)
            lost = first.books.queue("PLACE_LIMIT_ORDER", LIMIT, client_msg_id="lost")
            await first.until_status(lost, "sent")
        async with daemon(database_url, simulator) as second:
            await second.until_status(lost, "in_doubt")
            await placed(second)

            assert second.books.status(lost) == "in_doubt"
            assert sent_ids(second.books)["lost"] == 1


async def test_a_command_whose_time_is_over_is_never_sent(database_url: str) -> None:
    async with connected(database_url) as scene:
        past = datetime.now(UTC) - timedelta(seconds=1)
        expired = scene.books.queue("PLACE_LIMIT_ORDER", LIMIT, expires_at=stored(scene, past))
        await scene.until_status(expired, "expired")

        assert not scene.simulator.exchange.received


async def test_a_command_expires_in_its_time_also_without_a_connection(database_url: str) -> None:
    async with connected(database_url) as scene:
        scene.simulator.faults.change({"refuse_upgrade": 503})
        await scene.simulator.drop("cut")
        await until(lambda: scene.books.has_note("CONNECTION_CLOSED"))
        soon = datetime.now(UTC) + timedelta(seconds=1)
        expired = scene.books.queue("PLACE_LIMIT_ORDER", LIMIT, expires_at=stored(scene, soon))
        waiting = scene.books.queue("PLACE_LIMIT_ORDER", LIMIT)
        await scene.until_status(expired, "expired")

        assert scene.simulator.connections == 1
        assert scene.books.status(waiting) == "queued"
        assert not scene.simulator.exchange.received


async def test_a_command_waits_for_its_time(database_url: str) -> None:
    async with connected(database_url) as scene:
        due = datetime.now(UTC) + timedelta(seconds=2)
        later = scene.books.queue("PLACE_LIMIT_ORDER", LIMIT, not_before=stored(scene, due))
        now = await placed(scene)
        assert scene.books.status(later) == "queued"
        await scene.until_status(later, "accepted")

        sent_at = "SELECT changed_at FROM outbox_transitions WHERE outbox_id = :id AND seq = 2"
        first, second = (scene.books.one(sent_at, id=each) for each in (now, later))
        assert first < stored(scene, due) <= second


def stored(scene: Scene, moment: datetime) -> Any:
    """Return a time as the database holds it."""
    if scene.settings.database_url.startswith("sqlite"):
        return moment.strftime("%Y-%m-%d %H:%M:%S.%f")
    return moment


async def test_the_switch_lets_nothing_pass_or_only_cancels(database_url: str) -> None:
    async with connected(database_url) as scene:
        books = scene.books
        resting = await placed(scene)
        books.do("UPDATE controls SET trading = 'off', reason = 'a test' WHERE account = 'main'")
        order = books.queue("PLACE_LIMIT_ORDER", LIMIT)
        cancel = books.queue("CANCEL_ORDER", payload(orderId=order_of(books, resting)))
        await trio.sleep(HASTE_S)
        assert (books.status(order), books.status(cancel)) == ("queued", "queued")

        books.do("UPDATE controls SET trading = 'cancel_only' WHERE account = 'main'")
        await scene.until_status(cancel, "accepted")
        assert books.status(order) == "queued"

        books.do("UPDATE controls SET trading = 'on' WHERE account = 'main'")
        await scene.until_status(order, "accepted")


async def test_what_the_rules_forbid_is_refused_and_never_sent(sqlite_url: str) -> None:
    async with connected(sqlite_url) as scene:
        books = scene.books
        with pytest.raises(DBAPIError, match="outbox: "):
            books.queue("PLACE_LIMIT_ORDER", payload(side="BUY", quantity=1, price="2"))
        legs = [
            {"type": "PLACE_LIMIT", "data": json.loads(LIMIT)},
            {
                "type": "MODIFY_ORDER",
                "data": {
                    "pair": "BTCZAR",
                    "orderId": "x",
                    "modifyMatchStrategy": "REPRICE",
                    "newPrice": "1",
                },
            },
        ]
        mixed = books.queue("PLACE_BATCH_ORDERS", json.dumps({"requests": legs}))
        await scene.until_status(mixed, "refused")

        assert "must not mix" in books.one("SELECT reason FROM outbox")
        assert not scene.simulator.exchange.received


async def test_a_command_taken_back_in_time_is_never_sent(database_url: str) -> None:
    async with connected(database_url) as scene:
        due = stored(scene, datetime.now(UTC) + timedelta(seconds=1))
        outbox_id = scene.books.queue("PLACE_LIMIT_ORDER", LIMIT, not_before=due)
        scene.books.do("UPDATE outbox SET status = 'withdrawn' WHERE outbox_id = 1")
        await trio.sleep(HASTE_S)

        assert scene.books.history_of(outbox_id) == ["queued", "withdrawn"]
        assert not scene.simulator.exchange.received


async def test_a_recorder_that_may_not_trade_sends_nothing(database_url: str) -> None:
    async with connected(database_url, trading="0") as scene:
        outbox_id = scene.books.queue("PLACE_LIMIT_ORDER", LIMIT)
        await trio.sleep(HASTE_S)

        assert scene.books.status(outbox_id) == "queued"
        assert not scene.simulator.exchange.received


async def test_a_queue_goes_out_once_each_and_cancels_first(database_url: str) -> None:
    async with connected(database_url) as scene:
        books = scene.books
        resting = await placed(scene)
        books.do("UPDATE controls SET trading = 'off' WHERE account = 'main'")
        orders = [books.queue("PLACE_LIMIT_ORDER", LIMIT) for _ in range(30)]
        urgent = books.queue("PLACE_LIMIT_ORDER", LIMIT, priority=5)
        cancel = books.queue("CANCEL_ORDER", payload(orderId=order_of(books, resting)))
        books.do("UPDATE controls SET trading = 'on' WHERE account = 'main'")
        for outbox_id in (*orders, urgent, cancel):
            await scene.until_status(outbox_id, "accepted")

        by_position = "SELECT outbox_id FROM outbox WHERE outbox_id > :id ORDER BY sent_position"
        sent = [row[0] for row in books.ask(by_position, id=resting)]
        assert sent == [cancel, urgent, *orders]
        assert set(scene.simulator.exchange.received.values()) == {1}
        assert len(scene.simulator.exchange.open_orders()) == 31


async def test_commands_under_a_line_that_keeps_breaking_never_go_out_twice(
    database_url: str,
) -> None:
    async with connected(database_url) as scene:
        outbox_ids = [scene.books.queue("PLACE_LIMIT_ORDER", LIMIT) for _ in range(40)]
        for enough in (3, 10, 17, 24):
            was = scene.simulator.connections
            await until(lambda enough=enough: len(scene.simulator.exchange.received) >= enough)
            await scene.simulator.drop("reset")
            await scene.until_connected(was + 1)
        ends = (*FINAL, "in_doubt")
        for outbox_id in outbox_ids:
            await scene.until_status(outbox_id, *ends)

        received = scene.simulator.exchange.received
        assert max(received.values()) == 1
        assert max(sent_ids(scene.books).values()) == 1
        query = "SELECT client_msg_id FROM outbox WHERE status = 'accepted'"
        # What arrived rests there, so the list names it; what didn't arrive stays in doubt.
        await until(lambda: {row[0] for row in scene.books.ask(query)} == set(received))
