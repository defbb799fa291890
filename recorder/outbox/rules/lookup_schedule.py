"""When to look a command up, and when absence counts.

``absent`` and ``unchanged`` count if the look-up began the settling time or more after the command
was first seen to be in doubt, and after a complete snapshot on a connection opened since the loss.
`LOOKS` that count, one interval between each and the next and no other finding between them, make
``not_found``. A later frame overturns it.

An acknowledged command has arrived, so absence proves nothing of it. But where the order that it
was to change has ended and was never changed, as many look-ups prove that it failed.

Time alone proves nothing. The settling time is measured on the monotonic clock, and a restart
begins it again.
"""

from __future__ import annotations

from attrs import define, field, frozen

from recorder.outbox.rules.lookups import NOTHING_SEEN, Finding, Found
from recorder.outbox.rules.states import Fact, Status

#: Look-ups in a row that must count before absence does.
LOOKS = 3
#: Seconds after a loss before the first look-up: the next snapshot settles most of it by itself.
FIRST_S = 1.0
#: The longest wait between two look-ups, where there is a problem or nothing new.
WAIT_S_MAX = 300.0


@frozen
class LookupPolicy:
    """How long absence must last before it counts. Seconds."""

    settle_s: float = 60.0
    every_s: float = 30.0


@define(eq=False)
class LookupSchedule:
    """The look-ups of one command in one status. All times are of one monotonic clock.

    What went out and has no answer, or has one and no outcome, is looked up once it is overdue;
    nothing that isn't found makes a difference there, but what was never answered is in doubt then.
    """

    policy: LookupPolicy
    status: Status
    #: When the command was first seen in this status.
    began_s: float
    #: When to look up next.
    next_s: float = field(init=False)
    #: When the look-ups began that count, and what all of them found.
    _counted: list[float] = field(factory=list, init=False)
    _seen: Finding | None = field(default=None, init=False)
    #: Look-ups in a row that brought us no further.
    _idle: int = field(default=0, init=False)

    def __attrs_post_init__(self) -> None:
        """Plan the first look-up."""
        soon = min(FIRST_S, self.policy.every_s)
        in_doubt = self.status is Status.IN_DOUBT
        self.next_s = self.began_s + (soon if in_doubt else self.policy.settle_s)

    def add(self, found: Found, began_s: float, now_s: float, has_snapshot: bool) -> Fact | None:
        """Take in what a look-up found that began and ended then; return what is proved by now.

        ``has_snapshot`` is whether a snapshot was complete, on a connection opened since the
        loss, when the look-up began.
        """
        fact = self._prove(found, began_s, has_snapshot)
        counts = self._counted and self._counted[-1] == began_s
        is_settling = self.status is Status.IN_DOUBT and found.finding in NOTHING_SEEN
        self._idle = 0 if counts or is_settling else self._idle + 1
        self.next_s = now_s + wait_s(self.policy.every_s, self._idle)
        return fact

    def reason(self) -> str:
        """Return why the command counts as not placed."""
        over_s = self._counted[-1] - self._counted[0]
        saw = "no such order" if self._seen is Finding.ABSENT else "the order as it was"
        return f"{len(self._counted)} look-ups over {over_s:.3g} s found {saw}"

    def _prove(self, found: Found, began_s: float, has_snapshot: bool) -> Fact | None:
        finding = found.finding
        if finding is Finding.EFFECT:
            return Fact.EFFECT_SEEN
        if finding is Finding.REFUSED:
            return Fact.REFUSED_BY_EXCHANGE
        if self.status is Status.SENT:
            # Its own answer is overdue, whatever REST reports or doesn't.
            return Fact.LOST_TOUCH
        if finding is Finding.NO_ANSWER:
            return None
        if self.status is Status.IN_DOUBT:
            is_enough = self._count(finding, finding in NOTHING_SEEN and has_snapshot, began_s)
            return Fact.NOT_FOUND if is_enough else None
        is_enough = self._count(finding, found.is_too_late, began_s)
        return Fact.REFUSED_BY_EXCHANGE if is_enough else None

    def _count(self, finding: Finding, may_count: bool, began_s: float) -> bool:
        """Count a look-up if it may count; return whether enough of them found the same."""
        if finding is not self._seen or finding not in NOTHING_SEEN:
            self._counted.clear()
            self._seen = finding
        is_settled = began_s >= self.began_s + self.policy.settle_s
        has_jumped = not self._counted or began_s >= self._counted[-1] + self.policy.every_s
        if may_count and is_settled and has_jumped:
            self._counted.append(began_s)
        return may_count and len(self._counted) >= LOOKS


def wait_s(every_s: float, idle: int) -> float:
    """Return the seconds to the next look-up after so many that brought us no further."""
    return min(every_s * 2.0 ** min(idle, 30), max(WAIT_S_MAX, every_s))
