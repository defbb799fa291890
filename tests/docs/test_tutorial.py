"""The tutorial's steps run in their order, in an empty folder, with nothing but the package."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

PAGE = (Path(__file__).parents[2] / "docs" / "tutorial.md").read_text(encoding="utf-8")
STEPS = re.findall(r"```bash\n(.*?)```", PAGE, flags=re.DOTALL)
#: Python's own SQLite where the machine has no `sqlite3` shell.
SHELL = """#!{python}
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1], timeout=10)
try:
    for row in connection.execute(sys.argv[2]):
        print("|".join(map(str, row)))
    connection.commit()
except sqlite3.DatabaseError as error:
    sys.exit(f"Error: {{error}}")
"""
#: On a busy machine a recorder takes longer to start, and a gap to heal, than the page waits.
IS_RECORDING = "recorder status --table 2>/dev/null | grep -q authenticated"
IS_HEALED = "recorder gaps --table 2>/dev/null | grep killed | grep -q healed"

#: The account goes on trading: between a record and its balance there is a residual for a moment.
BOOKS = (
    "for n in $(seq 10); do recorder books --table > books.txt && break; sleep 1; done\n"
    "cat books.txt\n"
)


def until(condition: str) -> str:
    """Return a shell command that waits for a condition, but not for ever."""
    return f"for n in $(seq 60); do {condition} && break; sleep 1; done\n"


def commands_in(folder: Path) -> Path:
    """Return a folder with the commands that the tutorial uses."""
    made = folder / "bin"
    made.mkdir()
    for name, text in (
        ("recorder", f'#!/bin/sh\nexec "{sys.executable}" -m recorder "$@"\n'),
        ("sqlite3", SHELL.format(python=sys.executable)),
    ):
        (made / name).write_text(text, encoding="utf-8")
        (made / name).chmod(0o755)
    return made


def free_port() -> int:
    """Return a port that nothing listens on now."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
    return port


def test_every_step_of_the_tutorial_works_and_the_day_is_explained(tmp_path: Path) -> None:
    begin = "set -eu\ntrap 'kill -9 $(jobs -p)' EXIT\n"
    script = begin + "sleep 3\n".join(STEPS).replace("9400", str(free_port()))
    script = script.replace("recorder.pid\nsleep 3\n", f"recorder.pid\n{until(IS_RECORDING)}", 1)
    script = script.replace("sleep 10\n", until(IS_HEALED))
    script = script.replace("recorder books --table\n", BOOKS)
    assert IS_RECORDING in script and IS_HEALED in script and BOOKS in script
    root = str(Path(__file__).parents[2])
    path = f"{commands_in(tmp_path)}:{os.environ['PATH']}"
    process = subprocess.Popen(
        ["bash", "-c", script],
        cwd=tmp_path,
        env={"PATH": path, "PYTHONPATH": root, "HOME": str(tmp_path)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        output, _ = process.communicate(timeout=240)
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    assert process.returncode == 0, output
    refusal = "quantity must be a positive decimal"
    for promised in (
        refusal,
        "running",
        "accepted",
        "killed",
        "healed",
        "nothing differs",
        "residual",
    ):
        assert promised in output, output
    residuals = re.findall(r"residual +(\S+)", output)
    assert len(residuals) >= 4
    assert set(residuals) == {"0"}
