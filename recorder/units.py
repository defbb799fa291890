"""How a unit of work is run is an argument: in a worker thread, or inline.

A unit of work is a synchronous function of a SQLAlchemy connection, one transaction, handed over
whole: one hop per transaction, never one per statement. Waking a thread takes as long as a small
unit, so a hop is made use of: what needs no database can be made in it before the transaction
begins (`UnitRunner.run_made`), and what follows from it be run behind it (`UnitRunner.run_then`). A
unit that is under way when its caller is cancelled finishes, and its result is delivered; none
starts in a cancelled scope.

SQLite takes one writer at a time and lets the others sleep in growing steps. So that the log never
waits behind a sleeping projector, all writers of this process pass one `WriteGate`, where the log
goes first. They pass it in their threads: the next begins when the one before has
committed, without the event loop in between.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from functools import partial
from typing import Concatenate, ParamSpec, Protocol, TypeVar

import trio
from attrs import define, field, frozen
from sqlalchemy import Connection, Engine

from recorder.database.engine import PersistentConnection, in_unit
from recorder.errors import StorageUnavailable
from recorder.outage import Outage

P = ParamSpec("P")
T = TypeVar("T")
M = TypeVar("M")
Unit = Callable[Concatenate[Connection, P], T]

#: Named alike, so that the system isn't asked to rename a thread at every hop.
_THREAD = "recorder-unit"


class UnitRunner(Protocol):
    """Runs units of work, one after the other."""

    async def run(self, unit: Unit[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Return what ``unit(connection, …)`` returns, once its transaction is committed.

        Raises StorageUnavailable, CommitUncertain, StorageFailed or LeaseLost for what the
        database reports, and whatever the unit itself raises; then nothing was committed.
        """
        ...

    async def run_made(
        self, make: Callable[[], M | None], unit: Callable[[Connection, M], T | None]
    ) -> T | None:
        """Run ``unit(connection, made)`` with what ``make()`` returns, as `run` does.

        ``make`` runs before the transaction begins. Where it returns None, so does this, and
        nothing else happens.
        """
        ...

    async def run_then(
        self,
        unit: Callable[[Connection], T],
        done: Callable[[T], None],
        then: Callable[[T], None],
        *,
        write_only: bool = False,
    ) -> T:
        """Run ``unit(connection)`` as `run` does, and make use of the hop that it took.

        Once its transaction is committed, ``done(result)`` is called on the event loop, where it
        must not raise, and at the same time ``then(result)`` where the unit ran, which may run
        other units there (`run_here`). Returns after both; raises what ``then`` raises. A
        ``write_only`` unit reads nothing.
        """
        ...

    def run_here(self, unit: Callable[[Connection, M], T], made: M) -> T:
        """Run a write-only ``unit(connection, made)`` in the thread that calls.

        For ``then`` of `run_then`.
        """
        ...


@define(eq=False)
class WriteGate:
    """Lets one thread in at a time: urgent ones first, then in the order of their arrival."""

    #: Whether a thread is in; certain only for the holder of the gate.
    is_held: bool = False
    _mutex: threading.Lock = field(factory=threading.Lock)
    _urgent: deque[threading.Lock] = field(factory=deque)
    _patient: deque[threading.Lock] = field(factory=deque)

    @contextmanager
    def hold(self, *, urgent: bool) -> Iterator[None]:
        """Hold the gate. Waits as long as the units before take."""
        self._enter(self._urgent if urgent else self._patient)
        try:
            yield
        finally:
            self._leave()

    def _enter(self, queue: deque[threading.Lock]) -> None:
        with self._mutex:
            if not self.is_held:
                self.is_held = True
                return
            turn = threading.Lock()
            turn.acquire()
            queue.append(turn)
        turn.acquire()

    def _leave(self) -> None:
        with self._mutex:
            queue = self._urgent or self._patient
            if queue:
                # Handed over without being opened, so no other thread slips in.
                queue.popleft().release()
            else:
                self.is_held = False


@frozen
class ThreadRunner:
    """Runs units in worker threads, one at a time, so that the event loop never waits.

    `run_then` and `run_here` use the ``persistent`` connection if there is one. Of the threads that
    share it, only one may work at a time.
    """

    engine: Engine
    gate: WriteGate | None = None
    urgent: bool = False
    persistent: PersistentConnection | None = None
    outage: Outage | None = None
    _limiter: trio.CapacityLimiter = field(factory=lambda: trio.CapacityLimiter(1))

    async def run(self, unit: Unit[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run the unit in a thread; see `UnitRunner.run`."""
        work = partial(self._run, partial(unit, **kwargs) if kwargs else unit, *args)
        return await self._hop(work)

    async def run_made(
        self, make: Callable[[], M | None], unit: Callable[[Connection, M], T | None]
    ) -> T | None:
        """Make and run in one hop; see `UnitRunner.run_made`."""

        def work() -> T | None:
            made = make()
            return None if made is None else self._run(unit, made)

        return await self._hop(work)

    async def run_then(
        self,
        unit: Callable[[Connection], T],
        done: Callable[[T], None],
        then: Callable[[T], None],
        *,
        write_only: bool = False,
    ) -> T:
        """Run, report, and go on in the same thread; see `UnitRunner.run_then`."""
        token = trio.lowlevel.current_trio_token()

        def work() -> T:
            result = self._run_persistent(unit, write_only=write_only)
            # Queued before this thread's own result is, so it also happens before that returns.
            token.run_sync_soon(done, result)
            then(result)
            return result

        return await self._hop(work)

    def run_here(self, unit: Callable[[Connection, M], T], made: M) -> T:
        """Run in this thread; see `UnitRunner.run_here`."""
        return self._run_persistent(unit, made, write_only=True)

    async def _hop(self, work: Callable[[], T]) -> T:
        """Work in a thread, and take down whether the database takes units of this kind."""
        outage = self.outage
        if outage is None:
            return await trio.to_thread.run_sync(work, limiter=self._limiter, thread_name=_THREAD)
        began_s = outage.now_s()
        if self.urgent:
            outage.asked()
        try:
            result = await trio.to_thread.run_sync(work, limiter=self._limiter, thread_name=_THREAD)
        except StorageUnavailable as error:
            outage.failed(self.engine, error, began_s)
            raise
        finally:
            if self.urgent:
                outage.answered()
        outage.worked(self.engine)
        return result

    def _run_persistent(self, unit: Callable[..., T], *args: object, write_only: bool) -> T:
        if self.persistent is None:
            return self._run(unit, *args)
        with self.gate.hold(urgent=self.urgent) if self.gate else nullcontext():
            return self.persistent.run(unit, *args, write_only=write_only)

    def _run(self, unit: Callable[..., T], *args: object) -> T:
        with self.gate.hold(urgent=self.urgent) if self.gate else nullcontext():
            return in_unit(self.engine, unit, *args)


class Aside(Protocol):
    """Does work that would hold the event loop up, and that is no unit of work, elsewhere."""

    async def __call__(self, work: Callable[[], T]) -> T:
        """Return what ``work()`` returns; raise what it raises."""
        ...


async def in_thread(work: Callable[[], T]) -> T:
    """Do it in a worker thread."""
    return await trio.to_thread.run_sync(work)


async def in_place(work: Callable[[], T]) -> T:
    """Do it on the spot: for simulations on a mock clock, where a thread would stop time."""
    await trio.lowlevel.checkpoint()
    return work()


@frozen
class InlineRunner:
    """Runs units on the spot: for simulations on a mock clock, where a thread would stop time."""

    engine: Engine

    async def run(self, unit: Unit[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run the unit here; see `UnitRunner.run`."""
        await trio.lowlevel.checkpoint_if_cancelled()
        result: T = in_unit(self.engine, partial(unit, **kwargs), *args)
        await trio.lowlevel.cancel_shielded_checkpoint()
        return result

    async def run_made(
        self, make: Callable[[], M | None], unit: Callable[[Connection, M], T | None]
    ) -> T | None:
        """Make and run here; see `UnitRunner.run_made`."""
        made = make()
        return None if made is None else await self.run(unit, made)

    async def run_then(
        self,
        unit: Callable[[Connection], T],
        done: Callable[[T], None],
        then: Callable[[T], None],
        *,
        write_only: bool = False,
    ) -> T:
        """Run, report and go on here; see `UnitRunner.run_then`."""
        result = await self.run(unit)
        done(result)
        then(result)
        return result

    def run_here(self, unit: Callable[[Connection, M], T], made: M) -> T:
        """Run here; see `UnitRunner.run_here`."""
        return in_unit(self.engine, unit, made)
