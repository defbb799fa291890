"""The hash chain over the log.

``digest = SHA-256(previous ‖ F(1) ‖ F(account) ‖ F(position) ‖ F(received_at) ‖ F(connection_id) ‖
F(origin) ‖ F(type) ‖ F(encoding) ‖ F(payload))`` with ``F(x)`` the length of x as four bytes
big-endian, then x in UTF-8. The leading 1 is the version, numbers are decimal ASCII,
``received_at`` is whole microseconds since 1970 in UTC, an absent ``connection_id`` is empty, and
the first previous digest is 32 zero bytes.
"""

from __future__ import annotations

from hashlib import sha256

from recorder.log.event import Draft, Event

VERSION = b"1"
_VERSION_FIELD = len(VERSION).to_bytes(4, "big") + VERSION


def digest_event(previous: bytes, position: int, event: Draft | Event) -> bytes:
    """Return the 32 bytes that chain ``event`` at ``position`` to the ``previous`` digest."""
    parts = [previous, _VERSION_FIELD]
    for text in (
        event.account,
        str(position),
        str(event.received_us),
        event.connection_id or "",
        event.origin,
        event.type,
        event.encoding,
        event.payload,
    ):
        field = text.encode()
        parts.append(len(field).to_bytes(4, "big"))
        parts.append(field)
    return sha256(b"".join(parts)).digest()
