"""Recorders as processes of their own, against an exchange in this one."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import trio
from attrs import frozen

from recorder.simulator import Simulator
from tests.daemon.scene import KEY, SECRET, until

ROOT = Path(__file__).parents[2]
WAIT_MAX_S = 90.0


@frozen
class Ended:
    """How a process ended: its exit code, negative where a signal did it, and what it reported."""

    code: int
    out: str
    err: str


def environment_for(
    folder: Path, url: str, simulator: Simulator | None = None, **more: str
) -> dict[str, str]:
    """Return the variables of a recorder, and nothing of ours but what Python needs."""
    reported = {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": str(ROOT),
        "HOME": str(folder),
        "RECORDER_DATABASE_URL": url,
        "RECORDER_TRADING": "1",
        "VALR_API_KEY": KEY,
        "VALR_API_SECRET": SECRET,
    }
    if simulator is not None:
        reported |= {"RECORDER_WS_URL": simulator.ws_url, "RECORDER_REST_URL": simulator.rest_url}
    return reported | more


def recorder(
    folder: Path,
    environment: Mapping[str, str],
    *argv: str,
    before: Callable[[], None] | None = None,
) -> subprocess.Popen[bytes]:
    """Start a command in a folder of its own; what it reports goes to files there."""
    with (folder / "out").open("wb") as out, (folder / "err").open("wb") as err:
        return subprocess.Popen(
            [sys.executable, "-m", "recorder", *argv],
            cwd=folder,
            env=dict(environment),
            stdout=out,
            stderr=err,
            preexec_fn=before,
        )


async def ended(folder: Path, process: subprocess.Popen[bytes]) -> Ended:
    """Wait for the end of a process."""
    await until(lambda: process.poll() is not None, WAIT_MAX_S)
    out, err = ((folder / name).read_text(encoding="utf-8") for name in ("out", "err"))
    return Ended(process.returncode, out, err)


async def call(folder: Path, environment: Mapping[str, str], *argv: str) -> Ended:
    """Run a command to its end."""
    with stopped_at_last(recorder(folder, environment, *argv)) as process:
        return await ended(folder, process)


@contextmanager
def stopped_at_last(process: subprocess.Popen[bytes]) -> Iterator[subprocess.Popen[bytes]]:
    """Leave no process behind, whatever a test does."""
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        process.wait(WAIT_MAX_S)


@asynccontextmanager
async def running(
    folder: Path, environment: Mapping[str, str], simulator: Simulator
) -> AsyncIterator[subprocess.Popen[bytes]]:
    """Run a recorder that the exchange has let in; it is killed at the end, if it still runs."""
    before = simulator.connections
    with stopped_at_last(recorder(folder, environment, "run")) as process:
        await until(lambda: simulator.connections > before or process.poll() is not None)
        answer = (folder / "err").read_text(encoding="utf-8")
        assert process.poll() is None, answer
        yield process


async def stop(folder: Path, process: subprocess.Popen[bytes]) -> Ended:
    """Ask a recorder to stop, and wait for its end."""
    process.send_signal(signal.SIGTERM)
    return await ended(folder, process)


async def kill(process: subprocess.Popen[bytes]) -> None:
    """Kill a process at once, as a machine that runs out of memory does."""
    process.kill()
    with trio.fail_after(WAIT_MAX_S):
        await trio.to_thread.run_sync(process.wait)
