"""Starting and asking are look-ups: a log of a million events makes neither longer."""

from __future__ import annotations

import re
import sqlite3
from contextlib import closing
from typing import Any

import pytest
from sqlalchemy import event

from recorder import daemon as daemon_module
from recorder.database import engine
from recorder.database.engine import Database, open_database
from tests.cli.scene import ask
from tests.daemon.scene import LIMIT, daemon, exchange

#: Names that a statement may give the log.
ALIAS = re.compile(r"\bevents(?:\s+AS)?\s+(\w+)", re.IGNORECASE)
#: A statement, not what a trigger reports of itself, that names the log.
ABOUT_IT = re.compile(r"\s*(SELECT|WITH|INSERT|UPDATE|DELETE)\b.*\bevents\b", re.DOTALL)


@pytest.fixture
def statements(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Every statement on every SQLite connection that the recorder opens from now on."""
    found: list[str] = []

    def listen(connection: sqlite3.Connection, _record: Any) -> None:
        connection.set_trace_callback(found.append)

    def opened(url: str, **more: Any) -> Database:
        database = open_database(url, **more)
        for each in (database.writer, database.projector, database.reader):
            event.listen(each, "connect", listen)
        return database

    for module in (daemon_module, engine):
        monkeypatch.setattr(module, "open_database", opened)
    return found


def scans_of_the_log(url: str, statements: list[str]) -> list[tuple[str, str]]:
    """Return the statements that would read the log from end to end, and how SQLite goes about it.

    SQLite has no statistics here, so what it does is the same for a log of any length.
    """
    found = []
    with closing(sqlite3.connect(url.removeprefix("sqlite:///"))) as database:
        for statement in set(statements):
            if not ABOUT_IT.match(statement):
                continue
            names = {"events", *ALIAS.findall(statement)}
            for *_, step in database.execute(f"EXPLAIN QUERY PLAN {statement}"):
                if step.startswith("SCAN ") and step.split()[1] in names:
                    found.append((statement, step))
    return found


async def test_neither_a_start_nor_status_reads_the_log_from_end_to_end(
    sqlite_url: str, statements: list[str]
) -> None:
    async with exchange() as simulator:
        for _ in range(2):
            statements.clear()
            async with daemon(sqlite_url, simulator) as scene:
                await scene.until_live()
                await scene.until_status(scene.books.queue("PLACE_LIMIT_ORDER", LIMIT), "accepted")
                await scene.until_folded()
        answer = ask(sqlite_url, "status")
    assert answer.code == 0
    assert sum("INSERT INTO events" in statement for statement in statements) > 5
    assert any("INDEXED BY outbox_queued" in statement for statement in statements), (
        "status was received"
    )
    assert scans_of_the_log(sqlite_url, ["SELECT count(*) FROM events"])
    assert scans_of_the_log(sqlite_url, statements) == []
