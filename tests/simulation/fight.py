"""Two recorders of one account and an exchange, on a mock clock, with all that may happen to them.

What happens follows from a seed. What must hold is looked at all the time, from outside: by what
the exchange received, and by what stands in the database.
"""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import trio
from attrs import define, evolve, field

from recorder.config import Settings, read_settings
from recorder.database.engine import open_database
from recorder.errors import LeaseLost
from recorder.log.sql.verify import Verified, verify_account
from recorder.simulator import Simulator, SimulatorConfig
from tests.daemon.scene import KEY, SECRET, Books, books_of
from tests.simulation.process import BEGIN_US, Process, Storage, owners

TTL_S = 6.0
#: A standby looks every second; its looks and its taking take their time as well.
TAKEOVER_S = TTL_S + 4.0
#: An owner that lost its lease receives of it with the next renewal or append.
DETECTION_S = TTL_S / 4 + 4.0
LOOK_S = 0.5
HOURS = 3_600.0
FINAL = {"accepted", "rejected", "expired", "refused", "withdrawn", "not_placed"}
BEGIN = datetime(2026, 1, 1, tzinfo=UTC)


class Receipts(Counter[str]):
    """Counts commands by their clientMsgId, and looks at each when it comes."""

    fight: Fight

    def __setitem__(self, client_msg_id: str, count: int) -> None:
        super().__setitem__(client_msg_id, count)
        self.fight.received(client_msg_id, count)


@define(eq=False)
class Fight:
    """One run: its processes, its exchange, its database, and what was seen."""

    url: str
    seed: int
    simulator: Simulator
    books: Books
    nursery: trio.Nursery
    rng: random.Random
    processes: list[Process] = field(factory=list)
    #: How often what happened: a run in which nothing did proves nothing.
    happened: Counter[str] = field(factory=Counter)
    #: What every process ended of.
    errors: list[str] = field(factory=list)
    takeovers_s: list[float] = field(factory=list)
    queued: list[str] = field(factory=list)
    is_over: bool = False
    _starts: int = 0

    # What the exchange sees

    def received(self, client_msg_id: str, count: int) -> None:
        """Look at a command that the exchange just received."""
        assert count == 1, f"{client_msg_id} was received {count} times"
        ((status, epoch, now),) = self.books.ask(
            "SELECT status, outbox.epoch, leases.epoch FROM outbox"
            " JOIN leases USING (account) WHERE client_msg_id = :name",
            name=client_msg_id,
        )
        assert status != "queued", f"{client_msg_id} came before its claim was durable"
        assert epoch == now, f"{client_msg_id} was sent under epoch {epoch}, and {now} was taken"

    # The processes

    def start(self, name: str) -> Process:
        """Start a recorder beside or after another."""
        self._starts += 1
        process = Process(
            f"{name}-{self._starts}",
            settings_of(self.url),
            self.simulator,
            random.Random(f"{self.seed}/{self._starts}"),
            Storage(),
            self.nursery,
            is_gone=self._is_gone,
        )
        self.processes.append(process)
        self.nursery.start_soon(process.run)
        return process

    def _is_gone(self, holder: str) -> bool:
        """Return what a process of the same machine can know of another; they may share none."""
        if self.seed % 2:
            return False
        return any(p.holder == holder and (p.is_dead or p.ended.is_set()) for p in self.processes)

    async def keep_alive(self, name: str) -> None:
        """Start a recorder again whenever it ends, as a service manager does."""
        while True:
            process = self.start(name)
            await process.ended.wait()
            if not process.is_dead and not process.stop.is_set():
                assert isinstance(process.error, LeaseLost), repr(process.error)
                assert "another process" in str(process.error)
                self.happened["lease lost"] += 1
            await trio.sleep(self.rng.uniform(0.1, 15))

    # What must hold at any moment

    async def watch(self) -> None:
        """See to it that there is one owner, and soon."""
        alone_since = owned_at = trio.current_time()
        state: object = None
        while True:
            await trio.sleep(LOOK_S)
            now = trio.current_time()
            able = [p for p in self.processes if p.is_running and not p.storage.is_away]
            ruling = owners(able)
            ours = ([p.holder for p in able], [p.holder for p in ruling])
            if ours != state or any(p.storage.is_slow or p.storage.uncertain for p in able):
                state, alone_since = ours, now
            elif not ruling and able:
                assert now - alone_since < TAKEOVER_S, "no recorder took the account over"
            elif len(ruling) > 1:
                names = [f"{p.holder}{' (stopping)' * p.stop.is_set()}" for p in ruling]
                assert now - alone_since < DETECTION_S, (
                    f"{names} take the account for theirs at {now}"
                )
            if ruling:
                self.takeovers_s.append(now - owned_at)
                owned_at = now

    # What callers do

    async def trade(self) -> None:
        """Queue commands by plain SQL, all the time."""
        names: list[str] = []
        while not self.is_over:
            await trio.sleep(self.rng.expovariate(1 / 6))
            number = len(self.queued) + 1
            message, name = f"m{number}", f"o{number}"
            columns: dict[str, Any] = {"client_msg_id": message}
            if names and self.rng.random() < 0.45:
                which = names.pop(self.rng.randrange(len(names)))
                wanted = {"pair": "BTCZAR", "customerOrderId": which}
                command = "CANCEL_ORDER"
            else:
                wanted = {
                    "side": self.rng.choice(("BUY", "SELL")),
                    "pair": "BTCZAR",
                    "quantity": "0.0001",
                    "price": "1000000" if number % 2 else "1200000",
                    "customerOrderId": name,
                }
                command = "PLACE_LIMIT_ORDER"
                names.append(name)
            if self.rng.random() < 0.2:
                columns["expires_at"] = self.time_in(self.rng.uniform(-1, 20))
            self.queued.append(message)
            self.books.queue(command, json.dumps(wanted), **columns)

    def time_in(self, seconds: float) -> str:
        """Return the true time so many seconds from now, as this database takes it."""
        then = BEGIN + timedelta(seconds=trio.current_time() + seconds)
        zone = "+00" if self.books.connection.dialect.name == "postgresql" else ""
        return f"{then:%Y-%m-%d %H:%M:%S.%f}{zone}"

    # What happens to them

    async def problem(self) -> None:
        """Let one thing after the other happen, and sometimes two at once."""
        while True:
            await trio.sleep(self.rng.expovariate(1 / 15))
            what = self.rng.choice(PROBLEMS)
            process = self.rng.choice([p for p in self.processes if not p.ended.is_set()] or [None])
            if process is not None:
                self.happened[what] += 1
                self.nursery.start_soon(getattr(self, f"_{what}"), process)

    async def _freeze_shortly(self, process: Process) -> None:
        process.freeze(self.rng.uniform(0.1, TTL_S * 0.9))

    async def _freeze_long(self, process: Process) -> None:
        process.freeze(self.rng.uniform(TTL_S, 10 * TTL_S))

    async def _kill(self, process: Process) -> None:
        process.kill()

    async def _stop(self, process: Process) -> None:
        process.stop.set()

    async def _cut(self, process: Process) -> None:
        process.cut()

    async def _jump(self, process: Process) -> None:
        process.clock.jump_s = self.rng.choice((0.0, -HOURS, HOURS, -5 * HOURS, 5 * HOURS, 30.0))

    async def _lose_storage(self, process: Process) -> None:
        process.storage.away_until = trio.current_time() + self.rng.uniform(0.5, 4 * TTL_S)

    async def _lose_all_storage(self, _process: Process) -> None:
        until = trio.current_time() + self.rng.uniform(0.5, 2 * TTL_S)
        for process in self.processes:
            process.storage.away_until = until

    async def _slow_storage(self, process: Process) -> None:
        process.storage.slow_s = self.rng.uniform(0.5, 2 * TTL_S)
        await trio.sleep(self.rng.uniform(1, 5 * TTL_S))
        process.storage.slow_s = 0.002

    async def _doubt_storage(self, process: Process) -> None:
        process.storage.uncertain = 0.3
        await trio.sleep(self.rng.uniform(0.5, 5))
        process.storage.uncertain = 0.0

    async def _exchange_problem(self, _process: Process) -> None:
        name, wrong, right = self.rng.choice(EXCHANGE_PROBLEMS)
        self.simulator.faults.change({name: wrong})
        await trio.sleep(self.rng.uniform(1, 30))
        self.simulator.faults.change({name: right})

    async def _command_problem(self, _process: Process) -> None:
        some = self.rng.choices(COMMAND_PROBLEMS, k=3)
        self.simulator.faults.change({"next_commands": some})

    def heal(self) -> None:
        """Let everything be well again."""
        self.is_over = True
        for process in self.processes:
            process.clock.jump_s = 0.0
            process.storage.away_until = 0.0
        self.simulator.faults.next_commands.clear()

    # What must hold at the end

    def assert_consistent(self) -> None:
        """Look at all that stands in the database."""
        self._assert_log()
        self._assert_rows()

    def _assert_log(self) -> None:
        database = open_database(self.url)
        try:
            with database.reader.connect() as connection:
                verified = verify_account(connection, "main", lambda position: None)
        finally:
            database.close()
        assert isinstance(verified, Verified), verified
        epoch, spoke_in = 0, dict[str, int]()
        for kind, origin, session, payload in self.books.ask(
            "SELECT type, origin, connection_id, payload FROM events ORDER BY position"
        ):
            if origin == "noted" and kind in ("LEASE_TAKEN", "RECORDER_STARTED"):
                reported = json.loads(payload)["data"]["epoch"]
                assert reported == epoch + (kind == "LEASE_TAKEN"), (
                    f"{kind} {reported} behind {epoch}"
                )
                epoch = reported
            if session is not None:
                assert spoke_in.setdefault(session, epoch) == epoch, f"{kind} of an old epoch"
        (late,) = self.books.ask(
            "SELECT count(*) FROM outbox JOIN events ON events.position = sent_position"
            " AND events.account = outbox.account WHERE events.origin <> 'sent'"
        )
        assert late == (0,)

    def _assert_rows(self) -> None:
        received = self.simulator.exchange.received
        orders = self.simulator.exchange.trading.orders.all.values()
        open_orders = {order.customer_order_id for order in orders if order.is_live}
        placed = {order.customer_order_id for order in orders}
        for message, status, command, payload in self.books.ask(
            "SELECT client_msg_id, status, command, payload FROM outbox"
        ):
            name = json.loads(payload).get("customerOrderId")
            if status == "acknowledged":
                # The exchange has reported that it came, and answers no further question: then its
                # end isn't known, and the row reports so.
                assert self._is_unreported(message), self._history_of(message)
                assert command != "PLACE_LIMIT_ORDER" or name not in placed, self._history_of(
                    message
                )
            else:
                assert status in FINAL | {"in_doubt"}, self._history_of(message)
            if status in ("expired", "refused", "withdrawn"):
                assert message not in received, f"{message} is {status} and was received"
            elif status == "rejected" and command == "CANCEL_ORDER" and message not in received:
                # No refusal came: it has not taken effect, and can't any more.
                assert name not in open_orders, self._history_of(message)
            elif status in ("accepted", "rejected"):
                assert received[message] == 1, self._history_of(message)
            elif status == "not_placed" and command == "PLACE_LIMIT_ORDER":
                assert name not in placed, f"{message} is not_placed, and its order stands"

    def _is_unreported(self, message: str) -> bool:
        """Return whether a command was looked up, and what was found last proves nothing."""
        found = self.books.ask(
            "SELECT finding FROM outbox_lookups JOIN outbox USING (outbox_id)"
            " WHERE client_msg_id = :name ORDER BY seq DESC LIMIT 1",
            name=message,
        )
        return len(found) == 1 and found[0][0] in ("absent", "unclear", "unchanged")

    def _history_of(self, message: str) -> str:
        """Return all that is known of a command, for the search for the cause."""
        of = "WHERE outbox_id = (SELECT outbox_id FROM outbox WHERE client_msg_id = :name)"
        reported = [f"SELECT * FROM {table} {of}" for table in ("outbox", "outbox_transitions")]
        looks = f"SELECT * FROM outbox_lookups {of} ORDER BY seq DESC LIMIT 5"
        rows = [row for query in (*reported, looks) for row in self.books.ask(query, name=message)]
        return "\n".join(map(repr, rows))


PROBLEMS = (
    "freeze_shortly",
    "freeze_long",
    "kill",
    "stop",
    "cut",
    "jump",
    "lose_storage",
    "lose_all_storage",
    "slow_storage",
    "doubt_storage",
    "exchange_problem",
    "command_problem",
)
EXCHANGE_PROBLEMS: tuple[tuple[str, Any, Any], ...] = (
    ("refuse_upgrade", 503, 0),
    ("stall_upgrade", True, False),
    ("no_pong", True, False),
    ("silent", True, False),
    ("duplicate", True, False),
    ("delay_s", 0.5, 0.0),
    ("rest_status", 500, 0),
)
COMMAND_PROBLEMS = (
    "lose_command",
    "swallow_answer",
    "swallow_outcome",
    "accept_then_cut",
    "answer_without_order",
)


def settings_of(url: str) -> Settings:
    """Return the settings of a recorder that stands by."""
    environment = {"VALR_API_KEY": KEY, "VALR_API_SECRET": SECRET}
    flags = {
        "database_url": url,
        "ws_url": "ws://exchange.test",
        "rest_url": "http://exchange.test",
        "trading": "1",
        "standby": "1",
        "lease_ttl_s": str(TTL_S),
        "settle_s": "20",
        "lookup_every_s": "5",
    }
    return read_settings(environment, flags)


def simulated_exchange(seed: int) -> Simulator:
    """Return an exchange on the mock clock."""
    config = SimulatorConfig(key=KEY, secret=SECRET, seed=seed, keep_sent=False)
    # A clock that is wrong by hours would keep a recorder out, and this is about those inside.
    config = evolve(config, upgrades_per_min=0, time_window_s=1e9)
    return Simulator(config, lambda: BEGIN + timedelta(seconds=trio.current_time()))


@asynccontextmanager
async def stage(url: str, seed: int) -> AsyncIterator[Fight]:
    """Open an exchange and a database for recorders that are still to be started."""
    assert datetime.fromtimestamp(BEGIN_US / 1e6, UTC) == BEGIN
    with books_of(url) as books:
        async with trio.open_nursery() as nursery:
            simulator = simulated_exchange(seed)
            it = Fight(url, seed, simulator, books, nursery, random.Random(seed))
            receipts = simulator.exchange.received = Receipts()
            receipts.fight = it
            yield it
            nursery.cancel_scope.cancel()
        it.assert_consistent()


async def fight(url: str, seed: int, for_s: float, calm_s: float = 240.0) -> Fight:
    """Let two recorders fight for so many simulated seconds, then leave them in peace."""
    async with stage(url, seed) as it:
        for task in (partial(it.keep_alive, "a"), partial(it.keep_alive, "b"), it.trade, it.watch):
            it.nursery.start_soon(task)
        async with trio.open_nursery() as problems:
            problems.start_soon(it.problem)
            await trio.sleep(for_s)
            problems.cancel_scope.cancel()
        it.heal()
        await trio.sleep(calm_s)
    return it
