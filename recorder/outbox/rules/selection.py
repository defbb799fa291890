"""Which queued command goes next.

Cancels overtake everything, because they take risk away. Then the higher ``priority`` goes first
(0 by default), then the lower ``outbox_id``. A row is not sent before
``not_before``, and never once ``expires_at`` has come.

A row that is ``in_order`` also waits until every earlier row of its pairs, whatever its command,
has a settled outcome: an end, or ``not_placed``. That goes for a cancel too, if it asks for it.
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
from recorder.exchange.pacing import KIND
from recorder.outbox.rules.limits import EVERY_PAIR, UnreadableError, pairs_of

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


@frozen
class Queue:
    """What choosing needs: the beginning of the queue, the switch, and what is unsettled."""

    rows: tuple[QueuedRow, ...]
    switch: str
    #: See `choose`.
    unsettled: Mapping[str, int]
    #: These are all that are queued.
    is_whole: bool = False

    @property
    def is_short(self) -> bool:
        """True where reading it again takes no longer than a few rows do."""
        return self.is_whole and not self.unsettled


@frozen
class Few:
    """What goes next, in this order, and why no more does."""

    rows: tuple[QueuedRow, ...]
    #: Their time is over; they are to be marked.
    expired: tuple[QueuedRow, ...]
    #: The kinds of those that have to wait for the pace.
    paced: frozenset[str]
    #: Where nothing may go: when to look again. None: when something changes.
    until: datetime | None


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
    ``unsettled`` has, for each pair, the lowest id of its rows whose outcome isn't settled (and
    under
    ``*`` that of rows whose pairs are unknown); only rows that are ``in_order`` ask for it.
    """
    expired = tuple(row for row in rows if is_over(row.expires_at, now))
    if expired:
        return Expire(expired)
    queue = Queue(tuple(rows), switch if trading else SWITCH_OFF, unsettled)
    ready, until = _ready(queue, now)
    return Send(ready[0]) if ready else Wait(until)


def choose_few(queue: Queue, now: datetime, most: int, allowance: Mapping[str, int]) -> Few:
    """Return what `choose` would choose one after the other, at most so many.

    ``allowance`` is how many of each kind (`exchange.command_pace`) may go; one that has to wait
    for that blocks no other row. One that is ``in_order`` is the last: what may follow depends
    on what becomes of it.
    """
    few: list[QueuedRow] = []
    left, paced = dict(allowance), set()
    ready, until = _ready(queue, now)
    for row in ready:
        kind = KIND[row.command]
        if left[kind] < 1:
            paced.add(kind)
            continue
        left[kind] -= 1
        few.append(row)
        if len(few) == most or row.in_order:
            break
    expired = tuple(row for row in queue.rows if is_over(row.expires_at, now))
    return Few(tuple(few), expired, frozenset(paced), until)


def is_over(expires_at: datetime | None, now: datetime) -> bool:
    """Return whether the time of a command is over that has this end, or none."""
    return expires_at is not None and expires_at <= now


def _ready(queue: Queue, now: datetime) -> tuple[list[QueuedRow], datetime | None]:
    """Return what may go now, in the order of going, and when more may."""
    permitted = _PERMITTED.get(queue.switch, frozenset())
    live = [row for row in queue.rows if not is_over(row.expires_at, now)]
    sendable = [
        row for row in live if row.command in permitted and not _must_follow(row, queue.unsettled)
    ]
    ready = [row for row in sendable if row.not_before is None or row.not_before <= now]
    times = [row.expires_at for row in live] + [row.not_before for row in sendable]
    until = min((moment for moment in times if moment is not None), default=None)
    return sorted(ready, key=_turn), until


def _turn(row: QueuedRow) -> tuple[bool, int, int]:
    return row.command != CANCEL_ORDER, -row.priority, row.outbox_id


def _must_follow(row: QueuedRow, unsettled: Mapping[str, int]) -> bool:
    """Return whether an earlier row is in this one's way."""
    if not row.in_order or not unsettled:
        return False
    try:
        pairs = pairs_of(row.command, row.payload)
    except UnreadableError:
        # It is refused when its turn comes.
        pairs = frozenset(unsettled)
    return any(unsettled.get(pair, row.outbox_id) < row.outbox_id for pair in {*pairs, EVERY_PAIR})
