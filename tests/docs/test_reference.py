"""The pages of reference that come from the code are up to date; log lines exist in the code."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "reference" / "log-lines.md").read_text(encoding="utf-8")
LINES = [row.split(" | ")[0] for row in PAGE.splitlines() if row.startswith("| `")]
PIECES = sorted(
    {
        piece.strip(" :()")
        for line in LINES
        for quoted in re.findall(r"`([^`]+)`", line)
        for piece in re.split(r"…|\bs \(|\bs:|\{", quoted)
        if len(piece.strip(" :()")) >= 8
    }
)
#: Texts as the program writes them: pieces of one sentence may lie on several lines of the code.
SOURCE = re.sub(
    r'"\s*\n\s*f?"',
    "",
    "\n".join(path.read_text(encoding="utf-8") for path in (ROOT / "recorder").rglob("*.py")),
)


def test_settings_commands_and_tables_are_as_the_code_has_them() -> None:
    command = [sys.executable, "scripts/reference.py", "--check"]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stderr) == (0, "")


@pytest.mark.parametrize("piece", PIECES)
def test_a_log_line_of_the_page_is_one_that_the_program_writes(piece: str) -> None:
    assert piece in SOURCE
