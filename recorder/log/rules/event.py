"""What the log is made of.

A *draft* becomes an event and has no position yet. An *event* is one immutable row
of the log. Positions and digests are given by the append unit alone (`log.sql.append`).
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from datetime import datetime
from enum import StrEnum

from attrs import define, frozen

from recorder.timestamps import from_us


class Origin(StrEnum):
    """Whose words an event holds."""

    RECEIVED = "received"  # a frame from the exchange
    SENT = "sent"  # a frame we wrote
    FETCHED = "fetched"  # a REST answer
    NOTED = "noted"  # a fact of our own


class Encoding(StrEnum):
    """How ``payload`` holds what was on the wire."""

    TEXT = "text"
    BASE64 = "base64"


class Note(StrEnum):
    """The ``type`` of every ``noted`` event; its payload is ``{"type": …, "data": {…}}``."""

    RECORDER_STARTED = "RECORDER_STARTED"
    RECORDER_STOPPED = "RECORDER_STOPPED"
    LEASE_TAKEN = "LEASE_TAKEN"
    CONNECTION_OPENED = "CONNECTION_OPENED"
    CONNECTION_AUTHENTICATED = "CONNECTION_AUTHENTICATED"
    CONNECTION_CLOSED = "CONNECTION_CLOSED"
    CONNECTION_FAILED = "CONNECTION_FAILED"
    CONNECTION_REFUSED = "CONNECTION_REFUSED"
    SNAPSHOT_COMPLETE = "SNAPSHOT_COMPLETE"
    #: The list of open orders didn't come, and REST reports that it is empty: it counts as
    #: reported.
    NO_OPEN_ORDERS = "NO_OPEN_ORDERS"
    SUBSCRIBE_REFUSED = "SUBSCRIBE_REFUSED"
    READING_PAUSED = "READING_PAUSED"
    CLOCK_JUMPED = "CLOCK_JUMPED"
    COMMAND_CLAIMED = "COMMAND_CLAIMED"
    COMMAND_DRY_RUN = "COMMAND_DRY_RUN"
    SEND_FAILED = "SEND_FAILED"
    BACKFILL_STARTED = "BACKFILL_STARTED"
    BACKFILL_PAGE = "BACKFILL_PAGE"
    BACKFILL_FINISHED = "BACKFILL_FINISHED"
    #: The verdict on a closed gap: its ``gap_id``, the ``evidence`` in words, and of a healed one
    #: the ``positions`` of the answers that healed it.
    GAP_HEALED = "GAP_HEALED"
    GAP_UNVERIFIABLE = "GAP_UNVERIFIABLE"
    RECONCILIATION_STARTED = "RECONCILIATION_STARTED"
    RECONCILIATION_ANSWER = "RECONCILIATION_ANSWER"
    DIFFERENCE_FOUND = "DIFFERENCE_FOUND"
    DIFFERENCE_ENDED = "DIFFERENCE_ENDED"
    RECONCILIATION_FINISHED = "RECONCILIATION_FINISHED"
    FRAME_NOT_FOLDED = "FRAME_NOT_FOLDED"
    PROJECTOR_FAILED = "PROJECTOR_FAILED"


# Drafts and events are made by the ten thousand a second; attrs' frozen classes cost four times as
# much to make as open ones. They are never changed: they are handed on, never handed back.


@define(slots=True)
class Draft:
    """What is to become an event.

    ``received_us`` is whole microseconds since 1970 in UTC; ``elapsed_ns`` nanoseconds since the
    connection opened, or None where there is none.
    """

    account: str
    received_us: int
    elapsed_ns: int | None
    connection_id: str | None
    origin: str
    type: str
    payload: str
    encoding: str = "text"


@define(slots=True)
class Event:
    """One row of the log."""

    account: str
    position: int
    received_us: int
    elapsed_ns: int | None
    connection_id: str | None
    origin: str
    type: str
    payload: str
    encoding: str
    digest: bytes

    @property
    def received_at(self) -> datetime:
        """The aware UTC time of ``received_us``."""
        return from_us(self.received_us)


@frozen(slots=True)
class Head:
    """The last position of one account's log and its digest; position 0 is the empty log."""

    position: int
    digest: bytes


EMPTY_HEAD = Head(position=0, digest=bytes(32))


def noted(
    account: str,
    received_us: int,
    note: Note,
    facts: Mapping[str, object],
    *,
    connection_id: str | None = None,
    elapsed_ns: int | None = None,
) -> Draft:
    """Return the draft of a fact of our own. ``facts`` must be JSON values and hold no secret."""
    payload = json.dumps({"type": note.value, "data": dict(facts)}, separators=(",", ":"))
    return Draft(
        account, received_us, elapsed_ns, connection_id, Origin.NOTED.value, note.value, payload
    )


def storable_payload(raw: str | bytes) -> tuple[str, str]:
    """Return ``(payload, encoding)`` for what was on the wire.

    Text goes in as it is, unless no database text can hold it (NUL for PostgreSQL, lone surrogates
    for any): that and binary frames become base64 of the bytes on the wire.
    """
    if isinstance(raw, str):
        if raw.isascii() and "\x00" not in raw:
            return raw, "text"
        try:
            encoded = raw.encode()
        except UnicodeEncodeError:
            encoded = raw.encode("utf-8", "surrogatepass")
        else:
            if "\x00" not in raw:
                return raw, "text"
        raw = encoded
    return base64.b64encode(raw).decode("ascii"), "base64"
