"""The shell: one port for the account WebSocket, the REST paths and the controls.

A connection's first bytes decide: an upgrade becomes a `Peer`, anything else is answered over HTTP.
All connections are of the one account, so each gets every frame.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import trio
from attrs import define, field
from wsproto.utilities import LocalProtocolError, RemoteProtocolError

from recorder.simulator import auth
from recorder.simulator.config import SimulatorConfig
from recorder.simulator.engine import ANSWERS, Exchange
from recorder.simulator.faults import GARBAGE, Faults
from recorder.simulator.frames import Frame
from recorder.simulator.http import Answer, Asked, read_request, write_answer
from recorder.simulator.life import live_a_little
from recorder.simulator.peer import Peer
from recorder.simulator.rest import answer as answer_rest

PATH = "/ws/account"
_GONE = (
    trio.BrokenResourceError,
    trio.ClosedResourceError,
    LocalProtocolError,
    RemoteProtocolError,
)


def real_time(config: SimulatorConfig) -> Callable[[], datetime]:
    """Return the clock of a simulated exchange that runs in real time."""
    ahead = timedelta(seconds=config.clock_ahead_s)
    return lambda: datetime.now(UTC) + ahead  # noqa: TID251 - the shell's own clock


@define(eq=False)
class Simulator:
    """A running simulated exchange: its engine, its connections, its faults."""

    config: SimulatorConfig
    exchange: Exchange
    now: Callable[[], datetime]
    port: int = 0
    faults: Faults = field(factory=Faults)
    peers: list[Peer] = field(factory=list)
    connections: int = 0
    #: (connection number, frame) of everything written, where the configuration keeps it.
    sent: list[tuple[int, str]] = field(factory=list)
    refused: int = 0

    @property
    def ws_url(self) -> str:
        """The address for RECORDER_WS_URL."""
        return f"ws://{self.config.host}:{self.port}"

    @property
    def rest_url(self) -> str:
        """The address for RECORDER_REST_URL."""
        return f"http://{self.config.host}:{self.port}"

    def export_lines(self) -> list[str]:
        """Return the shell lines that point a recorder here."""
        return [
            f"export RECORDER_WS_URL={self.ws_url}",
            f"export RECORDER_REST_URL={self.rest_url}",
            f"export VALR_API_KEY={self.config.key}",
            f"export VALR_API_SECRET={self.config.secret}",
        ]

    # What tests and the controls do

    async def emit(self, frame: str | bytes) -> None:
        """Send one frame, whatever it is, to every authenticated connection."""
        for peer in [each for each in self.peers if each.authenticated]:
            await self._write(peer, frame)

    async def emit_all(self, frames: Iterable[Frame]) -> None:
        """Send what the engine returned."""
        for frame in frames:
            await self.emit(encode(frame))

    async def drop(self, how: str = "close", code: int = 1000, reason: str = "") -> None:
        """End every connection: ``close`` with a code, ``cut`` without one, ``reset`` by TCP."""
        for peer in list(self.peers):
            try:
                if how == "close":
                    await peer.close(code, reason)
                elif how == "reset":
                    await peer.reset()
                else:
                    await trio.aclose_forcefully(peer.stream)
            except _GONE:
                pass
            finally:
                peer.scope.cancel()

    async def control(self, path: str, body: str) -> Answer:
        """Carry out a request to ``/simulator/…``; see docs/simulator.md."""
        try:
            settings = json.loads(body or "{}")
            await self._control(path.removeprefix("/simulator/"), settings)
        except (ValueError, KeyError, TypeError) as error:
            return Answer(400, {"message": f"{type(error).__name__}: {error}"})
        return Answer(200, {"connections": len(self.peers)})

    async def _control(self, what: str, settings: dict[str, Any]) -> None:
        if what == "faults":
            self.faults.change(settings)
        elif what == "drop":
            await self.drop(**settings)
        elif what == "emit":
            await self.emit(settings["frame"])
        elif what == "garbage":
            await self.emit(GARBAGE[settings["kind"]])
        elif what == "oversized":
            await self.emit('{"type":"BIG","data":"' + "x" * int(settings["bytes"]) + '"}')
        elif what == "tick":
            await self.emit_all(self.exchange.tick())
        else:
            raise KeyError(f"no control {what}")

    # Connections

    async def serve_stream(self, stream: trio.SocketStream) -> None:
        """Serve one TCP connection to its end."""
        async with stream:
            try:
                asked = await read_request(stream)
                while asked is not None and not asked.is_upgrade:
                    await write_answer(stream, await self._answer(asked))
                    asked = await read_request(stream)
                if asked is not None:
                    await self._serve_upgrade(stream, asked)
            except _GONE:
                return

    async def _answer(self, asked: Asked) -> Answer:
        if asked.path.startswith("/simulator/"):
            return await self.control(asked.path, asked.body)
        if self.faults.rest_status:
            return Answer(self.faults.rest_status, {"message": "simulated"})
        return answer_rest(self.exchange, self.config, self.now(), asked)

    async def _serve_upgrade(self, stream: trio.SocketStream, asked: Asked) -> None:
        if self.faults.stall_upgrade:
            await trio.sleep_forever()
        if self.faults.refuse_upgrade:
            await write_answer(stream, Answer(self.faults.refuse_upgrade, {"message": "simulated"}))
            return
        wrong = self._refusal(asked)
        in_band = "x-valr-api-key" not in asked.headers and self.config.allow_message_auth
        if wrong and not in_band and (self.config.refuse_by == "http" or wrong[0] == 403):
            self.refused += 1
            await write_answer(stream, Answer(wrong[0], {"code": -11252, "message": wrong[1]}))
            return
        self.connections += 1
        peer = Peer(stream, self.connections)
        if not await peer.accept(asked.head):
            return
        if wrong and not in_band:
            self.refused += 1
            await peer.close(1007, "Request has an invalid signature")
            return
        with peer.scope:
            await self._hold(peer, in_band=in_band)

    def _refusal(self, asked: Asked) -> tuple[int, str] | None:
        if asked.path != PATH:
            return 404, "no such channel"
        now_ms = int(self.now().timestamp() * 1000)
        return auth.refusal(self.config, asked.headers, now_ms, "GET", asked.path)

    async def _hold(self, peer: Peer, *, in_band: bool) -> None:
        self.peers.append(peer)
        try:
            if in_band and not await self._authenticate_in_band(peer):
                return
            if not self.faults.withhold_authenticated:
                peer.authenticated = True
                await self._write(peer, encode({"type": "AUTHENTICATED"}))
                for frame in self.exchange.snapshot():
                    await self._write(peer, encode(frame))
            await self._converse(peer)
        finally:
            self.peers.remove(peer)

    async def _authenticate_in_band(self, peer: Peer) -> bool:
        with trio.move_on_after(self.config.auth_deadline_s):
            text = await peer.receive()
            frame = decode(text or "")
            payload = frame.get("payload") if frame.get("type") == "AUTHENTICATE" else None
            if isinstance(payload, dict):
                wrong = auth.credentials_refusal(
                    self.config,
                    str(payload.get("apiKey")),
                    str(payload.get("signature")),
                    str(payload.get("timestamp")),
                    f"GET{PATH}{payload.get('subAccountId', '')}",
                    int(self.now().timestamp() * 1000),
                )
                if wrong is None:
                    return True
        self.refused += 1
        await peer.close(1008, "Unauthorized")
        return False

    async def _converse(self, peer: Peer) -> None:
        while True:
            text: str | None = None
            with trio.move_on_after(self.config.idle_s) as idle:
                text = await peer.receive()
            if idle.cancelled_caught:
                await peer.close(1000)
                return
            if text is None:
                return
            if self.faults.silent:
                await trio.sleep_forever()
            await self._hear(peer, text)

    async def _hear(self, peer: Peer, text: str) -> None:
        frame = decode(text)
        kind = frame.get("type")
        if kind == "PING":
            if not self.faults.no_pong:
                await self._write(peer, encode({"type": "PONG"}))
        elif kind in ("SUBSCRIBE", "UNSUBSCRIBE"):
            said = {"type": f"{kind}D", "message": f"{kind.title()}d"}
            await self._write(peer, encode(said))
        elif kind == "CANCEL_ON_DISCONNECT":
            data = {"cancelOnDisconnect": "true"}
            await self._write(peer, encode({"type": "CANCEL_ON_DISCONNECT_UPDATE", "data": data}))
        elif kind in ANSWERS:
            await self._command(peer, str(kind), frame)
        else:
            await self._write(peer, encode({"type": "UNSUPPORTED", "message": "Unsupported"}))

    async def _command(self, peer: Peer, kind: str, frame: dict[str, Any]) -> None:
        fault = self.faults.take_command_fault()
        client_msg_id = frame.get("clientMsgId")
        if fault == "lose_command":
            if client_msg_id is not None:
                self.exchange.received[client_msg_id] += 1
            return
        answers = self.exchange.command(kind, client_msg_id, frame.get("payload"))
        if fault == "accept_then_cut":
            await peer.reset()
            peer.scope.cancel()
            return
        if fault != "swallow_answer":
            await self._write(peer, encode(answers[0]))
        if fault != "answer_without_order":
            await self.emit_all(answers[1:])

    async def _write(self, peer: Peer, frame: str | bytes) -> None:
        if self.faults.silent:
            return
        if self.faults.delay_s:
            await trio.sleep(self.faults.delay_s)
        for _ in range(2 if self.faults.duplicate else 1):
            try:
                await peer.send(frame)
            except _GONE:
                peer.scope.cancel()
                return
            if self.config.keep_sent and isinstance(frame, str):
                self.sent.append((peer.number, frame))


def encode(frame: Frame) -> str:
    """Return a frame's text."""
    return json.dumps(frame, separators=(",", ":"))


def decode(text: str) -> dict[str, Any]:
    """Return a client's frame, empty where it is none."""
    try:
        frame = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return frame if isinstance(frame, dict) else {}


async def serve(
    config: SimulatorConfig,
    *,
    now: Callable[[], datetime] | None = None,
    task_status: trio.TaskStatus[Simulator] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve until cancelled; report the `Simulator` once it listens."""
    clock = now or real_time(config)
    exchange = Exchange(config, clock, random.Random(config.seed))
    simulator = Simulator(config, exchange, clock)
    async with trio.open_nursery() as nursery:
        listeners = await nursery.start(
            partial(trio.serve_tcp, simulator.serve_stream, config.port, host=config.host)
        )
        simulator.port = listeners[0].socket.getsockname()[1]
        if config.tick_s:
            nursery.start_soon(live_a_little, simulator)
        task_status.started(simulator)


async def run_simulator(config: SimulatorConfig, say: Callable[[str], None] = print) -> None:
    """Serve until cancelled, and say which variables point a recorder here."""
    async with trio.open_nursery() as nursery:
        simulator: Simulator = await nursery.start(partial(serve, config))
        for line in simulator.export_lines():
            say(line)
