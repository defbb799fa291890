"""Publishes heads of the log outside the database: to a file, the log output, a program.

The keeper looks at the heads on a schedule, and at the stop. A head that moved becomes one line,
and each sink has a publisher that brings it there. A sink that fails or hangs delays only its own
publisher, which tries again with the newest head: a later head stands for all before it. Only what
is durable is ever read here, so no crash leaves a checkpoint of what was never written.
"""

from __future__ import annotations

import logging
import os
import signal
import subprocess
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Protocol

import trio
from attrs import define, field, frozen

from recorder.clock import Clock
from recorder.errors import CheckpointNotWritten, StorageFailed, StorageUnavailable
from recorder.log.rules.checkpoint import Checkpoint
from recorder.log.rules.event import EMPTY_HEAD, Head
from recorder.log.sql.checkpoint_file import append_line
from recorder.log.sql.read import head as read_head
from recorder.units import UnitRunner

log = logging.getLogger("recorder.checkpoints")

#: A program that takes longer is killed, with all that it started.
HOOK_S = 30.0
#: Between two tries of a place that fails; doubled each time, up to the second of these.
RETRY_S, RETRY_MAX_S = 5.0, 300.0
#: At the stop each place gets one more try, and all of them together so long.
FINISH_S = 3.0


class Place(Protocol):
    """Somewhere outside the database that keeps heads."""

    @property
    def name(self) -> str:
        """What a person calls it."""
        ...

    async def take(self, line: str) -> None:
        """Keep one line. Raises CheckpointNotWritten; it may have been kept all the same."""
        ...


@frozen
class FileSink:
    """A file that lines are appended to, durably."""

    path: Path

    @property
    def name(self) -> str:
        return f"checkpoint file {self.path}"

    async def take(self, line: str) -> None:
        # A disk that never answers holds up a thread, not the stop.
        await trio.to_thread.run_sync(append_line, self.path, line, abandon_on_cancel=True)


@frozen
class LogSink:
    """The recorder's own log, which a journal keeps elsewhere."""

    name: str = "log"

    async def take(self, line: str) -> None:
        log.info("checkpoint %s", line)


@frozen
class HookSink:
    """A program that gets each line on its standard input, and confirms it by exit code
    0.

    No shell is between. It runs in a session of its own, to be ended with all that it started.
    """

    argv: Sequence[str]
    environment: Mapping[str, str] = field(repr=False)
    wait_max_s: float = HOOK_S

    @property
    def name(self) -> str:
        return f"checkpoint hook {self.argv[0]}"

    async def take(self, line: str) -> None:
        try:
            with trio.fail_after(self.wait_max_s):
                code = await self._run(line)
        except trio.TooSlowError as error:
            raise CheckpointNotWritten(
                f"it took longer than {self.wait_max_s:g} s, and was killed"
            ) from error
        except OSError as error:
            raise CheckpointNotWritten(f"it can't be started: {error.strerror}") from error
        if code != 0:
            ended = f"exit code {code}" if code > 0 else f"signal {-code}"
            raise CheckpointNotWritten(f"it ended with {ended}")

    async def _run(self, line: str) -> int:
        # What it reports goes where the recorder's own log goes.
        done = await trio.run_process(
            self.argv,
            stdin=f"{line}\n".encode("ascii"),
            stdout=subprocess.DEVNULL,
            check=False,
            deliver_cancel=_kill,
            env=dict(self.environment),
            start_new_session=True,
        )
        return done.returncode


async def _kill(process: trio.Process) -> None:
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


@define(eq=False)
class CheckpointPublisher:
    """Brings the newest line of each account to one place, again and again until it is there."""

    place: Place
    _waiting: dict[str, str] = field(factory=dict)
    _given: trio.Event = field(factory=trio.Event)
    _emptied: trio.Event = field(factory=trio.Event)
    _hurried: trio.Event = field(factory=trio.Event)
    _described: str = ""
    _pause_s: float = RETRY_S

    def give(self, account: str, line: str) -> None:
        """Take over what is to be brought, in place of what waits for the same account."""
        self._waiting[account] = line
        self._emptied = trio.Event()
        self._given.set()

    async def finish(self) -> None:
        """Return once nothing waits: it was brought, or the place failed once more."""
        self._hurried.set()
        if self._waiting:
            await self._emptied.wait()

    async def run(self) -> None:
        """Bring what is given, until cancelled."""
        while True:
            await self._given.wait()
            self._given = trio.Event()
            while self._waiting:
                await self._bring()
            self._emptied.set()

    async def _bring(self) -> None:
        account, line = next(iter(self._waiting.items()))
        try:
            await self.place.take(line)
        except CheckpointNotWritten as error:
            await self._wait_after(str(error))
            return
        if self._described:
            log.info("%s takes checkpoints again", self.place.name)
        self._described, self._pause_s = "", RETRY_S
        if self._waiting[account] is line:
            del self._waiting[account]

    async def _wait_after(self, reason: str) -> None:
        if reason != self._described:
            self._described = reason
            log.warning("%s did not take a checkpoint: %s; trying on", self.place.name, reason)
        if self._hurried.is_set():
            self._waiting.clear()
            return
        with trio.move_on_after(self._pause_s):
            await self._hurried.wait()
        self._pause_s = min(self._pause_s * 2, RETRY_MAX_S)


@define(eq=False)
class CheckpointScheduler:
    """Looks at the heads of all accounts, and hands those that moved to the publisher."""

    accounts: Sequence[str]
    every_s: float
    reader: UnitRunner
    clock: Clock
    #: Makes the line of a checkpoint, signed where there is a key.
    write: Callable[[Checkpoint], str]
    publishers: Sequence[CheckpointPublisher]
    _heads: dict[str, Head] = field(factory=dict)

    async def run(self) -> None:
        """Look at once and then every ``every_s``, until cancelled."""
        async with trio.open_nursery() as nursery:
            for publisher in self.publishers:
                nursery.start_soon(publisher.run)
            while True:
                await self.look()
                await trio.sleep(self.every_s)

    async def finish(self) -> None:
        """Look a last time, and wait for the publisher, but no longer than `FINISH_S`."""
        with trio.move_on_after(FINISH_S) as scope:
            await self.look()
            for publisher in self.publishers:
                await publisher.finish()
        if scope.cancelled_caught:
            log.warning("the last checkpoints did not reach every place in time")

    async def look(self) -> None:
        """Hand over the heads that moved since the last look."""
        for account in self.accounts:
            try:
                head = await self.reader.run(read_head, account)
            except (StorageUnavailable, StorageFailed) as error:
                log.warning("%s: the head can't be read for a checkpoint now: %s", account, error)
                continue
            if head not in (EMPTY_HEAD, self._heads.get(account)):
                self._heads[account] = head
                self._hand_over(Checkpoint(account, head, self.clock.wall_us()))

    def _hand_over(self, checkpoint: Checkpoint) -> None:
        line = self.write(checkpoint)
        for publisher in self.publishers:
            publisher.give(checkpoint.account, line)
