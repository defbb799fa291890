"""Builds the daemon's parts from settings and the runtime.

`recorder.daemon` starts and stops them.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Iterator, Sequence
from datetime import datetime
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

from attrs import define, field
from sqlalchemy import Connection

from recorder import __version__
from recorder.config import ACCOUNT_PATH, AccountSettings, Settings, environment_for_others
from recorder.connection.connection import ConnectionHolder
from recorder.connection.observation import Credentials, ObservationTracker
from recorder.connection.open_orders_fallback import OpenOrdersFallback
from recorder.database.engine import Database
from recorder.errors import ConfigurationError
from recorder.exchange.commands import WireNames
from recorder.exchange.pacing import CommandPace, ConnectPacing, TokenBucket
from recorder.exchange.session import SendText, SessionSettings
from recorder.exchange.signing import (
    authenticate_frame,
    handshake_headers,
    redacted_authenticate_frame,
    signed_headers,
)
from recorder.gaps.tasks.backfill import Backfiller
from recorder.lease.tasks import Claimant, LeaseKeeper, Owned
from recorder.log.rules.checkpoint import SigningKey, checkpoint_line
from recorder.log.rules.event import Event, Note, Origin, noted
from recorder.log.sql.checkpoint_file import is_readable_by_others, read_signing_key
from recorder.log.tasks.checkpoints import (
    CheckpointPublisher,
    CheckpointScheduler,
    FileSink,
    HookSink,
    LogSink,
    Place,
)
from recorder.log.tasks.committed import Committed, by_account
from recorder.log.tasks.inbox import Inbox
from recorder.log.tasks.log_writer import LogWriter
from recorder.log.tasks.wal_checkpointer import WalCheckpointer
from recorder.machine import looks_while_running, watch
from recorder.outage import Outage
from recorder.outbox.rules.lookup_schedule import LookupPolicy
from recorder.outbox.sql.restored import mark_in_doubt
from recorder.outbox.sql.settle import SETTLING, WAKING, settle
from recorder.outbox.tasks.commander import Commander, DryRun
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
from recorder.rest.recorded_fetch import RecordedFetch
from recorder.runtime import Runners, Runtime
from recorder.timestamps import from_us

log = logging.getLogger("recorder.daemon")

#: REST requests at once, and a second: half of what VALR allows an address.
REST_AT_ONCE, REST_PER_S = 20, 10.0
#: No command goes for so long after the exchange reported this: it counts by the second.
RATE_PENALTY_S = 1.0
RATE_LIMITED = "RATE_LIMIT_EXCEEDED"


@define(eq=False)
class Shared:
    """What all accounts of this process share."""

    settings: Settings
    runtime: Runtime
    database: Database
    runners: Runners
    inbox: Inbox
    outage: Outage
    committed: Committed = field(factory=Committed)

    def now(self) -> datetime:
        """Return the runtime's wall-clock time."""
        return from_us(self.runtime.clock.wall_us())

    def lease_now(self) -> datetime | None:
        """Return the time for a lease; None on PostgreSQL, where the server's clock gives it."""
        return None if self.database.dialect == "postgresql" else self.now()

    def note(self, account: str, kind: Note, facts: dict[str, object]) -> None:
        """Put a noted fact into the account's log."""
        self.inbox.put(noted(account, self.runtime.clock.wall_us(), kind, facts))

    def claimant(self) -> Claimant:
        """Return what takes the leases of all accounts."""
        runtime = self.runtime
        return Claimant(
            runtime.holder,
            self.settings.lease_ttl_s,
            runtime.clock,
            self.lease_now,
            self.now,
            self.runners.writer,
            standby=self.settings.standby,
            is_dead=runtime.is_dead,
            is_alive=runtime.is_alive,
        )


def check_credentials(settings: Settings) -> None:
    """Raise ConfigurationError for an account without a key or a secret."""
    for account in settings.accounts:
        if account.api_key and account.api_secret:
            continue
        missing = "key" if account.api_secret else "secret" if account.api_key else "credentials"
        raise ConfigurationError(
            f"account {account.name!r} has no {missing}: set VALR_API_KEY and VALR_API_SECRET, or"
            " VALR_API_KEY_FILE and VALR_API_SECRET_FILE (a key that may only view is enough to"
            " record)"
        )


def log_writer(shared: Shared, accounts: Sequence[Account]) -> LogWriter:
    """Return the task that appends. Its thread folds what it wrote while no command waits."""
    by_name = {account.name: account for account in accounts}

    def follow(events: Sequence[Event]) -> None:
        shared.runtime.on_commit(events)
        shared.committed.add(events)
        for name, some in by_account(events).items():
            for projector in by_name[name].projectors:
                # A command that waits for its transaction goes before any table.
                if not shared.inbox.has_waiting_submissions:
                    projector.fold_at_once(some)

    def announce(events: Sequence[Event]) -> None:
        shared.committed.announce(events)
        for event in events:
            if event.type == RATE_LIMITED and event.origin == Origin.RECEIVED:
                now_s = shared.runtime.clock.monotonic_ns() / 1e9
                by_name[event.account].pace.penalise(now_s, RATE_PENALTY_S)

    def repair(connection: Connection, account: str, tail: Sequence[Event]) -> None:
        epoch = by_name[account].owned.lease.epoch
        for number in mark_in_doubt(connection, account, tail, epoch, shared.now()):
            log.error("%s: outbox %d is in doubt: its sending had been lost", account, number)

    return LogWriter(
        shared.runners.log,
        shared.inbox,
        heads={account.name: account.owned.head for account in accounts},
        follow=follow,
        announce=announce,
        recall=shared.committed.recent,
        repair=repair,
    )


def watchers(shared: Shared) -> Iterator[Callable[[], Awaitable[None]]]:
    """Return the tasks that report what the database and the machine refuse."""
    database, runners = shared.database, shared.runners
    is_file = database.dialect == "sqlite"
    folder = Path(str(database.url.database)).absolute().parent if is_file else None
    looks = looks_while_running(shared.settings.queue_bytes, folder)
    yield shared.outage.watch
    yield partial(watch, looks, runners.aside)
    if runners.gate is not None:
        clock, inbox = shared.runtime.clock, shared.inbox
        yield WalCheckpointer(database, runners.gate, clock, lambda: inbox.is_busy).run


def checkpoint_scheduler(shared: Shared) -> CheckpointScheduler:
    """Return what takes heads out of the database. Raises ConfigurationError for a bad key."""
    settings, runtime = shared.settings, shared.runtime
    key = signing_key(settings)
    if key is None:
        log.info("checkpoints are written without a signature: checkpoint_key_file isn't set")
    elif is_readable_by_others(Path(settings.checkpoint_key_file)):
        named = settings.checkpoint_key_file
        log.warning("the checkpoint key %s can be read by others: chmod 600 it", named)
    return CheckpointScheduler(
        accounts=[account.name for account in settings.accounts],
        every_s=settings.checkpoint_every_s,
        reader=shared.runners.reader(),
        clock=runtime.clock,
        write=partial(checkpoint_line, key=key),
        publishers=[CheckpointPublisher(place) for place in checkpoint_sinks(settings, runtime)],
    )


def signing_key(settings: Settings) -> SigningKey | None:
    """Return the key that signs checkpoints, if there is one. Raises ConfigurationError."""
    named = settings.checkpoint_key_file
    return read_signing_key(Path(named)) if named else None


def checkpoint_sinks(settings: Settings, runtime: Runtime) -> list[Place]:
    """Return where heads are taken to, by the settings."""
    places: list[Place] = []
    if settings.checkpoint_file:
        places.append(FileSink(Path(settings.checkpoint_file)))
    if settings.checkpoint_log:
        places.append(LogSink())
    if settings.checkpoint_hook:
        others = environment_for_others(runtime.environment)
        places.append(HookSink(settings.checkpoint_hook, others))
    return places


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


def sign_request(account: AccountSettings, timestamp_ms: int, method: str, path: str) -> Headers:
    """Return the headers of one REST request, signed for this moment."""
    key, secret = account.api_key.reveal(), account.api_secret.reveal()
    return signed_headers(key, secret, timestamp_ms, method, path, account.sub_account_id)


def introduce(account: AccountSettings, path: str, timestamp_ms: int) -> Credentials:
    """Return the credentials of one connection, signed for this moment."""
    key, secret = account.api_key.reveal(), account.api_secret.reveal()
    if account.auth == "message":
        frame = SendText(
            authenticate_frame(key, secret, timestamp_ms, path, account.sub_account_id),
            redacted_authenticate_frame(timestamp_ms),
        )
        return Credentials((), frame)
    headers = handshake_headers(key, secret, timestamp_ms, path, account.sub_account_id)
    return Credentials(headers, None)


@define(eq=False)
class Account:
    """One account of this process: builds its projectors, and the sources that feed its log."""

    shared: Shared
    settings: AccountSettings
    owned: Owned
    #: How fast commands may go.
    pace: CommandPace
    send_queue: SendQueue = field(factory=SendQueue)
    projectors: list[Projector] = field(init=False)
    #: Opens the account's REST client. All its clients share one rate.
    _open_client: OpenClient = field(init=False)

    def __attrs_post_init__(self) -> None:
        self.projectors = self._build_projectors()
        rest_url, clock = self.shared.settings.rest_url, self.shared.runtime.clock
        sign, bucket = partial(sign_request, self.settings), TokenBucket(REST_AT_ONCE, REST_PER_S)
        self._open_client = partial(self.shared.runtime.open_rest, rest_url, sign, clock, bucket)

    @property
    def name(self) -> str:
        """The account's name in settings, log and tables."""
        return self.settings.name

    def note(self, kind: Note, facts: dict[str, object]) -> None:
        """Put a noted fact into this account's log."""
        self.shared.note(self.name, kind, facts)

    def note_start(self) -> None:
        """Put the facts of this start into the log."""
        last_us, frame_us = self.owned.last_event_us, self.owned.last_frame_us
        started: dict[str, object] = {
            "version": __version__,
            "epoch": self.owned.lease.epoch,
            "last_event_at": None if last_us is None else from_us(last_us).isoformat(),
            "last_frame_at": None if frame_us is None else from_us(frame_us).isoformat(),
        }
        self.note(Note.RECORDER_STARTED, started)

    def sources(self) -> list[Callable[[], Awaitable[None]]]:
        """Return the tasks that feed the log: each ends all of this account's when it fails."""
        lease = self._lease_keeper()
        return [
            self._connection().run,
            lease.run,
            self._resolver().run,
            Backfiller(
                self._rest(),
                head=self.owned.head.position,
                after_s=self.shared.settings.backfill_after_s,
                is_on=self.shared.settings.backfill,
            ).run,
            Reconciler(
                self._rest(),
                head=self.owned.head.position,
                every_s=self.shared.settings.reconcile_every_s,
                is_backfilled=self.shared.settings.backfill,
            ).run,
            *self._command_tasks(lease),
        ]

    def _rest(self) -> RecordedFetch:
        """Return what a task requests over REST with, and a reader of its own."""
        shared, clock = self.shared, self.shared.runtime.clock
        reader, aside = shared.runners.reader(), shared.runners.aside
        return RecordedFetch(self.name, shared.inbox, reader, clock, self._open_client, aside)

    def _resolver(self) -> Resolver:
        """Return what looks up commands in doubt. A key that may only view is enough for it."""
        settings, runners = self.shared.settings, self.shared.runners
        return Resolver(
            self._rest(),
            policy=LookupPolicy(settings.settle_s, settings.lookup_every_s),
            writer=runners.writer,
        )

    def _lease_keeper(self) -> LeaseKeeper:
        return LeaseKeeper(
            self.name,
            self.owned.lease.epoch,
            self.shared.settings.lease_ttl_s,
            self.shared.runners.writer,
            self.shared.runtime.clock,
            self.shared.lease_now,
            self.owned.started_ns,
        )

    def _command_tasks(self, lease: LeaseKeeper) -> list[Callable[[], Awaitable[None]]]:
        """Return what sends commands and what wakes it; for a dry run, what judges them."""
        shared, runners, clock = self.shared, self.shared.runners, self.shared.runtime.clock
        wire_names = WireNames(shared.settings.wire_names)
        watch = partial(shared.runtime.watch, self.name, shared.database)
        if shared.settings.dry_run:
            dry_run = DryRun(self.name, wire_names, runners.reader(), clock, self.note)
            return [dry_run.run, partial(watch, dry_run.wake, ALWAYS_URGENT)]
        if not self.settings.trading:
            log.info("%s: trading is off by configuration: queued commands wait", self.name)
            return []
        commander = Commander(
            account=self.name,
            epoch=self.owned.lease.epoch,
            wire_names=wire_names,
            send_queue=self.send_queue,
            pace=self.pace,
            reader=runners.reader(),
            writer=runners.writer,
            clock=clock,
            may_send=lease.is_trusted,
        )
        lease.on_trusted = commander.wake
        gate = runners.gate
        urgency = Urgency(
            is_waited_for=lambda: commander.is_idle,
            is_writing=lambda: gate is not None and gate.is_held,
        )
        return [commander.run, partial(watch, commander.wake, urgency)]

    def _connection(self) -> ConnectionHolder:
        """Return the owner of the account's socket."""
        own, settings, runtime = self.settings, self.shared.settings, self.shared.runtime
        url = settings.ws_url if urlsplit(settings.ws_url).path else settings.ws_url + ACCOUNT_PATH
        inbox = self.shared.inbox
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
            send_queue=self.send_queue,
            observation=ObservationTracker(runtime.clock),
            open_orders_fallback=OpenOrdersFallback(self._rest()),
            hidden=lambda: (own.api_key.reveal(), own.api_secret.reveal()),
            pacing=ConnectPacing.among(len(settings.accounts)),
        )

    def _build_projectors(self) -> list[Projector]:
        """Return the account's projectors, the settler of its outbox among them."""
        shared, runners = self.shared, self.shared.runners
        folds = [projection_fold(projection, self.name) for projection in PROJECTIONS]
        folds.append(_settling_fold(self.name))
        return [
            Projector(
                self.name,
                fold,
                runners.projector(),
                runners.reader() if runners.gate is not None else None,
                shared.committed,
                shared.runtime.clock,
                self.note,
                is_log_busy=lambda: shared.inbox.is_busy,
            )
            for fold in folds
        ]
