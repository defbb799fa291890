"""From one database through files into another, of the same kind or the other one, and back."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from recorder.database.engine import Database, open_database
from tests.cli.scene import ask, fold, record_scene
from tests.export.scene import all_events, exported, write_nasty
from tests.log.drafts import frame, run_sql, write


@pytest.mark.parametrize("packed", [(), ("--compress", "gzip")], ids=["plain", "gzip"])
def test_every_event_goes_from_sqlite_to_postgresql_and_back_byte_for_byte(
    sqlite: Database,
    postgres: Database,
    postgres_url: str,
    sqlite_url: str,
    tmp_path: Path,
    packed: tuple[str, ...],
) -> None:
    write_nasty(sqlite, "main", "a/b ../c", "écu\n")
    exported(sqlite_url, tmp_path / "one", *packed)

    there = ask(postgres_url, "import", str(tmp_path / "one"))
    exported(postgres_url, tmp_path / "two", *packed)
    again = tmp_path / "again.db"
    back = ask(f"sqlite:///{again}", "import", str(tmp_path / "two"))

    assert (there.code, back.code) == (0, 0), there.err + back.err
    assert len(all_events(sqlite)) == 45
    assert all_events(postgres) == all_events(sqlite)
    assert ask(f"sqlite:///{again}", "events", "--account", "main", "--after", "0").out == (
        ask(sqlite_url, "events", "--account", "main", "--after", "0").out
    )
    assert ask(f"sqlite:///{again}", "verify").out == ask(sqlite_url, "verify").out
    names = sorted(path.relative_to(tmp_path / "one") for path in (tmp_path / "one").rglob("*"))
    for name in names:
        one, two = tmp_path / "one" / name, tmp_path / "two" / name
        if one.is_file() and name.name != "manifest.json":
            assert one.read_bytes() == two.read_bytes()


def test_columns_that_the_digest_does_not_cover_come_back_too(
    database: Database, database_url: str, tmp_path: Path
) -> None:
    write_nasty(database, "main")
    exported(database_url, tmp_path / "x")
    url = f"sqlite:///{tmp_path / 'new.db'}"

    assert ask(url, "import", str(tmp_path / "x")).code == 0

    asked = ("events", "--after", "0", "--json")
    assert ask(url, *asked).out == ask(database_url, *asked).out
    null = run_sql(database, "SELECT count(*) FROM events WHERE connection_id IS NULL")
    assert null[0][0] == 5


def test_what_was_imported_folds_into_the_tables_that_were_there(
    database: Database, database_url: str, tmp_path: Path
) -> None:
    record_scene(database)
    exported(database_url, tmp_path / "x")
    url = f"sqlite:///{tmp_path / 'new.db'}"
    ask(url, "import", str(tmp_path / "x"))

    assert ask(url, "rebuild", "--all").code == 0

    for table in ("balances", "balance_history", "open_orders", "orders", "connections"):
        asked = ("export", "-", "--table", table)
        assert _output(url, *asked) == _output(database_url, *asked)


def _output(url: str, *argv: str) -> str:
    command = [sys.executable, "-m", "recorder", *argv, "--database-url", url]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def test_a_recorder_goes_on_behind_an_imported_log(
    database: Database, database_url: str, tmp_path: Path
) -> None:
    write(database, frame("a"), frame("b"))
    exported(database_url, tmp_path / "x")
    path = tmp_path / "new.db"
    ask(f"sqlite:///{path}", "import", str(tmp_path / "x"))
    with open_database(f"sqlite:///{path}") as other:
        (third,) = write(other, frame("c"))
        fold(other)
        written = write(database, frame("c"))

    assert third == written[0]
    assert ask(f"sqlite:///{path}", "verify").code == 0


def test_an_import_brings_an_empty_database_its_schema(
    database: Database, database_url: str, empty_database_url: str, tmp_path: Path
) -> None:
    write(database, frame("a"))
    exported(database_url, tmp_path / "x")
    url = empty_database_url
    if url.startswith("sqlite"):
        url = f"sqlite:///{tmp_path / 'fresh.db'}"

    answer = ask(url, "import", str(tmp_path / "x"))

    assert answer.code == 0, answer.err
    assert answer.rows[0]["events"] == 1
    assert "recorder rebuild --all" in answer.err
