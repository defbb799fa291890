"""Two clocks that are compared: what it means when they don't go together.

While a machine is suspended its monotonic clock stops and the wall clock doesn't. A wall clock
that is set forward looks the same. Both mean that times before and after cannot be compared.
"""

from __future__ import annotations

from attrs import frozen

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
