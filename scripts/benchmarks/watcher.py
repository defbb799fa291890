"""Looks at a table of balances from outside: how old is what it shows when it changes?

It looks with the bare driver and sleeps between two looks, so that it takes little of the processor
from what it watches.

python watcher.py DATABASE_URL SECONDS [TABLE]     prints p50 and p99 in milliseconds, and samples
"""

from __future__ import annotations

import sqlite3
import sys
import time
from collections.abc import Callable

import psycopg

#: Between two looks: short against what is measured, long enough to leave the processor to others.
LOOK_S = 0.0003
LATEST = "SELECT max(CAST(total_in_reference AS BIGINT)) FROM {}"


def looker(url: str, table: str) -> Callable[[], int]:
    """Return what reports when the latest balance that can be seen was sent, in ns since 1970."""
    statement = LATEST.format(table)
    if url.startswith("sqlite:///"):
        lite = sqlite3.connect(url.removeprefix("sqlite:///"), isolation_level=None)
        return lambda: int(lite.execute(statement).fetchone()[0] or 0)
    server = psycopg.connect(url, autocommit=True)

    def look() -> int:
        row = server.execute(statement).fetchone()
        return int(row[0] or 0) if row else 0

    return look


def main() -> None:
    """Watch for so many seconds."""
    look = looker(sys.argv[1], sys.argv[3] if len(sys.argv) > 3 else "balances")
    until = time.monotonic() + float(sys.argv[2])
    ages_ms, seen = [], 0
    while time.monotonic() < until:
        sent_ns = look()
        if sent_ns > seen:
            seen = sent_ns
            ages_ms.append((time.time_ns() - sent_ns) / 1e6)
        time.sleep(LOOK_S)
    ordered = sorted(ages_ms)
    print(ordered[len(ordered) // 2], ordered[len(ordered) * 99 // 100], len(ordered), flush=True)


if __name__ == "__main__":
    main()
