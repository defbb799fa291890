from __future__ import annotations

import io
import json
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import pytest

from recorder.cli import COMMANDS, main, parser_of
from recorder.cli.exits import MEANINGS, exit_code
from recorder.database.engine import Database
from recorder.errors import (
    CommitUncertain,
    ConfigurationError,
    LeaseHeld,
    LeaseLost,
    LogDamaged,
    RecorderError,
    Refused,
    SchemaMismatch,
    StorageFailed,
    StorageUnavailable,
)
from tests.cli.scene import Terminal, ask, balance, fold, own, record_scene, start_notes
from tests.log.drafts import write

DOCS = Path(__file__).parents[2] / "docs" / "reference" / "commands.md"


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_documents_its_arguments_and_exit_codes(command: str) -> None:
    answer = ask("sqlite:///x.db", command, "--help")

    assert answer.code == 0
    assert answer.out.startswith(f"usage: recorder {command}")
    assert "exit codes:" in answer.out


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_and_each_of_its_flags_is_documented(command: str) -> None:
    section = DOCS.read_text(encoding="utf-8").partition(f"\n## recorder {command}\n")[2]
    section = section.partition("\n## ")[0]
    assert section, f"docs/reference/commands.md has no section '## recorder {command}'"

    subparsers = next(a for a in parser_of(command)._actions if a.dest == "command")
    assert isinstance(subparsers.choices, dict)
    groups = subparsers.choices[command]._action_groups
    shared = ("settings", "output")
    own = [a for g in groups if not (g.title or "").startswith(shared) for a in g._group_actions]
    flags = [flag for a in own for flag in a.option_strings if flag.startswith("--")]
    missing = [flag for flag in flags if f"`{flag}" not in section and flag != "--help"]
    assert missing == []


def test_every_exit_code_is_documented() -> None:
    text = DOCS.read_text(encoding="utf-8")

    assert [code for code in MEANINGS if f"| {code} |" not in text] == []


def test_help_is_quick_because_it_loads_no_database_no_loop_and_no_screen() -> None:
    heavy = "{'sqlalchemy', 'trio', 'rich', 'alembic', 'psycopg'} & set(sys.modules)"
    code = f"import sys; from recorder.cli import main; main(['--help']); print({heavy})"

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout.splitlines()[-1] == "set()"


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (LogDamaged("x"), 1),
        (ConfigurationError("x"), 2),
        (SchemaMismatch("x"), 2),
        (Refused("rule", "x"), 2),
        (StorageFailed("x"), 3),
        (StorageUnavailable("x"), 3),
        (CommitUncertain("x"), 3),
        (LeaseHeld("x"), 4),
        (LeaseLost("x"), 4),
    ],
)
def test_an_error_ends_with_the_code_of_its_reaction(error: RecorderError, code: int) -> None:
    assert exit_code(error) == code


@pytest.mark.parametrize(
    "argv",
    [
        (),
        ("nonsense",),
        ("events", "--limit", "0"),
        ("events", "--after", "-1"),
        ("events", "--after", "9" * 30),
        ("events", "--after", "١"),
        ("enqueue", "CANCEL_ORDER", "{}", "--expires-at", "2026-01-01T00:00:00"),
        ("enqueue", "CANCEL_ORDER", "{}", "--expires-at", "soon"),
        ("enqueue", "CANCEL_ORDER", "{}", "--priority", "99999999999999999999"),
        ("outbox", "--status", "lost"),
        ("outbox", "show"),
        ("status", "--json", "--table"),
    ],
)
def test_wrong_usage_is_code_2_and_names_what_was_wrong(argv: tuple[str, ...]) -> None:
    answer = ask("sqlite:///x.db", *argv)

    assert answer.code == 2
    assert answer.out == ""
    assert answer.err


@pytest.mark.parametrize(
    "command",
    [
        *("status", "balances", "orders", "positions", "conditionals", "events", "outbox"),
        *("verify", "rebuild --check"),
    ],
)
def test_a_database_that_does_not_exist_is_not_made_by_asking(command: str, tmp_path: Path) -> None:
    path = tmp_path / "none.db"

    answer = ask(f"sqlite:///{path}", *command.split())

    assert answer.code == 2
    assert "there is no database" in answer.err
    assert "Traceback" not in answer.err
    assert not path.exists()


@pytest.mark.parametrize("command", ["status", "balances", "orders", "events", "outbox", "verify"])
def test_a_database_without_the_schema_names_the_command_to_run(
    command: str, empty_database_url: str
) -> None:
    if empty_database_url.startswith("sqlite"):
        Path(empty_database_url.removeprefix("sqlite:///")).touch()

    answer = ask(empty_database_url, command)

    assert answer.code == 2
    assert "run `recorder migrate`" in answer.err


def test_a_file_that_is_no_database_is_a_failure_of_the_database(tmp_path: Path) -> None:
    path = tmp_path / "noise.db"
    path.write_bytes(b"no database at all" * 100)

    answer = ask(f"sqlite:///{path}", "status")

    assert answer.code == 3
    assert answer.err.startswith("recorder: ")
    assert "Traceback" not in answer.err


def test_a_reader_that_stops_reading_ends_a_command_without_noise(sqlite_url: str) -> None:
    command = [sys.executable, "-m", "recorder", "status", "--database-url", sqlite_url]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as running:
        assert running.stdout is not None
        assert running.stderr is not None
        running.stdout.close()
        assert running.stderr.read() in (b"", _NEVER_RAN)
        assert running.wait() == 141


_NEVER_RAN = b"recorder: no recorder ever ran for account 'main' on this database"


@pytest.mark.parametrize(
    ("out", "flags", "is_json"),
    [
        (Terminal, (), False),
        (Terminal, ("--json",), True),
        (io.StringIO, (), True),
        (io.StringIO, ("--table",), False),
    ],
)
def test_a_person_gets_tables_on_a_terminal_and_a_program_json_elsewhere(
    database: Database,
    database_url: str,
    out: type[io.StringIO],
    flags: tuple[str, ...],
    is_json: bool,
) -> None:
    record_scene(database)
    for command in ("status", "balances", "orders", "events", "verify"):
        with redirect_stdout(out()) as sentence, redirect_stderr(io.StringIO()):
            code = main((command, *flags), {"RECORDER_DATABASE_URL": database_url})

        assert code == 0
        lines = sentence.getvalue().splitlines()
        assert lines
        assert not is_json or all(isinstance(json.loads(line), dict) for line in lines)
        assert is_json or not any(line.startswith("{") for line in lines)


@pytest.mark.parametrize("argv", [("verify",), ("rebuild", "--check"), ("rebuild", "balances")])
def test_how_far_it_is_is_shown_on_a_terminal_and_nowhere_else(
    database: Database, database_url: str, argv: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    own(database, ended=True)
    write(database, *start_notes(), balance("BTC", "1"))
    fold(database)
    monkeypatch.setenv("TERM", "xterm")
    shown = {}
    for kind in (Terminal, io.StringIO):
        with redirect_stderr(kind()) as err, redirect_stdout(io.StringIO()):
            assert main(argv, {"RECORDER_DATABASE_URL": database_url}) == 0
        shown[kind] = err.getvalue()

    assert "100%" in shown[Terminal]
    assert "%" not in shown[io.StringIO]
