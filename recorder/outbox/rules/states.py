"""The statuses of a command and the steps between them, as one table.

    queued ─▶ sending ─▶ sent ─▶ acknowledged ─▶ accepted
       │         │         │            │
       │         │         ├────────────┴───────▶ rejected
       │         └─────────┴─▶ in_doubt ─▶ acknowledged | accepted | rejected | not_placed
       └─▶ expired · withdrawn · refused          not_placed ─▶ acknowledged | accepted | rejected
    sending | sent ─▶ queued, for a rate limit's answer and nothing else

A command may have been sent as soon as it is ``sending``; only what was still ``queued`` was
provably never placed. ``in_doubt`` ends by evidence, never by time, and never by sending again.
``not_placed`` rests on absence, so evidence that comes late overturns it; every other end is final.

The one way back is a rate limit: its answer proves that nothing was placed, so the command waits in
the queue once more, `ATTEMPTS_MAX` sendings long. Once in doubt it stays out of the queue even so.

The database holds the same table and refuses every other step. Evidence can be ahead of our own
bookkeeping: the answer may be in the log before "written" is on the row. `next_status` then names
the status that the evidence proves, and `path` the steps that lead there.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum


class Status(StrEnum):
    """The status of an outbox row."""

    QUEUED = "queued"
    SENDING = "sending"
    SENT = "sent"
    ACKNOWLEDGED = "acknowledged"
    ACCEPTED = "accepted"
    REJECTED = "rejected"
    IN_DOUBT = "in_doubt"
    NOT_PLACED = "not_placed"
    EXPIRED = "expired"
    WITHDRAWN = "withdrawn"
    REFUSED = "refused"


_ANSWERED = frozenset({Status.ACKNOWLEDGED, Status.ACCEPTED, Status.REJECTED})

TRANSITIONS: Mapping[Status, frozenset[Status]] = {
    Status.QUEUED: frozenset({Status.SENDING, Status.EXPIRED, Status.WITHDRAWN, Status.REFUSED}),
    Status.SENDING: frozenset({Status.SENT, Status.IN_DOUBT, Status.QUEUED}),
    Status.SENT: frozenset({Status.ACKNOWLEDGED, Status.REJECTED, Status.IN_DOUBT, Status.QUEUED}),
    Status.ACKNOWLEDGED: frozenset({Status.ACCEPTED, Status.REJECTED}),
    Status.IN_DOUBT: _ANSWERED | {Status.NOT_PLACED},
    Status.NOT_PLACED: _ANSWERED,
    Status.ACCEPTED: frozenset(),
    Status.REJECTED: frozenset(),
    Status.EXPIRED: frozenset(),
    Status.WITHDRAWN: frozenset(),
    Status.REFUSED: frozenset(),
}
#: Nothing changes these any more.
TERMINAL = frozenset(status for status, targets in TRANSITIONS.items() if not targets)
#: The command went out, or may have, and its outcome is open.
UNRESOLVED = frozenset({Status.SENDING, Status.SENT, Status.ACKNOWLEDGED, Status.IN_DOUBT})


class Fact(StrEnum):
    """What can be established about a command."""

    CLAIMED = "claimed"  # taken for sending, committed before the first byte
    WRITTEN = "written"  # its bytes are with the kernel
    ACKNOWLEDGED = "acknowledged"  # the exchange has received it
    EFFECT_SEEN = "effect_seen"  # the exchange has done it
    REFUSED_BY_EXCHANGE = "refused_by_exchange"  # the exchange has not done it and won't
    RATE_LIMITED = "rate_limited"  # the exchange has not looked at it; it came too fast
    LOST_TOUCH = "lost_touch"  # the connection or the process ended before an answer
    NOT_FOUND = "not_found"  # repeated look-ups past the settling time found nothing
    EXPIRED = "expired"  # its time was over before it was claimed
    WITHDRAWN = "withdrawn"  # its owner took it back before it was claimed
    RULE_BROKEN = "rule_broken"  # it can't be sent as it is


_GONE_OUT = (Status.SENDING, Status.SENT, Status.IN_DOUBT, Status.NOT_PLACED)

_PROVES: Mapping[Fact, Mapping[Status, Status]] = {
    Fact.CLAIMED: {Status.QUEUED: Status.SENDING},
    Fact.WRITTEN: {Status.SENDING: Status.SENT},
    Fact.ACKNOWLEDGED: dict.fromkeys(_GONE_OUT, Status.ACKNOWLEDGED),
    Fact.EFFECT_SEEN: dict.fromkeys((*_GONE_OUT, Status.ACKNOWLEDGED), Status.ACCEPTED),
    Fact.REFUSED_BY_EXCHANGE: dict.fromkeys((*_GONE_OUT, Status.ACKNOWLEDGED), Status.REJECTED),
    Fact.RATE_LIMITED: {
        Status.SENDING: Status.QUEUED,
        Status.SENT: Status.QUEUED,
        Status.ACKNOWLEDGED: Status.REJECTED,
        Status.IN_DOUBT: Status.REJECTED,
        Status.NOT_PLACED: Status.REJECTED,
    },
    Fact.LOST_TOUCH: dict.fromkeys((Status.SENDING, Status.SENT), Status.IN_DOUBT),
    Fact.NOT_FOUND: {Status.IN_DOUBT: Status.NOT_PLACED},
    Fact.EXPIRED: {Status.QUEUED: Status.EXPIRED},
    Fact.WITHDRAWN: {Status.QUEUED: Status.WITHDRAWN},
    Fact.RULE_BROKEN: {Status.QUEUED: Status.REFUSED},
}


#: Sendings that a rate limit may answer; after the last one the command is rejected.
ATTEMPTS_MAX = 5
#: Seconds before the second sending; before each further one twice as long.
BACK_OFF_FIRST_S = 1.0


def after_rate_limit(attempts: int) -> float | None:
    """Return the seconds until a command may go again that came back so often before.

    None: it has been tried often enough.
    """
    return BACK_OFF_FIRST_S * 2**attempts if attempts + 1 < ATTEMPTS_MAX else None


def next_status(status: Status, fact: Fact) -> Status | None:
    """Return the status that ``fact`` proves of a command in ``status``; None if none.

    It may lie several steps ahead: see `path`.
    """
    return _PROVES[fact].get(status)


def path(status: Status, target: Status) -> tuple[Status, ...]:
    """Return the legal steps from ``status`` to ``target``, without the first, with the last.

    Doubt is no stage on the way to knowing: it is passed only where it is where we stand. Nor is
    the queue: what has left it comes to no other end through it. Raises ValueError where no way
    leads there.
    """
    ways: list[tuple[Status, ...]] = [()]
    passable = set(Status) - {Status.IN_DOUBT, Status.NOT_PLACED, Status.QUEUED}
    for way in ways:
        here = way[-1] if way else status
        if target in TRANSITIONS[here]:
            return (*way, target)
        # Sorted, so that equal ways are chosen alike in every run.
        ways += [(*way, step) for step in sorted(TRANSITIONS[here] & passable)]
    raise ValueError(f"a command that is {status} can't become {target}")
