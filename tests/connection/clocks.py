"""The daemon's clock, as trio's stands: a mock clock moves it."""

from __future__ import annotations

import trio
from attrs import frozen


@frozen
class TrioClock:
    """Both clocks from trio's. At trio's zero the one on the wall reports ``began_us``."""

    began_us: int = 0

    def wall_us(self) -> int:
        return self.began_us + int(trio.current_time() * 1e6)

    def monotonic_ns(self) -> int:
        return int(trio.current_time() * 1e9)
