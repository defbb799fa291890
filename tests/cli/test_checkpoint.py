"""``recorder checkpoint`` and ``keygen``, on both databases."""

from __future__ import annotations

import json
import shlex
import sys
from pathlib import Path

import pytest

from recorder.database.engine import Database
from recorder.log.rules.checkpoint import Checkpoint, judge_line
from recorder.log.sql.checkpoint_file import read_public_keys
from tests.cli.scene import ask, record_scene
from tests.log.drafts import frame, write


@pytest.fixture
def settings(tmp_path: Path) -> dict[str, str]:
    """Variables that name a key and a file in a folder of its own."""
    folder = tmp_path / "outside"
    folder.mkdir()
    return {
        "RECORDER_CHECKPOINT_KEY_FILE": str(folder / "key"),
        "RECORDER_CHECKPOINT_FILE": str(folder / "heads"),
    }


def test_a_key_is_made_and_then_signs_what_verify_compares_with(
    database: Database, database_url: str, settings: dict[str, str]
) -> None:
    written = record_scene(database)
    made = ask(database_url, "checkpoint", "keygen", environment=settings)
    taken = ask(database_url, "checkpoint", environment=settings)
    verified = ask(database_url, "verify", environment=settings)

    assert (made.code, taken.code, verified.code) == (0, 0, 0), taken.err + verified.err
    public = read_public_keys(Path(made.rows[0]["public_file"]))
    assert public == {bytes.fromhex(made.rows[0]["public_key"])}
    (line,) = Path(settings["RECORDER_CHECKPOINT_FILE"]).read_text().splitlines()
    assert json.loads(line) == taken.rows[0]
    judged = judge_line(line.encode(), public)
    assert isinstance(judged, Checkpoint)
    assert judged.head.digest == written[-1].digest
    assert verified.rows[0]["checkpoints"] == 1
    assert verified.rows[0]["signatures"] == "checked"
    private = Path(settings["RECORDER_CHECKPOINT_KEY_FILE"]).read_text()
    for answer in (made, taken, verified):
        assert private.splitlines()[1] not in answer.out + answer.err


def test_a_key_is_never_overwritten(database_url: str, settings: dict[str, str]) -> None:
    assert ask(database_url, "checkpoint", "keygen", environment=settings).code == 0
    before = Path(settings["RECORDER_CHECKPOINT_KEY_FILE"]).read_bytes()

    again = ask(database_url, "checkpoint", "keygen", environment=settings)

    assert again.code == 2
    assert "never overwritten" in again.err
    assert Path(settings["RECORDER_CHECKPOINT_KEY_FILE"]).read_bytes() == before


def test_a_key_that_others_can_read_is_warned_of(
    database: Database, database_url: str, settings: dict[str, str]
) -> None:
    write(database, frame())
    assert ask(database_url, "checkpoint", "keygen", environment=settings).code == 0
    assert "chmod" not in ask(database_url, "checkpoint", environment=settings).err
    Path(settings["RECORDER_CHECKPOINT_KEY_FILE"]).chmod(0o640)

    answer = ask(database_url, "checkpoint", environment=settings)

    assert answer.code == 0
    assert "chmod 600" in answer.err


def test_a_key_needs_a_place(sqlite_url: str) -> None:
    answer = ask(sqlite_url, "checkpoint", "keygen")
    assert answer.code == 2
    assert "--checkpoint-key-file" in answer.err


def test_each_account_has_its_head_and_a_missing_key_is_reported(
    database: Database, database_url: str
) -> None:
    write(database, frame(account="a"), frame(account="b"), frame(account="b"))

    answer = ask(database_url, "checkpoint")
    one = ask(database_url, "checkpoint", "--account", "b", "--table")

    assert [(row["account"], row["position"]) for row in answer.rows] == [("a", 1), ("b", 2)]
    assert {row["signature"] for row in answer.rows} == {None}
    assert "without a signature" in answer.err
    assert "account 'b': position 2" in one.out


def test_where_there_is_no_event_there_is_no_head(database_url: str) -> None:
    answer = ask(database_url, "checkpoint")
    assert (answer.code, answer.out) == (2, "")
    assert "knows no account 'main'" in answer.err


def test_a_place_that_does_not_take_it_is_code_2_and_the_others_have_it(
    database: Database, database_url: str, tmp_path: Path
) -> None:
    write(database, frame())
    (tmp_path / "outside").mkdir()
    out = tmp_path / "outside" / "out"
    script = "import os, sys; open(sys.argv[1], 'w').write(sys.stdin.read() + str(os.environ))"
    environment = {
        "RECORDER_CHECKPOINT_FILE": str(tmp_path / "none" / "heads"),
        "RECORDER_CHECKPOINT_HOOK": shlex.join([sys.executable, "-c", script, str(out)]),
        "VALR_API_SECRET": "a-secret",
        "PGPASSWORD": "a-secret",
    }

    answer = ask(database_url, "checkpoint", environment=environment)

    assert answer.code == 2
    assert "did not take the checkpoint" in answer.err
    reported = out.read_text()
    assert json.loads(reported.splitlines()[0]) == answer.rows[0]
    assert "a-secret" not in reported
    assert "RECORDER_DATABASE_URL" not in reported


@pytest.mark.parametrize("command", ["checkpoint", "verify"])
def test_a_key_that_can_not_be_read_is_wrong_settings(
    database: Database, database_url: str, command: str, settings: dict[str, str]
) -> None:
    write(database, frame())
    ask(database_url, "checkpoint", environment=settings | {"RECORDER_CHECKPOINT_KEY_FILE": ""})

    answer = ask(database_url, command, environment=settings)

    assert answer.code == 2
    assert "keygen" in answer.err
    assert answer.out == ""


def test_checkpoints_of_several_files_are_compared_and_a_missing_one_is_code_2(
    database: Database, database_url: str, tmp_path: Path
) -> None:
    write(database, frame())
    for name in ("a", "b"):
        environment = {"RECORDER_CHECKPOINT_FILE": str(tmp_path / name)}
        assert ask(database_url, "checkpoint", environment=environment).code == 0
        write(database, frame())
    named = [f"--checkpoints={tmp_path / name}" for name in ("a", "b")]

    both = ask(database_url, "verify", *named)
    missing = ask(database_url, "verify", *named, f"--checkpoints={tmp_path / 'c'}")

    assert (both.code, both.rows[0]["checkpoints"]) == (0, 2)
    assert missing.code == 2
    assert str(tmp_path / "c") in missing.err
