"""An export proves itself; a damaged one is named where it is damaged, and never imported."""

from __future__ import annotations

import errno
import gzip
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from time import sleep
from typing import Any

import pytest

from recorder.database.engine import Database, in_unit, open_database
from recorder.export import reading
from recorder.lease.sql import take
from tests.cli.scene import Answer, ask, record_scene
from tests.export.scene import (
    DAY_US,
    all_events,
    count_events,
    exported,
    lines_of,
    manifest_of,
    write_nasty,
)
from tests.log.drafts import NOW, NOW_US, frame, run_sql, write

NOWHERE = "sqlite:////nonexistent/never/asked.db"


@pytest.fixture
def source_url(sqlite_template: Path, tmp_path: Path) -> str:
    """The URL of the database that `folder` is exported from."""
    shutil.copyfile(sqlite_template, tmp_path / "source.db")
    return f"sqlite:///{tmp_path / 'source.db'}"


@pytest.fixture
def source(source_url: str) -> Iterator[Database]:
    """The database that `folder` is exported from."""
    with open_database(source_url) as opened:
        yield opened


@pytest.fixture
def folder(source: Database, source_url: str, tmp_path: Path) -> Path:
    """An export of two accounts, five events each, over three days."""
    for account in ("a", "b"):
        made = [frame(str(n), account=account, at_us=NOW_US + n * DAY_US // 2) for n in range(5)]
        write(source, *made)
    exported(source_url, tmp_path / "x")
    return tmp_path / "x"


def prove(folder: Path) -> Answer:
    """Verify an export, where no database could be asked."""
    return ask(NOWHERE, "verify", "--export", str(folder))


def rewrite(folder: Path, change: Callable[[list[dict[str, Any]]], None], *, seal: bool) -> None:
    """Change the events of the second day; ``seal`` puts the new SHA-256 into the manifest."""
    path = folder / "events" / "2026-03-02.jsonl"
    rows = lines_of(path)
    change(rows)
    lines = [json.dumps(row, separators=(",", ":")) + "\n" for row in rows]
    path.write_bytes("".join(lines).encode())
    if seal:
        reseal(folder, path)


def reseal(folder: Path, path: Path) -> None:
    manifest = manifest_of(folder)
    for file in manifest["files"]:
        if folder / file["path"] == path:
            file["sha256"] = hashlib.sha256(path.read_bytes()).hexdigest()
    write_manifest(folder, manifest)


def write_manifest(folder: Path, manifest: dict[str, Any]) -> None:
    (folder / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")


def test_an_export_is_proved_without_any_database(folder: Path, source_url: str) -> None:
    answer = prove(folder)

    assert answer.code == 0, answer.err
    assert answer.rows == ask(source_url, "verify").rows
    assert [row["events"] for row in answer.rows] == [5, 5]


def test_every_format_of_log_that_can_be_proved_is(
    database: Database, database_url: str, tmp_path: Path
) -> None:
    write_nasty(database, "main", "b")
    for number, argv in enumerate(((), ("--compress", "gzip"), ("--no-partition",))):
        exported(database_url, tmp_path / str(number), "--table", "all", *argv)

        answer = prove(tmp_path / str(number))

        assert (answer.code, answer.rows) == (0, ask(database_url, "verify").rows)


def changed(**values: object) -> Callable[[list[dict[str, Any]]], None]:
    return lambda rows: rows[1].update(values)


def without(rows: list[dict[str, Any]]) -> None:
    del rows[1]


def swapped(rows: list[dict[str, Any]]) -> None:
    rows[0], rows[1] = rows[1], rows[0]


def repeated(rows: list[dict[str, Any]]) -> None:
    rows.insert(1, rows[0])


def tail(rows: list[dict[str, Any]]) -> None:
    del rows[-1]


# The second day has positions 2 and 3 of each account: a2 a3 b2 b3.
@pytest.mark.parametrize(
    ("change", "account", "position"),
    [
        (changed(payload="other"), "a", 3),
        (changed(received_at="2026-03-02T12:00:00.000000+00:00"), "a", 3),
        (changed(received_at="2026-03-02 12:00:00"), "a", 3),
        (changed(received_at="2026-03-02T12:00:00.123456Z"), "a", 3),
        (changed(connection_id="other"), "a", 3),
        (changed(origin="invented"), "a", 3),
        (changed(encoding="base32"), "a", 3),
        (changed(digest="00" * 32), "a", 3),
        (changed(digest="00"), "a", 3),
        (changed(digest="zz"), "a", 3),
        (changed(position=7), "a", 3),
        (changed(position="3"), "a", 3),
        (changed(position=1 << 70), "a", 3),
        (changed(elapsed_ns=1 << 70), "a", 3),
        (changed(elapsed_ns=5.5), "a", 3),
        (changed(payload=None), "a", 3),
        (changed(payload="\ud800"), "a", 3),
        (changed(connection_id="\x00"), "a", 3),
        (changed(account="b"), "b", 2),
        (changed(account="c"), "a", 3),
        (changed(extra=1), "a", 3),
        (without, "a", 3),
        (swapped, "a", 2),
        (repeated, "a", 2),
        (tail, "b", 3),
    ],
)
@pytest.mark.parametrize("seal", [True, False], ids=["sealed", "unsealed"])
def test_whatever_is_done_to_an_event_is_named_at_its_position_and_not_imported(
    folder: Path,
    sqlite: Database,
    sqlite_url: str,
    change: Callable[[list[dict[str, Any]]], None],
    account: str,
    position: int,
    seal: bool,
) -> None:
    rewrite(folder, change, seal=seal)

    answer = prove(folder)

    assert answer.code == 1, answer.out + answer.err
    assert len(answer.rows) == 1
    assert answer.rows[0]["result"] == "damaged"
    assert (answer.rows[0]["account"], answer.rows[0]["position"]) == (account, position)
    loaded = ask(sqlite_url, "import", str(folder))
    assert (loaded.code, loaded.out) == (1, "")
    assert f"the export is damaged: account '{account}', position {position}: " in loaded.err
    assert count_events(sqlite) == 0


def test_damage_at_the_very_end_takes_everything_back(
    folder: Path, database: Database, database_url: str
) -> None:
    manifest = manifest_of(folder)
    manifest["log"]["b"]["head"]["digest"] = "00" * 32
    write_manifest(folder, manifest)

    loaded = ask(database_url, "import", str(folder))

    assert (loaded.code, loaded.out) == (1, "")
    assert "account 'b', position 5" in loaded.err
    assert count_events(database) == 0


def test_what_the_chain_does_not_cover_the_file_s_sum_does(folder: Path) -> None:
    rewrite(folder, changed(elapsed_ns=6), seal=False)

    answer = prove(folder)

    assert answer.code == 1
    assert (answer.rows[0]["account"], answer.rows[0]["position"]) == ("a", 2)
    assert "SHA-256" in answer.rows[0]["what"]


@pytest.mark.parametrize(
    "garbage", [b"\n", b"{}\n", b"[]\n", b"\xff\xfe\n", b"[" * 100_000 + b"\n"]
)
def test_garbage_among_the_lines_is_damage_where_it_stands(folder: Path, garbage: bytes) -> None:
    path = folder / "events" / "2026-03-03.jsonl"
    path.write_bytes(garbage + path.read_bytes())

    answer = prove(folder)

    assert answer.code == 1
    assert (answer.rows[0]["account"], answer.rows[0]["position"]) == ("a", 4)


def test_a_line_that_is_cut_or_has_no_end_is_damage(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = folder / "events" / "2026-03-03.jsonl"
    whole = path.read_bytes()
    path.write_bytes(whole[:-1])
    cut = prove(folder)
    assert (cut.code, cut.rows[0]["what"]) == (1, "events/2026-03-03.jsonl: its line is cut")
    path.write_bytes(whole)
    monkeypatch.setattr(reading, "LINE_BYTES_MAX", 100)
    assert prove(folder).code == 1


@pytest.mark.parametrize("how", ["cut", "noise", "plain"])
def test_a_packed_file_that_can_not_be_unpacked_is_damage(
    sqlite: Database, sqlite_url: str, tmp_path: Path, how: str
) -> None:
    write_nasty(sqlite, "main")
    exported(sqlite_url, tmp_path / "x", "--compress", "gzip", "--no-partition")
    path = tmp_path / "x" / "events.jsonl.gz"
    whole = path.read_bytes()
    middle = len(whole) // 2
    damaged = {
        "cut": whole[:middle],
        "noise": whole[:middle] + bytes(200) + whole[middle + 200 :],
        "plain": gzip.decompress(whole),
    }
    path.write_bytes(damaged[how])

    answer = prove(tmp_path / "x")

    assert answer.code == 1
    assert answer.rows[0]["account"] == "main"


def test_a_missing_file_and_a_cut_manifest_are_damage_or_another_head(folder: Path) -> None:
    last = folder / "events" / "2026-03-03.jsonl"
    kept = last.read_bytes()
    last.unlink()
    assert prove(folder).rows[0] == {
        "account": "a",
        "result": "damaged",
        "finding": "altered",
        "position": 4,
        "what": "events/2026-03-03.jsonl: the file is missing",
    }

    manifest = manifest_of(folder)
    manifest["files"].pop()
    write_manifest(folder, manifest)
    answer = prove(folder)
    assert (answer.code, answer.rows[0]["position"]) == (1, 4)
    assert "missing" in answer.rows[0]["what"]

    # A forger who rewrites the heads as well is found by a head that was kept.
    last.write_bytes(kept)


def test_another_digest_of_the_head_is_damage(folder: Path) -> None:
    manifest = manifest_of(folder)
    manifest["log"]["b"]["head"]["digest"] = "00" * 32
    write_manifest(folder, manifest)

    answer = prove(folder)

    assert answer.code == 1
    assert (answer.rows[0]["account"], answer.rows[0]["position"]) == ("b", 5)


def test_a_table_beside_the_log_that_was_changed_is_damage_without_a_position(
    sqlite: Database, sqlite_url: str, tmp_path: Path
) -> None:
    record_scene(sqlite)
    exported(sqlite_url, tmp_path / "x", "--table", "all")
    path = tmp_path / "x" / "balances.jsonl"
    path.write_bytes(path.read_bytes().replace(b"100.5", b"100.6"))

    answer = prove(tmp_path / "x")

    assert answer.code == 1
    assert answer.rows[0]["position"] is None
    page = ask(NOWHERE, "verify", "--export", str(tmp_path / "x"), "--table").out
    assert page.startswith("the export: DAMAGED: balances.jsonl")


@pytest.mark.parametrize(
    "change",
    [
        lambda it: it.unlink(),
        lambda it: it.write_bytes(b""),
        lambda it: it.write_bytes(b"\xff"),
        lambda it: it.write_bytes(b"[" * 100_000),
        lambda it: it.write_text('{"kind": "recorder export"}', encoding="utf-8"),
        lambda it: it.write_text(it.read_text().replace("events/", "../"), encoding="utf-8"),
        lambda it: it.write_text(it.read_text().replace('"version": 1', '"version": 2')),
        lambda it: it.write_text(it.read_text().replace('"digest": "', '"digest": "zz')),
        lambda it: it.write_text(it.read_text().replace('"position": 5', '"position": -5')),
    ],
)
def test_what_is_no_export_could_not_be_checked(
    folder: Path, tmp_path: Path, change: Callable[[Path], object]
) -> None:
    change(folder / "manifest.json")

    answer = prove(folder)
    loaded = ask(f"sqlite:///{tmp_path / 'new.db'}", "import", str(folder))

    assert (answer.code, answer.out) == (2, "")
    assert "could not be verified" in answer.err
    assert (loaded.code, loaded.out) == (2, "")
    assert not (tmp_path / "new.db").exists()


def test_other_formats_and_an_export_without_events_could_not_be_checked(
    sqlite: Database, sqlite_url: str, tmp_path: Path
) -> None:
    record_scene(sqlite)
    exported(sqlite_url, tmp_path / "csv", "--format", "csv")
    exported(sqlite_url, tmp_path / "tables", "--table", "balances")

    for name, message in (("csv", "--format jsonl"), ("tables", "holds no events")):
        answer = prove(tmp_path / name)
        assert (answer.code, answer.out) == (2, "")
        assert message in answer.err
    answer = ask(NOWHERE, "verify", "--export", str(tmp_path / "csv"), "--account", "main")
    assert answer.code == 2


def test_only_a_log_from_its_start_is_imported(
    sqlite: Database, sqlite_url: str, tmp_path: Path
) -> None:
    write(sqlite, frame("a"), frame("b"))
    exported(sqlite_url, tmp_path / "x", "--from", "2")

    answer = ask(f"sqlite:///{tmp_path / 'new.db'}", "import", str(tmp_path / "x"))

    assert answer.code == 2
    assert "only a log from its start" in answer.err
    assert not (tmp_path / "new.db").exists()


@pytest.mark.parametrize("what", ["events", "lease", "table", "queue"])
def test_an_account_of_which_anything_stands_is_not_imported(
    folder: Path, database: Database, database_url: str, what: str
) -> None:
    if what == "events":
        write(database, frame(account="b"))
    elif what == "lease":
        in_unit(database.writer, take, "b", holder="x", now=NOW, ttl=NOW - NOW)
    elif what == "table":
        run_sql(
            database,
            "INSERT INTO balances (account, currency, basis, position)"
            " VALUES ('b', 'BTC', 'reported', 1)",
        )
    else:
        run_sql(
            database,
            "INSERT INTO outbox (account, command, payload)"
            """ VALUES ('b', 'CANCEL_ORDER', '{"orderId":"x","pair":"BTCZAR"}')""",
        )
    before = all_events(database)

    answer = ask(database_url, "import", str(folder))

    assert answer.code == 2
    assert "the database has rows of account 'b' in" in answer.err
    assert all_events(database) == before


def test_other_accounts_and_switches_may_stand(
    folder: Path, database: Database, database_url: str
) -> None:
    write(database, frame(account="c"))
    run_sql(database, "INSERT INTO controls (account, trading) VALUES ('a', 'off')")

    assert ask(database_url, "import", str(folder)).code == 0
    assert len(all_events(database)) == 11
    assert ask(database_url, "import", str(folder)).code == 2


def test_an_import_that_is_killed_in_the_middle_leaves_nothing_and_works_the_next_time(
    folder: Path, source: Database, database: Database, database_url: str, tmp_path: Path
) -> None:
    broken = tmp_path / "broken"
    shutil.copytree(folder, broken)
    last = broken / "events" / "2026-03-03.jsonl"
    last.unlink()
    # Opening a pipe waits for its other end: there the import stops, two days written.
    os.mkfifo(last)

    command = [sys.executable, "-m", "recorder", "import", str(broken)]
    with subprocess.Popen(
        [*command, "--database-url", database_url], stderr=subprocess.PIPE
    ) as running:
        pipe = opened_pipe(last, running)
        os.write(pipe, lines_of_bytes(folder)[0])
        running.send_signal(signal.SIGKILL)
        assert running.wait() == -signal.SIGKILL
        os.close(pipe)

    assert count_events(database) == 0
    assert ask(database_url, "verify").code == 2
    assert ask(database_url, "import", str(folder)).code == 0
    assert all_events(database) == all_events(source)


def opened_pipe(path: Path, reader: subprocess.Popen[bytes]) -> int:
    """Open the pipe for writing once ``reader`` has opened it, which must not end before."""
    while True:
        try:
            return os.open(path, os.O_WRONLY | os.O_NONBLOCK)
        except OSError as error:
            assert error.errno == errno.ENXIO, error
        assert reader.poll() is None, reader.stderr and reader.stderr.read()
        sleep(0.02)


def lines_of_bytes(folder: Path) -> list[bytes]:
    return (folder / "events" / "2026-03-03.jsonl").read_bytes().splitlines(keepends=True)
