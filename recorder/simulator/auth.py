"""Check a client's credentials, the way VALR's documents describe.

What is signed is the time in milliseconds, the verb, the path with its query, the body, and the
sub-account's id if the header that names it was sent; the key of the HMAC is the secret's own text.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping

from attrs import field, frozen

from recorder.simulator.config import SimulatorConfig

#: Digits of a time in milliseconds, with room until the year 5138.
TIMESTAMP_DIGITS_MAX = 14


@frozen
class Claim:
    """What a client shows: in headers, or in an AUTHENTICATE frame."""

    key: str
    signature: str = field(repr=False)
    timestamp: str
    sub_account_id: str = ""

    @classmethod
    def in_headers(cls, headers: Mapping[str, str]) -> Claim:
        """Return the claim in headers, whose names are in lower case."""
        names = ("api-key", "signature", "timestamp", "sub-account-id")
        return cls(*(headers.get(f"x-valr-{name}", "") for name in names))

    @property
    def is_empty(self) -> bool:
        """True if nothing was shown at all."""
        return not (self.key or self.signature or self.timestamp)


@frozen
class Refusal:
    """Why a claim isn't accepted: HTTP status, VALR's code, and text for a person."""

    status: int
    code: int
    message: str

    @property
    def is_of_signature(self) -> bool:
        """True if the key is known, so that VALR may first accept an upgrade and then close it."""
        return self.code == BAD_SIGNATURE


BAD_SIGNATURE = -11252
_NOTHING = Refusal(403, -1, "API key, signature and timestamp are required")
_UNKNOWN = Refusal(401, -1, "Unauthorized")
_STALE = Refusal(401, BAD_SIGNATURE, "Request timestamp is outside the allowed window")
_WRONG = Refusal(401, BAD_SIGNATURE, "Request has an invalid signature")


def sign(secret: str, timestamp: str, verb: str, path: str, body: bytes, sub_account: str) -> str:
    """Return the signature that a request has to carry."""
    head, tail = f"{timestamp}{verb}{path}".encode(), sub_account.encode()
    return hmac.new(secret.encode(), head + body + tail, hashlib.sha512).hexdigest()


def refusal(
    config: SimulatorConfig, claim: Claim, now_ms: int, verb: str, path: str, body: bytes = b""
) -> Refusal | None:
    """Return why a request may not be answered, or None."""
    if not (claim.key and claim.signature and claim.timestamp):
        return _NOTHING
    if claim.key != config.key or claim.sub_account_id not in ("", config.sub_account_id):
        return _UNKNOWN
    if not _is_fresh(claim.timestamp, now_ms, config.time_window_s):
        return _STALE
    expected = sign(config.secret, claim.timestamp, verb, path, body, claim.sub_account_id)
    given = claim.signature.encode(errors="backslashreplace")
    return None if hmac.compare_digest(expected.encode(), given) else _WRONG


def _is_fresh(timestamp: str, now_ms: int, window_s: float) -> bool:
    if not (timestamp.isascii() and timestamp.isdigit()) or len(timestamp) > TIMESTAMP_DIGITS_MAX:
        return False
    return abs(int(timestamp) - now_ms) <= window_s * 1000
