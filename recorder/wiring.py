"""The parts of the daemon, put together from settings and the runtime.

The order in which they start and stop is ``recorder.daemon``'s business.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

from attrs import define, field
from sqlalchemy import Connection

from recorder import __version__
from recorder.config import ACCOUNT_PATH, AccountSettings, Settings, environment_for_others
from recorder.connection.active_session import Credentials
from recorder.connection.connection import ConnectionHolder
from recorder.connection.observation import ObservationTracker
from recorder.connection.open_orders_fallback import OpenOrdersFallback
from recorder.database.engine import Database
from recorder.exchange.command_pace import CommandPace
from recorder.exchange.commands import WireNames
from recorder.exchange.pacing import ConnectPacing
from recorder.exchange.session import Say, SessionSettings
from recorder.exchange.signing import (
    authenticate_frame,
    handshake_headers,
    redacted_authenticate_frame,
    signed_headers,
)
from recorder.exchange.token_bucket import TokenBucket
from recorder.gaps.tasks.backfill import Backfiller
from recorder.lease.sql import Lease
from recorder.lease.tasks.keeper import LeaseKeeper
from recorder.log.rules.checkpoint import SigningKey, checkpoint_line
from recorder.log.rules.event import Event, Head, Note, Origin, noted
from recorder.log.sql.checkpoint_keys import is_readable_by_others, read_signing_key
from recorder.log.tasks.checkpoints import (
    CheckpointKeeper,
    Courier,
    FilePlace,
    HookPlace,
    LogPlace,
    Place,
)
from recorder.log.tasks.committed import Committed, by_account
from recorder.log.tasks.inbox import Inbox
from recorder.log.tasks.log_writer import LogWriter
from recorder.outbox.rules.lookup_schedule import Patience
from recorder.outbox.sql.settle import SETTLING, WAKING, settle
from recorder.outbox.tasks.commander import Commander
from recorder.outbox.tasks.dry_run import DryRun
from recorder.outbox.tasks.resolver import Resolver
from recorder.outbox.tasks.send_queue import SendQueue
from recorder.outbox.tasks.wakeups import ALWAYS_URGENT, Urgency
from recorder.projections import PROJECTIONS
from recorder.projections.rules.fold import Projection
from recorder.projections.sql.tables import (
    Memory,
    Plan,
    Progress,
    carry_out,
    plan,
    plan_recent,
    project,
    record_error,
)
from recorder.projections.tasks.projector import Fold, Projector
from recorder.reconciliation.tasks import Reconciler
from recorder.rest.client import Headers, OpenClient
from recorder.runtime import Runners, Runtime
from recorder.timestamps import from_us

log = logging.getLogger("recorder.daemon")

#: REST requests at once, and a second: half of what VALR allows an address.
REST_AT_ONCE, REST_PER_S = 20, 10.0
#: No command goes for so long after the exchange said this: it counts by the second.
RATE_PENALTY_S = 1.0
RATE_LIMITED = "RATE_LIMIT_EXCEEDED"


@define(eq=False)
class Account:
    """One account of this process: its settings, its lease, its parts."""

    settings: AccountSettings
    lease: Lease
    head: Head
    last_event_us: int | None
    last_frame_us: int | None
    #: How fast commands may go.
    pace: CommandPace
    #: The time for the lease; None where the database's own clock gives it.
    lease_now: Callable[[], datetime | None]
    #: The monotonic time just before the lease was taken.
    lease_started_ns: int
    send_queue: SendQueue = field(factory=SendQueue)
    projectors: list[Projector] = field(factory=list)


def log_writer(
    accounts: Sequence[Account],
    inbox: Inbox,
    committed: Committed,
    runners: Runners,
    runtime: Runtime,
) -> LogWriter:
    """Return the task that appends, which lets the projectors fold at once what it wrote."""
    projectors = {account.settings.name: account.projectors for account in accounts}

    def follow(events: Sequence[Event]) -> None:
        runtime.on_commit(events)
        committed.add(events)
        for account, some in by_account(events).items():
            for projector in projectors[account]:
                # Whoever waits for a command to go waits for no table.
                if not inbox.has_waiting_submissions:
                    projector.fold_at_once(some)

    paces = {account.settings.name: account.pace for account in accounts}

    def announce(events: Sequence[Event]) -> None:
        committed.announce(events)
        for event in events:
            if event.type == RATE_LIMITED and event.origin == Origin.RECEIVED:
                paces[event.account].penalise(runtime.clock.monotonic_ns() / 1e9, RATE_PENALTY_S)

    return LogWriter(
        runners.log,
        inbox,
        heads={account.settings.name: account.head for account in accounts},
        follow=follow,
        announce=announce,
        clock=runtime.clock,
    )


def checkpoint_keeper(settings: Settings, runners: Runners, runtime: Runtime) -> CheckpointKeeper:
    """Return what takes heads out of the database. Raises ConfigurationError for a bad key."""
    key = signing_key(settings)
    if key is None:
        log.info("checkpoints are written without a signature: checkpoint_key_file isn't set")
    elif is_readable_by_others(Path(settings.checkpoint_key_file)):
        named = settings.checkpoint_key_file
        log.warning("the checkpoint key %s can be read by others: chmod 600 it", named)
    return CheckpointKeeper(
        accounts=[account.name for account in settings.accounts],
        every_s=settings.checkpoint_every_s,
        reader=runners.reader(),
        clock=runtime.clock,
        write=partial(checkpoint_line, key=key),
        couriers=[Courier(place) for place in checkpoint_places(settings, runtime)],
    )


def signing_key(settings: Settings) -> SigningKey | None:
    """Return the key that signs checkpoints, if there is one. Raises ConfigurationError."""
    named = settings.checkpoint_key_file
    return read_signing_key(Path(named)) if named else None


def checkpoint_places(settings: Settings, runtime: Runtime) -> list[Place]:
    """Return where heads are taken to, by the settings."""
    places: list[Place] = []
    if settings.checkpoint_file:
        places.append(FilePlace(Path(settings.checkpoint_file)))
    if settings.checkpoint_log:
        places.append(LogPlace())
    if settings.checkpoint_hook:
        others = environment_for_others(runtime.environment)
        places.append(HookPlace(settings.checkpoint_hook, others))
    return places


def note_start(account: Account, inbox: Inbox, runtime: Runtime) -> None:
    """Put the facts of this start into the log."""
    name, epoch, now_us = account.settings.name, account.lease.epoch, runtime.clock.wall_us()
    last_us, frame_us = account.last_event_us, account.last_frame_us
    started = {
        "version": __version__,
        "epoch": epoch,
        "last_event_at": None if last_us is None else from_us(last_us).isoformat(),
        "last_frame_at": None if frame_us is None else from_us(frame_us).isoformat(),
    }
    inbox.put(noted(name, now_us, Note.RECORDER_STARTED, started))


def projectors_of(
    account: Account, inbox: Inbox, committed: Committed, runners: Runners, runtime: Runtime
) -> list[Projector]:
    """Return one account's projectors, the settler of its outbox among them."""
    name = account.settings.name

    def note(kind: Note, facts: dict[str, object]) -> None:
        inbox.put(noted(name, runtime.clock.wall_us(), kind, facts))

    folds = [projection_fold(projection, name) for projection in PROJECTIONS]
    folds.append(_settling_fold(name))
    return [
        Projector(
            name,
            fold,
            runners.projector(),
            runners.reader() if runners.gate is not None else None,
            committed,
            runtime.clock,
            note,
            is_log_busy=lambda: inbox.is_busy,
        )
        for fold in folds
    ]


def projection_fold(projection: Projection, account: str) -> Fold:
    """Return a projection of an account as its projector runs it."""
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


def sources_of(
    account: Account,
    settings: Settings,
    runtime: Runtime,
    database: Database,
    runners: Runners,
    inbox: Inbox,
) -> list[Callable[[], Awaitable[None]]]:
    """Return what feeds the log for one account, as functions to be started."""
    name = account.settings.name
    open_client = _rest_client(account, settings, runtime)
    open_orders_fallback = OpenOrdersFallback(
        name, inbox, runtime.clock, open_client, runners.aside
    )
    holder = _connection(account, settings, runtime, inbox, open_orders_fallback)
    keeper = LeaseKeeper(
        name,
        account.lease.epoch,
        settings.lease_ttl_s,
        runners.writer,
        runtime.clock,
        account.lease_now,
        account.lease_started_ns,
    )
    parts: list[Callable[[], Awaitable[None]]] = [holder.run, keeper.run]
    parts.append(_resolver(account, settings, runtime, runners, inbox, open_client).run)
    parts.append(_backfiller(account, settings, runtime, runners, inbox, open_client).run)
    parts.append(_reconciler(account, settings, runtime, runners, inbox, open_client).run)
    wire_names = WireNames(settings.wire_names)
    if settings.dry_run:
        dry_run = DryRun(
            name,
            wire_names,
            runners.reader(),
            runtime.clock,
            lambda kind, facts: inbox.put(noted(name, runtime.clock.wall_us(), kind, facts)),
        )
        parts += [
            dry_run.run,
            partial(runtime.watch, name, database, dry_run.wake, ALWAYS_URGENT),
        ]
    elif account.settings.trading:
        commander = Commander(
            account=name,
            epoch=account.lease.epoch,
            wire_names=wire_names,
            send_queue=account.send_queue,
            pace=account.pace,
            reader=runners.reader(),
            writer=runners.writer,
            clock=runtime.clock,
            may_send=keeper.is_trusted,
        )
        keeper.on_trusted = commander.wake
        watch = partial(runtime.watch, name, database, commander.wake)
        parts += [commander.run, partial(watch, _urgency(commander, runners))]
    else:
        log.info("%s: trading is off by configuration: what is queued waits", name)
    return parts


def _urgency(commander: Commander, runners: Runners) -> Urgency:
    gate = runners.gate
    return Urgency(
        is_waited_for=lambda: commander.is_idle,
        is_writing=lambda: gate is not None and gate.is_held,
    )


def _rest_client(account: Account, settings: Settings, runtime: Runtime) -> OpenClient:
    """Return what opens the account's REST client. All its clients share one rate."""
    bucket = TokenBucket(REST_AT_ONCE, REST_PER_S)
    sign = partial(sign_request, account.settings)
    return partial(runtime.open_rest, settings.rest_url, sign, runtime.clock, bucket)


def _backfiller(
    account: Account,
    settings: Settings,
    runtime: Runtime,
    runners: Runners,
    inbox: Inbox,
    open_client: OpenClient,
) -> Backfiller:
    """Return what fetches over REST what was missed."""
    return Backfiller(
        account=account.settings.name,
        inbox=inbox,
        reader=runners.reader(),
        clock=runtime.clock,
        open_client=open_client,
        head=account.head.position,
        after_s=settings.backfill_after_s,
        is_on=settings.backfill,
    )


def _reconciler(
    account: Account,
    settings: Settings,
    runtime: Runtime,
    runners: Runners,
    inbox: Inbox,
    open_client: OpenClient,
) -> Reconciler:
    """Return what compares the tables with the exchange's answers."""
    return Reconciler(
        account=account.settings.name,
        inbox=inbox,
        reader=runners.reader(),
        clock=runtime.clock,
        open_client=open_client,
        head=account.head.position,
        every_s=settings.reconcile_every_s,
        is_backfilled=settings.backfill,
    )


def _resolver(
    account: Account,
    settings: Settings,
    runtime: Runtime,
    runners: Runners,
    inbox: Inbox,
    open_client: OpenClient,
) -> Resolver:
    """Return what looks commands in doubt up; a key that may only view is enough for it."""
    return Resolver(
        account=account.settings.name,
        patience=Patience(settings.settle_s, settings.lookup_every_s),
        inbox=inbox,
        reader=runners.reader(),
        writer=runners.writer,
        clock=runtime.clock,
        open_client=open_client,
        aside=runners.aside,
    )


def sign_request(account: AccountSettings, timestamp_ms: int, method: str, path: str) -> Headers:
    """Return the headers of one REST request, signed for this moment."""
    key, secret = account.api_key.reveal(), account.api_secret.reveal()
    return signed_headers(key, secret, timestamp_ms, method, path, account.sub_account_id)


def _connection(
    account: Account,
    settings: Settings,
    runtime: Runtime,
    inbox: Inbox,
    open_orders_fallback: OpenOrdersFallback,
) -> ConnectionHolder:
    own = account.settings
    url = settings.ws_url if urlsplit(settings.ws_url).path else settings.ws_url + ACCOUNT_PATH
    return ConnectionHolder(
        account=own,
        url=url,
        max_frame_bytes=settings.max_frame_bytes,
        introduce=partial(introduce, own, urlsplit(url).path),
        session_settings=SessionSettings(subscribe=settings.subscribe),
        clock=runtime.clock,
        rng=runtime.rng,
        open_stream=runtime.open_stream,
        exchange_time_us=partial(runtime.ask_exchange_time_us, settings.rest_url),
        inbox=inbox,
        send_queue=account.send_queue,
        observation=ObservationTracker(runtime.clock),
        open_orders_fallback=open_orders_fallback,
        hidden=lambda: (own.api_key.reveal(), own.api_secret.reveal()),
        pacing=ConnectPacing.among(len(settings.accounts)),
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


def now(runtime: Runtime) -> datetime:
    """Return the runtime's time."""
    return from_us(runtime.clock.wall_us())
