"""Signatures: HMAC-SHA512 over timestamp, verb, path, body and sub-account id, in that order.

The secret is used as the text it is printed as, not as the bytes that its hex digits spell. The
sub-account id is signed exactly when its header is sent: VALR upgrades a connection whose header
was not signed, and then closes it. Path includes the query string.
"""

from __future__ import annotations

import hashlib
import hmac
import json

WEBSOCKET_VERB = "GET"


def sign(
    secret: str,
    timestamp_ms: int,
    verb: str,
    path: str,
    body: str = "",
    sub_account_id: str = "",
) -> str:
    """Return the signature as 128 lower-case hex digits."""
    signed = f"{timestamp_ms}{verb.upper()}{path}{body}{sub_account_id}"
    return hmac.new(secret.encode(), signed.encode(), hashlib.sha512).hexdigest()


def signed_headers(
    key: str,
    secret: str,
    timestamp_ms: int,
    method: str,
    path_with_query: str,
    sub_account_id: str = "",
) -> list[tuple[str, str]]:
    """Return the headers of a request without a body. They are secrets: don't log them."""
    signature = sign(secret, timestamp_ms, method, path_with_query, "", sub_account_id)
    headers = [
        ("X-VALR-API-KEY", key),
        ("X-VALR-SIGNATURE", signature),
        ("X-VALR-TIMESTAMP", str(timestamp_ms)),
    ]
    # A key that belongs to a sub-account must not name one.
    if sub_account_id:
        headers.append(("X-VALR-SUB-ACCOUNT-ID", sub_account_id))
    return headers


def handshake_headers(
    key: str, secret: str, timestamp_ms: int, path: str, sub_account_id: str = ""
) -> list[tuple[str, str]]:
    """Return the headers of the HTTP upgrade. They are secrets: don't log them."""
    return signed_headers(key, secret, timestamp_ms, WEBSOCKET_VERB, path, sub_account_id)


def authenticate_frame(
    key: str, secret: str, timestamp_ms: int, path: str, sub_account_id: str = ""
) -> str:
    """Return the in-band AUTHENTICATE frame. It is a secret: log the redacted one instead.

    Only a secondary source knows this frame, and without a member for a sub-account; the id is
    signed and named as in the headers.
    """
    signature = sign(secret, timestamp_ms, WEBSOCKET_VERB, path, "", sub_account_id)
    payload: dict[str, object] = {"apiKey": key, "signature": signature, "timestamp": timestamp_ms}
    if sub_account_id:
        payload["subAccountId"] = sub_account_id
    return _authenticate(payload)


def redacted_authenticate_frame(timestamp_ms: int) -> str:
    """Return what the log stores for it: the same frame without key and signature."""
    return _authenticate({"timestamp": timestamp_ms})


def _authenticate(payload: dict[str, object]) -> str:
    return json.dumps({"type": "AUTHENTICATE", "payload": payload}, separators=(",", ":"))
