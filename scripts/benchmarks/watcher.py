"""Looks at ``balances`` from outside as often as it can: how old is what it shows when it changes?

python watcher.py DATABASE_URL SECONDS     prints p50 and p99 in milliseconds, and the samples
"""

from __future__ import annotations

import sys
import time

from sqlalchemy import Connection, text

from recorder.storage.engine import in_unit, open_database

#: Between two looks: short against what is measured, long enough to leave the processor to others.
LOOK_S = 0.0003
LATEST = text("SELECT max(CAST(total_in_reference AS BIGINT)) FROM balances")


def main() -> None:
    """Watch for so many seconds."""
    database, until = open_database(sys.argv[1]), time.monotonic() + float(sys.argv[2])
    ages_ms, seen = [], 0
    while time.monotonic() < until:
        sent_ns = in_unit(database.reader, read_latest)
        if sent_ns > seen:
            seen = sent_ns
            ages_ms.append((time.time_ns() - sent_ns) / 1e6)
        time.sleep(LOOK_S)
    ordered = sorted(ages_ms)
    print(ordered[len(ordered) // 2], ordered[len(ordered) * 99 // 100], len(ordered), flush=True)


def read_latest(connection: Connection) -> int:
    """Return when the latest balance that can be seen was sent, in nanoseconds since 1970."""
    return int(connection.execute(LATEST).scalar() or 0)


if __name__ == "__main__":
    main()
