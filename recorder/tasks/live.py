"""One session of a connection while it lives, and what every session takes from outside."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable, Sequence

import trio
from attrs import define, field, frozen

from recorder.clock import Clock
from recorder.exchange.actions import Say
from recorder.exchange.session import Session
from recorder.tasks.socket import OpenStream


@frozen
class Credentials:
    """How one session introduces itself: made afresh for each, because it holds the time."""

    headers: Sequence[tuple[str, str]]
    #: The AUTHENTICATE frame, where the handshake's headers don't do it.
    authenticate: Say | None


@frozen
class Surroundings:
    """What a connection takes from outside: time, dice, the network, the exchange's clock."""

    clock: Clock
    dice: random.Random
    open_stream: OpenStream
    #: Returns the exchange's time in microseconds since 1970, or None if it can't be had.
    exchange_time_us: Callable[[], Awaitable[int | None]]


@define(eq=False)
class Live:
    """One session under way."""

    connection_id: str
    session: Session
    opened_ns: int = 0
    frames: int = 0
    last_frame_us: int | None = None
    last_frame_ns: int | None = None
    authenticated_ns: int | None = None
    is_open: bool = False
    alarm: trio.CancelScope = field(factory=trio.CancelScope)
    #: Why a new snapshot is wanted, until the connection is left for it.
    renewal: str | None = None
    is_wrong_clock_said: bool = False
