"""A database that comes back older than it was loses nothing and sends nothing twice."""

from __future__ import annotations

import contextlib
import sqlite3
from pathlib import Path

import pytest

from tests.cli.scene import ask
from tests.daemon.scene import FINAL, LIMIT, assert_chained, connected, until
from tests.daemon.test_outbox import sent_ids


def copy_into(source: Path, target: Path) -> None:
    """Replace a database's content, while other programs have it open."""
    with (
        contextlib.closing(sqlite3.connect(source)) as older,
        contextlib.closing(sqlite3.connect(target)) as live,
    ):
        older.backup(live)


async def test_the_log_is_put_back_and_the_command_is_not_sent_again(
    sqlite_url: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    live, kept = Path(sqlite_url.removeprefix("sqlite:///")), tmp_path / "kept.db"
    async with connected(sqlite_url) as scene:
        await scene.until_live()
        books = scene.books
        books.do("UPDATE controls SET trading = 'off'")
        number = books.queue("PLACE_LIMIT_ORDER", LIMIT, client_msg_id="once")
        # As it was before it was sent: nothing of that had reached the standby.
        copy_into(live, kept)
        books.do("UPDATE controls SET trading = 'on'")
        await scene.until_status(number, *FINAL)
        before = int(books.one("SELECT max(position) FROM events"))
        copy_into(kept, live)
        books.do("UPDATE controls SET trading = 'on'")
        assert int(books.one("SELECT max(position) FROM events")) < before
        # The next frame finds out.
        await until(lambda: int(books.one("SELECT max(position) FROM events")) > before)
        await scene.until_status(number, "in_doubt", *FINAL)
        await scene.until_folded()
        assert sent_ids(books)["once"] == 1
        assert_chained(books)
    assert "which it had committed; they are put back" in caplog.text
    assert f"outbox {number} is in doubt: its sending had been lost" in caplog.text
    assert ask(sqlite_url, "verify", "--account", "main").code == 0
