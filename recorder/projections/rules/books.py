"""Whether the books add up: a balance at both ends of a period, and what moved it between. Pure.

    opening + movements + residual = closing

What is explained is ``total``: what is available, reserved and lent, less what is borrowed. To
reserve, lend or borrow moves nothing of it. The residual is what no movement explains. It is null
where one end was never reported: then nothing can be reported, and that is not zero.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from decimal import Decimal
from enum import StrEnum

from attrs import frozen

from recorder.exchange.amounts import EXACT, add_up

#: In the order in which they are shown; ``other`` is for unknown types.
KINDS = (
    "fill_in",
    "fill_out",
    "fee",
    "reward",
    "deposit",
    "withdrawal",
    "transfer",
    "payment",
    "interest",
    "funding",
    "pnl",
    "other",
)


class Basis(StrEnum):
    """How the balance at an end of a period is known."""

    REPORTED = "reported"
    #: A complete snapshot no longer named the currency: zero by inference.
    INFERRED_ZERO = "inferred_zero"
    #: No statement so far, but a complete snapshot that didn't name it: zero by inference.
    NOT_NAMED = "not_named"
    UNKNOWN = "unknown"


@frozen
class Reported:
    """A balance at one end: its ``total``, and from which event it is known."""

    total: Decimal | None
    basis: Basis
    position: int | None = None
    at: datetime | None = None


@frozen
class Line:
    """All movements of one kind. ``without_amount`` of them have none, and are not in the sum."""

    kind: str
    amount: Decimal
    movements: int
    backfilled: int = 0
    without_amount: int = 0
    #: Reported only after the period was over, by our clock.
    reported_later: int = 0
    #: The part of ``amount`` that is fees of which nothing proves what they are taken off.
    assumed_fees: Decimal = Decimal(0)


@frozen
class Explained:
    """One currency over one period. ``currency`` is null where the exchange named none."""

    currency: str | None
    opening: Reported
    closing: Reported
    lines: tuple[Line, ...]
    #: The residual is zero a moment before and a moment behind an end: its frames were on the way.
    in_flight: bool = False

    @property
    def moved(self) -> Decimal:
        """What all movements come to."""
        return add_up(line.amount for line in self.lines)

    @property
    def residual(self) -> Decimal | None:
        """What no movement explains; null where one end isn't known."""
        if self.opening.total is None or self.closing.total is None:
            return None
        change = EXACT.subtract(self.closing.total, self.opening.total)
        return EXACT.subtract(change, self.moved)

    @property
    def without_amount(self) -> int:
        """How many movements have no amount."""
        return sum(line.without_amount for line in self.lines)

    @property
    def adds_up(self) -> bool:
        """True only if both ends are known, every movement has an amount, and nothing is left."""
        return self.residual == 0 and not self.without_amount


def merge(lines: Iterable[Line]) -> tuple[Line, ...]:
    """Return one line per kind, in the order of `KINDS`."""
    found: dict[str, list[Line]] = {}
    for line in lines:
        found.setdefault(line.kind, []).append(line)
    rank = {kind: number for number, kind in enumerate(KINDS)}
    return tuple(
        Line(
            kind,
            add_up(line.amount for line in same),
            sum(line.movements for line in same),
            sum(line.backfilled for line in same),
            sum(line.without_amount for line in same),
            sum(line.reported_later for line in same),
            add_up(line.assumed_fees for line in same),
        )
        for kind, same in sorted(found.items(), key=lambda each: rank.get(each[0], len(rank)))
    )


@frozen
class Step:
    """What happens near a cut: a movement's amount, or a statement's new total."""

    order: tuple[object, ...]
    moved: Decimal | None = None
    total: Decimal | None = None


def drifts(total: Decimal | None, steps: Iterable[Step]) -> list[Decimal]:
    """Return by how much balance and movements have gone different after each step; first zero.

    Where ``total`` isn't known, it all begins at the first step that states one.
    """
    stands, moved = total, Decimal(0)
    found = [Decimal(0)]
    for step in sorted(steps, key=lambda each: each.order):
        if total is None or stands is None:
            total = stands = step.total
            continue
        if step.moved is not None:
            moved = EXACT.add(moved, step.moved)
        if step.total is not None:
            stands = step.total
        found.append(EXACT.subtract(EXACT.subtract(stands, total), moved))
    return found


def passing(before: Sequence[Decimal], behind: Sequence[Decimal]) -> set[Decimal]:
    """Return how far the drift at a cut is from values that it has on both sides of it.

    ``before`` ends at the cut, ``behind`` begins there. A drift that is the same again on the other
    side was in flight; one that stays is a loss, however near.
    """
    earlier = {EXACT.subtract(each, before[-1]) for each in before}
    return earlier & set(behind)


def is_in_flight(residual: Decimal, opening: Iterable[Decimal], closing: Iterable[Decimal]) -> bool:
    """Return whether the residual is gone if what passes at one end or both is left out."""
    begins = set(opening)
    return any(EXACT.add(residual, end) in begins for end in closing)
