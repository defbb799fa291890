"""Each fault does what it reports, and only that."""

from __future__ import annotations

import errno
import json
from decimal import Decimal

import httpx
import pytest
import trio
from trio_websocket import ConnectionRejected

from recorder.simulator import COMMAND_FAULTS, GARBAGE, Faults, Step, script_from
from recorder.simulator.control import control
from tests.simulator.scene import LIMIT, Frame, Scene, command, scene, types

OUTCOME = ["ORDER_PROCESSED", "OPEN_ORDERS_UPDATE", "BALANCE_UPDATE"]
PLACE = command("PLACE_LIMIT_ORDER", **LIMIT, postOnly=True)


async def test_a_drop_closes_with_code_and_reason_after_what_was_sent_before() -> None:
    async with scene() as here, here.account() as client:
        here.simulator.send([{"type": "LAST"}])
        await here.simulator.drop("close", 1012, "Service Restart")

        assert (await client.next())["type"] == "LAST"
        assert await client.end() == (1012, "Service Restart")


async def test_a_cut_ends_the_line_without_a_close_frame() -> None:
    async with scene() as here, here.account() as client:
        await here.simulator.drop("cut")

        assert (await client.end())[0] == 1006


async def test_a_reset_is_a_reset() -> None:
    async with scene() as here:
        stream = await trio.open_tcp_stream("127.0.0.1", here.simulator.port)
        async with stream:
            await stream.send_all(_upgrade(here))
            while b"OPEN_ORDERS_UPDATE" not in await stream.receive_some():
                pass
            await here.simulator.drop("reset")
            with pytest.raises(trio.BrokenResourceError) as broken:
                await stream.receive_some()
        assert isinstance(broken.value.__cause__, OSError)
        assert broken.value.__cause__.errno == errno.ECONNRESET


def _upgrade(here: Scene) -> bytes:
    headers = {
        "Host": "localhost",
        "Upgrade": "websocket",
        "Connection": "Upgrade",
        "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
        "Sec-WebSocket-Version": "13",
        **here.headers(),
    }
    lines = [f"{name}: {value}" for name, value in headers.items()]
    return "\r\n".join(["GET /ws/account HTTP/1.1", *lines, "", ""]).encode()


async def test_a_silent_connection_stays_open_and_sends_nothing_any_more() -> None:
    async with scene() as here, here.account() as client:
        await here.simulator.drop("silent")
        await client.send({"type": "PING"})
        await here.simulator.emit('{"type":"LOST"}')

        with trio.move_on_after(0.2) as policy:
            await client.next()
        assert policy.cancelled_caught
        assert client.socket.closed is None
        here.simulator.faults.silent = False
        await here.simulator.drop("reset")
        assert (await client.end())[0] == 1006


async def test_an_upgrade_may_be_refused_with_a_status() -> None:
    async with scene() as here:
        here.simulator.faults.refuse_upgrade = 503
        with pytest.raises(ExceptionGroup) as caught:
            async with here.connection():
                raise AssertionError("let in")
        (rejected,) = caught.value.exceptions
        assert isinstance(rejected, ConnectionRejected)
        assert rejected.status_code == 503


async def test_an_upgrade_may_hang() -> None:
    async with scene() as here:
        here.simulator.faults.stall_upgrade = True
        with trio.move_on_after(0.2) as policy:
            async with here.connection():
                raise AssertionError("let in")
        assert policy.cancelled_caught


async def test_a_connection_may_be_let_in_and_never_greeted() -> None:
    async with scene() as here:
        here.simulator.faults.withhold_authenticated = True
        async with here.connection() as client:
            await here.simulator.reward("USDC", Decimal(1))
            await client.send(PLACE)
            assert types(await client.pong()) == ["UNSUPPORTED"]


async def test_without_pong_everything_else_goes_on() -> None:
    async with scene() as here, here.account() as client:
        here.simulator.faults.no_pong = True
        await client.send({"type": "PING"})
        await client.send(PLACE)
        assert types(await client.until("BALANCE_UPDATE")) == ["PLACE_LIMIT_WS_RESPONSE", *OUTCOME]


async def test_frames_may_come_twice() -> None:
    async with scene() as here, here.account() as client:
        here.simulator.faults.duplicate = True
        await here.simulator.emit('{"type":"ONE"}')
        here.simulator.faults.duplicate = False
        assert types(await client.pong()) == ["ONE", "ONE"]


async def test_frames_may_come_late_and_still_in_order() -> None:
    async with scene() as here, here.account() as client:
        here.simulator.faults.delay_s = 0.2
        began = trio.current_time()
        here.simulator.send([{"type": "ONE"}, {"type": "TWO"}])
        here.simulator.faults.delay_s = 0.0

        assert types(await client.pong()) == ["ONE", "TWO"]
        assert 0.2 <= trio.current_time() - began < 0.4


async def test_the_exchanges_clock_may_be_wrong() -> None:
    async with scene() as here:
        here.simulator.faults.clock_ahead_s = 30.0
        async with here.connection() as client:
            assert (await client.end())[0] == 1007
        here.clock.pass_s(0)
        time = (await here.get("/v1/public/time")).json()["epochTime"]
        assert time - here.clock.ms // 1000 == 30


@pytest.mark.parametrize("kind", GARBAGE)
async def test_garbage_arrives_byte_for_byte_and_spoils_nothing(kind: str) -> None:
    async with scene() as here, here.account() as client:
        assert (await here.control("garbage", kind=kind)).json() == {"connections": 1}

        assert await client.socket.get_message() == GARBAGE[kind]
        assert await client.pong() == []


async def test_a_frame_may_be_of_any_size() -> None:
    async with scene() as here, here.account() as client:
        await here.control("oversized", bytes=3_000_000)
        message = await client.socket.get_message()
        assert len(message) == 3_000_000
        assert json.loads(message)["type"] == "BIG"


@pytest.mark.parametrize(
    ("fault", "reported", "is_carried_out"),
    [
        ("lose_command", [], False),
        ("swallow_answer", OUTCOME, True),
        ("swallow_outcome", ["PLACE_LIMIT_WS_RESPONSE"], True),
        ("answer_without_order", ["PLACE_LIMIT_WS_RESPONSE"], False),
    ],
)
async def test_a_command_may_go_wrong_once(
    fault: str, reported: list[str], is_carried_out: bool
) -> None:
    async with scene() as here, here.account() as client:
        here.simulator.faults.change({"next_commands": [fault]})
        await client.send(PLACE)

        assert types(await client.pong()) == reported
        assert len(here.simulator.exchange.open_orders()) == is_carried_out
        await client.send(PLACE)
        assert types(await client.pong()) == ["PLACE_LIMIT_WS_RESPONSE", *OUTCOME]


async def test_an_order_may_be_taken_and_the_line_cut_before_a_word() -> None:
    async with scene() as here, here.account() as client:
        here.simulator.faults.change({"next_commands": ["accept_then_cut"]})
        await client.send(PLACE)

        assert (await client.end())[0] == 1006
        (order,) = here.simulator.exchange.open_orders()
        assert here.simulator.exchange.received == {"m1": 1}
        assert (await here.get("/v1/orders/open")).json()[0]["orderId"] == order.order_id


async def test_rest_may_fail_with_a_status_or_a_page() -> None:
    async with scene() as here:
        here.simulator.faults.rest_status = 429
        limited = await here.get("/v1/orders/open")
        assert (limited.status_code, limited.headers["x-valr-ratelimited"]) == (429, "true")
        here.simulator.faults.change({"rest_status": 0, "rest_is_html": True})
        page = await here.get("/v1/orders/open")
        assert (page.status_code, page.headers["content-type"]) == (400, "text/html")


async def test_each_rest_answer_takes_the_next_of_its_faults() -> None:
    path = "/v1/wallet/crypto/deposit/history"
    async with scene() as here:
        for _ in range(3):
            await here.simulator.deposit("ETH", Decimal(1))
        right = (await here.get(path)).json()
        queued = ["limited", "error", "html", "cut_json", "cut", "odd_row", "none"]
        here.simulator.faults.change({"next_rest": queued})
        limited = await here.get(path)
        assert (limited.status_code, limited.headers["retry-after"]) == (429, "1")
        assert (await here.get(path)).status_code == 500
        assert (await here.get(path)).text.startswith("<html>")
        cut = await here.get(path)
        assert cut.status_code == 200
        with pytest.raises(ValueError, match=r"Unterminated|Expecting"):
            cut.json()
        with pytest.raises(httpx.RemoteProtocolError):
            await here.get(path)
        assert (await here.get(path)).json()[:3] == right
        assert (await here.get(path)).json() == right
        here.simulator.faults.change({"rest_rows_max": 2, "next_rest": ["shuffled"]})
        assert len((await here.get(path)).json()) == 2
        with pytest.raises(ValueError, match="next_rest"):
            here.simulator.faults.change({"next_rest": ["anything"]})


async def test_rest_that_is_behind_knows_an_order_and_its_fills_later() -> None:
    async with scene() as here, here.account() as client:
        await client.send(PLACE)
        await client.until("PLACE_LIMIT_WS_RESPONSE")
        (early,) = (await here.get("/v1/orders/open")).json()
        here.simulator.faults.change({"rest_behind_s": 3600})
        by_id = f"/v1/orders/BTCZAR/orderid/{early['orderId']}"
        states = f"/v1/orders/history/detail/orderid/{early['orderId']}"
        assert (await here.get("/v1/orders/open")).json() == []
        assert (await here.get(states)).json() == []
        assert (await here.get(by_id)).status_code == 400
        here.simulator.faults.change({"rest_behind_s": 0})
        assert (await here.get("/v1/orders/open")).json() == [early]
        assert (await here.get(states)).json()
        assert (await here.get(by_id)).status_code == 200


async def test_frames_of_the_old_shape_have_no_ids_and_the_histories_still_do() -> None:
    async with scene() as here, here.account() as client:
        here.simulator.faults.change({"without_ids": True})
        await here.simulator.reward("USDC", Decimal(1))
        reported = (await client.until("NEW_ACCOUNT_HISTORY_RECORD"))[-1]
        assert "id" not in reported["data"]
        rows = (await here.get("/v1/account/transactionhistory")).json()
        assert rows[0]["id"]


@pytest.mark.parametrize(
    "settings",
    [
        {"no_such_fault": True},
        {"no_pong": 1},
        {"no_pong": "yes"},
        {"delay_s": "1"},
        {"delay_s": -1},
        {"delay_s": float("nan")},
        {"rest_status": 200},
        {"refuse_upgrade": True},
        {"next_commands": "lose_command"},
        {"next_commands": ["lose"]},
        {"duplicate": True, "next_commands": [[]]},
    ],
)
def test_a_fault_that_is_none_is_refused_and_changes_nothing(settings: Frame) -> None:
    faults = Faults()
    with pytest.raises(ValueError, match=r"."):
        faults.change(settings)
    assert faults == Faults()


@pytest.mark.parametrize(
    ("what", "settings"),
    [
        ("no_such_control", {}),
        ("emit", {}),
        ("emit", {"frame": 7}),
        ("emit", {"frame": "\ud800"}),
        ("garbage", {"kind": "none"}),
        ("garbage", {"kind": []}),
        ("drop", {"how": "politely"}),
        ("drop", {"code": 99_999}),
        ("drop", {"reason": "x" * 124}),
        ("oversized", {"bytes": 10**12}),
        ("tick", {"times": -1}),
        ("deposit", {"currency": "ETH", "amount": "-1"}),
        ("deposit", {"currency": "ETH", "amount": "1e999999"}),
        ("deposit", {"currency": "\ud800", "amount": "1"}),
        ("deposit", {"currency": "ETH", "amount": "1", "needed": "2"}),
        ("fill", {"order_id": "none", "quantity": "1"}),
    ],
)
async def test_a_control_that_cant_be_is_answered_400_and_changes_nothing(
    what: str, settings: Frame
) -> None:
    async with scene() as here, here.account() as client:
        before = here.simulator.exchange.snapshot()
        assert (await here.control(what, **settings)).status_code == 400
        assert await client.pong() == []
        assert here.simulator.exchange.snapshot() == before


async def test_controls_do_from_outside_what_the_methods_do() -> None:
    async with scene() as here, here.account() as client:
        await here.control("emit", frame='{"type":"ODD"}')
        await here.control("deposit", currency="ETH", amount="0.25", needed=1)
        await here.control("withdraw", currency="BTC", amount="0.1")
        await here.control("reward", currency="USDC", amount="1")
        await here.control("tick", times=3)
        kinds = types(await client.pong())
        assert kinds[0] == "ODD"
        assert {"NEW_PENDING_RECEIVE", "NEW_PENDING_SEND", "SEND_STATUS_UPDATE"} < set(kinds)
        await client.send(PLACE)
        order_id = (await client.next())["data"]["orderId"]
        await here.control("fill", order_id=order_id, quantity="0.001")
        assert "NEW_ACCOUNT_TRADE" in types(await client.pong())
        await here.control("drop", how="close", code=1012)
        assert (await client.end())[0] == 1012


@pytest.mark.parametrize("seed", range(20))
async def test_a_script_from_a_seed_is_always_the_same_and_repairs_what_it_breaks(
    seed: int,
) -> None:
    script = script_from(seed, 30)
    assert script == script_from(seed, 30)
    assert len({step.control for step in script}) > 1

    async with scene() as here:
        for step in script:
            await control(here.simulator, step.control, step.settings)
        left = here.simulator.faults
        assert set(left.next_commands) <= set(COMMAND_FAULTS)
        left.next_commands.clear()
        left.silent = False  # a dropped line may be silent for good
        assert left == Faults()


async def test_a_script_in_the_configuration_runs_by_itself() -> None:
    script = (Step(0.05, "reward", {"currency": "USDC", "amount": "3"}), Step(0.0, "drop"))
    async with scene(script=script) as here, here.account() as client:
        assert types(await client.until("BALANCE_UPDATE"))[-1] == "BALANCE_UPDATE"
        assert (await client.end())[0] == 1000
