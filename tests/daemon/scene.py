"""A whole daemon beside a simulated exchange, and a look at its database from outside.

Both run in this process, on real sockets of this machine. What the tests know of the database is
what any program with a driver can ask, so nothing here reads through the recorder's own code.
"""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import partial
from typing import Any

import trio
from attrs import define, evolve, field
from sqlalchemy import Connection, create_engine, text

from recorder.config import Settings, read_settings
from recorder.daemon import run_daemon
from recorder.runtime import Runtime
from recorder.simulator import Simulator, SimulatorConfig, serve

#: Longer than anything here takes on a slow machine.
WAIT_MAX_S = 90.0
#: Between two looks at something that is to come true.
LOOK_S = 0.02
KEY, SECRET = "an-api-key-for-tests", "an-api-secret-for-tests"
LIMIT = '{"side":"BUY","pair":"BTCZAR","quantity":"0.001","price":"1000000"}'
FINAL = ("accepted", "rejected", "expired", "withdrawn", "refused")
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class FixedRng(random.Random):
    """FixedRng that choose this fraction of every wait; ids stay as random as ever."""

    fraction = 0.0

    def random(self) -> float:
        return self.fraction


def runtime(*, fraction: float = 0.0, **parts: Any) -> Runtime:
    """Return a runtime that connects again at once, or after this fraction of the longest wait."""
    rng = FixedRng()
    rng.fraction = fraction
    return Runtime(rng=rng, **parts)


@define(eq=False)
class Books:
    """A connection of our own to the recorder's database. Each look sees what is committed."""

    connection: Connection

    def ask(self, query: str, **values: object) -> list[tuple[Any, ...]]:
        """Return the rows of a query."""
        return [tuple(row) for row in self.connection.execute(text(query), values)]

    def one(self, query: str, **values: object) -> Any:
        """Return the only value of the only row."""
        ((value,),) = self.ask(query, **values)
        return value

    def do(self, statement: str, **values: object) -> None:
        """Change something, as any program might."""
        self.connection.execute(text(statement), values)

    def count(self, table: str, where: str = "1 = 1", **values: object) -> int:
        """Return how many rows there are."""
        return int(self.one(f"SELECT count(*) FROM {table} WHERE {where}", **values))

    def queue(self, command: str, payload: str, **columns: object) -> int:
        """Queue a command by a plain INSERT and return its outbox_id."""
        row = {"account": "main", "command": command, "payload": payload, **columns}
        names, places = ", ".join(row), ", ".join(f":{name}" for name in row)
        query = f"INSERT INTO outbox ({names}) VALUES ({places}) RETURNING outbox_id"
        return int(self.one(query, **row))

    def status(self, outbox_id: int) -> str:
        """Return a command's status."""
        return str(self.one("SELECT status FROM outbox WHERE outbox_id = :id", id=outbox_id))

    def history_of(self, outbox_id: int) -> list[str]:
        """Return every status that a command went through."""
        query = "SELECT to_status FROM outbox_transitions WHERE outbox_id = :id ORDER BY seq"
        return [row[0] for row in self.ask(query, id=outbox_id)]

    def has_note(self, kind: str) -> bool:
        """Return whether the recorder noted such a fact."""
        return self.count("events", "origin = 'noted' AND type = :kind", kind=kind) > 0

    def endings(self) -> list[dict[str, Any]]:
        """Return the noted end of every connection: its type, and the facts."""
        query = (
            "SELECT type, payload FROM events WHERE origin = 'noted' AND type IN"
            " ('CONNECTION_CLOSED', 'CONNECTION_FAILED', 'CONNECTION_REFUSED') ORDER BY position"
        )
        return [{"type": kind, **json.loads(text)["data"]} for kind, text in self.ask(query)]

    def is_caught_up(self) -> bool:
        """Return whether every projection stands at the head of its account's log."""
        behind = (
            "SELECT count(*) FROM projections WHERE position <"
            " (SELECT max(position) FROM events WHERE events.account = projections.account)"
        )
        return self.count("projections") > 0 and self.one(behind) == 0


@contextmanager
def books_of(url: str) -> Iterator[Books]:
    """Open a connection from outside; every statement is a transaction of its own."""
    driver = url.replace("postgresql://", "postgresql+psycopg://")
    engine = create_engine(driver, isolation_level="AUTOCOMMIT")
    try:
        with engine.connect() as connection:
            yield Books(connection)
    finally:
        engine.dispose()


@define(eq=False)
class Scene:
    """A running daemon, the exchange that it listens to, and its database."""

    simulator: Simulator
    settings: Settings
    books: Books
    stop: trio.Event = field(factory=trio.Event)
    stopped: trio.Event = field(factory=trio.Event)

    async def until_connected(self, sessions: int) -> None:
        """Wait until the daemon was let in so many times."""
        where = "origin = 'noted' AND type = 'CONNECTION_AUTHENTICATED'"
        await until(lambda: self.books.count("events", where) >= sessions)

    async def until_live(self) -> None:
        """Wait until the snapshot of the present connection is complete, and known to be."""
        await until(self._is_live)

    def _is_live(self) -> bool:
        opened = "SELECT connection_id FROM events WHERE type = 'CONNECTION_OPENED'"
        sessions = self.books.ask(f"{opened} ORDER BY position")
        complete = (
            "SELECT events.position FROM events JOIN projections"
            " ON projections.account = events.account AND projections.projection = 'connections'"
            " WHERE type = 'SNAPSHOT_COMPLETE' AND connection_id = :session"
            " AND projections.position >= events.position"
        )
        if not sessions or len(sessions) < self.simulator.connections:
            return False
        return bool(self.books.ask(complete, session=sessions[-1][0]))

    async def until_recorded(self) -> None:
        """Wait until every frame that the exchange wrote stands in the log, and is folded."""
        where = "origin = 'received' AND encoding = 'text'"
        await until(lambda: self.books.count("events", where) >= len(self.simulator.sent))
        await self.until_folded()

    async def until_folded(self) -> None:
        """Wait until every projection stands at the head: a second, where nothing wakes it."""
        await until(self.books.is_caught_up)

    async def until_status(self, outbox_id: int, *wanted: str) -> None:
        """Wait until a command has one of these statuses."""
        await until(lambda: self.books.status(outbox_id) in wanted)

    async def end(self) -> None:
        """Stop the daemon in order, and wait for that."""
        self.stop.set()
        with trio.fail_after(WAIT_MAX_S):
            await self.stopped.wait()


async def until(holds: Callable[..., object], wait_max_s: float = WAIT_MAX_S) -> None:
    """Look again and again until something holds. Raises trio.TooSlowError."""
    with trio.fail_after(wait_max_s):
        while not holds():
            await trio.sleep(LOOK_S)


@asynccontextmanager
async def exchange(**config: Any) -> AsyncIterator[Simulator]:
    """Run a simulated exchange."""
    reported = SimulatorConfig(key=KEY, secret=SECRET, upgrades_per_min=0)
    async with trio.open_nursery() as nursery:
        simulator: Simulator = await nursery.start(partial(serve, evolve(reported, **config)))
        yield simulator
        nursery.cancel_scope.cancel()


def settings_for(url: str, simulator: Simulator, **given: Any) -> Settings:
    """Return the settings of a daemon for this exchange, which may trade."""
    environment = {"VALR_API_KEY": KEY, "VALR_API_SECRET": SECRET} | {
        name: given.pop(name) for name in ("VALR_API_KEY", "VALR_API_SECRET") if name in given
    }
    flags = {
        "database_url": url,
        "ws_url": simulator.ws_url,
        "rest_url": simulator.rest_url,
        "trading": "1",
        **given,
    }
    return read_settings(environment, flags)


@asynccontextmanager
async def daemon(
    url: str, simulator: Simulator, around: Runtime | None = None, **given: Any
) -> AsyncIterator[Scene]:
    """Run a daemon against an exchange; at the end it is stopped in order."""
    settings = settings_for(url, simulator, **given)
    with books_of(url) as books:
        scene = Scene(simulator, settings, books)
        async with trio.open_nursery() as nursery:
            await nursery.start(_run, scene, around or runtime())
            yield scene
            await scene.end()


async def _run(scene: Scene, around: Runtime, task_status: trio.TaskStatus[Any]) -> None:
    try:
        await run_daemon(scene.settings, around, stop=scene.stop, task_status=task_status)
    finally:
        scene.stopped.set()


@asynccontextmanager
async def connected(
    url: str, config: dict[str, Any] | None = None, **given: Any
) -> AsyncIterator[Scene]:
    """Run an exchange and a daemon, and wait until it is let in: commands can go."""
    async with exchange(**(config or {})) as simulator, daemon(url, simulator, **given) as scene:
        await scene.until_connected(1)
        yield scene


@asynccontextmanager
async def recording(
    url: str, config: dict[str, Any] | None = None, **given: Any
) -> AsyncIterator[Scene]:
    """Run an exchange and a daemon, and wait until the first snapshot is complete."""
    async with connected(url, config, **given) as scene:
        await scene.until_live()
        yield scene


# What the log must be, by its definition alone.


def field_of(part: object) -> bytes:
    """Return one part of what is digested: its length in four bytes, then itself."""
    wire = str(part).encode()
    return len(wire).to_bytes(4, "big") + wire


def time_us(moment: str | datetime) -> int:
    """Return whole microseconds since 1970."""
    if isinstance(moment, str):
        moment = datetime.fromisoformat(moment).replace(tzinfo=UTC)
    return (moment - EPOCH) // timedelta(microseconds=1)


def assert_chained(books: Books, account: str = "main") -> int:
    """Check positions and digests of a whole log, and return how long it is."""
    query = (
        "SELECT position, received_at, connection_id, origin, type, encoding, payload, digest"
        " FROM events WHERE account = :account ORDER BY position"
    )
    previous, last = bytes(32), 0
    for position, received_at, connection, *words, digest in books.ask(query, account=account):
        assert position == last + 1
        parts = (1, account, position, time_us(received_at), connection or "", *words)
        previous = hashlib.sha256(previous + b"".join(map(field_of, parts))).digest()
        assert bytes(digest) == previous, f"position {position}"
        last = position
    return last


def received(books: Books) -> list[tuple[int, str]]:
    """Return (number of its connection, text) of every frame recorded as text."""
    query = (
        "SELECT connection_id, payload FROM events"
        " WHERE origin = 'received' AND encoding = 'text' ORDER BY position"
    )
    numbers: dict[str, int] = {}
    frames = []
    for connection, payload in books.ask(query):
        frames.append((numbers.setdefault(connection, len(numbers) + 1), payload))
    return frames


def amounts(rows: Sequence[tuple[Any, ...]]) -> dict[str, tuple[Decimal, ...]]:
    """Return rows of a name and amounts as exact numbers by that name."""
    return {name: tuple(Decimal(value) for value in values) for name, *values in rows}
