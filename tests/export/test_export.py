"""What an export holds, which part of it, where it lies, and what is left when it fails."""

from __future__ import annotations

import errno
import gzip
import hashlib
import json
import random
import subprocess
import sys
import tracemalloc
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest
from sqlalchemy import Connection, insert

from recorder.database.engine import Database, in_unit
from recorder.database.prepared import driver_connection
from recorder.database.schema import ledger
from recorder.errors import FilesFailed
from recorder.export.folder import file_errors, read_manifest
from recorder.export.formats import Format
from recorder.export.rows import FETCHED_ROWS, TABLES
from recorder.export.writing import Order, Step, export
from recorder.log.sql import read
from tests.cli.scene import ask, record_scene
from tests.cli.test_proving import tamper
from tests.export.scene import DAY_US, exported, lines_of, manifest_of, write_nasty
from tests.log.drafts import NOW_US, frame, run_sql, write

NOW = datetime(2026, 3, 2, tzinfo=UTC)


def silent(_table: str, _total: int) -> Step:
    return lambda done: None


def test_a_line_has_the_agreed_keys_and_every_value_exactly(
    database: Database, database_url: str, tmp_path: Path
) -> None:
    (event,) = write(database, frame('{"a":"\n"}'))

    exported(database_url, tmp_path / "x")

    text = (tmp_path / "x" / "events" / "2026-03-01.jsonl").read_text(encoding="ascii")
    assert list(json.loads(text).items()) == [
        ("account", "main"),
        ("position", 1),
        ("received_at", "2026-03-01T12:00:00.123456+00:00"),
        ("elapsed_ns", 5),
        ("connection_id", "c-1"),
        ("origin", "received"),
        ("type", ""),
        ("encoding", "text"),
        ("payload", '{"a":"\n"}'),
        ("digest", event.digest.hex()),
    ]
    assert text.count("\n") == 1


def test_each_day_has_its_file_with_all_accounts_and_the_manifest_counts_them(
    database: Database, database_url: str, tmp_path: Path
) -> None:
    days = (0, 0, 1, 3)
    for account in ("b", "a"):
        made = [frame(str(n), account=account, at_us=NOW_US + n * DAY_US) for n in days]
        write(database, *made)

    message = exported(database_url, tmp_path / "x").rows[0]

    manifest = manifest_of(tmp_path / "x")
    names = ["2026-03-01", "2026-03-02", "2026-03-04"]
    assert [file["day"] for file in manifest["files"]] == names
    assert [file["rows"] for file in manifest["files"]] == [4, 2, 2]
    assert manifest["files"][0]["parts"] == [
        {"account": "a", "first_position": 1, "last_position": 2},
        {"account": "b", "first_position": 1, "last_position": 2},
    ]
    for file in manifest["files"]:
        path = tmp_path / "x" / file["path"]
        assert hashlib.sha256(path.read_bytes()).hexdigest() == file["sha256"]
        assert path.stat().st_size == file["bytes"]
    assert message["rows"] == manifest["rows"] == {"events": 8}
    assert manifest["log"]["a"]["head"]["position"] == 4


def test_names_of_files_keep_the_order_of_positions_when_a_clock_was_set_back(
    database: Database, database_url: str, tmp_path: Path
) -> None:
    write(database, *(frame(str(n), at_us=NOW_US + n * DAY_US) for n in (0, 2, 1, 2, 0, 3)))

    exported(database_url, tmp_path / "x")

    files = sorted((tmp_path / "x" / "events").iterdir())
    assert [row["position"] for row in lines_of(*files)] == [1, 2, 3, 4, 5, 6]
    assert [len(lines_of(file)) for file in files] == [1, 4, 1]


def test_pages_that_end_in_the_middle_of_a_day_lose_and_repeat_nothing(
    database: Database, database_url: str, tmp_path: Path
) -> None:
    for account in ("a", "b"):
        write(
            database,
            *(
                frame(str(n), account=account, at_us=NOW_US + n * DAY_US // 900)
                for n in range(2500)
            ),
        )

    exported(database_url, tmp_path / "x")

    rows = lines_of(*sorted((tmp_path / "x" / "events").iterdir()))
    for account in ("a", "b"):
        own = [row["position"] for row in rows if row["account"] == account]
        assert own == list(range(1, 2501))


@pytest.mark.parametrize(
    ("limits", "positions", "after"),
    [
        (("--from", "3"), [3, 4, 5, 6], 2),
        (("--to", "2"), [1, 2], 0),
        (("--from", "2", "--to", "4"), [2, 3, 4], 1),
        (("--from", "2026-03-02T12:00:00Z"), [2, 3, 4, 5, 6], 1),
        (("--to", "2026-03-02T00:00:00Z"), [1, 2, 3], 0),
        (("--from", "2026-03-02T14:00:00.123456+02:00", "--to", "6"), [2, 3, 4, 5, 6], 1),
        (("--from", "2026-04-01T00:00:00Z"), [], 6),
        (("--from", "99"), [], 6),
        (("--to", "2020-01-01T00:00:00Z"), [], 0),
    ],
)
def test_a_part_is_chosen_by_position_or_time_and_verifies_by_itself(
    database: Database,
    database_url: str,
    tmp_path: Path,
    limits: tuple[str, ...],
    positions: list[int],
    after: int,
) -> None:
    # The clock went back before the third event.
    write(database, *(frame(str(n), at_us=NOW_US + n * DAY_US) for n in (0, 1, 0, 1, 1, 2)))

    exported(database_url, tmp_path / "x", "--no-partition", *limits)

    found = lines_of(tmp_path / "x" / "events.jsonl")
    assert [row["position"] for row in found] == positions
    assert manifest_of(tmp_path / "x")["log"]["main"]["after"]["position"] == after
    answer = ask(database_url, "verify", "--export", str(tmp_path / "x"))
    assert (answer.code, answer.rows[0]["events"]) == (0, len(positions))
    assert answer.rows[0].get("after", 0) == after


@pytest.mark.parametrize("form", ["jsonl", "csv"])
@pytest.mark.parametrize("by_day", [(), ("--no-partition",)], ids=["days", "one"])
def test_every_table_of_the_contract_can_be_exported(
    database: Database, database_url: str, tmp_path: Path, form: str, by_day: tuple[str, ...]
) -> None:
    record_scene(database)

    exported(database_url, tmp_path / "x", "--table", "all", "--format", form, *by_day)

    manifest = manifest_of(tmp_path / "x")
    assert set(manifest["rows"]) == set(TABLES)
    assert manifest["rows"]["balances"] == 3
    assert manifest["rows"]["connections"] == 1
    assert (tmp_path / "x" / f"balances.{form}").is_file()


def test_amounts_are_their_exact_text_and_unstated_ones_null(
    database: Database, database_url: str, tmp_path: Path
) -> None:
    record_scene(database)

    exported(database_url, tmp_path / "x", "--table", "balances", "--table", "open_orders")

    rows = {row["currency"]: row for row in lines_of(tmp_path / "x" / "balances.jsonl")}
    assert rows["BTC"]["available"] == "0.00002887"
    assert rows["ZAR"]["reserved"] == "900000.000000000000000001"
    assert rows["ZAR"]["borrow_reserved"] is None
    assert rows["ZAR"]["updated_at"].endswith("+00:00")


def test_an_account_that_was_named_is_exported_alone(
    database: Database, database_url: str, tmp_path: Path
) -> None:
    write(database, frame(account="a"), frame(account="b"))

    exported(database_url, tmp_path / "x", "--account", "b")

    assert list(manifest_of(tmp_path / "x")["log"]) == ["b"]
    assert ask(database_url, "export", str(tmp_path / "y"), "--account", "c").code == 2
    assert not (tmp_path / "y").exists()


def test_the_same_rows_make_the_same_bytes_compressed_too(
    database: Database, database_url: str, tmp_path: Path
) -> None:
    write_nasty(database, "main")
    for name in ("x", "y"):
        exported(database_url, tmp_path / name, "--compress", "gzip", "--no-partition")

    one, two = ((tmp_path / name / "events.jsonl.gz").read_bytes() for name in ("x", "y"))
    assert one == two
    exported(database_url, tmp_path / "plain", "--no-partition")
    assert gzip.decompress(one) == (tmp_path / "plain" / "events.jsonl").read_bytes()


@pytest.mark.parametrize("form", ["jsonl", "csv"])
def test_standard_output_gets_what_the_file_would(
    database: Database, database_url: str, tmp_path: Path, form: str
) -> None:
    write_nasty(database, "main", "b")
    exported(database_url, tmp_path / "x", "--no-partition", "--format", form)

    command = [sys.executable, "-m", "recorder", "export", "-", "--format", form]
    done = subprocess.run(
        [*command, "--database-url", database_url], capture_output=True, check=True
    )

    assert done.stdout == (tmp_path / "x" / f"events.{form}").read_bytes()


@pytest.mark.parametrize(
    "argv",
    [
        ("--table", "all"),
        ("--compress", "gzip"),
        ("--table", "events", "--table", "balances"),
    ],
)
def test_what_standard_output_can_not_take_is_refused(
    sqlite: Database, sqlite_url: str, argv: tuple[str, ...]
) -> None:
    record_scene(sqlite)

    answer = ask(sqlite_url, "export", "-", *argv)

    assert (answer.code, answer.out) == (2, "")
    assert "standard output takes one table" in answer.err


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (("--table", "orders", "--from", "2026-01-01T00:00:00Z"), "no time"),
        (("--table", "orders", "--from", "1"), "no position"),
        (("--table", "projections", "--to", "1"), "no position"),
        (("--table", "nonsense"), "invalid choice"),
        (("--from", "2026-01-01T00:00:00"), "names no zone"),
        (("--from", "soon"), "use a position of the log (1 and up), or a time"),
        (("--from", "-4"), "use a position of the log (1 and up), or a time"),
        (("--from", "2026-01-31"), "is a day, not a time of it"),
        (("--from", "50", "--to", "10"), "nothing between --from and --to"),
        (
            ("--from", "2026-02-01T00:00:00Z", "--to", "2026-02-01T00:00:00Z"),
            "nothing between --from and --to",
        ),
        (("--from", "0"), "at least 1"),
    ],
)
def test_a_question_that_has_no_answer_is_refused_before_anything_is_written(
    sqlite: Database, sqlite_url: str, tmp_path: Path, argv: tuple[str, ...], message: str
) -> None:
    record_scene(sqlite)

    answer = ask(sqlite_url, "export", str(tmp_path / "x"), *argv)

    assert (answer.code, answer.out) == (2, "")
    assert message in answer.err
    assert sorted(path.name for path in tmp_path.iterdir() if "recorder.db" not in path.name) == []


def test_where_no_folder_can_be_made_the_folder_that_was_meant_is_named(
    sqlite: Database, sqlite_url: str
) -> None:
    record_scene(sqlite)

    answer = ask(sqlite_url, "export", "/proc/x")

    assert answer.code == 2
    assert "can't make a folder in /proc: " in answer.err
    assert "partial" not in answer.err


def test_what_stands_is_overwritten_only_if_it_is_an_export_and_that_was_asked_for(
    sqlite: Database, sqlite_url: str, tmp_path: Path
) -> None:
    write(sqlite, frame("one"))
    there = tmp_path / "x"
    there.mkdir()
    exported(sqlite_url, there)  # an empty folder is nothing
    write(sqlite, frame("two"))

    refused = ask(sqlite_url, "export", str(there))
    assert refused.code == 2
    assert "--overwrite" in refused.err
    assert manifest_of(there)["rows"] == {"events": 1}

    exported(sqlite_url, there, "--overwrite")
    assert manifest_of(there)["rows"] == {"events": 2}
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".x")] == []

    foreign = tmp_path / "mine"
    foreign.mkdir()
    (foreign / "thesis.txt").write_text("years", encoding="utf-8")
    for argv in ((), ("--overwrite",)):
        answer = ask(sqlite_url, "export", str(foreign), *argv)
        assert answer.code == 2
        assert "no export" in answer.err
    assert (foreign / "thesis.txt").read_text(encoding="utf-8") == "years"


@pytest.mark.parametrize("where", ["none/x", "file", "link"])
def test_a_wrong_place_is_code_2_and_explains_what_to_do(
    sqlite: Database, sqlite_url: str, tmp_path: Path, where: str
) -> None:
    write(sqlite, frame())
    (tmp_path / "file").write_text("x", encoding="utf-8")
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")

    answer = ask(sqlite_url, "export", str(tmp_path / where), "--overwrite")

    assert answer.code == 2
    assert "no folder" in answer.err
    assert "Traceback" not in answer.err


@pytest.mark.parametrize("packed", [False, True])
def test_an_export_that_is_interrupted_leaves_nothing(
    database: Database, tmp_path: Path, packed: bool
) -> None:
    write_nasty(database, "main")
    seen: list[str] = []

    def stop(_table: str, _total: int) -> Step:
        def step(_done: int) -> None:
            seen.extend(path.name for path in tmp_path.iterdir())
            raise KeyboardInterrupt

        return step

    order = Order(["main"], ["events"], Format.JSONL, packed=packed)
    with pytest.raises(KeyboardInterrupt):
        export(database, order, tmp_path / "x", stop, now=NOW)

    assert any(name.endswith(".partial") for name in seen)
    assert [path.name for path in tmp_path.iterdir() if "recorder.db" not in path.name] == []


def test_a_failed_replacement_leaves_the_export_that_stood(
    database: Database, tmp_path: Path
) -> None:
    write(database, frame("one"))
    order = Order(["main"], ["events"], Format.JSONL)
    first = export(database, order, tmp_path / "x", silent, now=NOW)
    tamper(database, "UPDATE events SET payload = 'changed'")

    answer = ask(
        database.url.render_as_string(hide_password=False),
        "export",
        str(tmp_path / "x"),
        "--overwrite",
    )

    assert answer.code == 1
    assert "position 1" in answer.err and "nothing was exported" in answer.err
    assert read_manifest(tmp_path / "x") == first


def test_a_full_disk_is_code_2_and_is_named(sqlite: Database, tmp_path: Path) -> None:
    write_nasty(sqlite, "main")

    def full(_table: str, _total: int) -> Step:
        def step(_done: int) -> None:
            raise OSError(errno.ENOSPC, "No space left on device", "/somewhere/file")

        return step

    order = Order(["main"], ["events"], Format.JSONL)
    with pytest.raises(FilesFailed, match=r"/somewhere/file: the disk is full; free some space"):
        export(sqlite, order, tmp_path / "x", full, now=NOW)
    assert not (tmp_path / "x").exists()
    with pytest.raises(FilesFailed, match="here: Permission denied"), file_errors("here"):
        raise PermissionError(errno.EACCES, "Permission denied")


#: The command, with files that may not grow beyond 100 kB: the system refuses as a full disk does.
CRAMPED = """
import resource, sys
from recorder.cli import main
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
sys.exit(main())
"""


@pytest.mark.parametrize(
    "argv",
    [(), ("--compress", "gzip"), ("--format", "csv"), ("--format", "parquet")],
    ids=["jsonl", "gzip", "csv", "parquet"],
)
def test_a_file_that_can_not_grow_is_code_2_and_leaves_nothing(
    sqlite: Database, sqlite_url: str, tmp_path: Path, argv: tuple[str, ...]
) -> None:
    if "parquet" in argv:
        pytest.importorskip("pyarrow")
    write(sqlite, frame(random.Random(1).randbytes(500_000).hex()))
    before = {path.name for path in tmp_path.iterdir()}

    command = [sys.executable, "-c", CRAMPED, "export", str(tmp_path / "x"), *argv]
    done = subprocess.run(
        [*command, "--database-url", sqlite_url], capture_output=True, text=True, check=False
    )

    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("recorder: ")
    assert "File too large" in done.stderr
    assert "Traceback" not in done.stderr
    assert {path.name for path in tmp_path.iterdir()} == before


def test_a_log_with_a_hole_is_not_exported(
    database: Database, database_url: str, tmp_path: Path
) -> None:
    write(database, *(frame(str(n)) for n in range(5)))
    tamper(database, "DELETE FROM events WHERE position = 3")

    answer = ask(database_url, "export", str(tmp_path / "x"))

    assert answer.code == 1
    assert "position 3: missing" in answer.err
    assert not (tmp_path / "x").exists()


def test_events_that_come_meanwhile_are_not_in_it_and_a_recorder_is_not_held_up(
    database: Database, tmp_path: Path
) -> None:
    write(database, *(frame(str(n)) for n in range(1500)))
    done: list[int] = []

    def busy(_table: str, _total: int) -> Step:
        def step(written: int) -> None:
            done.append(written)
            write(database, frame("meanwhile"))

        return step

    order = Order(["main"], ["balances", "events"], Format.JSONL)
    manifest = export(database, order, tmp_path / "x", busy, now=NOW)

    assert done == [1000, 1500]
    assert manifest.rows["events"] == 1500
    assert manifest.log["main"].head.position == 1500


def test_while_the_log_is_exported_sqlite_can_restart_its_wal(
    sqlite: Database, tmp_path: Path
) -> None:
    write(sqlite, *(frame(str(n)) for n in range(1500)))
    checkpoints: list[object] = []

    def busy(_table: str, _total: int) -> Step:
        def step(_written: int) -> None:
            write(sqlite, frame("meanwhile"))
            with sqlite.writer.connect() as connection:
                raw = driver_connection(connection)
                checkpoints.append(raw.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone())

        return step

    export(sqlite, Order(["main"], ["events"], Format.JSONL), tmp_path / "x", busy, now=NOW)

    # Not busy, and no page left in it.
    assert checkpoints == [(0, 0, 0), (0, 0, 0)]


def peak_of(done: Callable[[], object]) -> int:
    """Return how many bytes were held at once at the most while it was done."""
    tracemalloc.start()
    try:
        done()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_a_log_is_exported_in_bounded_memory(database: Database, tmp_path: Path) -> None:
    megabyte = 1_000_000
    for _ in range(12):
        write(database, *(frame("x" * megabyte) for _ in range(8)))
    order = Order(["main"], ["events"], Format.JSONL)

    peak = peak_of(lambda: export(database, order, tmp_path / "x", silent, now=NOW))

    # A page, and the next one, as they were read and as they are written.
    assert peak < 6 * read.PAGE_BYTES < 96 * megabyte


@pytest.mark.parametrize("form", [Format.JSONL, Format.CSV])
def test_a_table_is_exported_in_bounded_memory(
    database: Database, tmp_path: Path, form: Format
) -> None:
    width, times = 2_000, 30
    row = {"account": "main", "description": "x" * width, "received_at": NOW, "item": 0}
    row |= {"source": "stream", "matched_by": "id"}

    def fill(connection: Connection, first: int) -> None:
        numbers = range(first, first + FETCHED_ROWS)
        some = [row | {"position": number, "natural_id": str(number)} for number in numbers]
        connection.execute(insert(ledger), some)

    for time in range(times):
        in_unit(database.writer, fill, time * FETCHED_ROWS)
    order = Order(["main"], ["ledger"], form)

    peak = peak_of(lambda: export(database, order, tmp_path / "x", silent, now=NOW))

    # So many rows are fetched at once; they are held as they came and as they are written.
    assert peak < 7 * FETCHED_ROWS * width


def test_tables_are_of_one_moment(database: Database, tmp_path: Path) -> None:
    record_scene(database)
    before = order_rows(database, tmp_path / "before")

    assert order_rows(database, tmp_path / "during", disturb=True) == before
    assert order_rows(database, tmp_path / "after") != before


def order_rows(database: Database, folder: Path, *, disturb: bool = False) -> list[object]:
    """Return two tables' rows as an export has them; both are changed while the first is read."""

    def progress(table: str, _total: int) -> Step:
        if disturb and table == "balances":
            # Its rows were counted: the snapshot stands.
            run_sql(
                database,
                "UPDATE balances SET total = '7'",
                "UPDATE open_orders SET status = 'Gone'",
            )
        return lambda done: None

    order = Order(["main"], ["balances", "open_orders"], Format.JSONL)
    export(database, order, folder, progress, now=NOW)
    return [*lines_of(folder / "balances.jsonl"), *lines_of(folder / "open_orders.jsonl")]
