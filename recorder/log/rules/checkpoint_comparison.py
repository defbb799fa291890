"""Compares checkpoints with a log while it is read, event by event.

A chain that is sound in itself does not show that its end was cut off, or that it was written again
with digests that fit. A checkpoint does: the digest at its position stands for everything up to
there. Where one contradicts the log, times hint at what happened. They prove nothing: clocks can
be wrong, and an attacker who rewrites a log chooses its times.

A checkpoint takes some 60 bytes here, so a year of them, one every five minutes, takes 6 MB.
"""

from __future__ import annotations

from array import array

from attrs import define, field

from recorder.log.rules.chain import Damage
from recorder.log.rules.checkpoint import Checkpoint, Finding
from recorder.log.rules.event import Head
from recorder.timestamps import from_us

#: Beyond every position there will be.
NEVER = 2**63
_DIGEST_BYTES = 32


@define(eq=False)
class Comparison:
    """The checkpoints of one account, and how far they agree with its log.

    Take them in with `add`, then `begin`, then walk: hand `see` each event's head at `awaited`.
    """

    #: The position of the next checkpoint; `NEVER` where none is left.
    awaited: int = NEVER
    #: Checkpoints that agree, and the position of the last of them.
    agreeing: int = 0
    agreed: int = 0
    _positions: array[int] = field(factory=lambda: array("q"))
    _times: array[int] = field(factory=lambda: array("q"))
    _digests: bytearray = field(factory=bytearray)
    _order: list[int] | range = field(factory=list)
    _next: int = 0
    #: Checkpoints that differ, and the time of the newest of them.
    _differing: int = 0
    _newest_us: int = 0
    #: The first that differs, what agreed before it, and when the event there came in.
    _first: tuple[int, int, int] | None = None

    def add(self, checkpoint: Checkpoint) -> None:
        """Take a checkpoint in, in any order."""
        head = checkpoint.head
        is_again = bool(self._positions) and self._positions[-1] == head.position
        if is_again and self._digests[-_DIGEST_BYTES:] == head.digest:
            return
        self._positions.append(head.position)
        self._times.append(checkpoint.at_us)
        self._digests += head.digest

    @property
    def count(self) -> int:
        """How many there are."""
        return len(self._positions)

    def begin(self, after: int = 0) -> None:
        """Get ready to walk from the position behind ``after``; checkpoints up to it are passed."""
        self._order = range(self.count)
        if any(self._positions[i] > self._positions[i + 1] for i in range(self.count - 1)):
            self._order = sorted(self._order, key=self._positions.__getitem__)
        passed = sum(position <= after for position in self._positions)
        self._next, self._differing, self._newest_us, self._first = passed, 0, 0, None
        self.agreeing = self.agreed = 0
        self._await_next()

    def see(self, head: Head, received_us: int) -> int:
        """Compare with the event at `awaited`; return the position to come back at."""
        before = self.agreed
        while self.awaited == head.position:
            index = self._order[self._next]
            if self._digest(index) == head.digest:
                self.agreeing += 1
                self.agreed = head.position
            else:
                self._differing += 1
                self._newest_us = max(self._newest_us, self._times[index])
                self._first = self._first or (index, before, received_us)
            self._next += 1
            self._await_next()
        return self.awaited

    def end(self, head: Head, received_us: int | None) -> Damage | None:
        """Return the first position that a checkpoint contradicts, once the head is reached.

        ``received_us`` is when the event at the head came in, None in an empty log.
        """
        beyond = self._order[self._next :]
        self._newest_us = max([self._newest_us, *(self._times[index] for index in beyond)])
        if (damage := self.so_far()) or not beyond:
            return damage
        first, last = beyond[0], beyond[-1]
        reported = (
            f"a checkpoint of {self._time(first)} knows position {self._positions[first]},"
            f" but the log ends at {head.position}"
        )
        if len(beyond) > 1:
            reported += (
                f" ({len(beyond)} checkpoints reach beyond it, up to {self._positions[last]})"
            )
        if received_us is None or received_us <= self._newest_us:
            reported += ": its tail was cut off, or it is an older copy"
            return Damage(head.position + 1, reported, Finding.CUT_TAIL)
        reported += (
            f", though its last event came in later, at {_time_text(received_us)}:"
            " it was put back to an older state, and went on from there"
        )
        return Damage(head.position + 1, reported, Finding.RESTORED)

    def so_far(self) -> Damage | None:
        """Return what was contradicted up to where the walk has come."""
        if self._first is None:
            return None
        index, agreed, received_us = self._first
        result, at = _time_text(received_us), self._time(index)
        kind = Finding.REWRITTEN
        reported = (
            f"its digest isn't the one that a checkpoint of {at} knows: the log was written again"
            f" somewhere behind position {agreed}, and chained again"
        )
        # Where events were only taken out, the ones behind them came in before later checkpoints.
        if received_us > self._newest_us:
            kind = Finding.RESTORED
            reported = (
                f"the event here came in at {result}, but a checkpoint of {at} knows another one:"
                f" the log was put back to an older state, somewhere behind position {agreed},"
                " and went on from there"
            )
        if self._differing > 1:
            reported += f" ({self._differing} checkpoints differ)"
        return Damage(self._positions[index], reported, kind)

    def _await_next(self) -> None:
        is_left = self._next < self.count
        self.awaited = self._positions[self._order[self._next]] if is_left else NEVER

    def _digest(self, index: int) -> bytearray:
        return self._digests[index * _DIGEST_BYTES : (index + 1) * _DIGEST_BYTES]

    def _time(self, index: int) -> str:
        return _time_text(self._times[index])


def _time_text(time_us: int) -> str:
    """Return a time for a person; a forged one may lie outside of what Python has."""
    try:
        return from_us(time_us).isoformat()
    except OverflowError:
        return f"{time_us} µs since 1970"
