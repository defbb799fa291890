"""What the second verifier promises of itself; what it finds is in tests/cli/test_tampering.py."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from recorder.database.engine import Database
from recorder.log.sql.read import PAGE_ROWS
from tests.cli.tampering import SCRIPT, PersistentConnection, keep, run_script
from tests.log.drafts import frame, write

LINES_MAX = 200
OTHERS = {"cryptography", "psycopg"}


def test_it_is_short_and_uses_nothing_of_the_recorder() -> None:
    source = SCRIPT.read_text(encoding="utf-8")
    assert len(source.splitlines()) < LINES_MAX
    names = set()
    for part in ast.walk(ast.parse(source)):
        if isinstance(part, ast.Import):
            names |= {each.name.partition(".")[0] for each in part.names}
        elif isinstance(part, ast.ImportFrom):
            names.add((part.module or "").partition(".")[0])
    assert names - OTHERS <= sys.stdlib_module_names


def test_it_needs_no_cryptography_and_reports_what_it_did_not_check(
    sqlite: Database, sqlite_url: str, tmp_path: Path
) -> None:
    (tmp_path / "outside").mkdir()
    kept: PersistentConnection = keep(sqlite, sqlite_url, tmp_path / "outside")
    path = sqlite_url.removeprefix("sqlite:///")
    # -S and -I leave out every installed package.
    argv = [sys.executable, "-S", "-I", str(SCRIPT), path, "--checkpoints", str(kept.file)]
    done = subprocess.run(argv, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert '"signatures": "unchecked"' in done.stdout


@pytest.mark.parametrize(
    "source", ["missing.db", "missing.jsonl", "noise.db", "postgresql://intruder@127.0.0.1:1/none"]
)
def test_what_can_not_be_read_is_code_2_in_one_sentence(tmp_path: Path, source: str) -> None:
    (tmp_path / "noise.db").write_bytes(b"no database at all" * 100)
    found = run_script(source if "://" in source else str(tmp_path / source))
    assert (found.code, found.lines) == (2, [])
    assert found.err.startswith("could not be verified: ")


def test_a_packed_export_that_was_cut_short_could_not_be_checked(tmp_path: Path) -> None:
    import gzip

    path = tmp_path / "log.jsonl.gz"
    path.write_bytes(gzip.compress(b"{}\n" * 1000)[:-12])
    assert run_script(str(path)).code == 2


def test_it_reads_a_log_as_a_stream(database: Database, database_url: str) -> None:
    write(database, *(frame(str(number)) for number in range(2 * PAGE_ROWS)))
    found = run_script(database_url)
    assert (found.code, found.lines[0]["position"]) == (0, 2 * PAGE_ROWS)
