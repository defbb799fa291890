"""The only module that asks what time it is; everything else is handed a `Clock`."""

from __future__ import annotations

import time
from typing import Protocol


class Clock(Protocol):
    """Two clocks that are never mixed: one for people, one for measuring."""

    def wall_us(self) -> int:
        """Return whole microseconds since 1970 in UTC. May jump, both ways."""
        ...

    def monotonic_ns(self) -> int:
        """Return nanoseconds since some fixed moment. Never goes back."""
        ...


class SystemClock:
    """The operating system's clocks."""

    def wall_us(self) -> int:
        """Return whole microseconds since 1970 in UTC."""
        return time.time_ns() // 1_000

    def monotonic_ns(self) -> int:
        """Return nanoseconds of the monotonic clock."""
        return time.monotonic_ns()
