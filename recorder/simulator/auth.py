"""Checks who a client says it is, the way VALR's documents describe."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping

from recorder.simulator.config import SimulatorConfig


def refusal(
    config: SimulatorConfig,
    headers: Mapping[str, str],
    now_ms: int,
    verb: str,
    path: str,
    body: str = "",
) -> tuple[int, str] | None:
    """Return (HTTP status, message) of what is wrong with signed headers, or None.

    ``headers`` have lower-case names; ``path`` includes the query string.
    """
    key = headers.get("x-valr-api-key")
    signature = headers.get("x-valr-signature")
    timestamp = headers.get("x-valr-timestamp")
    if not (key and signature and timestamp):
        return 403, "API key, signature and timestamp are required"
    sub_account = headers.get("x-valr-sub-account-id", "")
    return credentials_refusal(
        config, key, signature, timestamp, f"{verb}{path}{body}{sub_account}", now_ms
    )


def credentials_refusal(
    config: SimulatorConfig,
    key: str,
    signature: str,
    timestamp: str,
    signed_tail: str,
    now_ms: int,
) -> tuple[int, str] | None:
    """Return what is wrong with these credentials, or None. ``signed_tail`` follows the time."""
    if key != config.key:
        return 401, "Unauthorized"
    if not timestamp.isdigit() or abs(int(timestamp) - now_ms) > config.time_window_s * 1000:
        return 401, "Request timestamp is outside the allowed window"
    expected = hmac.new(
        config.secret.encode(), f"{timestamp}{signed_tail}".encode(), hashlib.sha512
    ).hexdigest()
    if not hmac.compare_digest(expected, signature):
        return 401, "Request has an invalid signature"
    return None
