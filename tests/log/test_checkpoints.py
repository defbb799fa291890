"""The keeper of heads and its publisher: on time, in order, and without delaying others."""

from __future__ import annotations

import json
import logging
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing
from attrs import define, field

from recorder.database.engine import Database
from recorder.errors import CheckpointNotWritten, StorageFailed, StorageUnavailable
from recorder.log.rules.checkpoint import checkpoint_line
from recorder.log.tasks.checkpoints import (
    FINISH_S,
    RETRY_MAX_S,
    RETRY_S,
    CheckpointPublisher,
    CheckpointScheduler,
    FileSink,
    HookSink,
    LogSink,
    Place,
)
from recorder.units import InlineRunner
from tests.connection.clocks import TrioClock
from tests.log.drafts import NOW_US, frame, write

EVERY_S = 60.0


@define(eq=False)
class Shelf:
    """A place that keeps lines, and can be made to fail or to hang."""

    name: str = "shelf"
    broken: str = ""
    hangs: bool = False
    tries: int = 0
    kept: list[tuple[float, str, int]] = field(factory=list)

    async def take(self, line: str) -> None:
        self.tries += 1
        if self.hangs:
            await trio.sleep_forever()
        await trio.lowlevel.checkpoint()
        if self.broken:
            raise CheckpointNotWritten(self.broken)
        answer = json.loads(line)
        self.kept.append((trio.current_time(), answer["account"], answer["position"]))

    @property
    def positions(self) -> list[int]:
        return [position for _, _, position in self.kept]


@define(eq=False)
class Away:
    """A database that can be taken away."""

    database: Database
    error: Exception | None = None

    async def run(self, unit: Any, *args: Any, **kwargs: Any) -> Any:
        if self.error:
            raise self.error
        return await InlineRunner(self.database.reader).run(unit, *args, **kwargs)


def keeper_of(runner: Any, *places: Place, accounts: tuple[str, ...] = ("main",)) -> Any:
    return CheckpointScheduler(
        accounts=accounts,
        every_s=EVERY_S,
        reader=runner,
        clock=TrioClock(NOW_US),
        write=partial(checkpoint_line, key=None),
        publishers=[CheckpointPublisher(place) for place in places],
    )


@asynccontextmanager
async def running(keeper: CheckpointScheduler) -> AsyncIterator[None]:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(keeper.run)
        yield
        nursery.cancel_scope.cancel()


async def test_a_head_is_taken_out_at_the_start_on_schedule_and_at_the_stop(
    database: Database, autojump_clock: trio.testing.MockClock
) -> None:
    shelf = Shelf()
    write(database, frame())
    keeper = keeper_of(Away(database), shelf)
    async with running(keeper):
        await trio.sleep(1)
        assert shelf.kept == [(0, "main", 1)]
        write(database, frame(), frame())
        await trio.sleep(EVERY_S)
        assert shelf.kept[1:] == [(EVERY_S, "main", 3)]
        write(database, frame())
        await keeper.finish()
        assert shelf.positions == [1, 3, 4]


async def test_a_head_that_has_not_moved_is_not_published_again(
    database: Database, autojump_clock: trio.testing.MockClock
) -> None:
    shelf = Shelf()
    write(database, frame())
    keeper = keeper_of(Away(database), shelf)
    async with running(keeper):
        await trio.sleep(10 * EVERY_S)
        await keeper.finish()
    assert shelf.positions == [1]


async def test_an_empty_log_has_no_head_to_take_out(
    database: Database, autojump_clock: trio.testing.MockClock
) -> None:
    shelf = Shelf()
    write(database, frame(account="other"))
    keeper = keeper_of(Away(database), shelf, accounts=("main", "other"))
    async with running(keeper):
        await trio.sleep(EVERY_S)
    assert [account for _, account, _ in shelf.kept] == ["other"]


async def test_a_place_that_fails_gets_the_newest_head_when_it_is_back_and_delays_no_other(
    database: Database, autojump_clock: trio.testing.MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "recorder")
    broken, stuck, sound = Shelf("bucket", broken="no route"), Shelf("hole", hangs=True), Shelf()
    write(database, frame())
    keeper = keeper_of(Away(database), broken, stuck, sound)
    async with running(keeper):
        await trio.sleep(1)
        for _ in range(20):
            write(database, frame())
            await trio.sleep(EVERY_S)
        assert sound.positions == list(range(1, 22))
        assert (broken.positions, stuck.tries) == ([], 1)
        # Doubled from 5 s on: some tries in these 20 minutes, not hundreds.
        assert 5 < broken.tries < 15
        broken.broken = ""
        await trio.sleep(RETRY_MAX_S)
        assert broken.positions == [21]
    answer = [each.getMessage() for each in caplog.records]
    assert answer.count("bucket did not take a checkpoint: no route; trying on") == 1
    assert answer.count("bucket takes checkpoints again") == 1


async def test_another_reason_is_reported_again(
    autojump_clock: trio.testing.MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    shelf = Shelf(broken="full")
    publisher = CheckpointPublisher(shelf)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(publisher.run)
        publisher.give("main", '{"account":"main","position":1}')
        await trio.sleep(RETRY_S / 2)
        shelf.broken = "away"
        await trio.sleep(4 * RETRY_S)
        nursery.cancel_scope.cancel()
    assert [each.getMessage().split(": ")[1] for each in caplog.records] == [
        "full; trying on",
        "away; trying on",
    ]


async def test_a_stop_waits_for_no_place_that_hangs_or_fails(
    database: Database, autojump_clock: trio.testing.MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    write(database, frame())
    failing = Shelf(broken="away")
    keeper = keeper_of(Away(database), failing)
    async with running(keeper):
        await trio.sleep(1)
        began = trio.current_time()
        await keeper.finish()
        assert trio.current_time() == began
        assert failing.tries >= 2
    assert "in time" not in caplog.text

    keeper = keeper_of(Away(database), Shelf(hangs=True), Shelf())
    async with running(keeper):
        await trio.sleep(1)
        began = trio.current_time()
        await keeper.finish()
        assert trio.current_time() - began == FINISH_S
    assert "did not reach every place in time" in caplog.text


@pytest.mark.parametrize("error", [StorageUnavailable("away"), StorageFailed("broken")])
async def test_a_database_that_is_away_is_looked_at_again(
    database: Database,
    autojump_clock: trio.testing.MockClock,
    caplog: pytest.LogCaptureFixture,
    error: Exception,
) -> None:
    write(database, frame())
    runner, shelf = Away(database, error), Shelf()
    async with running(keeper_of(runner, shelf)):
        await trio.sleep(1)
        assert "main: the head can't be read for a checkpoint now" in caplog.text
        runner.error = None
        await trio.sleep(EVERY_S)
    assert shelf.positions == [1]


# The places themselves.


async def test_a_file_gets_lines_or_reports_the_reason(tmp_path: Path) -> None:
    place = FileSink(tmp_path / "heads")
    await place.take('{"a":1}')
    assert (tmp_path / "heads").read_text() == '{"a":1}\n'
    with pytest.raises(CheckpointNotWritten, match="No such file"):
        await FileSink(tmp_path / "none" / "heads").take("{}")


async def test_a_line_of_the_log_holds_the_whole_head(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "recorder")
    await LogSink().take('{"a":1}')
    assert [each.getMessage() for each in caplog.records] == ['checkpoint {"a":1}']


def hook(*argv: str, wait_max_s: float = 20.0, **environment: str) -> HookSink:
    return HookSink(argv, {"PATH": os.environ["PATH"], **environment}, wait_max_s)


def python(code: str, *argv: str, wait_max_s: float = 20.0) -> HookSink:
    return hook(sys.executable, "-c", code, *argv, wait_max_s=wait_max_s)


async def test_a_program_gets_the_line_and_no_shell_reads_its_arguments(tmp_path: Path) -> None:
    out = tmp_path / "out"
    code = (
        "import json, os, sys;"
        "json.dump([sys.argv[2:], sys.stdin.read(), dict(os.environ)], open(sys.argv[1], 'w'))"
    )
    argument = f"; touch {tmp_path}/forged $(id)"
    place = hook(sys.executable, "-c", code, str(out), argument, TOKEN="t")

    await place.take('{"a":1}')

    argv, answer, environment = json.loads(out.read_text())
    assert (argv, answer) == ([argument], '{"a":1}\n')
    assert environment["TOKEN"] == "t"
    assert set(environment) <= {"PATH", "TOKEN", "LC_CTYPE"}
    assert not (tmp_path / "forged").exists()


@pytest.mark.parametrize(
    ("code", "why"),
    [("raise SystemExit(3)", "exit code 3"), ("import os; os.kill(os.getpid(), 9)", "signal 9")],
)
async def test_a_program_that_fails_did_not_take_it(code: str, why: str) -> None:
    with pytest.raises(CheckpointNotWritten, match=why):
        await python(code).take("{}")


async def test_a_program_that_does_not_read_may_still_have_taken_it() -> None:
    await python("pass").take("x" * 1_000_000)


async def test_a_missing_program_is_reported(tmp_path: Path) -> None:
    (tmp_path / "plain").touch()
    for name in ("none", "plain"):
        with pytest.raises(CheckpointNotWritten, match="can't be started"):
            await hook(str(tmp_path / name)).take("{}")


async def test_a_program_that_hangs_is_killed_with_what_it_started(tmp_path: Path) -> None:
    reported = tmp_path / "pid"
    code = (
        "import subprocess, sys, time;"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)']);"
        "open(sys.argv[1], 'w').write(str(child.pid)); time.sleep(600)"
    )
    with pytest.raises(CheckpointNotWritten, match="took longer than 2 s"):
        await python(code, str(reported), wait_max_s=2.0).take("{}")

    with trio.fail_after(10):
        while is_running(reported.read_text()):
            await trio.sleep(0.01)


def is_running(pid: str) -> bool:
    stat = Path(f"/proc/{pid}/stat")
    return stat.exists() and stat.read_text().split()[2] != "Z"


async def test_a_stop_while_a_program_runs_does_not_wait_for_it() -> None:
    began = trio.current_time()
    with trio.move_on_after(0.5):
        await python("import time; time.sleep(600)").take("{}")
    assert trio.current_time() - began < 5


def test_what_is_shown_of_a_hook_has_nothing_of_its_environment() -> None:
    assert "hidden" not in repr(hook("x", TOKEN="hidden"))
