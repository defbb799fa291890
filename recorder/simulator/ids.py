"""Ids from a clock and dice, so that a run with the same seed has the same ids."""

from __future__ import annotations

import random
from collections.abc import Callable
from datetime import datetime
from uuid import UUID

from attrs import define


@define(eq=False)
class Ids:
    """Makes ids in the form of UUIDs of version 7: milliseconds first, then random bits."""

    clock: Callable[[], datetime]
    dice: random.Random

    def new(self) -> str:
        """Return an order's, trade's or transaction's id."""
        ms = int(self.clock().timestamp() * 1000) & (2**48 - 1)
        version, variant = 7 << 76, 2 << 62
        low, high = self.dice.getrandbits(62), self.dice.getrandbits(12)
        return str(UUID(int=ms << 80 | version | high << 64 | variant | low))

    def new_hash(self) -> str:
        """Return the hash of a transaction on a block chain."""
        return f"0x{self.dice.getrandbits(256):064x}"

    def new_number(self) -> int:
        """Return a number too large for a double, as VALR's batch and sequence ids are."""
        return 2**60 + self.dice.getrandbits(59)
