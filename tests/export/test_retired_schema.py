"""The way over from the schemas before the baseline: export there, import and rebuild here.

``revision_0015`` is an export that the last recorder with revision 0015 wrote: its log, and its
tables as it had folded them.
"""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from tests.cli.scene import ask
from tests.export.scene import exported, manifest_of

OLD = Path(__file__).parent / "revision_0015"
TABLES = sorted(path.name.partition(".")[0] for path in OLD.glob("*.jsonl.gz"))
FOLDED = [table for table in TABLES if table not in ("events", "projections")]
#: What the same column is called now.
COLUMNS = {
    "asked_by": "requested_by",
    "blind_from": "unobserved_from",
    "blind_until": "unobserved_until",
    "joined": "matched_by",
    "position_node": "validity_by_position",
    "time_node": "validity_by_time",
}
#: What the same value of a column is now.
VALUES = {"basis": {"stated": "reported", "absent": "inferred_zero"}}


@pytest.fixture
def imported(empty_database_url: str, tmp_path: Path) -> Path:
    """Import the old export into a new database, rebuild that, and export it again."""
    for command in (("import", str(OLD)), ("rebuild", "--all"), ("verify",)):
        answer = ask(empty_database_url, *command)
        assert answer.code == 0, answer.err
    tables = [word for table in TABLES for word in ("--table", table)]
    exported(empty_database_url, tmp_path / "new", "--no-partition", "--compress", "gzip", *tables)
    return tmp_path / "new"


def test_the_old_export_is_of_the_last_retired_revision() -> None:
    assert manifest_of(OLD)["schema"] == "0015"
    assert all(rows(OLD, table) for table in FOLDED if table != "fold_failures")


def test_an_old_export_is_imported_byte_for_byte_and_every_table_is_rebuilt(
    imported: Path,
) -> None:
    assert rows(imported, "events") == rows(OLD, "events")
    for table in FOLDED:
        assert rows(imported, table) == [as_now(row) for row in rows(OLD, table)], table
    folded_to = {row["position"] for row in rows(imported, "projections")}
    assert folded_to == {len(rows(OLD, "events"))}


def rows(folder: Path, table: str) -> list[dict[str, Any]]:
    text = gzip.decompress((folder / f"{table}.jsonl.gz").read_bytes()).decode("ascii")
    return [json.loads(line) for line in text.splitlines()]


def as_now(row: dict[str, Any]) -> dict[str, Any]:
    """Return an old row with today's names."""
    return {
        COLUMNS.get(column, column): VALUES.get(column, {}).get(str(value), value)
        for column, value in row.items()
    }
