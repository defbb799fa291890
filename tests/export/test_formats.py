"""CSV and Parquet hold what the database holds, read back by programs that aren't ours."""

from __future__ import annotations

import sys
from decimal import Decimal
from pathlib import Path

import pytest
from sqlalchemy import Connection

from recorder.database.engine import Database, in_unit
from recorder.database.prepared import driver_connection
from recorder.export import formats
from tests.cli.scene import ask, record_scene
from tests.export.scene import all_events, exported, write_nasty
from tests.log.drafts import run_sql


def test_postgresql_reads_the_csv_of_a_log_back_with_its_nulls(
    sqlite: Database, sqlite_url: str, postgres: Database, tmp_path: Path
) -> None:
    write_nasty(sqlite, "main", "b")
    exported(sqlite_url, tmp_path / "x", "--format", "csv", "--no-partition")
    text = (tmp_path / "x" / "events.csv").read_bytes().decode()
    head, _, rest = text.partition("\r\n")

    def unit(connection: Connection) -> None:
        raw = driver_connection(connection)
        raw.execute("CREATE TEMPORARY TABLE read_back (LIKE events)")
        raw.execute("ALTER TABLE read_back ALTER digest TYPE text USING ''")
        with raw.cursor().copy(f"COPY read_back ({head}) FROM STDIN (FORMAT csv, HEADER)") as copy:
            copy.write(text)
        raw.execute(
            # The digest is the last column.
            f"INSERT INTO events ({head}) SELECT {head.removesuffix('digest')}"
            " decode(digest, 'hex') FROM read_back ORDER BY account, position"
        )

    in_unit(postgres.writer, unit)

    assert rest
    assert all_events(postgres) == all_events(sqlite)


def test_parquet_holds_every_event_with_its_types(
    database: Database, database_url: str, tmp_path: Path
) -> None:
    pytest.importorskip("pyarrow")
    import pyarrow.parquet

    write_nasty(database, "main", "b")
    for name, packing in (("x", ()), ("z", ("--compress", "gzip"))):
        exported(database_url, tmp_path / name, "--format", "parquet", *packing)

        files = sorted((tmp_path / name / "events").glob("*.parquet"))
        rows = [row for file in files for row in pyarrow.parquet.read_table(file).to_pylist()]
        rows.sort(key=lambda row: (row["account"], row["position"]))

        assert [tuple(row.values()) for row in rows] == [
            (
                event.account,
                event.position,
                event.received_at,
                event.elapsed_ns,
                event.connection_id,
                event.origin,
                event.type,
                event.encoding,
                event.payload,
                event.digest,
            )
            for event in sorted(all_events(database), key=lambda it: (it.account, it.position))
        ]


def test_parquet_is_written_in_several_groups_and_none_is_lost(
    database: Database, database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("pyarrow")
    import pyarrow.parquet

    monkeypatch.setattr(formats, "GROUP_ROWS", 4)
    write_nasty(database, "main")

    exported(database_url, tmp_path / "x", "--format", "parquet", "--no-partition")

    file = pyarrow.parquet.ParquetFile(tmp_path / "x" / "events.parquet")
    assert file.metadata.num_row_groups == 4
    assert file.read().column("position").to_pylist() == list(range(1, 16))


def test_parquet_of_amounts_of_any_scale_is_exact(
    database: Database, database_url: str, tmp_path: Path
) -> None:
    pytest.importorskip("pyarrow")
    import pyarrow.parquet

    record_scene(database)
    widest = "9" * 150 + "." + "1" * 150
    run_sql(database, f"UPDATE balances SET total = '{widest}' WHERE currency = 'BTC'")

    exported(database_url, tmp_path / "x", "--format", "parquet", "--table", "all")

    rows = pyarrow.parquet.read_table(tmp_path / "x" / "balances.parquet").to_pylist()
    by_currency = {row["currency"]: row for row in rows}
    assert Decimal(by_currency["BTC"]["total"]) == Decimal(widest)
    assert by_currency["ZAR"]["reserved"] == "900000.000000000000000001"
    assert by_currency["ZAR"]["borrow_reserved"] is None


def test_without_pyarrow_the_message_names_what_to_install(
    sqlite: Database, sqlite_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    record_scene(sqlite)
    monkeypatch.setitem(sys.modules, "pyarrow", None)

    answer = ask(sqlite_url, "export", str(tmp_path / "x"), "--format", "parquet")

    assert answer.code == 2
    assert "pip install 'valr-recorder[parquet]'" in answer.err
    assert not (tmp_path / "x").exists()
