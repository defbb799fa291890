"""The composition root: builds everything, starts it in order, stops it in order.

    floors    log writer · projectors · settlers       live longest: they store
    └ sources   one nursery per account: connection · commander · resolver · lease  die first

Order of starting: schema, leases and heads, log writer, the noted facts of the start, projectors,
then whatever feeds the log. Order of stopping is the nesting: the sources are cancelled and say
their last words, the inbox is closed and drained, the projectors catch up with the head, the leases
are given back. A first SIGTERM or SIGINT stops like that, within ``stop_grace_s``; a second one
ends the process at once.

Everything that decides gets its clock, dice, network and threads from a `World`, so that a
simulation can run the same daemon on a mock clock.
"""

from __future__ import annotations

import logging
import random
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from datetime import datetime
from functools import partial
from urllib.parse import urlsplit

import trio
from attrs import define, field, frozen
from sqlalchemy import Connection

from recorder import __version__
from recorder.clock import Clock, SystemClock
from recorder.config import ACCOUNT_PATH, AccountSettings, Settings
from recorder.errors import (
    ConfigurationError,
    LeaseHeld,
    LeaseLost,
    LogDamaged,
    RecorderError,
    StorageFailed,
)
from recorder.exchange.commands import WireNames
from recorder.exchange.rest_requests import signed_headers
from recorder.exchange.session import Say, SessionSettings
from recorder.exchange.signing import (
    authenticate_frame,
    handshake_headers,
    redacted_authenticate_frame,
)
from recorder.exchange.token_bucket import TokenBucket
from recorder.log.event import Event, Head, Note, Origin, from_us, noted
from recorder.outbox.lookups import Patience
from recorder.projections import PROJECTIONS
from recorder.projections.fold import Projection
from recorder.storage.engine import Database, Kept, open_database
from recorder.storage.leases import Lease, release
from recorder.storage.migrate import bring_to_current
from recorder.storage.settle import SETTLING, WAKING, settle
from recorder.storage.tables import (
    Memory,
    Plan,
    Progress,
    carry_out,
    plan,
    plan_recent,
    project,
    record_error,
)
from recorder.tasks.commander import Commander
from recorder.tasks.committed import Committed, by_account
from recorder.tasks.connection import ConnectionHolder, Credentials, Surroundings
from recorder.tasks.exchange_time import ask_exchange_time_us
from recorder.tasks.inbox import Inbox
from recorder.tasks.lease import LeaseKeeper, this_holder
from recorder.tasks.link import Link
from recorder.tasks.log_writer import LogWriter
from recorder.tasks.projector import Fold, Projector
from recorder.tasks.rehearsal import Rehearsal
from recorder.tasks.resolver import Resolver
from recorder.tasks.rest import Headers, Introduce, RestClient, open_rest
from recorder.tasks.socket import OpenStream, open_network_stream
from recorder.tasks.standby import Claimant
from recorder.tasks.units import ThreadRunner, UnitRunner, WriteGate
from recorder.tasks.wakeups import OutboxWatch
from recorder.tasks.wal import WalKeeper

log = logging.getLogger("recorder.daemon")

#: REST requests at once, and a second: half of what VALR allows an address.
REST_AT_ONCE, REST_PER_S = 20, 10.0
#: After the second signal whoever has something to say about it gets so long.
LEAVE_S = 0.3
#: No command goes for so long after the exchange said this: it counts by the second.
RATE_PENALTY_S = 1.0
RATE_LIMITED = "RATE_LIMIT_EXCEEDED"


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
    kept: tuple[Kept, ...] = ()

    def close(self) -> None:
        """Close what is kept open."""
        for kept in self.kept:
            kept.close()


def thread_runners(database: Database) -> Runners:
    """Return runners in worker threads; on SQLite all writers pass one gate, the log first."""
    gate = WriteGate() if database.dialect == "sqlite" else None
    # The log's thread, which is one, appends on a connection of its own and folds on another.
    log, folds = Kept(database.writer), Kept(database.projector)
    return Runners(
        log=ThreadRunner(database.writer, gate, urgent=True, kept=log),
        writer=ThreadRunner(database.writer, gate),
        projector=partial(ThreadRunner, database.projector, gate, kept=folds),
        reader=partial(ThreadRunner, database.reader),
        gate=gate,
        kept=(log, folds),
    )


#: (address, introduce, clock, bucket) → the account's client while it is needed.
OpenRest = Callable[[str, Introduce, Clock, TokenBucket], AbstractAsyncContextManager[RestClient]]


@frozen
class World:
    """What the daemon takes from outside."""

    clock: Clock = field(factory=SystemClock)
    dice: random.Random = field(factory=random.SystemRandom)
    open_stream: OpenStream = open_network_stream
    ask_exchange_time_us: Callable[[str], Awaitable[int | None]] = ask_exchange_time_us
    open_rest: OpenRest = open_rest
    runners: Callable[[Database], Runners] = thread_runners
    holder: str = field(factory=this_holder)
    #: For whoever measures: told in the log's thread of the events of each commit.
    on_commit: Callable[[Sequence[Event]], None] = lambda events: None


async def run_until_signal(settings: Settings, world: World | None = None) -> None:
    """Run the daemon; SIGTERM or SIGINT stops it in order, of a second one the process dies.

    Raises ConfigurationError, SchemaMismatch, LeaseHeld, LeaseLost or StorageFailed.
    """
    stop = trio.Event()
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_watch_signals, signals, stop, nursery.cancel_scope)
                await run_daemon(settings, world or World(), stop=stop)
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


async def run_daemon(
    settings: Settings,
    world: World,
    *,
    stop: trio.Event,
    task_status: trio.TaskStatus[Database] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Record until ``stop`` is set, then stop in order.

    Reports the opened database once everything runs. When it returns, everything that was read from
    the socket is durable. Raises one RecorderError for what ended it otherwise; its text says how
    many events were not written, if any.
    """
    _check_credentials(settings)
    database = open_database(settings.database_url)
    inbox = Inbox(settings.queue_frames, settings.queue_bytes)
    try:
        await _run_with(settings, world, database, inbox, stop, task_status)
    except BaseExceptionGroup as group:
        raise _with_unwritten(_the_reason(group), inbox) from group
    finally:
        database.close()


def _check_credentials(settings: Settings) -> None:
    for account in settings.accounts:
        if not (account.api_key and account.api_secret):
            raise ConfigurationError(
                f"account {account.name!r} has no credentials: set VALR_API_KEY and"
                " VALR_API_SECRET, or VALR_API_KEY_FILE and VALR_API_SECRET_FILE"
                " (a key that may only view is enough to record)"
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


def _with_unwritten(error: BaseException, inbox: Inbox) -> BaseException:
    """Return the error with the number of events that were read and will not be written now."""
    if not isinstance(error, (StorageFailed, LeaseLost)) or not inbox.frames:
        return error
    if "not written" in str(error):
        return error
    return type(error)(f"{error}\n{inbox.frames} events were received but not written")


def _leaves(group: BaseExceptionGroup[RecorderError]) -> list[RecorderError]:
    found: list[RecorderError] = []
    for error in group.exceptions:
        found += _leaves(error) if isinstance(error, BaseExceptionGroup) else [error]
    return found


@define(eq=False)
class Account:
    """One account of this process: its settings, its lease, its parts."""

    settings: AccountSettings
    lease: Lease
    head: Head
    last_event_us: int | None
    #: How fast commands may go.
    pace: TokenBucket
    #: The time for the lease; None where the database's own clock gives it.
    lease_now: Callable[[], datetime | None]
    #: The monotonic time just before the lease was taken.
    lease_started_ns: int
    link: Link = field(factory=Link)
    projectors: list[Projector] = field(factory=list)


async def _run_with(
    settings: Settings,
    world: World,
    database: Database,
    inbox: Inbox,
    stop: trio.Event,
    task_status: trio.TaskStatus[Database],
) -> None:
    runners = world.runners(database)
    try:
        await _run_on(runners, settings, world, database, inbox, stop, task_status)
    finally:
        runners.close()


async def _run_on(
    runners: Runners,
    settings: Settings,
    world: World,
    database: Database,
    inbox: Inbox,
    stop: trio.Event,
    task_status: trio.TaskStatus[Database],
) -> None:
    if await trio.to_thread.run_sync(bring_to_current, database):
        log.info("the empty database %s has its schema now", database.url_shown)
    accounts = await _own(settings, world, database, runners, stop)
    if not accounts:
        task_status.started(database)
        return
    committed = Committed({account.settings.name: account.head.position for account in accounts})
    for account in accounts:
        account.projectors = _projectors(account, inbox, committed, runners, world)
    writer = _log_writer(accounts, inbox, committed, runners, world)
    drained = trio.Event()
    async with trio.open_nursery() as floors:
        floors.start_soon(_write_until_drained, writer, drained)
        if runners.gate is not None:
            floors.start_soon(WalKeeper(database, runners.gate, lambda: inbox.is_busy).run)
        for account in accounts:
            _note_start(account, inbox, world)
            for projector in account.projectors:
                floors.start_soon(projector.run)
        async with trio.open_nursery() as sources:
            for account in accounts:
                parts = _sources(account, settings, world, database, runners, inbox)
                sources.start_soon(_run_account, parts)
            task_status.started(database)
            await stop.wait()
            sources.cancel_scope.cancel()
        floors.cancel_scope.deadline = trio.current_time() + settings.stop_grace_s
        await _stop_in_order(accounts, inbox, drained, committed, world, runners)
        floors.cancel_scope.cancel()
    if inbox.frames:
        raise StorageFailed(
            f"stopped before the database took {inbox.frames} events: they were not written"
        )


def _log_writer(
    accounts: Sequence[Account],
    inbox: Inbox,
    committed: Committed,
    runners: Runners,
    world: World,
) -> LogWriter:
    projectors = {account.settings.name: account.projectors for account in accounts}

    def follow(events: Sequence[Event]) -> None:
        world.on_commit(events)
        committed.add(events)
        for account, some in by_account(events).items():
            for projector in projectors[account]:
                projector.fold_at_once(some)

    paces = {account.settings.name: account.pace for account in accounts}

    def announce(events: Sequence[Event]) -> None:
        committed.announce(events)
        for event in events:
            if event.type == RATE_LIMITED and event.origin == Origin.RECEIVED:
                paces[event.account].penalise(world.clock.monotonic_ns() / 1e9, RATE_PENALTY_S)

    return LogWriter(
        runners.log,
        inbox,
        heads={account.settings.name: account.head for account in accounts},
        follow=follow,
        announce=announce,
        clock=world.clock,
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
    world: World,
    runners: Runners,
) -> None:
    for account in accounts:
        now_us = world.clock.wall_us()
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
    settings: Settings, world: World, database: Database, runners: Runners, stop: trio.Event
) -> list[Account]:
    """Take all accounts; none if told to stop while waiting for them. Raises LeaseHeld."""
    lease_now = _nothing if database.dialect == "postgresql" else partial(_now, world)
    claimant = Claimant(
        world.holder,
        settings.lease_ttl_s,
        world.clock,
        lease_now,
        partial(_now, world),
        runners.writer,
        standby=settings.standby,
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
            TokenBucket(settings.commands_burst, settings.commands_per_s),
            lease_now,
            owned.started_ns,
        )
        for account, owned in ((each, taken[each.name]) for each in settings.accounts)
    ]


def _nothing() -> None:
    """Leave the time to the database's own clock."""


def _note_start(account: Account, inbox: Inbox, world: World) -> None:
    name, epoch, now_us = account.settings.name, account.lease.epoch, world.clock.wall_us()
    last_us = account.last_event_us
    started = {
        "version": __version__,
        "epoch": epoch,
        "last_event_at": None if last_us is None else from_us(last_us).isoformat(),
    }
    inbox.put(noted(name, now_us, Note.RECORDER_STARTED, started))


def _projectors(
    account: Account, inbox: Inbox, committed: Committed, runners: Runners, world: World
) -> list[Projector]:
    name = account.settings.name

    def note(kind: Note, facts: dict[str, object]) -> None:
        inbox.put(noted(name, world.clock.wall_us(), kind, facts))

    folds = [_projection_fold(projection, name) for projection in PROJECTIONS]
    folds.append(_settling_fold(name))
    return [
        Projector(
            name,
            fold,
            runners.projector(),
            runners.reader() if runners.gate is not None else None,
            committed,
            world.clock,
            note,
            is_log_busy=lambda: inbox.is_busy,
        )
        for fold in folds
    ]


def _projection_fold(projection: Projection, account: str) -> Fold:
    memory = Memory()

    def step(connection: Connection, up_to: int, limit: int, now: datetime) -> Progress:
        return project(connection, projection, memory, account, up_to=up_to, limit=limit, now=now)

    def prepare(connection: Connection, up_to: int, limit: int) -> Plan | None:
        return plan(connection, projection, memory, account, up_to=up_to, limit=limit)

    def recall(recent: Sequence[Event], up_to: int, limit: int) -> Plan | None:
        return plan_recent(projection, memory, recent, up_to=up_to, limit=limit)

    def finish(now: datetime, connection: Connection, planned: Plan) -> Progress:
        return carry_out(connection, projection, memory, account, planned, now=now)

    def fail(connection: Connection, reason: str, now: datetime) -> None:
        record_error(connection, projection, account, reason, now)

    name, types = projection.name, projection.types
    return Fold(name, types, step, recall, prepare, finish, memory.forget, fail)


def _settling_fold(account: str) -> Fold:
    def step(connection: Connection, up_to: int, limit: int, now: datetime) -> Progress:
        return settle(connection, account, up_to=up_to, limit=limit, now=now)

    def fail(connection: Connection, reason: str, now: datetime) -> None:
        record_error(connection, SETTLING, account, reason, now)

    return Fold(SETTLING.name, WAKING, step, None, None, None, lambda: None, fail)


def _sources(
    account: Account,
    settings: Settings,
    world: World,
    database: Database,
    runners: Runners,
    inbox: Inbox,
) -> list[Callable[[], Awaitable[None]]]:
    name = account.settings.name
    holder = _connection(account, settings, world, inbox)
    keeper = LeaseKeeper(
        name,
        account.lease.epoch,
        settings.lease_ttl_s,
        runners.writer,
        world.clock,
        account.lease_now,
        account.lease_started_ns,
    )
    parts: list[Callable[[], Awaitable[None]]] = [holder.run, keeper.run]
    parts.append(_resolver(account, settings, world, runners, inbox).run)
    wire_names = WireNames(settings.wire_names)
    if settings.dry_run:
        rehearsal = Rehearsal(
            name,
            wire_names,
            runners.reader(),
            world.clock,
            lambda kind, facts: inbox.put(noted(name, world.clock.wall_us(), kind, facts)),
        )
        parts += [rehearsal.run, OutboxWatch(name, database, rehearsal.wake).run]
    elif account.settings.trading:
        commander = Commander(
            account=name,
            epoch=account.lease.epoch,
            wire_names=wire_names,
            link=account.link,
            pace=account.pace,
            reader=runners.reader(),
            writer=runners.writer,
            clock=world.clock,
            may_send=keeper.is_trusted,
        )
        keeper.on_trusted = commander.wake
        parts += [commander.run, OutboxWatch(name, database, commander.wake).run]
    return parts


def _resolver(
    account: Account, settings: Settings, world: World, runners: Runners, inbox: Inbox
) -> Resolver:
    """Return what looks commands in doubt up; a key that may only view is enough for it."""
    own = account.settings
    bucket = TokenBucket(REST_AT_ONCE, REST_PER_S)
    return Resolver(
        account=own.name,
        patience=Patience(settings.settle_s, settings.lookup_every_s),
        inbox=inbox,
        reader=runners.reader(),
        writer=runners.writer,
        clock=world.clock,
        open_client=partial(
            world.open_rest, settings.rest_url, partial(sign_request, own), world.clock, bucket
        ),
    )


def sign_request(account: AccountSettings, timestamp_ms: int, method: str, path: str) -> Headers:
    """Return the headers of one REST request, signed for this moment."""
    key, secret = account.api_key.reveal(), account.api_secret.reveal()
    return signed_headers(key, secret, timestamp_ms, method, path, account.sub_account_id)


def _connection(
    account: Account, settings: Settings, world: World, inbox: Inbox
) -> ConnectionHolder:
    own = account.settings
    url = settings.ws_url if urlsplit(settings.ws_url).path else settings.ws_url + ACCOUNT_PATH
    return ConnectionHolder(
        account=own,
        url=url,
        max_frame_bytes=settings.max_frame_bytes,
        introduce=partial(introduce, own, urlsplit(url).path),
        session_settings=SessionSettings(subscribe=settings.subscribe),
        around=Surroundings(
            world.clock,
            world.dice,
            world.open_stream,
            partial(world.ask_exchange_time_us, settings.rest_url),
        ),
        inbox=inbox,
        link=account.link,
        hidden=lambda: (own.api_key.reveal(), own.api_secret.reveal()),
    )


def introduce(account: AccountSettings, path: str, timestamp_ms: int) -> Credentials:
    """Return the credentials of one connection, signed for this moment."""
    key, secret = account.api_key.reveal(), account.api_secret.reveal()
    if account.auth == "message":
        say = Say(
            authenticate_frame(key, secret, timestamp_ms, path, account.sub_account_id),
            redacted_authenticate_frame(timestamp_ms),
        )
        return Credentials((), say)
    headers = handshake_headers(key, secret, timestamp_ms, path, account.sub_account_id)
    return Credentials(headers, None)


def _now(world: World) -> datetime:
    return from_us(world.clock.wall_us())
