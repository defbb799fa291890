"""run, simulator and demo, as processes of their own."""

from __future__ import annotations

import json
import logging
import os
import pty
import signal
import socket
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from recorder.cli.demo import QUERIES
from recorder.cli.exits import only
from recorder.cli.run import JsonLines, PlainLines
from recorder.errors import LeaseHeld, RecorderError, StorageFailed
from tests.cli.scene import ESCAPES

#: Long enough for a slow machine; nothing waits this long on a good one.
WAIT_MAX_S = 60


def start(*argv: str, cwd: Path, **environment: str) -> subprocess.Popen[str]:
    """Start a command in a folder of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "recorder", *argv],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2]), **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def ended(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    out, err = process.communicate(timeout=WAIT_MAX_S)
    return process.returncode, out, err


def test_a_demo_without_a_terminal_ends_by_itself_and_its_queries_work(tmp_path: Path) -> None:
    code, out, err = ended(start("demo", "--seconds", "8", cwd=tmp_path))

    assert code == 0
    (warning,) = err.splitlines()
    assert "connection lost" in warning
    assert "verified them all" in out
    (path,) = tmp_path.glob("recorder-demo-*.db")
    assert str(path.name) in out
    with sqlite3.connect(path) as database:
        answers = [database.execute(query).fetchall() for query in QUERIES]
        gaps = database.execute("SELECT cause, state FROM gaps ORDER BY gap_id").fetchall()
    database.close()
    assert all(answers)
    assert all(query in out for query in QUERIES)
    statuses = {row[2] for row in answers[2]}
    assert "accepted" in statuses
    assert ("connection_lost", "closed") in gaps


def test_a_demo_uses_nothing_of_the_callers_own_settings(tmp_path: Path) -> None:
    own = tmp_path / "own.db"
    (tmp_path / "recorder.toml").write_text("this is no TOML", encoding="utf-8")
    environment = {
        "RECORDER_DATABASE_URL": f"sqlite:///{own}",
        "RECORDER_WS_URL": "ws://127.0.0.1:1",
        "VALR_API_KEY": "the-real-key",
    }

    code, out, _ = ended(start("demo", "--seconds", "2", cwd=tmp_path, **environment))

    assert code == 0
    assert "the-real-key" not in out
    assert not own.exists()


def test_a_demo_on_a_terminal_draws_one_screen_and_ends_at_a_signal(tmp_path: Path) -> None:
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "recorder", "demo"]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2]), "TERM": "xterm"}
    with subprocess.Popen(
        command, cwd=tmp_path, env=environment, stdout=theirs, stderr=theirs
    ) as running:
        os.close(theirs)
        seen = b""
        while b"outbox: SELECT" not in seen:
            seen += os.read(ours, 65_536)
        running.send_signal(signal.SIGINT)
        try:
            while more := os.read(ours, 65_536):
                seen += more
        except OSError:  # Linux reports so when the other side of a terminal is closed
            os.close(ours)
        assert running.wait(WAIT_MAX_S) == 0

    assert b"SELECT * FROM balances" in seen
    assert b"verified them all" in seen
    assert b"Traceback" not in seen


def test_a_recorder_records_what_the_simulator_serves(tmp_path: Path) -> None:
    simulator = start("simulator", "--autoplay", cwd=tmp_path)
    assert simulator.stdout is not None
    exports = [simulator.stdout.readline() for _ in range(4)]
    variables = dict(line.removeprefix("export ").strip().split("=", 1) for line in exports)

    recorder = start("run", "--log-json", cwd=tmp_path, **variables)
    follow = ("events", "--follow", "--after", "0", "--type", "OPEN_ORDERS_UPDATE", "--limit", "1")
    _wait_for(tmp_path / "recorder.db", recorder)
    follower = start(*follow, cwd=tmp_path)
    code, out, _ = ended(follower)
    assert code == 0
    assert json.loads(out)["origin"] == "received"

    recorder.send_signal(signal.SIGTERM)
    code, out, err = ended(recorder)
    assert (code, out) == (0, "")
    sentence = [json.loads(line) for line in err.splitlines()]
    assert all(line["level"] == "INFO" for line in sentence)
    simulator.send_signal(signal.SIGINT)
    assert ended(simulator)[0] == 0


def _wait_for(database: Path, recorder: subprocess.Popen[str]) -> None:
    """Wait until the tables stand, and no longer than the recorder runs."""
    while recorder.poll() is None:
        if database.exists():
            with sqlite3.connect(f"file:{database}?mode=ro", uri=True) as connection:
                tables = connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'leases'")
                found = tables.fetchone()
            connection.close()
            if found:
                return
    raise AssertionError(ended(recorder))


def test_a_recorder_without_credentials_names_what_to_set(tmp_path: Path) -> None:
    code, out, err = ended(start("run", cwd=tmp_path, VALR_API_KEY="", VALR_API_SECRET=""))

    assert (code, out) == (2, "")
    assert "VALR_API_KEY_FILE" in err
    assert "Traceback" not in err


def test_a_simulator_reports_a_port_in_use(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        code, out, err = ended(start("simulator", "--port", str(port), cwd=tmp_path))

    assert (code, out) == (2, "")
    assert f"can't listen on 127.0.0.1:{port}" in err
    assert "Traceback" not in err


def test_a_simulator_does_not_take_a_port_that_there_is_not_for_another(tmp_path: Path) -> None:
    code, out, err = ended(start("simulator", "--port", "99999", cwd=tmp_path))

    assert (code, out) == (2, "")
    assert "at most 65535, not '99999'" in err


@pytest.mark.parametrize("name", ["KEY", "SECRET"])
def test_a_recorder_with_half_its_credentials_names_the_missing_half(
    tmp_path: Path, name: str
) -> None:
    given = {"VALR_API_KEY": "k", "VALR_API_SECRET": "s", f"VALR_API_{name}": ""}

    code, _, err = ended(start("run", cwd=tmp_path, **given))

    assert code == 2
    assert f"account 'main' has no {name.lower()}: " in err


@pytest.mark.parametrize("formatter", [PlainLines(), JsonLines()])
def test_what_is_logged_stays_on_one_line_whatever_it_quotes(formatter: logging.Formatter) -> None:
    record = logging.LogRecord(
        "recorder.x", logging.INFO, "", 1, "reported %s", (f"{ESCAPES}\nERROR forged",), None
    )

    line = formatter.format(record)

    assert len(line.splitlines()) == 1
    assert "\x1b" not in line
    assert "forged" in line


def test_of_many_errors_the_first_of_ours_is_shown_unless_one_is_a_bug() -> None:
    first, second = LeaseHeld("held"), StorageFailed("failed")
    nested = BaseExceptionGroup("", [ExceptionGroup("", [first]), second])

    assert only(RecorderError, nested) is first
    assert only(RecorderError, BaseExceptionGroup("", [first, ValueError("bug")])) is None
