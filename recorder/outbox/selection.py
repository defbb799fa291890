"""Which queued command goes next.

Cancels overtake everything, because they take risk away. Then the higher ``priority`` goes first
(0 unless the caller says otherwise), then the lower ``outbox_id``. A row is not sent before
``not_before``, and never once ``expires_at`` has come.

A row that is ``in_order`` also waits until every earlier row of its pairs, whatever its command,
has a settled fate: an end, or ``not_placed``. That goes for a cancel too, if it asks for it.
Earlier is what has the lower ``outbox_id``.

The switch permits everything (``on``), cancels only (``cancel_only``) or nothing (``off``, and
every word that is none of the three). The choice is made on what was read a moment ago: the claim
checks switch, lease and expiry again in the statement that takes the row.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime

from attrs import frozen

from recorder.exchange.commands import CANCEL_ORDER, COMMANDS
from recorder.outbox.limits import EVERY_PAIR, UnreadableError, pairs_of

SWITCH_ON = "on"
SWITCH_CANCEL_ONLY = "cancel_only"
SWITCH_OFF = "off"

_PERMITTED = {SWITCH_ON: frozenset(COMMANDS), SWITCH_CANCEL_ONLY: frozenset({CANCEL_ORDER})}


@frozen
class QueuedRow:
    """What choosing and sending need of a queued outbox row. Times are aware."""

    outbox_id: int
    client_msg_id: str
    command: str
    payload: str
    priority: int = 0
    not_before: datetime | None = None
    expires_at: datetime | None = None
    in_order: bool = False
    attempts: int = 0


@frozen
class Send:
    """Claim and send this row."""

    row: QueuedRow


@frozen
class Expire:
    """Mark these rows as expired, then choose again."""

    rows: tuple[QueuedRow, ...]


@frozen
class Wait:
    """Nothing to do before ``until``, or before something changes (None)."""

    until: datetime | None


Choice = Send | Expire | Wait

_NOTHING: Mapping[str, int] = {}


def choose(
    rows: Sequence[QueuedRow],
    switch: str,
    trading: bool,
    now: datetime,
    unsettled: Mapping[str, int] = _NOTHING,
) -> Choice:
    """Return what to do next with the queued rows of one account.

    ``trading`` is the configuration's permission; without it rows expire, but none is sent.
    ``unsettled`` has, for each pair, the lowest id of its rows whose fate isn't settled (and under
    ``*`` that of rows whose pairs nobody can tell); only rows that are ``in_order`` ask for it.
    """
    expired = tuple(row for row in rows if row.expires_at is not None and row.expires_at <= now)
    if expired:
        return Expire(expired)
    permitted = _PERMITTED.get(switch, frozenset()) if trading else frozenset()
    sendable = [
        row for row in rows if row.command in permitted and not _must_follow(row, unsettled)
    ]
    ready = [row for row in sendable if row.not_before is None or row.not_before <= now]
    if ready:
        return Send(min(ready, key=_turn))
    moments = [row.expires_at for row in rows] + [row.not_before for row in sendable]
    return Wait(min((moment for moment in moments if moment is not None), default=None))


def _turn(row: QueuedRow) -> tuple[bool, int, int]:
    return row.command != CANCEL_ORDER, -row.priority, row.outbox_id


def _must_follow(row: QueuedRow, unsettled: Mapping[str, int]) -> bool:
    """Tell whether an earlier row is in this one's way."""
    if not row.in_order or not unsettled:
        return False
    try:
        pairs = pairs_of(row.command, row.payload)
    except UnreadableError:
        # It is refused when its turn comes.
        pairs = frozenset(unsettled)
    return any(unsettled.get(pair, row.outbox_id) < row.outbox_id for pair in {*pairs, EVERY_PAIR})
