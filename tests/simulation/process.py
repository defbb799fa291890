"""A recorder as a process of a simulated machine: it can be frozen, killed, and cut off.

All processes run in one trio run on a mock clock. What a process needs from outside passes here:
its clocks, its database, its streams. While it is frozen none of them lets it through, and its
clocks show the moment at which it goes on: what its tasks still do in memory is what they will do
then. A killed process writes nothing any more, no byte and no row, whatever its tasks still try.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import httpx
import outcome
import trio
import trio.testing
from attrs import define, field
from sqlalchemy import Engine, event

from recorder.config import Settings
from recorder.daemon import run_daemon
from recorder.database.engine import Database, in_unit
from recorder.errors import CommitUncertain, RecorderError, StorageUnavailable
from recorder.exchange.pacing import TokenBucket
from recorder.lease.sql import renew
from recorder.outage import Outage
from recorder.outbox.tasks.wakeups import poll_outbox
from recorder.rest.client import open_rest
from recorder.runtime import Runners, Runtime
from recorder.simulator.http import Asked
from recorder.simulator.hub import Simulator
from recorder.simulator.server import answer_request, serve_stream
from recorder.units import in_place

#: 2026-01-01 in microseconds since 1970: what all wall clocks show at the beginning.
BEGIN_US = 1_767_225_600_000_000
#: Quartz is not worse than this, nor is what a virtual machine makes of it.
DRIFT_MAX = 0.002
#: A way to the database on which a unit may wait for longer, in seconds, is slow.
SLOW_S = 0.1


@define(eq=False)
class ProcessClock:
    """The clocks of one process."""

    process: Process
    drift: float = 0.0
    #: The wall clock is wrong by so many seconds, at the moment.
    jump_s: float = 0.0
    _looks: int = 0

    def monotonic_ns(self) -> int:
        return int(self.process.moment() * (1 + self.drift) * 1e9)

    def wall_us(self) -> int:
        # No two looks at a clock show the same.
        self._looks += 1
        moment_s = self.process.moment() * (1 + self.drift) + self.jump_s
        return BEGIN_US + int(moment_s * 1e6) + self._looks % 1000


@define(eq=False)
class Storage:
    """The way to the database: how long it takes, and whether there is one."""

    away_until: float = 0.0
    #: The longest that a unit waits before it begins and after it is done, in seconds.
    slow_s: float = 0.002
    #: A renewal of the lease takes so much longer to come through.
    renewal_takes_s: float = 0.0
    #: The part of commits whose outcome stays unknown.
    uncertain: float = 0.0
    #: What was on its way while it was slow comes no later than this.
    waits_until: float = 0.0

    @property
    def is_away(self) -> bool:
        return trio.current_time() < self.away_until

    @property
    def is_slow(self) -> bool:
        """Return whether something may be on its way for longer than usual."""
        return self.slow_s > SLOW_S or trio.current_time() < self.waits_until

    def delay_s(self, rng: random.Random) -> float:
        """Return how long a unit waits now."""
        delay_s = rng.random() ** 4 * self.slow_s
        if delay_s > SLOW_S:
            self.waits_until = max(self.waits_until, trio.current_time() + delay_s)
        return delay_s


@define(eq=False)
class ProcessRunner:
    """Runs units one after the other, for a process that may be frozen or killed meanwhile."""

    engine: Engine
    process: Process
    #: A fold is not worth waiting for.
    is_slow: bool = True
    _turn: trio.Lock = field(factory=trio.Lock)

    async def run(self, unit: Any, *args: Any, **kwargs: Any) -> Any:
        if unit is renew:
            await trio.sleep(self.process.storage.renewal_takes_s)
        return await self._hop(partial(unit, **kwargs), *args)

    async def run_made(self, make: Any, unit: Any) -> Any:
        made = make()
        return None if made is None else await self._hop(unit, made)

    async def run_then(self, unit: Any, done: Any, then: Any, *, write_only: bool = False) -> Any:
        result = await self._hop(unit)
        done(result)
        then(result)
        return result

    def run_here(self, unit: Any, made: Any) -> Any:
        return self._unit(unit, made)

    async def _hop(self, unit: Any, *args: Any) -> Any:
        """Go to a thread and back: as there, a cancellation waits for what is under way."""
        async with self._turn:
            await self.process.awake()
            done: outcome.Outcome[Any] | None = None
            with trio.CancelScope(shield=True):
                await self._wait()
                if not self.process.is_dead:
                    done = outcome.capture(self._unit, unit, *args)
                    self.process.after_unit()
                    await self._wait()
        if done is None or self.process.is_dead:
            # Its nursery is cancelled.
            await trio.sleep_forever()
        assert done is not None
        return done.unwrap()

    async def _wait(self) -> None:
        if self.is_slow:
            await trio.sleep(self.process.storage.delay_s(self.process.rng))
        while not self.process.is_dead and self.process.is_frozen:
            await trio.sleep_until(self.process.frozen_until)

    def _unit(self, unit: Any, *args: Any) -> Any:
        process, storage = self.process, self.process.storage
        if storage.is_away:
            raise StorageUnavailable("the way to the database is cut")
        if process.rng.random() >= storage.uncertain:
            return in_unit(self.engine, unit, *args)
        if process.rng.random() < 0.5:
            in_unit(self.engine, unit, *args)
        else:
            self._try(unit, *args)
        raise CommitUncertain("the connection broke during COMMIT, which may have taken effect")

    def _try(self, unit: Any, *args: Any) -> None:
        """Run the unit and lose its COMMIT."""
        with self.engine.connect() as connection, connection.begin() as transaction:
            unit(connection, *args)
            transaction.rollback()


@define(eq=False)
class ProcessStream(trio.abc.Stream):
    """The process's end of a connection."""

    process: Process
    inner: trio.abc.Stream
    far: trio.abc.Stream

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        await self.process.awake()
        await self.inner.send_all(data)

    async def wait_send_all_might_not_block(self) -> None:
        await self.process.awake()

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        received = await self.inner.receive_some(max_bytes)
        await self.process.awake()
        return received

    async def aclose(self) -> None:
        if not self.process.is_dead:
            await self.inner.aclose()


@define(eq=False)
class Rest(httpx.AsyncBaseTransport):
    """The exchange's REST paths without a network between."""

    process: Process

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        process = self.process
        await process.awake()
        await trio.sleep(process.rng.uniform(0.01, 0.5))
        headers = {name.lower(): value for name, value in request.headers.items()}
        asked = Asked(request.method, request.url.raw_path.decode(), headers)
        if process.simulator.faults.silent:
            await trio.sleep_forever()
        answer = await answer_request(process.simulator, asked)
        assert answer is not None, "no line is cut here"
        await process.awake()
        reported = [("content-type", answer.content_type), *answer.headers]
        return httpx.Response(answer.status, headers=reported, content=answer.body)


@define(eq=False)
class Process:
    """One recorder, from its start to its end."""

    holder: str
    settings: Settings
    simulator: Simulator
    rng: random.Random
    storage: Storage
    #: Serves the exchange's end of connections.
    nursery: trio.Nursery
    #: Whether another holder is provably gone, and whether it is provably alive.
    is_gone: Callable[[str], bool] = lambda holder: False
    alive_here: Callable[[str], bool] = lambda holder: False
    #: Called when a unit is done, before its caller goes on.
    after_unit: Callable[[], None] = lambda: None
    clock: ProcessClock = field(init=False)
    frozen_until: float = 0.0
    is_dead: bool = False
    #: True once it owns its account.
    is_owner: bool = False
    stop: trio.Event = field(factory=trio.Event)
    ended: trio.Event = field(factory=trio.Event)
    error: RecorderError | None = None
    _streams: list[ProcessStream] = field(factory=list)
    _scope: trio.CancelScope = field(factory=trio.CancelScope)

    def __attrs_post_init__(self) -> None:
        self.clock = ProcessClock(self, self.rng.uniform(-DRIFT_MAX, DRIFT_MAX))

    # What happens to it

    def freeze(self, for_s: float) -> None:
        """Stop it as SIGSTOP does, until SIGCONT."""
        self.frozen_until = max(self.frozen_until, trio.current_time() + for_s)

    def kill(self) -> None:
        """End it as SIGKILL does."""
        self.is_dead = True
        self.cut()
        self._scope.cancel()

    def cut(self) -> None:
        """Break its connections."""
        for stream in self._streams:
            for end in (stream.inner, stream.far):
                end.send_stream.close()  # type: ignore[attr-defined]
                end.receive_stream.close()  # type: ignore[attr-defined]
        self._streams.clear()

    # What it sees

    @property
    def is_frozen(self) -> bool:
        return trio.current_time() < self.frozen_until

    @property
    def is_running(self) -> bool:
        return not (self.is_dead or self.is_frozen or self.ended.is_set())

    def moment(self) -> float:
        """Return the time at which what runs now runs."""
        return max(trio.current_time(), self.frozen_until)

    async def awake(self) -> None:
        """Return when the process runs; never once it was killed."""
        while self.is_frozen and not self.is_dead:
            await trio.sleep_until(self.frozen_until)
        if self.is_dead:
            await trio.lowlevel.checkpoint()
            raise trio.BrokenResourceError

    async def run(self) -> None:
        """Run the whole recorder to its end."""
        try:
            with self._scope:
                async with trio.open_nursery() as nursery:
                    await nursery.start(self._daemon)
                    self.is_owner = self.error is None
        except* RecorderError:
            # What is killed while it ends for another reason has no one to report to.
            if not self.is_dead:
                raise
        finally:
            self.ended.set()

    async def _daemon(self, task_status: trio.TaskStatus[Any]) -> None:
        try:
            await run_daemon(
                self.settings, self._runtime(), stop=self.stop, task_status=task_status
            )
        except RecorderError as error:
            self.error = error
            if not self.is_owner:
                task_status.started()

    def _runtime(self) -> Runtime:
        return Runtime(
            clock=self.clock,
            rng=self.rng,
            open_stream=self._open_stream,
            ask_exchange_time_us=self._ask_time_us,
            open_rest=self._open_rest,
            runners=self._runners,
            watch=poll_outbox,
            holder=self.holder,
            is_dead=self.is_gone,
            is_alive=self.alive_here,
        )

    async def _open_stream(self, _url: str) -> trio.abc.Stream:
        await self.awake()
        near, far = trio.testing.memory_stream_pair()
        stream = ProcessStream(self, near, far)
        self._streams.append(stream)
        self.nursery.start_soon(serve_stream, self.simulator, far)
        return stream

    async def _ask_time_us(self, _url: str) -> int | None:
        return int(self.simulator.now().timestamp() * 1_000_000)

    def _open_rest(self, url: str, introduce: Any, clock: Any, bucket: TokenBucket) -> Any:
        return open_rest(url, introduce, clock, bucket, transport=Rest(self))

    def _runners(self, database: Database, _outage: Outage) -> Runners:
        if database.dialect == "sqlite":
            for engine in (database.writer, database.projector):
                # No machine loses its power here.
                event.listen(engine, "connect", _do_not_sync)
        return Runners(
            log=ProcessRunner(database.writer, self),
            writer=ProcessRunner(database.writer, self),
            projector=partial(ProcessRunner, database.projector, self, is_slow=False),
            reader=partial(ProcessRunner, database.reader, self),
            aside=in_place,
        )


def _do_not_sync(connection: Any, _record: object) -> None:
    connection.execute("PRAGMA synchronous=OFF")


def owners(processes: Sequence[Process]) -> list[Process]:
    """Return the processes that run and take the account for theirs."""
    return [each for each in processes if each.is_owner and each.is_running]
