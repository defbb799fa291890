"""Whatever the exchange or the line does is found out, written down, and lived through."""

from __future__ import annotations

import base64
import logging
import re
import shutil
from collections.abc import Callable
from decimal import Decimal
from hashlib import sha1
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing
from attrs import evolve

from recorder.exchange import pacing
from recorder.simulator import Simulator
from tests.daemon.scene import (
    assert_chained,
    connected,
    daemon,
    exchange,
    received,
    recording,
    runtime,
    until,
)

#: A line that is open and dead is found out within 10 s: 5 of quiet, 5 more without a PONG.
FOUND_S = 15.0
#: Long enough for a hasty client to have come back several times.
HASTE_S = 1.5
REWARD = Decimal("0.01")


@pytest.mark.parametrize(
    ("how", "by", "code"), [("close", "exchange", 1001), ("cut", "network", None)]
)
async def test_a_lost_connection_is_noted_and_made_again(
    sqlite_url: str, how: Any, by: str, code: int | None
) -> None:
    async with recording(sqlite_url) as scene:
        ending: dict[str, Any] = {"code": code, "reason": "going away"} if code else {}
        await scene.simulator.drop(how, **ending)
        await until(lambda: scene.simulator.connections == 2)
        await scene.until_live()

        (ending,) = scene.books.endings()
        assert ending["type"] == "CONNECTION_CLOSED"
        assert (ending["by"], ending["code"]) in ((by, code), (by, 1006))
        assert ending["frames"] == sum(number == 1 for number, _ in received(scene.books))
        state = "SELECT state, is_open FROM connections ORDER BY first_position"
        assert scene.books.ask(state) == [("closed", False), ("authenticated", True)]


async def test_a_reset_under_a_stream_of_frames_loses_none_that_arrived(sqlite_url: str) -> None:
    async with recording(sqlite_url) as scene:
        for sessions in range(2, 6):
            for _ in range(20):
                await scene.simulator.tick()
                await scene.simulator.reward("USDC", REWARD)
            await scene.simulator.drop("reset")
            await scene.until_connected(sessions)
        await scene.until_live()

        # A reset throws away what waits in the kernel: of each connection a beginning is there.
        reported, received_facts = scene.simulator.sent, received(scene.books)
        for number in {number for number, _ in reported}:
            answer = [text for each, text in reported if each == number]
            kept = [text for each, text in received_facts if each == number]
            assert kept == answer[: len(kept)]
        assert_chained(scene.books)


def silent(simulator: Simulator) -> None:
    simulator.faults.silent = True


def without_pong(simulator: Simulator) -> None:
    simulator.faults.no_pong = True


def without_answer(simulator: Simulator) -> None:
    simulator.faults.stall_upgrade = True


def without_welcome(simulator: Simulator) -> None:
    simulator.faults.withhold_authenticated = True


#: What goes wrong, when, and what must be logged.
SILENCES: dict[str, tuple[Callable[[Simulator], None], bool, str]] = {
    "half_open": (silent, True, "no PONG and no frame for 5 s"),
    "no_pong": (without_pong, True, "no PONG and no frame for 5 s"),
    "no_upgrade": (without_answer, False, "the upgrade was not answered in 10 s"),
    "no_welcome": (without_welcome, False, "no AUTHENTICATED within 10 s"),
}


async def test_every_way_of_falling_silent_is_found_out_in_seconds_and_outlived(
    tmp_path: Path, sqlite_template: Path
) -> None:
    # Each takes its waiting time, so they fall silent together.
    async with trio.open_nursery() as nursery:
        for name in SILENCES:
            copy = shutil.copyfile(sqlite_template, tmp_path / f"{name}.db")
            nursery.start_soon(_falls_silent, f"sqlite:///{copy}", name)


async def _falls_silent(url: str, name: str) -> None:
    break_it, is_live_before, reason = SILENCES[name]
    async with exchange() as simulator:
        if not is_live_before:
            break_it(simulator)
        # Time enough to fix the exchange before it is asked again.
        around = runtime(fraction=0.5)
        async with daemon(url, simulator, around) as scene:
            if is_live_before:
                await scene.until_live()
                break_it(simulator)
            await until(lambda: bool(scene.books.endings()), FOUND_S)
            simulator.faults.change(
                dict.fromkeys(
                    ("silent", "no_pong", "stall_upgrade", "withhold_authenticated"), False
                )
            )
            complete = "type = 'SNAPSHOT_COMPLETE'"
            count = scene.books.count("events", complete)
            await until(lambda: scene.books.count("events", complete) > count)

            ending = scene.books.endings()[0]
            assert ending["reason"] == reason
            if is_live_before:
                await until(lambda: scene.books.count("gaps", "state <> 'open'") == 2)
                causes = scene.books.ask("SELECT cause FROM gaps ORDER BY gap_id")
                assert causes == [("first_start",), ("silent",)]


@pytest.mark.parametrize("status", [503, 404])
async def test_an_exchange_that_is_not_there_is_asked_again(sqlite_url: str, status: int) -> None:
    async with exchange() as simulator:
        simulator.faults.refuse_upgrade = status
        # Some waiting time, or its tries would be used up before the exchange is fixed.
        async with daemon(sqlite_url, simulator, runtime(fraction=0.1)) as scene:
            await until(lambda: len(scene.books.endings()) >= 2)
            simulator.faults.refuse_upgrade = 0
            await scene.until_live()

            ending = scene.books.endings()[0]
            assert ending["type"] == "CONNECTION_FAILED"
            assert f"HTTP {status}" in ending["reason"]
            # What never was a connection leaves no row of one.
            assert scene.books.count("connections") == 1


async def test_an_address_without_a_listener_is_tried_again(sqlite_url: str) -> None:
    async with exchange() as simulator:
        pass
    async with daemon(sqlite_url, simulator) as scene:
        await until(lambda: len(scene.books.endings()) >= 2)

        assert all(each["type"] == "CONNECTION_FAILED" for each in scene.books.endings())


@pytest.mark.parametrize(
    ("status", "kind"),
    [(401, "CONNECTION_REFUSED"), (403, "CONNECTION_REFUSED"), (429, "CONNECTION_FAILED")],
)
async def test_an_exchange_that_turns_us_away_is_not_hammered(
    sqlite_url: str, status: int, kind: str
) -> None:
    async with exchange() as simulator:
        simulator.faults.refuse_upgrade = status
        async with daemon(sqlite_url, simulator) as scene:
            await until(lambda: bool(scene.books.endings()))
            await trio.sleep(HASTE_S)

            assert simulator.refused == 1
            (ending,) = scene.books.endings()
            assert ending["type"] == kind
            assert f"HTTP {status}" in ending["reason"]


@pytest.mark.parametrize("refuse_by", ["close", "http"])
async def test_a_wrong_secret_is_reported_once_and_retried_slowly(
    sqlite_url: str, refuse_by: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with exchange(refuse_by=refuse_by) as simulator:
        async with daemon(sqlite_url, simulator, VALR_API_SECRET="wrong") as scene:
            await until(lambda: bool(scene.books.endings()))
            await trio.sleep(HASTE_S)

            assert simulator.refused == 1
            (ending,) = scene.books.endings()
            assert ending["type"] == "CONNECTION_REFUSED"
            assert ending["code"] == (1007 if refuse_by == "close" else None)
            assert abs(ending["clock_ahead_s"]) < 2
    complaints = [each for each in caplog.records if each.levelno >= logging.ERROR]
    (complaint,) = complaints
    assert "refused the credentials" in complaint.getMessage()
    assert "clock" not in complaint.getMessage()


async def test_a_wrong_clock_is_named_when_we_are_refused_for_it(
    sqlite_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with exchange() as simulator:
        simulator.faults.clock_ahead_s = 42.0
        async with daemon(sqlite_url, simulator) as scene:
            await until(lambda: bool(scene.books.endings()))

            (ending,) = scene.books.endings()
            assert -43 < ending["clock_ahead_s"] < -41
    assert "behind the exchange's: set it, or run NTP" in caplog.text


async def test_a_wrong_clock_that_drifts_is_named_once(
    sqlite_url: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pacing, "REFUSED_BASE_S", 0.05)
    async with exchange() as simulator:
        simulator.faults.clock_ahead_s = 42.0
        async with daemon(sqlite_url, simulator) as scene:
            await until(lambda: bool(scene.books.endings()))
            simulator.faults.clock_ahead_s = 47.5
            await until(lambda: scene.books.endings()[-1]["clock_ahead_s"] < -46)
    (complaint,) = [each for each in caplog.records if each.levelno >= logging.ERROR]
    assert "our clock is 4" in complaint.getMessage()


async def test_a_refusal_in_band_is_a_refusal(sqlite_url: str) -> None:
    given: dict[str, Any] = {"auth": "message", "VALR_API_SECRET": "wrong"}
    async with exchange() as simulator, daemon(sqlite_url, simulator, **given) as scene:
        await until(lambda: bool(scene.books.endings()))

        (ending,) = scene.books.endings()
        assert (ending["type"], ending["code"]) == ("CONNECTION_REFUSED", 1008)


async def test_a_sub_account_that_the_key_may_not_act_for_is_refused(sqlite_url: str) -> None:
    async with exchange(sub_account_id="1") as simulator:
        async with daemon(sqlite_url, simulator, sub_account_id="2") as scene:
            await until(lambda: bool(scene.books.endings()))

            assert scene.books.endings()[0]["type"] == "CONNECTION_REFUSED"


async def test_a_frame_larger_than_allowed_ends_the_connection_and_names_what_to_set(
    sqlite_url: str,
) -> None:
    async with connected(sqlite_url, max_frame_bytes="4096") as scene:
        await scene.simulator.emit('{"type":"BIG","data":"' + "x" * 5000 + '"}')
        await scene.until_connected(2)

        (ending,) = scene.books.endings()
        assert ending["by"] == "recorder"
        assert "max_frame_bytes (4096)" in ending["reason"]
        assert scene.books.count("events", "type = 'BIG'") == 0


async def test_a_frame_as_large_as_allowed_is_recorded_whole(database_url: str) -> None:
    frame = '{"type":"BIG","data":"' + "x" * (10_000_000 - 24) + '"}'
    async with connected(database_url, max_frame_bytes=str(len(frame))) as scene:
        await scene.simulator.emit(frame)
        await until(lambda: scene.books.count("events", "type = 'BIG'") == 1)

        assert scene.books.one("SELECT payload FROM events WHERE type = 'BIG'") == frame
        assert scene.simulator.connections == 1


NO_TEXT = b"\xff\xfe\xc3\x28"


@pytest.mark.parametrize(
    ("sent", "code"),
    [(b"\x81\x04" + NO_TEXT, 1007), (b"\x83\x04" + NO_TEXT, 1002)],
    ids=["no UTF-8", "no such opcode"],
)
@pytest.mark.parametrize("authenticated", [True, False])
async def test_what_is_no_message_ends_the_connection_by_us_and_is_kept(
    sqlite_url: str, sent: bytes, code: int, authenticated: bool
) -> None:
    peers: list[trio.abc.Stream] = []

    async def open_stream(_url: str) -> trio.abc.Stream:
        ours, theirs = trio.testing.memory_stream_pair()
        peers.append(theirs)
        return ours

    async with exchange() as simulator:
        around = evolve(runtime(fraction=0.9), open_stream=open_stream)
        async with daemon(sqlite_url, simulator, around) as scene:
            await until(lambda: peers)
            await upgrade(peers[0])
            if authenticated:
                await peers[0].send_all(b'\x81\x18{"type":"AUTHENTICATED"}')
                await scene.until_connected(1)
            await peers[0].send_all(sent)
            await until(lambda: scene.books.endings())

            (ending,) = scene.books.endings()
            assert (ending["by"], ending["code"]) == ("recorder", code)
            assert "no WebSocket message" in ending["reason"]
            assert NO_TEXT in base64.b64decode(ending["unread_base64"])
            assert not scene.books.has_note("CONNECTION_REFUSED")


async def test_what_came_in_one_piece_with_the_end_is_recorded_behind_it(sqlite_url: str) -> None:
    peers: list[trio.abc.Stream] = []

    async def open_stream(_url: str) -> trio.abc.Stream:
        ours, theirs = trio.testing.memory_stream_pair()
        peers.append(theirs)
        return ours

    answer = ['{"type":"UNAUTHORIZED"}', '{"type":"A"}', '{"type":"B"}']
    async with exchange() as simulator:
        around = evolve(runtime(fraction=0.9), open_stream=open_stream)
        async with daemon(sqlite_url, simulator, around) as scene:
            await until(lambda: peers)
            await upgrade(peers[0])
            await peers[0].send_all(
                b"".join(b"\x81" + bytes([len(each)]) + each.encode() for each in answer)
            )
            await until(lambda: scene.books.has_note("CONNECTION_REFUSED"))

            rows = scene.books.ask("SELECT type FROM events WHERE position >= 4 ORDER BY position")
            assert [kind for (kind,) in rows[:4]] == [
                "UNAUTHORIZED",
                "A",
                "B",
                "CONNECTION_REFUSED",
            ]


async def upgrade(peer: trio.abc.Stream) -> None:
    """Answer the upgrade on a bare stream."""
    head = b""
    while b"\r\n\r\n" not in head:
        head += await peer.receive_some(4_096)
    (key,) = re.findall(rb"(?i)sec-websocket-key: (\S+)", head)
    accept = base64.b64encode(sha1(key + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest())
    await peer.send_all(
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Accept: " + accept + b"\r\n\r\n"
    )
