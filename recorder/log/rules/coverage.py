"""What part of a period was observed, and what part wasn't: a timeline without holes or overlaps.

Every moment of a period is of one kind:

- ``observed``: the connection had a complete snapshot, and a later frame was received.
- ``unobserved``: something may have been missed, and nothing has filled it.
- ``healed``: it was not observed, and REST answers have filled it since.

Where stretches overlap (a wall clock that was set back makes that possible), unobserved has
priority over healed, and healed over observed. The view ``coverage`` computes the same in SQL.

`jump_us` compares two clocks. While a machine is suspended its monotonic clock stops and the wall
clock doesn't; a wall clock that is set forward looks the same. Both mean that times before and
after cannot be compared.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from enum import StrEnum

from attrs import frozen

_MICROSECOND = timedelta(microseconds=1)


class Cause(StrEnum):
    """Why a stretch is not observed. Of several at once the first in this order is named."""

    FIRST_START = "first_start"
    KILLED = "killed"
    STOPPED = "stopped"
    ASLEEP = "asleep"
    CLOCK_SET_BACK = "clock_set_back"
    CONNECTION_LOST = "connection_lost"
    SILENT = "silent"
    NO_PONG = "no_pong"
    QUEUE_FULL = "queue_full"
    UNDECODABLE = "undecodable"
    # These two are of the time since the last frame, which no gap has claimed yet.
    NOT_RUNNING = "not_running"
    UNCONFIRMED = "unconfirmed"


class Kind(StrEnum):
    """What is known of a stretch."""

    OBSERVED = "observed"
    UNOBSERVED = "unobserved"
    HEALED = "healed"


_RANK = {cause.value: rank for rank, cause in enumerate(Cause)}


@frozen
class Unobserved:
    """A stretch in which something may have been missed; ``is_healed`` once it was filled."""

    from_at: datetime
    until_at: datetime
    cause: str
    is_healed: bool = False


@frozen
class Stretch:
    """A part of the timeline, from its first moment to just before its last."""

    from_at: datetime
    until_at: datetime
    kind: Kind
    cause: str | None

    @property
    def seconds(self) -> Decimal:
        """How long it is, exactly."""
        return seconds_between(self.from_at, self.until_at)


@frozen
class Totals:
    """Seconds of each kind; they add up to the period. ``causes`` are of unobserved and healed
    both.
    """

    observed_s: Decimal
    unobserved_s: Decimal
    healed_s: Decimal
    causes: tuple[tuple[str, Decimal, Decimal], ...]

    @property
    def period_s(self) -> Decimal:
        """How long the period is."""
        return self.observed_s + self.unobserved_s + self.healed_s


def seconds_between(from_at: datetime, until_at: datetime) -> Decimal:
    """Return the exact seconds from one aware time to another."""
    return Decimal((until_at - from_at) // _MICROSECOND).scaleb(-6)


def timeline(
    unobserved_intervals: Iterable[Unobserved], from_at: datetime, until_at: datetime
) -> list[Stretch]:
    """Cut a period into stretches, in order; adjacent ones differ. Empty if it has no length."""
    if from_at >= until_at:
        return []
    edges: dict[datetime, Counter[tuple[Kind, str]]] = {from_at: Counter()}
    for unobserved in unobserved_intervals:
        begin, end = max(unobserved.from_at, from_at), min(unobserved.until_at, until_at)
        if begin < end:
            label = (Kind.HEALED if unobserved.is_healed else Kind.UNOBSERVED, unobserved.cause)
            edges.setdefault(begin, Counter())[label] += 1
            edges.setdefault(end, Counter())[label] -= 1
    times = sorted(moment for moment in edges if moment < until_at)
    under_way: Counter[tuple[Kind, str]] = Counter()
    found: list[Stretch] = []
    for begin, end in zip(times, [*times[1:], until_at], strict=True):
        under_way.update(edges[begin])
        _extend(found, begin, end, *_label(under_way))
    return found


def totals(stretches: Sequence[Stretch]) -> Totals:
    """Add up a timeline. Causes come in the order of `Cause`, each with its unobserved and
    healed.
    """
    sums: Counter[tuple[Kind, str | None]] = Counter()
    for each in stretches:
        sums[each.kind, each.cause] += _whole_us(each)
    causes = sorted({cause for _, cause in sums if cause is not None}, key=_rank)
    unobserved = {cause: _seconds(sums[Kind.UNOBSERVED, cause]) for cause in causes}
    healed = {cause: _seconds(sums[Kind.HEALED, cause]) for cause in causes}
    return Totals(
        _seconds(sums[Kind.OBSERVED, None]),
        sum(unobserved.values(), Decimal(0)),
        sum(healed.values(), Decimal(0)),
        tuple((cause, unobserved[cause], healed[cause]) for cause in causes),
    )


def share_text(part: Decimal, whole: Decimal) -> str:
    """Return ``part`` of ``whole`` in percent, cut off: only what is whole reads as 100 %."""
    if not whole:
        return "–"
    return f"{Decimal(int(part * 1_000_000 / whole)).scaleb(-4):f} %"


def _extend(
    found: list[Stretch], begin: datetime, end: datetime, kind: Kind, cause: str | None
) -> None:
    if found and (found[-1].kind, found[-1].cause) == (kind, cause):
        begin = found.pop().from_at
    found.append(Stretch(begin, end, kind, cause))


def _label(under_way: Counter[tuple[Kind, str]]) -> tuple[Kind, str | None]:
    for kind in (Kind.UNOBSERVED, Kind.HEALED):
        causes = [cause for (each, cause), number in under_way.items() if each == kind and number]
        if causes:
            return kind, min(causes, key=_rank)
    return Kind.OBSERVED, None


def _rank(cause: str) -> tuple[int, str]:
    return _RANK.get(cause, len(_RANK)), cause


def _whole_us(stretch: Stretch) -> int:
    return (stretch.until_at - stretch.from_at) // _MICROSECOND


def _seconds(whole_us: int) -> Decimal:
    return Decimal(whole_us).scaleb(-6)


#: Clocks that went different by more between two looks did so in one jump: NTP moves a clock by at
#: most half a millisecond a second. What is shorter than this, TCP and the PONG's waiting time
#: bridge.
JUMP_US_MIN = 2_000_000
#: A look at both clocks takes microseconds; one that took longer was interrupted and reports
#: nothing.
LOOK_NS_MAX = 100_000_000


@frozen
class Reading:
    """Both clocks read at one time: microseconds since 1970, and monotonic nanoseconds."""

    wall_us: int
    monotonic_ns: int


def jump_us(before: Reading, after: Reading) -> int:
    """Return how much further the wall clock went than the monotonic one, where that is a jump.

    0: they went together. Negative: the wall clock was set back.
    """
    went_us = after.wall_us - before.wall_us
    passed_us = (after.monotonic_ns - before.monotonic_ns) // 1_000
    ahead_us = went_us - passed_us
    return ahead_us if abs(ahead_us) >= JUMP_US_MIN else 0
