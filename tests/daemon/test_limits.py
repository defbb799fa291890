"""What stands between the queue and the socket: limits, strict order, the pace, and a dry run."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

import pytest
import trio

from tests.daemon.scene import FINAL, LIMIT, Books, Scene, connected, until

#: Long enough for a commander to have sent what it was not to send.
HASTE_S = 0.7


def limit(books: Books, pair: str = "*", **values: object) -> None:
    row = {"account": "main", "pair": pair, **values}
    names, places = ", ".join(row), ", ".join(f":{name}" for name in row)
    books.do(f"INSERT INTO limits ({names}) VALUES ({places})", **row)


def reason(books: Books, outbox_id: int) -> str:
    return str(books.one("SELECT reason FROM outbox WHERE outbox_id = :id", id=outbox_id))


def sent_names(books: Books) -> Counter[str]:
    """Return how often each clientMsgId stands in a frame that we wrote."""
    texts = books.ask("SELECT payload FROM events WHERE origin = 'sent'")
    return Counter(json.loads(text)["clientMsgId"] for (text,) in texts if "clientMsgId" in text)


async def test_an_order_beyond_a_limit_is_refused_with_the_rule_named(database_url: str) -> None:
    async with connected(database_url) as scene:
        books = scene.books
        limit(books, max_quantity="0.001", max_price_deviation="0.1")
        large = books.queue("PLACE_LIMIT_ORDER", LIMIT.replace("0.001", "0.002"))
        unseen = books.queue("PLACE_LIMIT_ORDER", LIMIT)
        for outbox_id in (large, unseen):
            await scene.until_status(outbox_id, "refused")

        assert reason(books, large) == "max_quantity: 0.002 is more than 0.001 of BTCZAR"
        assert reason(books, unseen).startswith("max_price_deviation: no price of BTCZAR was ever")
        assert books.history_of(large) == ["queued", "refused"]
        assert not scene.simulator.exchange.received
        books.do("DELETE FROM limits")
        fine = books.queue("PLACE_LIMIT_ORDER", LIMIT)
        await scene.until_status(fine, "accepted")


async def test_a_burst_leaves_no_more_open_orders_than_allowed(database_url: str) -> None:
    async with connected(database_url) as scene:
        books = scene.books
        limit(books, "BTCZAR", max_open_orders=3)
        books.do("UPDATE controls SET trading = 'off'")
        queued = [books.queue("PLACE_LIMIT_ORDER", LIMIT) for _ in range(8)]
        books.do("UPDATE controls SET trading = 'on'")
        for outbox_id in queued:
            await scene.until_status(outbox_id, *FINAL)

        ends = Counter(books.status(outbox_id) for outbox_id in queued)
        assert ends == {"accepted": 3, "refused": 5}
        assert len(scene.simulator.exchange.open_orders()) == 3
        assert "max_open_orders: " in reason(books, queued[-1])


async def test_the_collar_is_laid_around_the_last_fill(sqlite_url: str) -> None:
    async with connected(sqlite_url) as scene:
        books = scene.books
        market = books.queue(
            "PLACE_MARKET_ORDER", '{"side":"BUY","pair":"BTCZAR","quoteAmount":"500"}'
        )
        await scene.until_status(market, "accepted")
        await until(lambda: books.count("trades") > 0)
        seen = books.one("SELECT price FROM trades ORDER BY position DESC LIMIT 1")
        limit(books, max_price_deviation="0.5")
        near = books.queue("PLACE_LIMIT_ORDER", LIMIT.replace("1000000", str(int(float(seen)))))
        far = books.queue("PLACE_LIMIT_ORDER", LIMIT.replace("1000000", "10"))
        await scene.until_status(near, *FINAL)
        await scene.until_status(far, *FINAL)

        assert books.status(near) == "accepted"
        assert reason(books, far).startswith("max_price_deviation: 10 is further than 50 % from")


def slow(per_s: int) -> dict[str, Any]:
    """Return an exchange that takes so few orders a second."""
    return {"rates_per_s": {"PLACE_LIMIT_ORDER": per_s, "CANCEL_LIMIT_ORDER": 450}}


async def test_what_met_the_rate_limit_goes_again_and_is_placed_once(database_url: str) -> None:
    async with connected(database_url, slow(2)) as scene:
        books = scene.books
        queued = [books.queue("PLACE_LIMIT_ORDER", LIMIT) for _ in range(5)]
        for outbox_id in queued:
            await scene.until_status(outbox_id, *FINAL)

        assert {books.status(outbox_id) for outbox_id in queued} == {"accepted"}
        attempts = [row[0] for row in books.ask("SELECT attempts FROM outbox ORDER BY outbox_id")]
        assert any(attempts), "the burst met the limit"
        again = queued[attempts.index(max(attempts))]
        history_of = books.history_of(again)
        assert history_of.count("queued") == 1 + max(attempts)
        assert history_of[-1] == "accepted"
        assert len(scene.simulator.exchange.open_orders()) == 5
        assert set(sent_names(books).values()) == {1}
        assert set(scene.simulator.exchange.received.values()) == {1}


async def test_answers_that_come_twice_send_nothing_twice(sqlite_url: str) -> None:
    async with connected(sqlite_url, slow(2)) as scene:
        scene.simulator.faults.change({"duplicate": True, "delay_s": 0.2})
        queued = [scene.books.queue("PLACE_LIMIT_ORDER", LIMIT) for _ in range(4)]
        for outbox_id in queued:
            await scene.until_status(outbox_id, *FINAL)

        assert {scene.books.status(outbox_id) for outbox_id in queued} == {"accepted"}
        assert len(scene.simulator.exchange.open_orders()) == 4


async def test_a_command_that_always_meets_the_limit_is_rejected_in_the_end(
    sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("recorder.outbox.rules.states.BACK_OFF_FIRST_S", 0.01)
    monkeypatch.setattr("recorder.wiring.RATE_PENALTY_S", 0.01)
    async with connected(sqlite_url, slow(0)) as scene:
        outbox_id = scene.books.queue("PLACE_LIMIT_ORDER", LIMIT)
        await scene.until_status(outbox_id, *FINAL)

        assert scene.books.status(outbox_id) == "rejected"
        assert reason(scene.books, outbox_id) == "rate limit exceeded"
        assert scene.books.history_of(outbox_id).count("sending") == 5
        assert set(sent_names(scene.books).values()) == {1}


async def test_the_pace_keeps_below_the_exchanges_limit(sqlite_url: str) -> None:
    async with connected(sqlite_url, slow(20), commands_per_s="15", commands_burst="4") as scene:
        books = scene.books
        books.do("UPDATE controls SET trading = 'off'")
        queued = [books.queue("PLACE_LIMIT_ORDER", LIMIT) for _ in range(20)]
        books.do("UPDATE controls SET trading = 'on'")
        started = trio.current_time()
        for outbox_id in queued:
            await scene.until_status(outbox_id, "accepted")

        assert trio.current_time() - started >= 16 / 15 * 0.9
        assert books.one("SELECT max(attempts) FROM outbox") == 0


async def test_a_cancel_finds_a_token_when_orders_find_none(sqlite_url: str) -> None:
    async with connected(sqlite_url, commands_per_s="1", commands_burst="4") as scene:
        books = scene.books
        first = books.queue("PLACE_LIMIT_ORDER", LIMIT)
        await scene.until_status(first, "accepted")
        others = [books.queue("PLACE_LIMIT_ORDER", LIMIT) for _ in range(9)]
        await until(lambda: books.count("outbox", "status = 'accepted'") >= 3)
        order = books.one("SELECT order_id FROM outbox WHERE outbox_id = :id", id=first)
        cancel = books.queue("CANCEL_ORDER", json.dumps({"pair": "BTCZAR", "orderId": order}))
        with trio.fail_after(1.0):
            await scene.until_status(cancel, "accepted")
        assert books.status(others[-1]) == "queued"


async def test_rows_in_order_wait_for_the_outcome_of_those_before_them(database_url: str) -> None:
    async with connected(database_url) as scene:
        books = scene.books
        scene.simulator.faults.change({"next_commands": ["swallow_outcome"]})
        first = books.queue("PLACE_LIMIT_ORDER", LIMIT)
        await scene.until_status(first, "acknowledged")
        second = books.queue("PLACE_LIMIT_ORDER", LIMIT, in_order=True)
        await trio.sleep(HASTE_S)
        assert books.status(second) == "queued"
        # A later one that asks for no order goes at once, and its list reports of the first.
        free = books.queue("PLACE_LIMIT_ORDER", LIMIT)
        for outbox_id in (free, first, second):
            await scene.until_status(outbox_id, "accepted")

        def at(outbox_id: int, status: str) -> object:
            asked = (
                "SELECT changed_at FROM outbox_transitions"
                " WHERE outbox_id = :id AND to_status = :status"
            )
            return books.one(asked, id=outbox_id, status=status)

        assert str(at(second, "sending")) >= str(at(first, "accepted"))


# A dry run


def dry_runs(books: Books) -> dict[int, dict[str, Any]]:
    query = "SELECT payload FROM events WHERE type = 'COMMAND_DRY_RUN' ORDER BY position"
    reported = [json.loads(text)["data"] for (text,) in books.ask(query)]
    assert len(reported) == len({each["outbox_id"] for each in reported}), (
        "each is reported of once"
    )
    return {each["outbox_id"]: each for each in reported}


@pytest.mark.parametrize("trading", ["0", "1"])
async def test_a_dry_run_reports_what_would_be_sent_and_sends_nothing(
    database_url: str, trading: str
) -> None:
    async with connected(database_url, dry_run="1", trading=trading) as scene:
        books = scene.books
        limit(books, max_quantity="0.001")
        fine = books.queue("PLACE_LIMIT_ORDER", LIMIT)
        large = books.queue("PLACE_LIMIT_ORDER", LIMIT.replace("0.001", "0.002"))
        late = books.queue("PLACE_LIMIT_ORDER", LIMIT, expires_at="2020-01-01 00:00:00")
        await until(lambda: len(dry_runs(books)) == 3)
        await trio.sleep(HASTE_S)

        reported = dry_runs(books)
        assert {number: each["verdict"] for number, each in reported.items()} == {
            fine: "would be sent",
            large: "would be refused",
            late: "would expire",
        }
        assert {number: each["states"] for number, each in reported.items()} == {
            fine: ["queued", "sending", "sent"],
            large: ["queued", "refused"],
            late: ["queued", "expired"],
        }
        frame = json.loads(reported[fine]["frame"])
        assert frame["type"] == "PLACE_LIMIT_ORDER"
        assert frame["payload"]["price"] == "1000000"
        assert reported[large]["reason"].startswith("max_quantity: ")
        _assert_untouched(scene)


def _assert_untouched(scene: Scene) -> None:
    """No row has changed, and no command has gone out."""
    books = scene.books
    assert books.ask("SELECT DISTINCT status FROM outbox") == [("queued",)]
    assert books.count("outbox_transitions", "to_status <> 'queued'") == 0
    assert not scene.simulator.exchange.received
    assert not sent_names(books)


async def test_a_dry_run_heeds_the_switch_and_the_time(sqlite_url: str) -> None:
    async with connected(sqlite_url, dry_run="1") as scene:
        books = scene.books
        books.do("UPDATE controls SET trading = 'cancel_only'")
        books.queue("PLACE_LIMIT_ORDER", LIMIT)
        cancel = books.queue("CANCEL_ORDER", '{"pair":"BTCZAR","orderId":"o-1"}')
        await until(lambda: dry_runs(books))
        await trio.sleep(HASTE_S)
        assert set(dry_runs(books)) == {cancel}
        _assert_untouched(scene)
