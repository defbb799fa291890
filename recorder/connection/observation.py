"""What a connection knows about its own observation: what is confirmed, and what may be missing.

An account is not observed from the start, and again from each loss, until a snapshot is complete.
The monotonic clock measures how long that lasts, because the wall clock may be set meanwhile. A
look at both, every second and at each frame, finds that it was set, or that the machine slept.
After a refusal the exchange is asked for its time, to separate a wrong clock from a wrong key.

`ActiveSession` tracks one session: what it has received, and what is not confirmed yet.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from decimal import Decimal, InvalidOperation

import httpx
import trio
from attrs import define, field, frozen

from recorder.clock import Clock
from recorder.exchange.session import Session
from recorder.exchange.session_actions import SendText
from recorder.log.rules.coverage import JUMP_US_MIN, LOOK_NS_MAX, Reading, jump_us
from recorder.outbox.tasks.send_queue import Dispatch
from recorder.timestamps import from_us

#: Between two looks at the clocks while nothing comes in.
LOOK_S = 1.0
#: A process that has neither read nor looked for so long stood still: stopped, starved, or frozen.
STILL_S = 2.0


@define(eq=False)
class ObservationTracker:
    """Since when an account is not observed, and how the clocks stood at the last look."""

    clock: Clock
    #: The monotonic moment from which nothing is certain; None while it is observed.
    _unobserved_since_ns: int | None = None
    _looked: Reading = field(default=Reading(0, 0), init=False)
    _stirred_ns: int = field(default=0, init=False)

    def __attrs_post_init__(self) -> None:
        self._looked = Reading(self.clock.wall_us(), self.clock.monotonic_ns())
        self._unobserved_since_ns = self._stirred_ns = self._looked.monotonic_ns

    def lose(self, last_frame_ns: int | None) -> None:
        """Report that nothing is certain behind the last frame; a second loss changes nothing."""
        if self._unobserved_since_ns is None:
            self._unobserved_since_ns = last_frame_ns or self.clock.monotonic_ns()

    def regain(self) -> float:
        """Report that a snapshot is complete; return for how many seconds it was not observed."""
        unobserved_s = self.unobserved_s
        self._unobserved_since_ns = None
        return unobserved_s

    @property
    def unobserved_s(self) -> float:
        """For how many seconds it has been not observed; 0 while it is not."""
        if self._unobserved_since_ns is None:
            return 0.0
        return (self.clock.monotonic_ns() - self._unobserved_since_ns) / 1e9

    def stir(self, now_ns: int) -> float:
        """Report that the process runs; return for how many seconds it stood still, mostly 0."""
        still_s = (now_ns - self._stirred_ns) / 1e9
        self._stirred_ns = now_ns
        return still_s if still_s >= STILL_S else 0.0

    def seems_jumped(self, wall_us: int, monotonic_ns: int) -> bool:
        """Report from times just taken whether a closer look is due. For every frame."""
        went_ns = (wall_us - self._looked.wall_us) * 1_000
        passed_ns = monotonic_ns - self._looked.monotonic_ns
        return abs(went_ns - passed_ns) >= JUMP_US_MIN * 1_000

    def look(self) -> float:
        """Return by how many seconds the wall clock jumped since the last look; mostly 0."""
        before_ns = self.clock.monotonic_ns()
        now = Reading(self.clock.wall_us(), self.clock.monotonic_ns())
        if now.monotonic_ns - before_ns > LOOK_NS_MAX:
            return 0.0
        jumped_us = jump_us(self._looked, now)
        self._looked = now
        return jumped_us / 1e6


#: Nothing waits longer for an answer that only explains a refusal.
TIMEOUT_S = 3.0
#: The published answer has under 100 bytes.
ANSWER_BYTES_MAX = 4_096
#: Clocks that differ by more than this are named when credentials are refused.
SKEW_NAMED_S = 2.0


async def ask_exchange_time_us(rest_url: str) -> int | None:
    """Return the exchange's time in microseconds since 1970, or None if it can't be had.

    ``GET /v1/public/time`` answers ``{"epochTime": seconds, "time": …}``; no key is sent.
    """
    try:
        async with httpx.AsyncClient(timeout=TIMEOUT_S) as client:
            answer = await client.get(f"{rest_url}/v1/public/time")
        return _read_time_us(answer.text[:ANSWER_BYTES_MAX])
    except (httpx.HTTPError, httpx.InvalidURL):
        return None


def _read_time_us(text: str) -> int | None:
    try:
        answer = json.loads(text, parse_float=Decimal)
        return int(Decimal(answer["epochTime"]) * 1_000_000)
    except (ValueError, TypeError, KeyError, InvalidOperation, RecursionError):
        return None


def skew_text(skew_s: float | None) -> str:
    """Return, for a sentence, how wrong our clock is; nothing where that isn't worth a word."""
    if skew_s is None or abs(skew_s) < SKEW_NAMED_S:
        return ""
    way = "ahead of" if skew_s > 0 else "behind"
    return f" (our clock is {abs(skew_s):.1f} s {way} the exchange's: set it, or run NTP)"


@frozen
class Credentials:
    """How one session introduces itself: made afresh for each, because it holds the time."""

    headers: Sequence[tuple[str, str]]
    #: The AUTHENTICATE frame, where the handshake's headers don't do it.
    authenticate: SendText | None


@frozen
class UnconfirmedSpan:
    """A pause in reading: what is read now may have waited on a connection that has ended since.

    The last frame before the pause is the last moment known to be good, until the PING of this
    number, sent after it, is answered: then nothing that was on the way is missing. A further
    pause opens a span of its own if a PING was sent in between: a log that is slow again and again
    leaves no more uncertain than what was received since the last answered PING.
    """

    last_frame_us: int | None
    last_frame_ns: int | None
    proof: int


@define(eq=False)
class ActiveSession:
    """One session under way."""

    connection_id: str
    session: Session
    #: What waits for the sending side: PINGs, and commands on their way out.
    outbound: trio.MemorySendChannel[SendText | Dispatch] = field(init=False)
    opened_ns: int = 0
    frames: int = 0
    #: For how long in all it was not read because the log was full.
    not_read_s: float = 0.0
    last_frame_us: int | None = None
    last_frame_ns: int | None = None
    authenticated_ns: int | None = None
    is_open: bool = False
    alarm: trio.CancelScope = field(factory=trio.CancelScope)
    #: Why a new snapshot is wanted, until the connection is left for it.
    renewal: str | None = None
    is_wrong_clock_logged: bool = False
    #: Oldest first; a later one has a later proof.
    unconfirmed: list[UnconfirmedSpan] = field(factory=list)

    def end_facts(self) -> Mapping[str, object]:
        """Return the facts of the note on its end."""
        reported: dict[str, object] = {
            "frames": self.frames,
            "not_read_s": round(self.not_read_s, 6),
            "last_frame_at": _time(self.last_frame_us),
        }
        return reported | {"certain_at": self.certain_at} if self.unconfirmed else reported

    def authenticated_s(self, now_ns: int) -> float | None:
        """For how long it has been authenticated; None if it never was."""
        began_ns = self.authenticated_ns
        return None if began_ns is None else (now_ns - began_ns) / 1e9

    def mark_unconfirmed(self) -> None:
        """Note a pause in reading, before what is read next is counted."""
        sent, _ = self.session.pings
        if not self.unconfirmed or self.unconfirmed[-1].proof <= sent:
            self.unconfirmed.append(
                UnconfirmedSpan(self.last_frame_us, self.last_frame_ns, sent + 1)
            )

    def confirm(self) -> None:
        """End the unconfirmed for which this PONG is the proof."""
        if self.unconfirmed:
            _, answered = self.session.pings
            self.unconfirmed = [doubt for doubt in self.unconfirmed if doubt.proof > answered]

    @property
    def certain_ns(self) -> int | None:
        """The last moment known to be good, on the monotonic clock."""
        return self._certain.last_frame_ns

    @property
    def certain_at(self) -> str | None:
        """The same on the wall's."""
        return _time(self._certain.last_frame_us)

    @property
    def _certain(self) -> UnconfirmedSpan | ActiveSession:
        return self.unconfirmed[0] if self.unconfirmed else self


def _time(wall_us: int | None) -> str | None:
    return None if wall_us is None else from_us(wall_us).isoformat()
