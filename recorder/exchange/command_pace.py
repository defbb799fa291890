"""How fast commands may go: the exchange counts them by kind, and so do we.

VALR takes 400 orders a second, 450 cancels, 400 changes and 400 batches, each counted by itself
(Postman collection, "Info"). So cancels never wait behind orders.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping

from attrs import define

from recorder.exchange.commands import (
    CANCEL_ORDER,
    MODIFY_ORDER,
    PLACE_BATCH_ORDERS,
    PLACE_LIMIT_ORDER,
    PLACE_MARKET_ORDER,
)
from recorder.exchange.token_bucket import TokenBucket

#: What the exchange counts each command as.
KIND = {
    PLACE_LIMIT_ORDER: "place",
    PLACE_MARKET_ORDER: "place",
    CANCEL_ORDER: "cancel",
    MODIFY_ORDER: "modify",
    PLACE_BATCH_ORDERS: "batch",
}


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
