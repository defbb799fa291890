"""The composition root: starts everything in order, stops everything in order.

    run_daemon
    └ outer nursery               ends last: it stores
      ├ log writer                owns the log's database connection and the head of each log
      ├ watchers                  report outages; on SQLite, empty the write-ahead log
      ├ checkpoint keeper         publishes signed heads outside the database
      ├ projectors                fold committed events into tables and settle the outbox
      └ sources nursery           is cancelled first: it feeds the log
        └ one nursery per account
          ├ connection            owns the socket; receives, keeps time, sends
          ├ lease keeper          owns the lease, renews it
          ├ commander, watch      claim queued commands for the socket
          └ resolver, back-filler, reconciler    read the REST API

Start: schema, leases and heads, log writer, the noted facts of the start, projectors, sources.
Stop is the nesting: the sources are cancelled and put their final events into the inbox. The inbox
is closed and drained, the projectors catch up, the leases are released, the last heads are
published. `recorder.signals` ends a stop that hangs; `recorder.wiring` builds the parts. A
`Runtime` hands in clock, rng, network and threads; a simulation hands in its own.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from contextlib import closing
from functools import partial

import trio

from recorder.config import Settings
from recorder.database.blockers import find_blockers
from recorder.database.engine import Database, open_database
from recorder.database.migrate import bring_to_current
from recorder.errors import StorageFailed, worst_of
from recorder.exchange.pacing import CommandPace
from recorder.lease.sql import release
from recorder.log.rules.event import Note
from recorder.log.tasks.inbox import Inbox, with_unwritten
from recorder.log.tasks.log_writer import LogWriter
from recorder.outage import Outage, asked_in_thread
from recorder.runtime import Runtime
from recorder.wiring import (
    Account,
    Shared,
    check_credentials,
    checkpoint_scheduler,
    log_writer,
    watchers,
)

log = logging.getLogger("recorder.daemon")


async def run_daemon(
    settings: Settings,
    runtime: Runtime,
    *,
    stop: trio.Event,
    inbox: Inbox | None = None,
    task_status: trio.TaskStatus[Database] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Record until ``stop`` is set, then stop in order.

    Reports the opened database once everything runs. When it returns, what was read from the socket
    is durable. Raises one RecorderError otherwise, which counts the events not written, if any.
    """
    check_credentials(settings)
    inbox = inbox or Inbox(settings.queue_frames, settings.queue_bytes)
    with closing(open_database(settings.database_url, has_checkpointer=True)) as database:
        try:
            outage = Outage(
                runtime.clock,
                lambda: inbox.frames,
                asked_in_thread(partial(find_blockers, database)),
            )
            with closing(runtime.runners(database, outage)) as runners:
                shared = Shared(settings, runtime, database, runners, inbox, outage)
                await _run(shared, stop, task_status)
        except BaseExceptionGroup as group:
            raise with_unwritten(worst_of(group), inbox) from group


async def _run(shared: Shared, stop: trio.Event, task_status: trio.TaskStatus[Database]) -> None:
    database, runners, inbox = shared.database, shared.runners, shared.inbox
    keeper = checkpoint_scheduler(shared)
    if await runners.aside(partial(bring_to_current, database)):
        log.info("the empty database %s has its schema now", database.url_shown)
    accounts = await _take_accounts(shared, stop)
    if not accounts:
        task_status.started(database)
        return
    writer = log_writer(shared, accounts)
    async with trio.open_nursery() as outer:
        outer.start_soon(writer.run)
        for watch in watchers(shared):
            outer.start_soon(watch)
        outer.start_soon(keeper.run)
        for account in accounts:
            account.note_start()
            for projector in account.projectors:
                outer.start_soon(projector.run)
        async with trio.open_nursery() as sources:
            for account in accounts:
                sources.start_soon(_run_sources, account)
            task_status.started(database)
            await stop.wait()
            sources.cancel_scope.cancel()
        outer.cancel_scope.deadline = trio.current_time() + shared.settings.stop_grace_s
        await _drain(shared, accounts, writer)
        await keeper.finish()
        outer.cancel_scope.cancel()
    if inbox.frames:
        raise StorageFailed(
            "stopped before the database took everything:"
            f" {inbox.received} events were received but not written"
        )


async def _take_accounts(shared: Shared, stop: trio.Event) -> list[Account]:
    """Take all leases; none if ``stop`` is set while it waits for them. Raises LeaseHeld."""
    settings = shared.settings
    owned = await shared.claimant().take([each.name for each in settings.accounts], stop)
    if owned is None:
        return []
    shared.committed.heads.update({name: each.head.position for name, each in owned.items()})
    pace = partial(CommandPace.of, settings.commands_burst, settings.commands_per_s)
    return [Account(shared, each, owned[each.name], pace()) for each in settings.accounts]


async def _run_sources(account: Account) -> None:
    """Run one nursery per account: when one of its sources fails, all of them end."""
    async with trio.open_nursery() as nursery:
        for run in account.sources():
            nursery.start_soon(run)


async def _drain(shared: Shared, accounts: Sequence[Account], writer: LogWriter) -> None:
    """Write what waits, let the projectors catch up, release the leases."""
    for account in accounts:
        account.note(Note.RECORDER_STOPPED, {})
    shared.inbox.close()
    await writer.drained.wait()
    shared.committed.hurry()
    for account in accounts:
        for projector in account.projectors:
            await projector.wait_at(shared.committed.heads[account.name])
        epoch, now = account.owned.lease.epoch, shared.lease_now()
        await shared.runners.writer.run(release, account.name, epoch=epoch, now=now)
