"""What a recorder knows about its own missing observation: since when, and by which clock.

An account is not observed from the start, and again from each loss, until a snapshot is complete.
The monotonic clock measures how long that lasts, because the wall clock may be set meanwhile. A
look at both, every second and at each frame, finds that it was set, or that the machine slept.
After a refusal the exchange is asked for its time, to separate a wrong clock from a wrong key.
"""

from __future__ import annotations

import json
from decimal import Decimal, InvalidOperation

import httpx
from attrs import define, field

from recorder.clock import Clock
from recorder.log.rules.clocks import JUMP_US_MIN, LOOK_NS_MAX, Reading, jump_us

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
