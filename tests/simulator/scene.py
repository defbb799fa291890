"""A clock moved by hand, an exchange without sockets, and a client that is not the recorder.

The client signs with its own code and speaks through trio-websocket, as a stranger's program would.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import random
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import httpx
import trio
from attrs import define, field
from trio_websocket import ConnectionClosed, WebSocketConnection, wrap_client_stream

from recorder.simulator import Simulator, SimulatorConfig, serve
from recorder.simulator.engine import Exchange

WAIT_MAX_S = 60.0
Frame = dict[str, Any]
LIMIT = {"side": "BUY", "pair": "BTCZAR", "quantity": "0.001", "price": "1000000"}


@define
class HandClock:
    """Stands still until it is moved."""

    now: datetime = field(factory=lambda: datetime(2026, 1, 2, 3, 4, 5, 678_000, tzinfo=UTC))

    def __call__(self) -> datetime:
        return self.now

    def pass_s(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)

    @property
    def ms(self) -> int:
        return int(self.now.timestamp() * 1000)


def new_exchange(seed: int = 1, **settings: Any) -> Exchange:
    return Exchange(SimulatorConfig(seed=seed, **settings), HandClock(), random.Random(seed))


def command(kind: str, client_msg_id: str = "m1", **payload: Any) -> Frame:
    return {"type": kind, "clientMsgId": client_msg_id, "payload": payload}


def types(frames: list[Frame]) -> list[str]:
    return [frame["type"] for frame in frames]


def signature(secret: str, signed: str) -> str:
    return hmac.new(secret.encode(), signed.encode(), hashlib.sha512).hexdigest()


@define
class Scene:
    """A running simulator with a clock of its own, and ways to reach it."""

    simulator: Simulator
    clock: HandClock

    def headers(
        self, path: str = "/ws/account", verb: str = "GET", **changed: str
    ) -> dict[str, str]:
        """Return signed headers; ``changed`` replaces what is signed or shown."""
        config = self.simulator.config
        timestamp = changed.get("timestamp", str(self.clock.ms))
        tail = changed.get("sub_account", "") if changed.get("signs_sub_account") else ""
        given = {
            "X-VALR-API-KEY": changed.get("key", config.key),
            "X-VALR-SIGNATURE": changed.get(
                "signature", signature(config.secret, f"{timestamp}{verb}{path}{tail}")
            ),
            "X-VALR-TIMESTAMP": timestamp,
        }
        if "sub_account" in changed:
            given["X-VALR-SUB-ACCOUNT-ID"] = changed["sub_account"]
        return given

    @asynccontextmanager
    async def connection(
        self, headers: Mapping[str, str] | None = None, path: str = "/ws/account"
    ) -> AsyncIterator[Client]:
        shown = self.headers(path) if headers is None else headers
        stream = await trio.open_tcp_stream("127.0.0.1", self.simulator.port)
        # trio-websocket closes the stream only where it was let in.
        async with stream, trio.open_nursery() as nursery:
            socket = await wrap_client_stream(
                nursery,
                stream,
                "localhost",
                path,
                extra_headers=[(name.encode(), value.encode()) for name, value in shown.items()],
                max_message_size=10_000_000,
            )
            yield Client(socket)
            with trio.move_on_after(1):
                await socket.aclose()
            nursery.cancel_scope.cancel()

    @asynccontextmanager
    async def account(self) -> AsyncIterator[Client]:
        """Open the account's channel and read past the snapshot."""
        async with self.connection() as client:
            await client.until("OPEN_ORDERS_UPDATE")
            yield client

    async def get(self, path: str, **changed: str) -> httpx.Response:
        async with httpx.AsyncClient(base_url=self.simulator.rest_url) as client:
            return await client.get(path, headers=self.headers(path, **changed))

    async def control(self, what: str, **settings: Any) -> httpx.Response:
        async with httpx.AsyncClient(base_url=self.simulator.rest_url) as client:
            return await client.post(f"/simulator/{what}", content=json.dumps(settings))


@define
class Client:
    """One connection, seen from the client."""

    socket: WebSocketConnection
    texts: list[str] = field(factory=list)

    async def next(self) -> Frame:
        text = str(await self.socket.get_message())
        self.texts.append(text)
        frame: Frame = json.loads(text)
        return frame

    async def end(self) -> tuple[int, str]:
        """Return code and reason of the end, which has to be next; 1006 where there was none."""
        try:
            raise AssertionError(f"not the end: {await self.next()}")
        except ConnectionClosed as closed:
            assert closed.reason is not None
            return closed.reason.code, closed.reason.reason or ""

    async def until(self, kind: str) -> list[Frame]:
        """Return the frames up to the next one of this type."""
        frames = [await self.next()]
        while frames[-1]["type"] != kind:
            frames.append(await self.next())
        return frames

    async def send(self, frame: object) -> None:
        await self.socket.send_message(frame if isinstance(frame, str) else json.dumps(frame))

    async def pong(self) -> list[Frame]:
        """Return everything that comes before the answer to a PING."""
        await self.send({"type": "PING"})
        return (await self.until("PONG"))[:-1]


@asynccontextmanager
async def scene(**settings: Any) -> AsyncIterator[Scene]:
    """Run a simulator on a free port for as long as the test needs it, and no longer than that."""
    clock = HandClock()
    with trio.fail_after(WAIT_MAX_S):
        async with trio.open_nursery() as nursery:
            simulator: Simulator = await nursery.start(
                partial(serve, SimulatorConfig(**settings), clock=clock)
            )
            yield Scene(simulator, clock)
            nursery.cancel_scope.cancel()
