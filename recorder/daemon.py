"""The composition root: builds everything, starts it in order, stops it in order.

    floors    log writer · projectors · settlers       live longest: they store
    └ sources   one nursery per account: connection · commander · resolver · lease  die first

Order of starting: schema, leases and heads, log writer, the noted facts of the start, projectors,
then whatever feeds the log. Order of stopping is the nesting: the sources are cancelled and say
their last words, the inbox is closed and drained, the projectors catch up with the head, the leases
are given back, the last heads leave the database. A first SIGTERM or SIGINT stops like that, within
``stop_grace_s``; a second one ends the process at once. A thread that waits in a database that
stands still can't be called back: the process then leaves without it, and says what it takes along.

Everything that decides gets its clock, dice, network and threads from a `Runtime`, so that a
simulation can run the same daemon on a mock clock.
"""

from __future__ import annotations

import logging
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from functools import partial
from typing import TypeVar

import trio

from recorder.config import Settings
from recorder.database.engine import Database, open_database
from recorder.database.migrate import bring_to_current
from recorder.errors import (
    ConfigurationError,
    LeaseHeld,
    LeaseLost,
    LogDamaged,
    RecorderError,
    StorageFailed,
)
from recorder.exchange.command_pace import CommandPace
from recorder.lease.sql import release
from recorder.lease.tasks.standby import Claimant
from recorder.log.rules.event import Note, noted
from recorder.log.tasks.committed import Committed
from recorder.log.tasks.inbox import Inbox
from recorder.log.tasks.log_writer import LogWriter
from recorder.log.tasks.wal_checkpointer import WalCheckpointer
from recorder.runtime import Runners, Runtime
from recorder.wiring import (
    Account,
    checkpoint_keeper,
    log_writer,
    note_start,
    now,
    projectors_of,
    sources_of,
)

E = TypeVar("E", bound=BaseException)

log = logging.getLogger("recorder.daemon")

#: After the second signal whoever has something to say about it gets so long.
LEAVE_S = 0.3
#: So long after a stop's grace whatever can be cancelled has ended.
STUCK_S = 3.0

#: Ends the process at once, for this reason or, where nothing was lost, for none.
Leave = Callable[[RecorderError | None], None]


async def run_until_signal(
    settings: Settings, leave: Leave, runtime: Runtime | None = None
) -> None:
    """Run the daemon; SIGTERM or SIGINT stops it in order, of a second one the process dies.

    Calls ``leave`` where a stop can't come to its end. Raises ConfigurationError, SchemaMismatch,
    LeaseHeld, LeaseLost or StorageFailed.
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
            raise _the_reason(group) from group


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
            # A thread that waits inside the database can't be called back; it ends with us. Dying
            # of the signal also tells whoever started us that this was no stop in order.
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
        leave(_with_unwritten(error, inbox))
    else:
        log.warning("leaving, with all written that was read; the rest is done at the next start")
        leave(None)


async def run_daemon(
    settings: Settings,
    runtime: Runtime,
    *,
    stop: trio.Event,
    inbox: Inbox | None = None,
    task_status: trio.TaskStatus[Database] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Record until ``stop`` is set, then stop in order.

    Reports the opened database once everything runs. When it returns, everything that was read from
    the socket is durable. Raises one RecorderError for what ended it otherwise; its text says how
    many events were not written, if any.
    """
    _check_credentials(settings)
    database = open_database(settings.database_url)
    inbox = inbox or Inbox(settings.queue_frames, settings.queue_bytes)
    try:
        await _run_with(settings, runtime, database, inbox, stop, task_status)
    except BaseExceptionGroup as group:
        raise _with_unwritten(_the_reason(group), inbox) from group
    finally:
        database.close()


def _check_credentials(settings: Settings) -> None:
    for account in settings.accounts:
        if account.api_key and account.api_secret:
            continue
        missing = "key" if account.api_secret else "secret" if account.api_key else "credentials"
        raise ConfigurationError(
            f"account {account.name!r} has no {missing}: set VALR_API_KEY and VALR_API_SECRET, or"
            " VALR_API_KEY_FILE and VALR_API_SECRET_FILE (a key that may only view is enough to"
            " record)"
        )


def _the_reason(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """Return what a person should hear of: our worst error, or the group if it holds a bug."""
    ours, others = group.split(RecorderError)
    if others is not None or ours is None:
        return group
    leaves = _leaves(ours)
    for kind in (StorageFailed, LogDamaged, LeaseLost, LeaseHeld):
        for error in leaves:
            if isinstance(error, kind):
                return error
    return leaves[0]


def _with_unwritten(error: E, inbox: Inbox) -> E:
    """Return the error with the number of frames that were read and will not be written now."""
    if not isinstance(error, (StorageFailed, LeaseLost)) or not inbox.frames:
        return error
    return type(error)(f"{error}\n{inbox.received} events were received but not written")


def _leaves(group: BaseExceptionGroup[RecorderError]) -> list[RecorderError]:
    found: list[RecorderError] = []
    for error in group.exceptions:
        found += _leaves(error) if isinstance(error, BaseExceptionGroup) else [error]
    return found


async def _run_with(
    settings: Settings,
    runtime: Runtime,
    database: Database,
    inbox: Inbox,
    stop: trio.Event,
    task_status: trio.TaskStatus[Database],
) -> None:
    runners = runtime.runners(database)
    try:
        await _run_on(runners, settings, runtime, database, inbox, stop, task_status)
    finally:
        runners.close()


async def _run_on(
    runners: Runners,
    settings: Settings,
    runtime: Runtime,
    database: Database,
    inbox: Inbox,
    stop: trio.Event,
    task_status: trio.TaskStatus[Database],
) -> None:
    keeper = checkpoint_keeper(settings, runners, runtime)
    if await runners.aside(partial(bring_to_current, database)):
        log.info("the empty database %s has its schema now", database.url_shown)
    accounts = await _own(settings, runtime, database, runners, stop)
    if not accounts:
        task_status.started(database)
        return
    committed = Committed({account.settings.name: account.head.position for account in accounts})
    for account in accounts:
        account.projectors = projectors_of(account, inbox, committed, runners, runtime)
    writer = log_writer(accounts, inbox, committed, runners, runtime)
    drained = trio.Event()
    async with trio.open_nursery() as floors:
        floors.start_soon(_write_until_drained, writer, drained)
        floors.start_soon(writer.watch)
        if runners.gate is not None:
            floors.start_soon(WalCheckpointer(database, runners.gate, lambda: inbox.is_busy).run)
        floors.start_soon(keeper.run)
        for account in accounts:
            note_start(account, inbox, runtime)
            for projector in account.projectors:
                floors.start_soon(projector.run)
        async with trio.open_nursery() as sources:
            for account in accounts:
                parts = sources_of(account, settings, runtime, database, runners, inbox)
                sources.start_soon(_run_account, parts)
            task_status.started(database)
            await stop.wait()
            sources.cancel_scope.cancel()
        floors.cancel_scope.deadline = trio.current_time() + settings.stop_grace_s
        await _stop_in_order(accounts, inbox, drained, committed, runtime, runners)
        await keeper.finish()
        floors.cancel_scope.cancel()
    if inbox.frames:
        raise StorageFailed(
            "stopped before the database took everything:"
            f" {inbox.received} events were received but not written"
        )


async def _run_account(parts: Sequence[Callable[[], Awaitable[None]]]) -> None:
    """One nursery per account: whatever ends one of its parts ends them all."""
    async with trio.open_nursery() as nursery:
        for part in parts:
            nursery.start_soon(part)


async def _write_until_drained(writer: LogWriter, drained: trio.Event) -> None:
    await writer.run()
    drained.set()


async def _stop_in_order(
    accounts: Sequence[Account],
    inbox: Inbox,
    drained: trio.Event,
    committed: Committed,
    runtime: Runtime,
    runners: Runners,
) -> None:
    for account in accounts:
        now_us = runtime.clock.wall_us()
        inbox.put(noted(account.settings.name, now_us, Note.RECORDER_STOPPED, {}))
    inbox.close()
    await drained.wait()
    committed.hurry()
    for account in accounts:
        for projector in account.projectors:
            await projector.wait_at(committed.heads[account.settings.name])
        await runners.writer.run(
            release, account.settings.name, epoch=account.lease.epoch, now=account.lease_now()
        )


async def _own(
    settings: Settings, runtime: Runtime, database: Database, runners: Runners, stop: trio.Event
) -> list[Account]:
    """Take all accounts; none if told to stop while waiting for them. Raises LeaseHeld."""
    lease_now = _nothing if database.dialect == "postgresql" else partial(now, runtime)
    claimant = Claimant(
        runtime.holder,
        settings.lease_ttl_s,
        runtime.clock,
        lease_now,
        partial(now, runtime),
        runners.writer,
        standby=settings.standby,
        is_dead=runtime.is_dead,
        is_alive=runtime.is_alive,
    )
    taken = await claimant.take([account.name for account in settings.accounts], stop)
    if taken is None:
        return []
    return [
        Account(
            account,
            owned.lease,
            owned.head,
            owned.last_event_us,
            owned.last_frame_us,
            CommandPace.of(settings.commands_burst, settings.commands_per_s),
            lease_now,
            owned.started_ns,
        )
        for account, owned in ((each, taken[each.name]) for each in settings.accounts)
    ]


def _nothing() -> None:
    """Leave the time to the database's own clock."""
