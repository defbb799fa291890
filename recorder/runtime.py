"""What the daemon takes from outside: clock, rng, network, threads, environment.

Another `Runtime` runs the same daemon elsewhere: on a mock clock, on streams in memory, without
threads.
"""

from __future__ import annotations

import os
import random
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from functools import partial

from attrs import field, frozen

from recorder.clock import Clock, SystemClock
from recorder.connection.observation import ask_exchange_time_us
from recorder.connection.socket import OpenStream, open_network_stream
from recorder.database.engine import Database, PersistentConnection
from recorder.exchange.pacing import TokenBucket
from recorder.lease.holder import is_alive_here, is_dead, this_holder
from recorder.log.rules.event import Event
from recorder.outage import Outage
from recorder.outbox.tasks.wakeups import WatchOutbox, watch_outbox
from recorder.rest.client import Introduce, RestClient, open_rest
from recorder.units import (
    Aside,
    ThreadRunner,
    UnitRunner,
    WriteGate,
    in_thread,
)


@frozen
class Runners:
    """How units are run: one for the log, one for other durable writes, one per reader or fold."""

    log: UnitRunner
    writer: UnitRunner
    projector: Callable[[], UnitRunner]
    reader: Callable[[], UnitRunner]
    #: What all writers pass on SQLite, where there can be only one at a time.
    gate: WriteGate | None = None
    #: The connections that are closed at the end.
    persistent: tuple[PersistentConnection, ...] = ()
    #: What takes long and is no unit of one of these.
    aside: Aside = in_thread

    def close(self) -> None:
        """Close the persistent connections."""
        for persistent in self.persistent:
            persistent.close()


def thread_runners(database: Database, outage: Outage) -> Runners:
    """Return runners in worker threads; on SQLite all writers pass one gate, the log first."""
    in_threads = partial(ThreadRunner, outage=outage)
    gate = WriteGate() if database.dialect == "sqlite" else None
    # The log's thread, which is one, appends on a connection of its own and folds on another.
    log, folds = PersistentConnection(database.writer), PersistentConnection(database.projector)
    return Runners(
        log=in_threads(database.writer, gate, urgent=True, persistent=log),
        writer=in_threads(database.writer, gate),
        projector=partial(in_threads, database.projector, gate, persistent=folds),
        reader=partial(in_threads, database.reader),
        gate=gate,
        persistent=(log, folds),
    )


#: (address, introduce, clock, bucket) → the account's client while it is needed.
OpenRest = Callable[[str, Introduce, Clock, TokenBucket], AbstractAsyncContextManager[RestClient]]


@frozen
class Runtime:
    """What the daemon takes from outside."""

    clock: Clock = field(factory=SystemClock)
    rng: random.Random = field(factory=random.SystemRandom)
    open_stream: OpenStream = open_network_stream
    ask_exchange_time_us: Callable[[str], Awaitable[int | None]] = ask_exchange_time_us
    open_rest: OpenRest = open_rest
    runners: Callable[[Database, Outage], Runners] = thread_runners
    watch: WatchOutbox = watch_outbox
    holder: str = field(factory=this_holder)
    #: What programs that we start find in theirs, but for what is secret.
    environment: Mapping[str, str] = field(factory=lambda: os.environ, repr=False)
    #: Whether another holder is provably gone, and whether it is provably alive.
    is_dead: Callable[[str], bool] = is_dead
    is_alive: Callable[[str], bool] = is_alive_here
    #: For measurements: called in the log's thread with the events of each commit.
    on_commit: Callable[[Sequence[Event]], None] = lambda events: None
