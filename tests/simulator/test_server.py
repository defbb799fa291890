"""The channel over a real socket: letting in, greeting, talking, ending."""

from __future__ import annotations

import json
from decimal import Decimal

import httpx
import pytest
import trio
from trio_websocket import ConnectionRejected

from recorder.simulator import Flood
from tests.simulator.scene import LIMIT, Scene, command, scene, signature, types

PING = {"type": "PING"}


async def rejection(here: Scene, headers: dict[str, str], path: str = "/ws/account") -> int:
    with pytest.raises(ExceptionGroup) as caught:
        async with here.connection(headers, path):
            raise AssertionError("let in")
    (rejected,) = caught.value.exceptions
    assert isinstance(rejected, ConnectionRejected)
    status: int = rejected.status_code
    return status


async def test_who_signs_is_greeted_and_gets_the_snapshot() -> None:
    async with scene() as here, here.connection() as client:
        assert types(await client.until("OPEN_ORDERS_UPDATE")) == [
            "AUTHENTICATED",
            *["BALANCE_UPDATE"] * 4,
            "OPEN_ORDERS_UPDATE",
        ]
        assert here.simulator.sent == [(1, text) for text in client.texts]


async def test_an_unknown_key_is_answered_401_and_no_key_403_where_one_is_demanded() -> None:
    async with scene(allow_message_auth=False) as here:
        assert await rejection(here, here.headers(key="other")) == 401
        assert await rejection(here, {}) == 403
        assert here.simulator.refused == 2


@pytest.mark.parametrize(
    "wrong", [{"signature": "0" * 128}, {"timestamp": "1"}, {"sub_account": "7"}]
)
async def test_a_wrong_signature_is_let_in_and_closed_or_answered_401(
    wrong: dict[str, str],
) -> None:
    async with (
        scene(sub_account_id="7") as here,
        here.connection(here.headers(**wrong)) as client,
    ):
        assert (await client.end())[0] == 1007
    async with scene(sub_account_id="7", refuse_by="http") as here:
        assert await rejection(here, here.headers(**wrong)) == 401


async def test_a_sub_account_gets_in_with_its_id_signed() -> None:
    async with scene(sub_account_id="7") as here:
        headers = here.headers(sub_account="7", signs_sub_account="yes")
        async with here.connection(headers) as client:
            assert (await client.next())["type"] == "AUTHENTICATED"


async def test_another_path_is_no_channel() -> None:
    async with scene() as here:
        assert await rejection(here, here.headers("/ws/trade"), "/ws/trade") == 404


async def test_too_many_upgrades_in_a_minute_are_answered_429() -> None:
    async with scene(upgrades_per_min=2) as here:
        for _ in range(2):
            async with here.account():
                pass
        assert await rejection(here, here.headers()) == 429


async def test_a_frame_may_take_the_headers_place() -> None:
    async with scene() as here:
        config = here.simulator.config
        signed = signature(config.secret, f"{here.clock.ms}GET/ws/account")
        payload = {"apiKey": config.key, "signature": signed, "timestamp": here.clock.ms}
        async with here.connection({}) as client:
            await client.send(PING)
            await client.send({"type": "AUTHENTICATE", "payload": payload})
            assert [await client.next(), await client.next()] == [
                {"type": "PONG"},
                {"type": "AUTHENTICATED"},
            ]


@pytest.mark.parametrize(
    "payload", [None, {}, {"apiKey": 1, "signature": {}, "timestamp": []}, {"apiKey": "x"}]
)
async def test_a_frame_that_shows_nothing_right_is_refused(payload: object) -> None:
    async with scene() as here, here.connection({}) as client:
        await client.send({"type": "AUTHENTICATE", "payload": payload})
        assert (await client.end())[0] == 1008


async def test_who_never_authenticates_is_closed_at_the_deadline() -> None:
    async with scene(auth_deadline_s=0.05) as here, here.connection({}) as client:
        assert (await client.end())[0] == 1008


async def test_an_idle_client_is_closed_and_one_that_pings_by_protocol_is_not() -> None:
    async with scene(idle_s=0.3) as here, here.account() as client:
        began = trio.current_time()
        while trio.current_time() < began + 0.6:
            await client.socket.ping()
            await trio.sleep(0.05)
        assert (await client.end())[0] == 1000


@pytest.mark.parametrize(
    "frame",
    [
        "no JSON {",
        "[]",
        "null",
        "1e999999",
        "{}",
        '{"type":"CANCEL_ORDER"}',
        '{"type":"PLACE_BATCH_ORDERS"}',
        '{"type":["PING"]}',
        '{"type":"SUBSCRIBE"}',
        '{"type":"SUBSCRIBE","subscriptions":[{"event":"\\ud800"}]}',
        '{"type":"UNSUBSCRIBE","subscriptions":[{"event":"BALANCE_UPDATE"}]}',
        '{"type":"CANCEL_ON_DISCONNECT","payload":{"cancelOnDisconnect":"true"}}',
        "[" * 100_000,
        '{"a":' + "9" * 5000 + "}",
    ],
)
async def test_what_isnt_supported_is_answered_so_and_the_conversation_goes_on(frame: str) -> None:
    async with scene() as here, here.account() as client:
        await client.send(frame)
        assert types(await client.pong()) == ["UNSUPPORTED"]


async def test_binary_frames_are_not_supported() -> None:
    async with scene() as here, here.account() as client:
        await client.socket.send_message(b"\x00\xff")
        assert types(await client.pong()) == ["UNSUPPORTED"]


async def test_a_frame_beyond_all_measure_is_closed_with_1009() -> None:
    async with scene() as here, here.account() as client:
        await client.send("x" * 2_000_000)
        assert (await client.end())[0] == 1009


async def test_a_command_is_answered_to_its_sender_and_its_outcome_sent_to_all() -> None:
    async with scene() as here, here.account() as asking, here.account() as listening:
        await asking.send(command("PLACE_LIMIT_ORDER", **LIMIT, postOnly=True))
        outcome = ["ORDER_PROCESSED", "OPEN_ORDERS_UPDATE", "BALANCE_UPDATE"]

        assert types(await asking.pong()) == ["PLACE_LIMIT_WS_RESPONSE", *outcome]
        assert types(await listening.pong()) == outcome


async def test_what_is_unsubscribed_isnt_sent_until_it_is_subscribed_again() -> None:
    async with scene() as here, here.account() as client:
        await client.send({"type": "UNSUBSCRIBE", "requests": [{"event": "BALANCE_UPDATE"}]})
        await client.until("UNSUBSCRIBED")
        await here.simulator.reward("USDC", Decimal(1))
        assert types(await client.pong()) == ["NEW_ACCOUNT_HISTORY_RECORD"]

        await client.send({"type": "SUBSCRIBE", "subscriptions": [{"event": "BALANCE_UPDATE"}]})
        await client.until("SUBSCRIBED")
        await here.simulator.reward("USDC", Decimal(1))
        assert types(await client.pong()) == ["NEW_ACCOUNT_HISTORY_RECORD", "BALANCE_UPDATE"]


async def test_orders_are_cancelled_when_a_connection_ends_that_asked_for_it() -> None:
    async with scene() as here, here.account() as listening:
        async with here.account() as leaving:
            wanted = {"cancelOnDisconnect": True}
            await leaving.send({"type": "CANCEL_ON_DISCONNECT", "payload": wanted})
            (reported,) = await leaving.until("CANCEL_ON_DISCONNECT_UPDATE")
            assert reported["data"] == {"cancelOnDisconnect": "true"}
            await leaving.send(command("PLACE_LIMIT_ORDER", **LIMIT))
            await leaving.until("BALANCE_UPDATE")
            assert len(here.simulator.exchange.open_orders()) == 1
        frames = await listening.until("ORDER_STATUS_UPDATE")
        while frames[-1]["data"]["orderStatusType"] != "Cancelled":
            frames = await listening.until("ORDER_STATUS_UPDATE")
        assert here.simulator.exchange.open_orders() == []


async def test_frames_of_one_event_stay_together_however_many_tasks_speak() -> None:
    async with scene() as here, here.account() as client:
        async with trio.open_nursery() as nursery:
            for amount in range(1, 21):
                nursery.start_soon(here.simulator.reward, "USDC", Decimal(amount))
        frames = await client.pong()

    assert types(frames) == ["NEW_ACCOUNT_HISTORY_RECORD", "BALANCE_UPDATE"] * 20
    totals = [Decimal(each["data"]["total"]) for each in frames[1::2]]
    credits = [Decimal(each["data"]["creditValue"]) for each in frames[0::2]]
    assert [b - a for a, b in zip([Decimal(2500), *totals], totals, strict=False)] == credits


async def test_a_client_that_doesnt_read_delays_no_other() -> None:
    async with scene() as here, here.connection() as stalled, here.account() as client:
        # trio-websocket reads on only while its messages are taken.
        await stalled.next()
        for _ in range(5_000):
            here.simulator.send(here.simulator.exchange.reward("USDC", Decimal(1)))
        assert len(await client.pong()) == 10_000
        assert here.simulator.peers[0].unread > 0


async def test_a_client_that_leaves_too_much_unread_is_cut_off() -> None:
    async with scene() as here, here.connection() as stalled:
        await stalled.next()
        (peer,) = here.simulator.peers
        while here.simulator.peers:
            for _ in range(10_000):
                peer.post("{}" * 100)
            await trio.lowlevel.checkpoint()


@pytest.mark.parametrize("per_s", [0.0, 5_000.0])
async def test_a_flood_sends_so_many_frames_and_then_answers_as_ever(per_s: float) -> None:
    async with scene(flood=Flood(1_000, per_s)) as here, here.account() as client:
        frames = [await client.next() for _ in range(1_000)]

        assert types(frames) == ["NEW_ACCOUNT_HISTORY_RECORD", "BALANCE_UPDATE"] * 500
        assert frames[-1]["data"]["total"] == "2505"
        assert await client.pong() == []


async def test_a_slow_flood_doesnt_keep_a_client_from_being_answered() -> None:
    async with scene(flood=Flood(50_000, 50.0)) as here, here.account() as client:
        assert len(await client.pong()) < 1_000


async def test_what_is_no_request_is_answered_400_and_the_port_goes_on_serving() -> None:
    async with scene() as here:
        for nonsense in (b"\x16\x03\x01\x00", b"GET\r\n\r\n", b"GET / HTTP/1.1\r\n\r\n"):
            stream = await trio.open_tcp_stream("127.0.0.1", here.simulator.port)
            async with stream:
                await stream.send_all(nonsense + b"\r\n\r\n")
                assert b"400" in (await stream.receive_some())[:20]
        async with httpx.AsyncClient(base_url=here.simulator.rest_url) as client:
            odd = {"Upgrade": "websocket", **here.headers()}
            assert (await client.get("/ws/account", headers=odd)).status_code == 400
            assert (await client.post("/v1/public/time", content=b"x" * 1_000_001)).status_code in (
                403,
                413,
            )
        async with here.account() as client_again:
            assert await client_again.pong() == []


async def test_the_lines_to_export_lead_a_client_here() -> None:
    async with scene(secret="it's a secret") as here:
        lines = here.simulator.export_lines()

    assert lines[0] == f"export RECORDER_WS_URL=ws://127.0.0.1:{here.simulator.port}"
    assert lines[1] == f"export RECORDER_REST_URL=http://127.0.0.1:{here.simulator.port}"
    assert lines[2:] == [
        "export VALR_API_KEY=simulated-key",
        "export VALR_API_SECRET='it'\"'\"'s a secret'",
    ]


async def test_with_autoplay_the_account_trades_by_itself() -> None:
    async with scene(tick_s=0.001, autoplay=True) as here, here.account() as client:
        trades = await client.until("NEW_ACCOUNT_TRADE")

    assert json.loads(client.texts[-1]) == trades[-1]
    assert here.simulator.exchange.received == {}
