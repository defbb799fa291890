"""The script that any reader would write: folds inline, and commits every event alone.

It is what a recorder has to be better than: its figures stand beside ours in the same run. Its log
has no chain and its balances no history.

python inline.py URL DATABASE_URL
"""

from __future__ import annotations

import json
import sqlite3
import sys
import time
from collections.abc import Callable
from decimal import Decimal

import psycopg
import trio
from trio_websocket import open_websocket_url

CREATE = """
DROP TABLE IF EXISTS {0}log;
DROP TABLE IF EXISTS {0}balances;
CREATE TABLE {0}log (position BIGINT PRIMARY KEY, received_at BIGINT, payload TEXT);
CREATE TABLE {0}balances
    (currency TEXT PRIMARY KEY, available {1}, reserved {1}, total {1}, total_in_reference {1})
"""
APPEND = "INSERT INTO inline_log VALUES ({0}, {0}, {0})"
UPSERT = (
    "INSERT INTO inline_balances VALUES ({0}, {0}, {0}, {0}, {0}) ON CONFLICT (currency) DO UPDATE"
    " SET available = excluded.available, reserved = excluded.reserved, total = excluded.total,"
    " total_in_reference = excluded.total_in_reference"
)

Take = Callable[[int, str], None]


def on_sqlite(url: str) -> Take:
    """Return what records one frame in SQLite."""
    connection = sqlite3.connect(url.removeprefix("sqlite:///"), isolation_level=None)
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=FULL")
    connection.executescript(CREATE.format("inline_", "TEXT"))
    append, upsert = APPEND.format("?"), UPSERT.format("?")

    def take(position: int, text: str) -> None:
        connection.execute("BEGIN IMMEDIATE")
        connection.execute(append, (position, time.time_ns(), text))
        if row := balance(text):
            connection.execute(upsert, row)
        connection.execute("COMMIT")

    return take


def on_postgresql(url: str) -> Take:
    """Return what records one frame in PostgreSQL."""
    connection = psycopg.connect(url)
    for statement in CREATE.format("inline_", "NUMERIC").split(";"):
        connection.execute(statement)
    connection.commit()
    append, upsert = APPEND.format("%s"), UPSERT.format("%s")

    def take(position: int, text: str) -> None:
        connection.execute(append, (position, time.time_ns(), text))
        if row := balance(text):
            connection.execute(upsert, row)
        connection.commit()

    return take


def balance(text: str) -> tuple[str, ...] | None:
    """Return the row of a BALANCE_UPDATE."""
    frame = json.loads(text)
    if frame["type"] != "BALANCE_UPDATE":
        return None
    data = frame["data"]
    names = ("available", "reserved", "total", "totalInReference")
    return (data["currency"]["symbol"], *(str(Decimal(data[name])) for name in names))


async def main() -> None:
    """Record until END; print how many frames a second came in."""
    url, database = sys.argv[1:]
    take = on_sqlite(database) if database.startswith("sqlite:") else on_postgresql(database)
    async with open_websocket_url(url) as socket:
        position, times = 0, list[tuple[int, float]]()
        while not (text := str(await socket.get_message())).startswith('{"type":"END"'):
            if text.startswith('{"type":"OPEN_ORDERS'):
                times.clear()
            elif not times:
                times.append((position, time.perf_counter()))
            position += 1
            take(position, text)
        first, began = times[0]
        print((position - first) / (time.perf_counter() - began), flush=True)
        await trio.aclose_forcefully(socket._stream)


if __name__ == "__main__":
    trio.run(main)
