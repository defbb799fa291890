"""Reports that the database is away: once when it goes, once a minute, and once when it is back.

All tasks of a process use the database, and all of them fail while it is away. They try again
in silence; the runners of their units report here, and one task logs what a person needs to know.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Sequence

import trio
from attrs import define, field

from recorder.clock import Clock
from recorder.display import counted, duration_text

log = logging.getLogger("recorder.database")

#: A failure that is over within this time is none to report.
GRACE_S = 1.0
EVERY_S = 60.0
#: The log's database is away, too, when it takes longer than this to answer.
SILENT_S = 10.0
_LOOK_S = 0.5
BLOCKERS_WITHIN_S = 5.0


@define(eq=False)
class Outage:
    """What failed last in each kind of work, and since when; all on the event loop."""

    clock: Clock
    #: How many events wait in memory.
    waiting: Callable[[], int]
    #: Finds who is in the way, a sentence for each.
    blockers: Callable[[], Awaitable[Sequence[str]]]
    #: Kind of work → since when it fails.
    _failing: dict[object, float] = field(factory=dict)
    _error: str = ""
    #: When the unit of the log began that has no answer yet.
    _asked_s: float | None = None

    def failed(self, kind: object, error: Exception, began_s: float | None = None) -> None:
        """Take down that the database did not take a unit of this kind of work, begun then."""
        self._failing.setdefault(kind, self.now_s() if began_s is None else began_s)
        self._error = str(error)

    def worked(self, kind: object) -> None:
        """Take down that it did."""
        self._failing.pop(kind, None)

    def asked(self) -> None:
        """Take down that the log's database was asked; `answered` ends that."""
        self._asked_s = self.now_s()

    def answered(self) -> None:
        """Take down that it answered, whatever it did."""
        self._asked_s = None

    async def watch(self) -> None:
        """Log until cancelled."""
        while True:
            since_s = await self._begin()
            log.warning(
                "the database takes nothing: %s. %s; nothing is lost while this process runs,"
                " and it goes on trying",
                self._what(),
                self._waiting(),
            )
            await self._log_blockers()
            while not await self._ended():
                text = "the database has been away for %s: %s. %s"
                log.warning(text, self._away(since_s), self._what(), self._waiting())
                await self._log_blockers()
            text = "the database is back after %s. %s"
            log.warning(text, self._away(since_s), self._waiting())

    async def _begin(self) -> float:
        """Return since when the database is away, once that is worth a line."""
        while True:
            now_s, silent_s = self.now_s(), self._silent_s()
            if silent_s >= SILENT_S:
                return now_s - silent_s
            first_s = min(self._failing.values(), default=now_s)
            if now_s - first_s >= GRACE_S:
                return first_s
            await trio.sleep(_LOOK_S)

    async def _ended(self) -> bool:
        """Return True once all works again, False after `EVERY_S`."""
        with trio.move_on_after(EVERY_S):
            # The silence grows by itself, so there is no event to wait for.
            while self._failing or self._silent_s() >= SILENT_S:  # noqa: ASYNC110
                await trio.sleep(_LOOK_S)
            return True
        return False

    async def _log_blockers(self) -> None:
        for each in await self.blockers():
            log.warning("in the way: %s", each)

    def _away(self, since_s: float) -> str:
        return duration_text(self.now_s() - since_s)

    def _what(self) -> str:
        if self._failing:
            return self._error
        return f"it has not answered for {duration_text(self._silent_s())}"

    def _waiting(self) -> str:
        return f"{counted(self.waiting(), 'event', 'events')} wait in memory"

    def _silent_s(self) -> float:
        return 0.0 if self._asked_s is None else self.now_s() - self._asked_s

    def now_s(self) -> float:
        """Return the monotonic time in seconds."""
        return self.clock.monotonic_ns() / 1e9


def asked_in_thread(find: Callable[[], Sequence[str]]) -> Callable[[], Awaitable[Sequence[str]]]:
    """Return a question that gives up after `BLOCKERS_WITHIN_S`: the database may hang."""
    # A server that hangs keeps the thread; one of them is enough.
    only_one = trio.CapacityLimiter(1)

    async def ask() -> Sequence[str]:
        with trio.move_on_after(BLOCKERS_WITHIN_S):
            return await trio.to_thread.run_sync(find, limiter=only_one, abandon_on_cancel=True)
        return ()

    return ask
