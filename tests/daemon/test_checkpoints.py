"""A daemon takes its heads out, at the start, on schedule and at the stop, and shows no key."""

from __future__ import annotations

import json
import logging
import shlex
import sys
from pathlib import Path
from typing import Any

import pytest
import trio

from recorder.daemon import run_daemon
from recorder.errors import ConfigurationError
from recorder.log.rules.checkpoint import Checkpoint, judge_line
from recorder.log.sql.checkpoint_file import make_keys
from tests.cli.scene import ask
from tests.daemon.scene import connected, exchange, runtime, settings_for, until

EVERY_S = "0.2"


def heads_of(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []


async def test_a_daemon_signs_its_heads_and_verify_agrees_while_it_runs_and_after(
    database_url: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "recorder")
    folder = tmp_path / "outside"
    folder.mkdir()
    key, file, hooked = make_keys(folder / "key"), folder / "heads", folder / "hooked"
    code = "import sys; open(sys.argv[1], 'a').write(sys.stdin.read())"
    reported = {
        "RECORDER_CHECKPOINT_FILE": str(file),
        "RECORDER_CHECKPOINT_KEY_FILE": str(folder / "key"),
    }
    given: dict[str, Any] = {
        "checkpoint_file": str(file),
        "checkpoint_key_file": str(folder / "key"),
        "checkpoint_every_s": EVERY_S,
        "checkpoint_hook": shlex.join([sys.executable, "-c", code, str(hooked)]),
    }
    async with connected(database_url, **given) as scene:
        await until(lambda: len(heads_of(file)) >= 3 and bool(heads_of(hooked)))
        beside = await trio.to_thread.run_sync(
            lambda: ask(database_url, "verify", environment=reported)
        )
        await scene.end()
        last = scene.books.one("SELECT max(position) FROM events")

    after = ask(database_url, "verify", environment=reported)
    assert (beside.code, after.code) == (0, 0), beside.err + after.err
    assert after.rows[0]["checkpoints"] == len(heads_of(file))
    assert after.rows[0]["signatures"] == "checked"
    # The last head of all is that of the stop, in every place.
    assert heads_of(file)[-1]["position"] == heads_of(hooked)[-1]["position"] == last
    for line in file.read_bytes().splitlines():
        assert isinstance(judge_line(line, {key.public}), Checkpoint)
    answer = [each.getMessage() for each in caplog.records if each.name == "recorder.checkpoints"]
    assert json.loads(answer[-1].removeprefix("checkpoint ")) == heads_of(file)[-1]
    secret = (folder / "key").read_text().splitlines()[1]
    assert secret not in caplog.text
    assert secret not in repr(scene.settings)


async def test_places_that_hang_or_fail_keep_no_frame_waiting_and_no_stop(
    sqlite_url: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    given: dict[str, Any] = {
        "checkpoint_file": str(tmp_path / "none" / "heads"),
        "checkpoint_every_s": EVERY_S,
        "checkpoint_hook": shlex.join([sys.executable, "-c", "import time; time.sleep(600)"]),
    }
    async with connected(sqlite_url, **given) as scene:
        await scene.until_live()
        await scene.until_recorded()
        began = trio.current_time()
        await scene.end()
        # No longer than the grace that every stop has.
        assert trio.current_time() - began < float(scene.settings.stop_grace_s) + 3
        assert scene.books.one("SELECT type FROM events ORDER BY position DESC LIMIT 1") == (
            "RECORDER_STOPPED"
        )
    assert "did not take a checkpoint" in caplog.text


async def test_a_daemon_without_a_key_warns_and_one_with_a_bad_key_does_not_start(
    sqlite_url: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "recorder")
    file = tmp_path / "heads"
    async with connected(sqlite_url, checkpoint_file=str(file)) as scene:
        await until(lambda: bool(heads_of(file)))
        broken = settings_for(sqlite_url, scene.simulator, checkpoint_key_file=str(file))
    assert "checkpoints are written without a signature" in caplog.text
    assert {head["signature"] for head in heads_of(file)} == {None}

    async with exchange():
        with pytest.raises(ConfigurationError, match="no Ed25519 key"):
            await run_daemon(broken, runtime(), stop=trio.Event())
