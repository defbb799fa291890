"""The hash chain over the log.

``digest = SHA-256(previous ‖ F(1) ‖ F(account) ‖ F(position) ‖ F(received_at) ‖ F(connection_id) ‖
F(origin) ‖ F(type) ‖ F(encoding) ‖ F(payload))`` with ``F(x)`` the length of x as four bytes
big-endian, then x in UTF-8. The leading 1 is the version, numbers are decimal ASCII,
``received_at`` is whole microseconds since 1970 in UTC, an absent ``connection_id`` is empty, and
the first previous digest is 32 zero bytes.
"""

from __future__ import annotations

from functools import lru_cache
from hashlib import sha256

from recorder.log.rules.event import Draft, Event

VERSION = "1"


def field(text: str) -> bytes:
    """Return ``F(text)``: its length in UTF-8 as four bytes big-endian, then its bytes."""
    encoded = text.encode()
    return len(encoded).to_bytes(4, "big") + encoded


#: Accounts, connections, origins, types and encodings come again and again.
_known_field = lru_cache(maxsize=1024)(field)
_VERSION_FIELD = field(VERSION)


def digest_event(previous: bytes, position: int, event: Draft | Event) -> bytes:
    """Return the 32 bytes that chain ``event`` at ``position`` to the ``previous`` digest."""
    return sha256(
        b"".join(
            (
                previous,
                _VERSION_FIELD,
                _known_field(event.account),
                field(str(position)),
                field(str(event.received_us)),
                _known_field(event.connection_id or ""),
                _known_field(event.origin),
                _known_field(event.type),
                _known_field(event.encoding),
                field(event.payload),
            )
        )
    ).digest()
