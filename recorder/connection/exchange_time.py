"""Ask the exchange for its time after a refusal: to distinguish a wrong clock from a wrong key."""

from __future__ import annotations

import json
from decimal import Decimal, InvalidOperation

import httpx

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
