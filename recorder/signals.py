"""Runs the daemon as a process: signals stop it, and a stop that hangs is ended.

The first SIGTERM or SIGINT stops in order, within ``stop_grace_s``. The second ends the process at
once. A thread that waits inside a database that does not answer cannot be cancelled. The process
then leaves without it, and reports what was not written.
"""

from __future__ import annotations

import logging
import signal
from collections.abc import AsyncIterator, Callable

import trio

from recorder.config import Settings
from recorder.daemon import run_daemon
from recorder.errors import RecorderError, StorageFailed, worst_of
from recorder.log.tasks.inbox import Inbox, with_unwritten
from recorder.runtime import Runtime

log = logging.getLogger("recorder.daemon")

#: After the second signal the tasks get this long to log their last messages.
LEAVE_S = 0.3
#: This long after a stop's grace everything that can be cancelled has ended.
STUCK_S = 3.0

#: Ends the process at once, for this reason or, where nothing was lost, for none.
Leave = Callable[[RecorderError | None], None]


async def run_until_signal(
    settings: Settings, leave: Leave, runtime: Runtime | None = None
) -> None:
    """Run the daemon until SIGTERM or SIGINT stops it in order; a second signal kills the process.

    Calls ``leave`` where a stop does not come to its end. Raises ConfigurationError,
    SchemaMismatch, LeaseHeld, LeaseLost or StorageFailed.
    """
    stop, inbox = trio.Event(), Inbox(settings.queue_frames, settings.queue_bytes)
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_watch_signals, signals, stop, nursery.cancel_scope)
                nursery.start_soon(_leave_when_stuck, settings, inbox, stop, leave)
                await run_daemon(settings, runtime or Runtime(), stop=stop, inbox=inbox)
                nursery.cancel_scope.cancel()
        except BaseExceptionGroup as group:
            raise worst_of(group) from group


async def _watch_signals(
    signals: AsyncIterator[int], stop: trio.Event, everything: trio.CancelScope
) -> None:
    async for number in signals:
        name = signal.Signals(number).name
        if stop.is_set():
            log.warning("%s again: leaving at once", name)
            everything.cancel()
            with trio.CancelScope(shield=True):
                await trio.sleep(LEAVE_S)
            # A thread that waits inside the database can't be cancelled; it ends with the process.
            # Dying of the signal also shows the parent process that this was no stop in order.
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)
        log.info("%s: stopping; what waits is written first", name)
        stop.set()


async def _leave_when_stuck(
    settings: Settings, inbox: Inbox, stop: trio.Event, leave: Leave
) -> None:
    await stop.wait()
    await trio.sleep(settings.stop_grace_s + STUCK_S)
    if inbox.frames:
        error = StorageFailed(
            "leaving without the database, which does not answer; it may yet take a part"
        )
        leave(with_unwritten(error, inbox))
    else:
        log.warning("leaving, with all written that was read; the rest is done at the next start")
        leave(None)
