"""How fast we may connect, request and send: policies made of values, without a clock of their own.

VALR answers more than 60 new connections a minute with 429, and a fixed back-off of 2 s has been
seen to end in a storm of those. So whatever the reason for connecting again, a token bucket keeps
the average at one per 5 s. Within that, the wait follows from how the last session ended:

- it was authenticated for a while: at once, with under a second of jitter;
- it was not: exponential with full jitter;
- our credentials were refused: a minute, doubling to a quarter of an hour. A wrong key doesn't
  become right by asking, but a wrong clock or an address not yet allowed does;
- the exchange named a time: at least that.

It is unknown whether VALR counts by key or by address, so the accounts of one process share what
an address may. The caller gives the monotonic time and one random fraction in [0, 1) per attempt.

Requests and commands take a token each from a `TokenBucket`. Where there is none, nothing is taken
and the caller learns when to ask again. So a waiting caller holds no place in a queue: something
more urgent may go first, a cancelled wait costs nothing, and a penalty holds up all.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping

from attrs import Attribute, define, evolve, field, frozen

from recorder.exchange.commands import RULES

#: A session that was authenticated for this long worked.
STABLE_S = 10.0
BACKOFF_BASE_S = 0.5
BACKOFF_CAP_S = 30.0
REFUSED_BASE_S = 60.0
REFUSED_CAP_S = 900.0
#: Added at random to a wait that must not be shortened, so that many recorders don't come at once.
JITTER_SHARE = 0.2
#: New connections: a burst for a bad line, then one per 5 s. At most 22 in any minute.
CONNECT_BURST = 10
CONNECTS_PER_S = 0.2
#: All accounts of a process together: at most 54 in any minute, of VALR's 60.
SHARED_BURST = 30
SHARED_PER_S = 0.4
#: Doubling further than this changes nothing under any cap here, but would overflow a float.
_DOUBLINGS_MAX = 60


@frozen
class Bucket:
    """A token bucket. ``level`` may fall below zero: those tokens are lent and waited for."""

    capacity: float
    per_s: float
    level: float
    filled_s: float = 0.0

    @classmethod
    def full(cls, capacity: float, per_s: float) -> Bucket:
        """Return a bucket that holds ``capacity`` tokens and gains ``per_s`` of them a second."""
        return cls(capacity, per_s, capacity)

    def take(self, now_s: float) -> tuple[float, Bucket]:
        """Take one token; return the seconds until it is there and the bucket without it."""
        gained = max(0.0, now_s - self.filled_s) * self.per_s
        level = min(self.capacity, self.level + gained) - 1.0
        taken = evolve(self, level=level, filled_s=max(now_s, self.filled_s))
        return max(0.0, -level / self.per_s), taken


def backoff(attempt: int, fraction: float, *, base_s: float, cap_s: float) -> float:
    """Return the wait before try ``attempt`` (0, 1, …): full jitter below a capped doubling."""
    return fraction * min(cap_s, base_s * 2.0 ** min(attempt, _DOUBLINGS_MAX))


def _full_bucket() -> Bucket:
    return Bucket.full(CONNECT_BURST, CONNECTS_PER_S)


@frozen
class ConnectPacing:
    """What is remembered between two sessions of one account."""

    #: Sessions in a row that were not stable.
    failures: int = 0
    #: Refusals since the exchange last took our credentials.
    refusals: int = 0
    #: When the last session ended; None before the first.
    ended_s: float | None = None
    #: True if it was a refusal that ended it.
    refused: bool = False
    #: The wait that the exchange asked for then.
    retry_after_s: float = 0.0
    bucket: Bucket = field(factory=_full_bucket)

    @classmethod
    def among(cls, accounts: int) -> ConnectPacing:
        """Return the pacing of one of so many accounts that connect from one address."""
        burst = min(CONNECT_BURST, max(1, SHARED_BURST // accounts))
        return cls(bucket=Bucket.full(burst, min(CONNECTS_PER_S, SHARED_PER_S / accounts)))

    def next_attempt(self, now_s: float, fraction: float) -> tuple[float, ConnectPacing]:
        """Return the seconds to wait before connecting, and the pacing that has counted it."""
        pause_s = 0.0
        if self.ended_s is not None:
            pause_s = max(0.0, self.ended_s + self._pause_s(fraction) - now_s)
        queue_s, bucket = self.bucket.take(now_s + pause_s)
        return pause_s + queue_s, evolve(self, bucket=bucket)

    def ended(
        self,
        now_s: float,
        *,
        authenticated_s: float | None,
        refused: bool = False,
        retry_after_s: float | None = None,
    ) -> ConnectPacing:
        """Return the pacing after a session that was authenticated so long, or never (None)."""
        stable = not refused and authenticated_s is not None and authenticated_s >= STABLE_S
        # A connection that breaks between two refusals proves nothing about the key.
        forgiven = 0 if authenticated_s is not None else self.refusals
        return evolve(
            self,
            failures=0 if stable else self.failures + 1,
            refusals=forgiven + refused,
            ended_s=now_s,
            refused=refused,
            retry_after_s=retry_after_s or 0.0,
        )

    def _pause_s(self, fraction: float) -> float:
        asked_s = self.retry_after_s
        if self.refused:
            doublings = min(self.refusals - 1, _DOUBLINGS_MAX)
            asked_s = max(asked_s, min(REFUSED_CAP_S, REFUSED_BASE_S * 2.0**doublings))
        wait_s = backoff(self.failures, fraction, base_s=BACKOFF_BASE_S, cap_s=BACKOFF_CAP_S)
        return max(wait_s, asked_s * (1.0 + JITTER_SHARE * fraction))


#: No shorter wait is named: one too short to move a clock would be asked for without end.
WAIT_S_MIN = 1e-6


def _at_least_one(_: object, attribute: Attribute[float], value: float) -> None:
    if not 1 <= value < math.inf:
        raise ValueError(f"{attribute.name} is at least 1, not {value}")


def _above_zero(_: object, attribute: Attribute[float], value: float) -> None:
    if not 0 < value < math.inf:
        raise ValueError(f"{attribute.name} is above 0, not {value}")


@define
class TokenBucket:
    """At most ``capacity`` takes at once, and ``per_s`` a second in the long run. Starts full.

    Times are seconds of one clock that never goes back, given by the caller.
    """

    capacity: float = field(validator=_at_least_one)
    per_s: float = field(validator=_above_zero)
    _level: float = field(init=False)
    #: Up to when gained tokens are counted. In the future while a penalty lasts.
    _filled_s: float = field(init=False, default=-math.inf)

    def __attrs_post_init__(self) -> None:
        """Fill it."""
        self._level = self.capacity

    def take(self, now_s: float) -> float:
        """Take a token and return 0; or take none and return the seconds until one is there."""
        wait_s = self.wait_s(now_s)
        if not wait_s:
            self.spend(1)
        return wait_s

    def level(self, now_s: float) -> float:
        """Return how many tokens are there; below 0 where some were spent that weren't."""
        if now_s > self._filled_s:
            gained = (now_s - self._filled_s) * self.per_s
            self._level = min(self.capacity, self._level + gained)
            self._filled_s = now_s
        return self._level

    def wait_s(self, now_s: float) -> float:
        """Return the seconds until one token is there; 0 for now."""
        lacking = 1 - self.level(now_s)
        if lacking <= 0:
            return 0.0
        penalty_s = max(0.0, self._filled_s - now_s)
        return max(WAIT_S_MIN, penalty_s + lacking / self.per_s)

    def spend(self, count: int) -> None:
        """Take so many tokens, which were seen to be there."""
        self._level -= count

    def penalise(self, now_s: float, for_s: float) -> None:
        """Give nothing for so long, and start empty then. A longer penalty is not shortened."""
        self._level = 0.0
        self._filled_s = max(self._filled_s, now_s + max(0.0, for_s))


#: What the exchange counts each command as.
KIND = {name: rule.pace for name, rule in RULES.items()}


@define
class CommandPace:
    """One token bucket for each kind. Times are seconds of a clock that never goes back."""

    _buckets: Mapping[str, TokenBucket]

    @classmethod
    def of(cls, capacity: float, per_s: float) -> CommandPace:
        """Return a pace of so many commands of a kind at once, and a second in the long run."""
        return cls({kind: TokenBucket(capacity, per_s) for kind in sorted(set(KIND.values()))})

    def allowance(self, now_s: float) -> dict[str, int]:
        """Return how many of each kind may go now."""
        levels = {kind: bucket.level(now_s) for kind, bucket in self._buckets.items()}
        return {kind: max(0, math.floor(level)) for kind, level in levels.items()}

    def spend(self, commands: Iterable[str]) -> None:
        """Count these commands as gone."""
        for kind, count in Counter(KIND[command] for command in commands).items():
            self._buckets[kind].spend(count)

    def wait_s(self, now_s: float, kinds: Iterable[str]) -> float:
        """Return the seconds until one of some of these kinds may go."""
        return min(self._buckets[kind].wait_s(now_s) for kind in kinds)

    def penalise(self, now_s: float, for_s: float) -> None:
        """Let nothing go for so long, and start slowly then."""
        for bucket in self._buckets.values():
            bucket.penalise(now_s, for_s)
