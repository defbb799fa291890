"""Sums of amounts, exact to the last digit."""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Context, Decimal

#: Room for sums and products of any amounts (up to 400 digits each) without rounding; the usual
#: context of Python rounds what has more than 28 digits.
EXACT = Context(prec=1_000)


def add_up(amounts: Iterable[Decimal]) -> Decimal:
    """Return the exact sum; zero of none."""
    total = Decimal(0)
    for amount in amounts:
        total = EXACT.add(total, amount)
    return total
