"""The page's examples run as they stand, and queue what they report."""

from __future__ import annotations

import re
import sqlite3
from pathlib import Path

import psycopg
import pytest

from recorder import client

PAGE = (Path(__file__).parents[2] / "docs" / "how-to" / "queue-from-python.md").read_text(
    encoding="utf-8"
)
EXAMPLES = re.findall(r"```python\n(.*?)```", PAGE, flags=re.DOTALL)
SERVER = "://bot@localhost/recorder"
SIGNALS = "CREATE TABLE signals (signal_id INTEGER PRIMARY KEY, done INTEGER)"


def title(example: str) -> str:
    return example.splitlines()[1 if example.startswith("import asyncio") else 0]


@pytest.mark.parametrize("example", [e for e in EXAMPLES if "recorder.db" in e], ids=title)
def test_an_example_on_sqlite_queues_one(
    example: str, sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = Path(sqlite_url.removeprefix("sqlite:///"))
    monkeypatch.chdir(path.parent)
    connection = sqlite3.connect(path)
    connection.execute(SIGNALS)
    exec(example, {})
    assert connection.execute("SELECT COUNT(*) FROM outbox").fetchone() == (1,)
    connection.close()


@pytest.mark.parametrize("example", [e for e in EXAMPLES if SERVER in e], ids=title)
def test_an_example_on_postgresql_queues(example: str, postgres_url: str) -> None:
    with psycopg.connect(postgres_url) as connection:
        connection.execute(SIGNALS)
        connection.commit()
        exec(example.replace(SERVER, postgres_url.removeprefix("postgresql")), {})
        [(count,)] = connection.execute("SELECT COUNT(*) FROM outbox").fetchall()
    assert count == example.count("enqueue(") + example.count("enqueue_async(")


def test_each_example_was_tried() -> None:
    assert len(EXAMPLES) == 5


@pytest.mark.parametrize("name", [n for n in client.__all__ if n[0].isupper() and "Order" in n])
def test_every_command_is_named(name: str) -> None:
    assert f"`{name}`" in PAGE
