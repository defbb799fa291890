"""A token bucket whose callers wait: the exchange's rate limits, kept before they are met.

Each request or command takes one token. Where there is none, nothing is taken and the caller is
given the time to ask again. So a waiting caller holds no place in a queue: by then something more
urgent may want to go first, a wait that is cancelled costs nothing, and a penalty that falls due
meanwhile holds up all others. (The bucket of `pacing` lends its tokens instead: one task waits
there, for one thing.) Who wants a queue puts a lock around asking and waiting.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping

from attrs import Attribute, define, field

from recorder.exchange.commands import RULES

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
