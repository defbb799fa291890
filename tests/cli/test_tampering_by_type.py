"""Both verifiers find what no ordinary statement leaves behind: a table that contradicts its index,
values of types that their columns can't have, and checkpoints in forms that no recorder writes."""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import psycopg
import pytest
from attrs import evolve

from recorder.database.engine import Database
from recorder.log.sql.checkpoint_file import make_keys
from tests.cli.scene import ask
from tests.cli.tampering import (
    SCRIPT,
    PersistentConnection,
    Verdict,
    keep,
    rechain,
    tamper,
    verdict,
)


@pytest.fixture
def kept(database: Database, database_url: str, tmp_path: Path) -> PersistentConnection:
    """A log of ten events with checkpoints at 3, 6, 9 and 10."""
    return kept_outside(database, database_url, tmp_path)


@pytest.fixture
def on_sqlite(sqlite: Database, sqlite_url: str, tmp_path: Path) -> PersistentConnection:
    """The same in a file."""
    return kept_outside(sqlite, sqlite_url, tmp_path)


def kept_outside(database: Database, url: str, tmp_path: Path) -> PersistentConnection:
    folder = tmp_path / "outside"
    folder.mkdir()
    return keep(database, url, folder)


def assert_both_find(kept: PersistentConnection, *damage: tuple[str, int | None]) -> None:
    for found in both(kept):
        assert (found.code, found.damage) == (1, list(damage)), (found.lines, found.err)


def both(kept: PersistentConnection) -> Iterator[Verdict]:
    yield kept.verify()
    yield kept.verify_independently()


def beside_the_index(kept: PersistentConnection, change: str) -> None:
    """Change the table while its index looks away, as an owner of the catalogue can."""
    kept.database.close()
    if kept.database.dialect == "postgresql":
        ready = "UPDATE pg_index SET indisready = {0}, indisvalid = {0}"
        ready += " WHERE indexrelid = 'events_pkey'::regclass"
        disabled = "ALTER TABLE events DISABLE TRIGGER ALL"
        for statement in (disabled, ready.format("false"), change, ready.format("true")):
            with psycopg.connect(kept.url) as server:
                server.execute(statement)
        return
    path = kept.url.removeprefix("sqlite:///")
    with closing(sqlite3.connect(path, isolation_level=None)) as editor:
        what = "SELECT type, name, tbl_name, rootpage, sql FROM sqlite_master"
        entries = editor.execute(f"{what} WHERE tbl_name = 'events'").fetchall()
        editor.execute("PRAGMA writable_schema = ON")
        editor.execute("DELETE FROM sqlite_master WHERE tbl_name = 'events' AND type <> 'table'")
        key = "CONSTRAINT events_pkey PRIMARY KEY (account, position),"
        editor.execute("UPDATE sqlite_master SET sql = replace(sql, ?, '')", (key,))
    with closing(sqlite3.connect(path, isolation_level=None)) as editor:
        editor.execute(change)
    with closing(sqlite3.connect(path, isolation_level=None)) as editor:
        editor.execute("PRAGMA writable_schema = ON")
        editor.execute("DELETE FROM sqlite_master WHERE tbl_name = 'events'")
        insert = "INSERT INTO sqlite_master (type, name, tbl_name, rootpage, sql)"
        editor.executemany(f"{insert} VALUES (?, ?, ?, ?, ?)", entries)


@pytest.mark.parametrize(("position", "found"), [("position", 4), ("104", 11), ("11", 11)])
def test_a_forged_event_that_only_a_scan_of_the_table_meets(
    kept: PersistentConnection, position: str, found: int
) -> None:
    columns = "received_at, elapsed_ns, connection_id, origin"
    forged = """'', '{"forged": 1}', encoding, digest FROM events WHERE position = 4"""
    beside_the_index(
        kept,
        f"INSERT INTO events (account, position, {columns}, type, payload, encoding, digest)"
        f" SELECT account, {position}, {columns}, {forged}",
    )

    assert_both_find(kept, ("altered", found))


def test_a_position_that_is_another_one_in_the_table_than_in_its_index(
    on_sqlite: PersistentConnection,
) -> None:
    beside_the_index(on_sqlite, "UPDATE events SET position = 77 WHERE position = 4")

    assert_both_find(on_sqlite, ("altered", 4))


@pytest.mark.parametrize(("position", "finding"), [(4, "altered"), (10, "cut_tail")])
def test_an_event_of_which_only_the_index_knows(
    on_sqlite: PersistentConnection, position: int, finding: str
) -> None:
    beside_the_index(on_sqlite, f"DELETE FROM events WHERE position = {position}")

    assert_both_find(on_sqlite, (finding, position))


#: What reads the same, and is another value for SQL.
ON_SQLITE = [
    ("payload = CAST(payload AS BLOB) WHERE position = 4", 4),
    ("account = CAST(account AS BLOB) WHERE position = 10", 10),
    ("account = CAST(account AS BLOB)", 1),
    ("position = CAST(position AS TEXT) WHERE position = 10", 10),
    ("position = 4.5 WHERE position = 4", 4),
    ("digest = CAST(digest AS TEXT) WHERE position = 4", 4),
    ("received_at = replace(received_at, ' ', 'T') WHERE position = 4", 4),
    ("received_at = received_at || '+00:00' WHERE position = 4", 4),
    ("received_at = strftime('%s', received_at) || substr(received_at, 21) WHERE position = 4", 4),
    ("type = payload, payload = type || char(0) WHERE position = 4", 4),
]


@pytest.mark.parametrize(("change", "position"), ON_SQLITE)
def test_a_value_of_a_type_that_its_column_can_not_have(
    on_sqlite: PersistentConnection, change: str, position: int
) -> None:
    on_sqlite.database.close()
    path = on_sqlite.url.removeprefix("sqlite:///")
    with closing(sqlite3.connect(path, isolation_level=None)) as editor:
        editor.execute("PRAGMA writable_schema = ON")
        editor.execute("DELETE FROM sqlite_master WHERE type = 'trigger' AND tbl_name = 'events'")
        loose = "replace(replace(sql, 'STRICT', ''), 'position INTEGER', 'position BLOB')"
        editor.execute(f"UPDATE sqlite_master SET sql = {loose} WHERE name = 'events'")
    with closing(sqlite3.connect(path, isolation_level=None)) as editor:
        editor.execute("PRAGMA ignore_check_constraints = ON")
        editor.execute(f"UPDATE events SET {change}")

    assert_both_find(on_sqlite, ("altered", position))


@pytest.mark.parametrize(
    "change",
    [
        "ALTER payload TYPE bytea USING convert_to(payload, 'UTF8')",
        "DROP CONSTRAINT events_digest, ALTER digest TYPE text USING encode(digest, 'hex')",
        "ALTER received_at TYPE text",
        "ALTER position TYPE numeric USING position + CASE position WHEN 1 THEN 0.5 ELSE 0 END",
        "DROP CONSTRAINT events_position, ALTER position TYPE text USING '0' || position",
    ],
)
def test_a_column_that_was_given_another_type(
    postgres: Database, postgres_url: str, tmp_path: Path, change: str
) -> None:
    kept = kept_outside(postgres, postgres_url, tmp_path)
    postgres.close()
    with psycopg.connect(postgres_url) as server:
        server.execute("ALTER TABLE events DISABLE TRIGGER ALL")
        server.execute("DROP VIEW event_json, coverage CASCADE")
        server.execute(f"ALTER TABLE events {change}")

    for found in both(kept):
        assert found.code in (1, 2)
        assert found.err or found.damage == [("altered", 1)]


FORMS: list[Callable[[dict[str, object]], dict[str, object]]] = [
    lambda sentence: {"position": str(sentence["position"])},
    lambda sentence: {"position": float(str(sentence["position"]))},
    lambda sentence: {"position": float("inf")},
    lambda sentence: {"position": 0},
    lambda sentence: {"position": True},
    lambda sentence: {"digest": str(sentence["digest"]).upper()},
    lambda sentence: {"digest": "ab"},
    lambda sentence: {"account": ""},
    lambda sentence: {"account": ["main"]},
    lambda sentence: {"at": str(sentence["at"]).replace("Z", "+00:00")},
    lambda sentence: {"at": "2026-03-01"},
    lambda sentence: {"key": None},
    lambda sentence: {"key": 5},
    lambda sentence: {"signature": None},
    lambda sentence: {"signature": "ab"},
]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("is_signed", [True, False])
def test_a_checkpoint_in_a_form_that_no_recorder_writes(
    on_sqlite: PersistentConnection,
    form: Callable[[dict[str, object]], dict[str, object]],
    is_signed: bool,
) -> None:
    lines = on_sqlite.file.read_text().splitlines()
    sentence = json.loads(lines[1])
    lines[1] = json.dumps(sentence | form(sentence))
    on_sqlite.file.write_text("".join(line + "\n" for line in lines))
    if is_signed:
        assert_both_find(on_sqlite, ("unreadable", None))
        return
    # Where signatures don't count, so much the less may the form.
    reported = [sys.executable, str(SCRIPT), on_sqlite.url, "--checkpoints", str(on_sqlite.file)]
    done = subprocess.run(reported, capture_output=True, text=True, timeout=60)
    assert "Traceback" not in done.stderr
    assert (done.returncode, json.loads(done.stdout.splitlines()[0])["finding"]) == (
        1,
        "unreadable",
    )


@pytest.mark.parametrize("keys", [b"", b"# none\n", b"abcd\n", b"zz\n", b"\xff\n"])
def test_a_file_without_a_public_key_checks_no_signature_and_so_proves_nothing(
    on_sqlite: PersistentConnection, keys: bytes
) -> None:
    on_sqlite.public_file.write_bytes(keys)

    for found in both(on_sqlite):
        assert (found.code, found.lines) == (2, [])
        assert "public key" in found.err or "hex" in found.err or "decode" in found.err


def test_signatures_that_were_to_be_checked_and_can_not_be_are_no_success(
    on_sqlite: PersistentConnection,
) -> None:
    flags = ["--checkpoints", str(on_sqlite.file), "--public-keys", str(on_sqlite.public_file)]
    # -S and -I leave out every installed package.
    argv = [sys.executable, "-S", "-I", str(SCRIPT), on_sqlite.url, *flags]

    done = subprocess.run(argv, capture_output=True, text=True, timeout=60)

    assert (done.returncode, done.stdout) == (2, "")
    assert "cryptography" in done.stderr


def test_what_no_index_hides_is_what_was_written_in_whatever_order(
    kept: PersistentConnection,
) -> None:
    # Accounts that take turns, and events of another that were cut off, are no strays of the first.
    kept.record(3, account="other")
    kept.record(2)
    tamper(kept.database, "DELETE FROM events WHERE account = 'other' AND position = 3")

    for found in both(kept):
        # `recorder verify` also reports that it had no checkpoint of the other account.
        assert found.code in (0, 2)
        assert (found.damage, found.lines[0]["position"]) == ([], 12), found.lines


# What `recorder verify --export` reports of an export, beside the second verifier.


@pytest.fixture
def export(kept: PersistentConnection) -> Path:
    """An export of the ten events."""
    folder = kept.folder / "export"
    assert ask(kept.url, "export", str(folder), "--no-partition").code == 0
    return folder


def proofs(kept: PersistentConnection, export: Path) -> Iterator[Verdict]:
    named = ("--checkpoints", str(kept.file), "--checkpoint-public-file", str(kept.public_file))
    answer = ask("sqlite:////nowhere.db", "verify", "--json", "--export", str(export), *named)
    yield verdict(answer.code, answer.out, answer.err)
    yield kept.verify_independently(str(export / "events.jsonl"))


def test_an_export_is_compared_with_the_checkpoints_that_are_named(
    kept: PersistentConnection, export: Path
) -> None:
    for found in proofs(kept, export):
        assert (found.code, found.damage) == (0, []), found.err
        assert (found.lines[0]["checkpoints"], found.lines[0]["signatures"]) == (4, "checked")
    kept.file.write_text("")
    assert [found.code for found in proofs(kept, export)] == [2, 2]


@pytest.mark.parametrize("account", ["main", "other"])
def test_an_export_that_lacks_what_a_checkpoint_knows(
    kept: PersistentConnection, export: Path, account: str
) -> None:
    kept.record(1, account=account)
    kept.checkpoint(account)

    position = 11 if account == "main" else 1
    for found in proofs(kept, export):
        assert (found.code, found.damage) == (1, [("cut_tail", position)]), found.lines


def test_an_export_of_a_log_that_was_rechained_is_named_so(kept: PersistentConnection) -> None:
    rechain(kept, [evolve(each, payload="forged") for each in kept.events()])
    folder = kept.folder / "export"
    assert ask(kept.url, "export", str(folder), "--no-partition").code == 0

    for found in proofs(kept, folder):
        assert (found.code, found.damage) == (1, [("rewritten", 3)]), found.lines


def test_a_stretch_is_compared_with_the_checkpoints_behind_its_beginning(
    kept: PersistentConnection,
) -> None:
    folder = kept.folder / "export"
    assert ask(kept.url, "export", str(folder), "--no-partition", "--from", "5").code == 0

    found = next(proofs(kept, folder))

    assert (found.code, found.damage) == (0, [])
    assert (found.lines[0]["after"], found.lines[0]["checkpoints"]) == (4, 3)


def test_an_export_and_forged_checkpoints(kept: PersistentConnection, export: Path) -> None:
    kept.checkpoint(key=make_keys(kept.folder / "forged"))

    for found in proofs(kept, export):
        assert (found.code, found.damage) == (1, [("unknown_key", 10)])
