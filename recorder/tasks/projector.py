"""Runs one projection of one account: reads the log, folds, applies, keeps the checkpoint.

Woken for the types it folds, it works in batches until it stands at the durable head. Events of
other types move only its checkpoint, and that may wait: `LAG_MAX_S` after the head moved, the
checkpoint follows, so that ``projections`` shows a projector that is idle as being up to date.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import datetime
from typing import Any, Protocol

import trio
from attrs import define, field, frozen
from sqlalchemy import Connection

from recorder.clock import Clock
from recorder.errors import RecorderError, StorageUnavailable
from recorder.log.event import Note, from_us
from recorder.tasks.committed import Committed, Listener
from recorder.tasks.units import UnitRunner

log = logging.getLogger("recorder.projector")

#: Events folded in one transaction: few enough that the log never waits long for the database.
BATCH_EVENTS_MAX = 200
#: An idle projector's checkpoint follows the head within this time.
LAG_MAX_S = 1.0
RETRY_S = 0.5
#: While the log has more waiting than it takes in one transaction, a fold rests this long between
#: two batches: what came in must be durable first, and what is held may be known a little later.
REST_S = 0.25


class Advance(Protocol):
    """What one batch of a fold did."""

    @property
    def position(self) -> int:
        """The checkpoint that is committed now."""
        ...

    @property
    def failures(self) -> tuple[tuple[int, str], ...]:
        """(position, reason) of each event that could not be folded."""
        ...


#: One batch: (connection, up_to, limit, now) → Advance. Repeatable after a failed transaction.
Step = Callable[[Connection, int, int, datetime], Advance]
#: The same in two: (connection, up_to, limit) → a plan, and (connection, plan, now) → Advance. None
#: from either means that the batch is to be taken in one step.
Prepare = Callable[[Connection, int, int], Any]
Finish = Callable[[Connection, Any, datetime], Advance | None]
#: Writes a fact of our own: (note, facts).
Noting = Callable[[Note, dict[str, object]], None]


@frozen
class Fold:
    """A fold that a projector runs: its name, what wakes it, and its step."""

    name: str
    types: frozenset[str]
    step: Step
    prepare: Prepare | None
    finish: Finish | None
    #: Drops what the fold keeps in memory, after a transaction whose outcome isn't known.
    forget: Callable[[], None]
    record_error: Callable[[Connection, str, datetime], None]


@define(eq=False)
class Projector:
    """One fold of one account. ``position`` is its committed checkpoint, -1 before the first."""

    account: str
    fold: Fold
    runner: UnitRunner
    #: Where one writes at a time, what needs no writing is done here; None: all in one unit.
    reader: UnitRunner | None
    committed: Committed
    clock: Clock
    note: Noting
    #: True while the log is behind.
    is_log_busy: Callable[[], bool]
    position: int = -1
    _stopped: bool = False
    _moved: trio.lowlevel.ParkingLot = field(factory=trio.lowlevel.ParkingLot)

    async def run(self) -> None:
        """Fold for ever. Returns only if the fold itself is broken; others go on then."""
        listener = self.committed.listen(self.account, self.fold.types)
        try:
            await self._follow(listener)
        except RecorderError:
            raise
        except Exception as error:  # a bug in one fold must not stop the log and the others
            log.exception("projector %s of %s stopped", self.fold.name, self.account)
            reason = f"{type(error).__name__}: {error}"
            self.note(Note.PROJECTOR_FAILED, {"projection": self.fold.name, "reason": reason})
            await self.runner.run(self.fold.record_error, reason, self._now())
        finally:
            self._stopped = True
            self._moved.unpark_all()

    async def wait_at(self, position: int) -> None:
        """Return when the checkpoint stands at ``position``, or when the fold has stopped."""
        while self.position < position and not self._stopped:
            await self._moved.park()

    async def _catch_up(self, up_to: int) -> None:
        while self.position < up_to:
            if self.is_log_busy():
                await trio.sleep(REST_S)
            try:
                done = await self._advance(up_to)
            except BaseException as error:
                self.fold.forget()
                if not isinstance(error, StorageUnavailable):
                    raise
                log.warning("projector %s of %s waits: %s", self.fold.name, self.account, error)
                await trio.sleep(RETRY_S)
                continue
            self.position = done.position
            self._moved.unpark_all()
            for position, reason in done.failures:
                facts = {"projection": self.fold.name, "position": position, "reason": reason}
                log.warning("%s: event %d not folded: %s", self.fold.name, position, reason)
                self.note(Note.FRAME_NOT_FOLDED, facts)

    async def _advance(self, up_to: int) -> Advance:
        fold, limit = self.fold, BATCH_EVENTS_MAX
        if self.reader is not None and fold.prepare is not None and fold.finish is not None:
            plan = await self.reader.run(fold.prepare, up_to, limit)
            if plan is not None:
                done = await self.runner.run(fold.finish, plan, self._now())
                if done is not None:
                    return done
        return await self.runner.run(fold.step, up_to, limit, self._now())

    async def _follow(self, listener: Listener) -> None:
        while True:
            await self._catch_up(self.committed.heads[self.account])
            await listener.wait(patience_s=LAG_MAX_S)

    def _now(self) -> datetime:
        return from_us(self.clock.wall_us())
