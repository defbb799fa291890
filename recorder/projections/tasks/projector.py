"""Runs one projection of one account: reads the log, folds, applies, keeps the checkpoint.

Woken for the types it folds, it works in batches until it stands at the durable head. Events of
other types move only its checkpoint, and that may wait: `LAG_MAX_S` after the head moved, the
checkpoint follows, so that ``projections`` shows a projector that is idle as being up to date.

A projector that stood at the head before a small commit is spared the way over the event loop: the
log's thread, which is awake and has the events at hand, takes that step for it (`fold_at_once`).
Whatever isn't plain about the step (rows that aren't in memory, a frame that can't be folded, a
database that is busy) is left to the projector's own task, which is woken all the same.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from datetime import datetime
from functools import partial
from typing import Any, Protocol

import trio
from attrs import define, field, frozen
from sqlalchemy import Connection

from recorder.clock import Clock
from recorder.errors import RecorderError, RowRefused, StorageUnavailable
from recorder.log.rules.event import Event, Note
from recorder.log.tasks.committed import Committed, Listener
from recorder.projections.rules.fold import IN_PART
from recorder.timestamps import from_us
from recorder.units import UnitRunner

log = logging.getLogger("recorder.projector")

#: Events folded in one transaction: few enough that the log never waits long for the database.
BATCH_EVENTS_MAX = 200
#: An idle projector's checkpoint follows the head within this time.
LAG_MAX_S = 1.0
RETRY_S = 0.5
#: More than so many events, or characters of payload, are not folded in the log's thread: it has
#: others to write.
AT_ONCE_EVENTS_MAX = 32
AT_ONCE_BYTES_MAX = 16_384
#: Between two looks whether the log's thread is through with our step; it takes a millisecond.
TURN_S = 0.001
#: While the log has more waiting than it takes in one transaction, a fold rests this long between
#: two batches: what came in must be durable first, and what is held may be known a little later.
REST_S = 0.5


class NotFolded(Protocol):
    """An event that could not be folded: where, why, whose words, and when it came."""

    @property
    def position(self) -> int: ...

    @property
    def reason(self) -> str: ...

    @property
    def origin(self) -> str: ...

    @property
    def received_us(self) -> int: ...


class Advance(Protocol):
    """What one batch of a fold did."""

    @property
    def position(self) -> int:
        """The checkpoint that is committed now."""
        ...

    @property
    def failures(self) -> Sequence[NotFolded]:
        """The events that could not be folded."""
        ...


#: One batch: (connection, up_to, limit, now) → Advance. Repeatable after a failed transaction.
Step = Callable[[Connection, int, int, datetime], Advance]
#: The same in two, the first of which needs no database: (events that are at hand, up_to, limit) →
#: a plan; or only reads it: (connection, up_to, limit) → a plan. None means that this can't be.
Recall = Callable[[Sequence[Event], int, int], Any]
Prepare = Callable[[Connection, int, int], Any]
#: The second: (now, connection, plan) → Advance. RowRefused from it: the batch goes in one step.
Finish = Callable[[datetime, Connection, Any], Advance]
#: Writes a fact of our own: (note, facts).
Noting = Callable[[Note, dict[str, object]], None]


@frozen
class Fold:
    """A fold that a projector runs: its name, what wakes it, and its step."""

    name: str
    types: frozenset[str]
    step: Step
    recall: Recall | None
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
    #: Held by the one that takes a step: the projector's own task, or the log's thread for it.
    _turn: threading.Lock = field(factory=threading.Lock)
    #: Failures that were not logged yet.
    _untold: list[NotFolded] = field(factory=list)
    _details_logged: set[str] = field(factory=set)
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

    def fold_at_once(self, events: Sequence[Event]) -> None:
        """Fold what was committed just now, in the thread that calls, if that is plain to do.

        ``events`` are of this account. Never raises: what goes wrong is for the task to meet again.
        """
        fold = self.fold
        if fold.recall is None or fold.finish is None:
            return
        if all(event.type not in fold.types for event in events):
            return
        if self._stopped or self.is_log_busy() or not self._turn.acquire(blocking=False):
            return
        try:
            self._fold_here(fold.recall, fold.finish, events[-1].position)
        except RecorderError as error:
            log.debug("projector %s leaves a step to its task: %s", fold.name, error)
            fold.forget()
        except Exception:  # the log's thread must not fall over a fold's bug; its task will
            log.exception("projector %s: a step in the log's thread", fold.name)
            fold.forget()
        finally:
            self._turn.release()

    def _fold_here(self, recall: Recall, finish: Finish, up_to: int) -> None:
        recent = self.committed.recent(self.account, self.position, up_to)
        if not recent or not _is_little(recent):
            return
        plan = recall(recent, up_to, len(recent))
        if plan is None:
            return
        done = self.runner.run_here(partial(finish, self._now()), plan)
        self._untold += done.failures
        self.position = done.position

    async def _catch_up(self, up_to: int) -> None:
        while self.position < up_to:
            if self.is_log_busy():
                await trio.sleep(REST_S)
            # A thread may hold it, so there is no event to wait for.
            while not self._turn.acquire(blocking=False):  # noqa: ASYNC110
                await trio.sleep(TURN_S)
            try:
                if self.position < up_to:
                    done = await self._advance(up_to)
                    self._untold += done.failures
                    self.position = done.position
            except BaseException as error:
                self.fold.forget()
                if not isinstance(error, StorageUnavailable):
                    raise
                log.debug("projector %s of %s waits: %s", self.fold.name, self.account, error)
            else:
                self._report()
                continue
            finally:
                self._turn.release()
            await trio.sleep(RETRY_S)
        self._report()

    def _report(self) -> None:
        """Log on the event loop what the steps so far have done, from whichever thread."""
        self._moved.unpark_all()
        untold, self._untold = self._untold, []
        for each in untold:
            if each.reason.startswith(IN_PART):
                self._log_detail(each.position, each.reason)
                continue
            facts: dict[str, object] = {
                "projection": self.fold.name,
                "position": each.position,
                "reason": each.reason,
                "origin": each.origin,
                "received_at": from_us(each.received_us).isoformat(),
            }
            log.warning("%s: event %d not folded: %s", self.fold.name, each.position, each.reason)
            self.note(Note.FRAME_NOT_FOLDED, facts)

    def _log_detail(self, position: int, reason: str) -> None:
        """Log a kind of unreadable detail once: each frame may have it from now on."""
        kind = reason.partition(" but ")[0]
        if kind not in self._details_logged:
            self._details_logged.add(kind)
            log.warning("%s: event %d %s", self.fold.name, position, reason)

    async def _advance(self, up_to: int) -> Advance:
        """Fold one batch in the cheapest way there is: from memory, beside the log, or in one."""
        fold, limit = self.fold, BATCH_EVENTS_MAX
        try:
            done = await self._advance_planned(up_to, limit)
            if done is not None:
                return done
        except RowRefused:
            fold.forget()
        return await self.runner.run(fold.step, up_to, limit, self._now())

    async def _advance_planned(self, up_to: int, limit: int) -> Advance | None:
        fold = self.fold
        if fold.recall is None or fold.prepare is None or fold.finish is None:
            return None
        finish = partial(fold.finish, self._now())
        recent = self.committed.recent(self.account, self.position, up_to)
        if recent:
            done = await self.runner.run_made(partial(fold.recall, recent, up_to, limit), finish)
            if done is not None:
                return done
        if self.reader is None:
            return None
        plan = await self.reader.run(fold.prepare, up_to, limit)
        return None if plan is None else await self.runner.run(finish, plan)

    async def _follow(self, listener: Listener) -> None:
        while True:
            await self._catch_up(self.committed.heads[self.account])
            await listener.wait(wait_max_s=LAG_MAX_S)

    def _now(self) -> datetime:
        return from_us(self.clock.wall_us())


def _is_little(events: Sequence[Event]) -> bool:
    weight = sum(len(event.payload) for event in events)
    return len(events) <= AT_ONCE_EVENTS_MAX and weight <= AT_ONCE_BYTES_MAX
