"""How a unit of work is run is an argument: in a worker thread, or inline.

A unit of work is a synchronous function of a SQLAlchemy connection, one transaction, handed over
whole: one hop per transaction, never one per statement. A unit that is under way when its caller is
cancelled finishes, and its result is delivered; none starts in a cancelled scope.

SQLite takes one writer at a time and lets the others sleep in growing steps. So that the log never
waits behind a sleeping projector, all writers of this process pass one `WriteGate`, where the log
goes first.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from functools import partial
from typing import Concatenate, ParamSpec, Protocol, TypeVar

import trio
from attrs import define, field, frozen
from sqlalchemy import Connection, Engine

from recorder.storage.engine import in_unit

P = ParamSpec("P")
T = TypeVar("T")
Unit = Callable[Concatenate[Connection, P], T]


class UnitRunner(Protocol):
    """Runs units of work, one after the other."""

    async def run(self, unit: Unit[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Return what ``unit(connection, …)`` returns, once its transaction is committed.

        Raises StorageUnavailable, CommitUncertain, StorageFailed or LeaseLost for what the
        database says, and whatever the unit itself raises; then nothing was committed.
        """
        ...


@define
class WriteGate:
    """Lets one writer in at a time; who is urgent goes first."""

    _held: bool = False
    _urgent: trio.lowlevel.ParkingLot = field(factory=trio.lowlevel.ParkingLot)
    _patient: trio.lowlevel.ParkingLot = field(factory=trio.lowlevel.ParkingLot)

    @asynccontextmanager
    async def hold(self, *, urgent: bool) -> AsyncIterator[None]:
        """Hold the gate. Waiting can be cancelled."""
        if self._held:
            # Whoever leaves hands the gate over without opening it, so nobody slips in between.
            await (self._urgent if urgent else self._patient).park()
        self._held = True
        try:
            yield
        finally:
            if not (self._urgent.unpark() or self._patient.unpark()):
                self._held = False


@frozen
class ThreadRunner:
    """Runs units in worker threads, one at a time, so that the event loop never waits."""

    engine: Engine
    gate: WriteGate | None = None
    urgent: bool = False
    _limiter: trio.CapacityLimiter = field(factory=lambda: trio.CapacityLimiter(1))

    async def run(self, unit: Unit[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run the unit in a thread; see `UnitRunner.run`."""
        async with self._turn():
            work = partial(in_unit, self.engine, partial(unit, **kwargs), *args)
            return await trio.to_thread.run_sync(work, limiter=self._limiter)

    def _turn(self) -> AbstractAsyncContextManager[None]:
        return self.gate.hold(urgent=self.urgent) if self.gate else nullcontext()


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
