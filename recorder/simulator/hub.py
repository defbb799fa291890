"""A running simulated exchange, with the methods that tests and controls call."""

from __future__ import annotations

import random
import shlex
from collections.abc import Callable, Iterable
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Literal

import trio
from attrs import define, field

from recorder.simulator.account import CONFIRMATIONS
from recorder.simulator.config import SimulatorConfig
from recorder.simulator.engine import Exchange
from recorder.simulator.faults import Faults
from recorder.simulator.frames import Frame, encode, without_ids
from recorder.simulator.peer import Peer

How = Literal["close", "cut", "reset", "silent"]
MINUTE_S = 60.0


@define(eq=False)
class Simulator:
    """The exchange, its connections, its faults.

    All connections are of the one account, so each gets every frame. What is asynchronous here
    returns when the frames are with the kernel; a client that doesn't read makes it wait.
    """

    config: SimulatorConfig
    _clock: Callable[[], datetime]
    port: int = 0
    exchange: Exchange = field(init=False)
    faults: Faults = field(factory=Faults)
    peers: list[Peer] = field(factory=list)
    #: (connection number, frame) of every text frame written, if the configuration keeps them.
    sent: list[tuple[int, str]] = field(factory=list)
    #: How many upgrades were accepted, and how many clients were turned away.
    connections: int = 0
    refused: int = 0
    #: For faults: the exchange's own random numbers decide what happens in it, whatever goes wrong
    #: beside.
    rng: random.Random = field(init=False)
    _upgrades_at: list[float] = field(factory=list)

    def __attrs_post_init__(self) -> None:
        """Open the exchange."""
        rng = random.Random(self.config.seed)
        self.exchange = Exchange(self.config, self.now, rng)
        self.rng = random.Random(self.config.seed)

    @property
    def ws_url(self) -> str:
        """The address for RECORDER_WS_URL, without the channel's path."""
        return f"ws://{self.config.host}:{self.port}"

    @property
    def rest_url(self) -> str:
        """The address for RECORDER_REST_URL."""
        return f"http://{self.config.host}:{self.port}"

    def export_lines(self) -> list[str]:
        """Return what a shell has to be reported so that a recorder records this exchange."""
        variables = {
            "RECORDER_WS_URL": self.ws_url,
            "RECORDER_REST_URL": self.rest_url,
            "VALR_API_KEY": self.config.key,
            "VALR_API_SECRET": self.config.secret,
        }
        return [f"export {name}={shlex.quote(value)}" for name, value in variables.items()]

    def now(self) -> datetime:
        """Return the exchange's time, which may be wrong on purpose.

        In whole milliseconds, as it is reported: a window up to a time that was reported includes
        it.
        """
        now = self._clock() + timedelta(seconds=self.faults.clock_ahead_s)
        return now.replace(microsecond=now.microsecond // 1000 * 1000)

    # Saying things

    def send(self, frames: Iterable[Frame]) -> None:
        """Post frames to every authenticated connection, together, without waiting."""
        if self.faults.without_ids:
            frames = map(without_ids, frames)
        texts = [(frame["type"], encode(frame)) for frame in frames]
        for peer in self.peers:
            if peer.is_authenticated:
                for kind, text in texts:
                    if kind not in peer.muted:
                        peer.post(text)

    async def flush(self) -> None:
        """Wait until everything posted is with the kernel."""
        for peer in list(self.peers):
            await peer.flush()

    async def emit(self, frame: str | bytes) -> None:
        """Send one frame, whatever it is, to every authenticated connection."""
        for peer in self.peers:
            if peer.is_authenticated:
                peer.post(frame)
        await self.flush()

    def note_sent(self, peer: Peer, text: str) -> None:
        """Remember a frame that was written."""
        if self.config.keep_sent:
            self.sent.append((peer.number, text))

    # Making things happen

    async def tick(self) -> None:
        """Let prices move, orders fill and transfers be confirmed."""
        await self._happened(self.exchange.tick())

    async def fill(self, order_id: str, quantity: Decimal, price: Decimal | None = None) -> None:
        """Fill a part of an open order. Raises ValueError if that can't be."""
        await self._happened(self.exchange.fill(order_id, quantity, price))

    async def deposit(self, currency: str, amount: Decimal, needed: int = CONFIRMATIONS) -> None:
        """Announce a deposit, which is credited after so many ticks; at once if 0."""
        await self._happened(self.exchange.deposit(currency, amount, needed))

    async def withdraw(self, currency: str, amount: Decimal) -> None:
        """Withdraw; nothing happens if there isn't enough."""
        await self._happened(self.exchange.withdraw(currency, amount))

    async def reward(self, currency: str, amount: Decimal) -> None:
        """Pay a reward."""
        await self._happened(self.exchange.reward(currency, amount))

    async def trade_future(
        self, pair: str, side: str, quantity: Decimal, price: Decimal | None = None
    ) -> None:
        """Buy or sell a perpetual. Raises ValueError if that can't be."""
        self.exchange.futures.trade(pair, side, quantity, price)
        await self._happened(self.exchange.account.take())

    async def add_conditional(
        self,
        pair: str,
        quantity: Decimal,
        take_profit: Decimal | None = None,
        stop_loss: Decimal | None = None,
    ) -> None:
        """Place a conditional order. Raises ValueError if that can't be."""
        self.exchange.futures.add_conditional(pair, quantity, take_profit, stop_loss)
        await self._happened(self.exchange.account.take())

    async def remove_conditional(self, order_id: str, reason: str = "CANCELLED_BY_USER") -> None:
        """Take a conditional order away. Raises ValueError if there is none."""
        self.exchange.futures.remove_conditional(order_id, reason)
        await self._happened(self.exchange.account.take())

    async def drop(self, how: How = "close", code: int = 1000, reason: str = "") -> None:
        """End every connection: ``close`` with a code, ``cut`` without one, ``reset`` by TCP.

        Of a ``close`` it is the beginning: frames posted before go first.

        ``silent`` ends nothing: from now on nothing is read or written, without notice.
        """
        if how == "silent":
            self.faults.silent = True
            return
        for peer in list(self.peers):
            if how == "close":
                peer.close(code, reason)
            else:
                peer.cut(reset=how == "reset")
        await trio.lowlevel.checkpoint()

    def is_over_upgrade_limit(self) -> bool:
        """Count an upgrade; True if there were too many in the last minute."""
        now, limit = trio.current_time(), self.config.upgrades_per_min
        self._upgrades_at = [each for each in self._upgrades_at if now - each < MINUTE_S]
        self._upgrades_at.append(now)
        return 0 < limit < len(self._upgrades_at)

    async def _happened(self, frames: list[Frame]) -> None:
        self.send(frames)
        await self.flush()
