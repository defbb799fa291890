"""A caller of the outbox: plain sqlite3 or psycopg, one INSERT per transaction.

It writes to standard output, for each command, its ``client_msg_id`` and the monotonic time in
nanoseconds at which its COMMIT had returned. Its pauses vary, so that it keeps step with nothing.

    python caller.py DATABASE_URL COUNT RATE [PREFIX]     RATE 0: all in one transaction
"""

from __future__ import annotations

import random
import sqlite3
import sys
import time
from collections.abc import Callable

import psycopg

PAYLOAD = '{"side":"BUY","pair":"BTCZAR","quantity":"0.001","price":"1000000"}'
INSERT = "INSERT INTO outbox (account, command, payload, client_msg_id) VALUES ({0}, {0}, {0}, {0})"


def inserter(url: str) -> Callable[[list[str]], None]:
    """Return what queues commands of these ids in one transaction."""
    if url.startswith("sqlite:///"):
        lite = sqlite3.connect(url.removeprefix("sqlite:///"), isolation_level=None, timeout=30)

        def queue_lite(ids: list[str]) -> None:
            lite.execute("BEGIN IMMEDIATE")
            lite.executemany(INSERT.format("?"), [row(each) for each in ids])
            lite.execute("COMMIT")

        return queue_lite
    server = psycopg.connect(url)

    def queue(ids: list[str]) -> None:
        with server.cursor() as cursor:
            cursor.executemany(INSERT.format("%s"), [row(each) for each in ids])
        server.commit()

    return queue


def row(client_msg_id: str) -> tuple[str, ...]:
    """Return the values of one command."""
    return ("main", "PLACE_LIMIT_ORDER", PAYLOAD, client_msg_id)


def main() -> None:
    """Queue them, and report when each was durable."""
    url, count, rate = sys.argv[1], int(sys.argv[2]), float(sys.argv[3])
    prefix = sys.argv[4] if len(sys.argv) > 4 else "order"
    queue = inserter(url)
    ids = [f"{prefix}-{number}" for number in range(count)]
    committed: list[tuple[str, int]] = []
    for some in [[each] for each in ids] if rate else [ids]:
        if rate:
            time.sleep(random.uniform(0.5, 1.5) / rate)
        queue(some)
        now_ns = time.monotonic_ns()
        committed += [(each, now_ns) for each in some]
    for client_msg_id, time_ns in committed:
        print(client_msg_id, time_ns)


if __name__ == "__main__":
    main()
