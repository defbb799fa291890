"""Fetches over REST what was missed: after each gap, and for periods that the operator requests.

One period at a time; `lists` reads each of its lists to the end. The log shows how far a run is, so
a run that a crash or a stop broke off goes on with the page that is missing. Frames that arrive
meanwhile are recorded as ever, and the folds match both.

When everything is recorded and folded, the run notes what it proves: that a gap is healed, or that
it can't be verified, and why. A run that lacks a list ends as incomplete.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from datetime import datetime
from functools import partial

import trio
from attrs import define

from recorder.exchange.paging import Cursor, HistoryList, first_cursor, read_cursor
from recorder.gaps.sql.backfill import (
    FOLDS,
    FUTURES_FOLD,
    ListState,
    Period,
    has_futures,
    last_answers,
    lists_of,
    mark,
    next_gap,
    next_requested,
    pending_transfers_since,
    uncounted,
    unfinished,
    unhealed_within,
    warnings_of,
)
from recorder.gaps.tasks.lists import FOLD_WAIT_S, RunLists
from recorder.log.rules.event import Draft, Note
from recorder.projections.rules.backfills import COMPLETE, INCOMPLETE, RUNNING
from recorder.rest.client import Asks
from recorder.rest.recorded_fetch import Record, RecordedFetch
from recorder.timestamps import from_us

log = logging.getLogger("recorder.backfill")

#: Between two looks whether something is to be fetched.
POLL_S = 1.0
#: A list that has given no page for so long is given up.
GIVE_UP_S = 3_600.0
#: Orders are read again so often, as long as one is filled between an answer and its event.
TOTALS_TRIES = 3
#: The fold of our notes on fetching.
_NOTES = ("backfills",)
#: What a back-fill can't prove, whatever it reads; docs/explanation/back-fill.md has the reasons.
NOT_COVERED = (
    "states that an order passed through in the gap: its history reports the latest only",
    "equal deposits of one transaction on two pages",
    "positions and conditional orders that came and went in the gap",
)


@define(eq=False)
class Backfiller:
    """One account's back-fill."""

    rest: RecordedFetch
    #: The head of the log when this process took the account: folds must have read up to there.
    head: int
    #: A closed gap is left alone for so long: the exchange's lists are a little behind.
    after_s: float
    #: False: only what the operator requests is fetched.
    is_on: bool = True
    give_up_s: float = GIVE_UP_S

    @property
    def account(self) -> str:
        """The account's name."""
        return self.rest.account

    async def run(self) -> None:
        """Fetch what is to be fetched, for ever."""
        await self.rest.until_folded(self.head, _NOTES)
        while True:
            period = await self._next()
            if period is None:
                await trio.sleep(POLL_S)
                continue
            async with self.rest.open_client() as client:
                await self._fetch(client, period)

    async def _next(self) -> Period | None:
        """Return what is to be fetched next: an unfinished run, a request, a gap."""
        for find in (unfinished, next_requested, *([next_gap] if self.is_on else [])):
            found = await self.rest.read(find, self.account)
            if found is not None:
                return None if self._is_too_young(found) else found
        return None

    def _is_too_young(self, period: Period) -> bool:
        is_new = period.gap_id is not None and period.run_id is None
        # A wall clock that was set back makes no gap wait.
        return is_new and 0 <= (self._now() - period.until).total_seconds() < self.after_s

    async def _fetch(self, client: Asks, period: Period) -> None:
        """Read every list of a period to its end, and note what that proves."""
        run_id = period.run_id if period.run_id is not None else await self._begin(period)
        lists, last = RunLists(self.rest, client, run_id, self.give_up_s), run_id
        pending = await self.rest.read(pending_transfers_since, self.account, period.since)
        for name in HistoryList:
            was = period.lists.get(name, ListState())
            if was.state == RUNNING:
                cursor = read_cursor(was.next) if was.next else self._first(name, period, pending)
                last = max(last, await lists.read_history(cursor))
        last = max(last, await lists.read_futures())
        last = await self._read_totals(lists, period, last)
        await self._finish(period, run_id, last)

    async def _read_totals(self, lists: RunLists, period: Period, last: int) -> int:
        """Read the orders again while one was filled further than its answer could show."""
        for _ in range(TOTALS_TRIES):
            with trio.move_on_after(FOLD_WAIT_S):
                await self.rest.until_folded(last, FOLDS)
            states = await self.rest.read(lists_of, self.account, lists.run_id)
            is_read = states.get(HistoryList.ORDERS, ListState()).state == COMPLETE
            if not is_read or not await self.rest.read(uncounted, self.account, period.since):
                break
            last = await lists.read_history(self._first(HistoryList.ORDERS, period))
        return last

    async def _begin(self, period: Period) -> int:
        facts = {
            "gap_id": period.gap_id,
            "backfill_id": period.backfill_id,
            "from": period.since.isoformat(),
            "until": period.until.isoformat(),
        }
        note = self.rest.note(Note.BACKFILL_STARTED, facts)
        (run_id,) = await self.rest.submit([note], self._mark(period, RUNNING))
        log.info("%s: fetching %s to %s", self.account, facts["from"], facts["until"])
        return run_id

    def _mark(self, period: Period, state: str, reason: str | None = None) -> Record | None:
        """Return what changes the row of the period's request, if it has one."""
        if period.backfill_id is None:
            return None
        return partial(
            mark,
            account=self.account,
            backfill_id=period.backfill_id,
            now=self._now(),
            state=state,
            reason=reason,
        )

    def _first(
        self, name: HistoryList, period: Period, pending_since: datetime | None = None
    ) -> Cursor:
        return first_cursor(name, period.since, period.until, self._now(), pending_since)

    async def _finish(self, period: Period, run_id: int, last: int) -> None:
        """Wait for the folds, and report whether anything is missing."""
        reasons = await self._open_ends(period, run_id, last)
        reason = "; ".join(reasons) or None
        facts = {"run": run_id, "complete": not reasons, "reason": reason}
        drafts = [self.rest.note(Note.BACKFILL_FINISHED, facts)]
        drafts += await self._verdicts(period, run_id, last, reasons)
        record = self._mark(period, INCOMPLETE if reasons else COMPLETE, reason)
        positions = await self.rest.submit(drafts, record)
        log.info("%s: fetched %s", self.account, reason or "everything")
        # The next look for a period must find this one done.
        await self.rest.until_folded(positions[0], _NOTES)

    async def _verdicts(
        self, period: Period, run_id: int, last: int, reasons: Sequence[str]
    ) -> list[Draft]:
        """Return the run's verdict on its gap, or on those that lie within its period."""
        read, account = self.rest.read, self.account
        if period.gap_id is not None:
            judged = [period.gap_id]
        elif reasons:
            return []
        else:
            judged = await read(unhealed_within, account, run_id, period, self.after_s)
        answers = [] if reasons else await read(last_answers, account, run_id)
        verdict = {
            "evidence": "; ".join(reasons) or f"back-fill {run_id} read every list to its end",
            "positions": answers,
            "run": run_id,
            "from": period.since.isoformat(),
            "until": period.until.isoformat(),
            "last_answer": last,
            "reasons": list(reasons),
            "not_covered": [*NOT_COVERED, *_unread(await read(lists_of, account, run_id))],
        }
        kind = Note.GAP_UNVERIFIABLE if reasons else Note.GAP_HEALED
        return [self.rest.note(kind, {"gap_id": gap_id, **verdict}) for gap_id in judged]

    async def _open_ends(self, period: Period, run_id: int, last: int) -> list[str]:
        """Return why the run proves nothing; nothing if it does."""
        with trio.move_on_after(FOLD_WAIT_S) as waiting:
            await self.rest.until_folded(last, (*FOLDS, *FUTURES_FOLD))
        reasons = ["the tables are not folded up to the answers"] * waiting.cancelled_caught
        lists = await self.rest.read(lists_of, self.account, run_id)
        for name in HistoryList:
            was = lists.get(name, ListState(reason="it was not read"))
            if was.state != COMPLETE or was.reason:
                reasons.append(f"{name.value}: {was.reason or 'not read to its end'}")
        if await self.rest.read(has_futures, self.account):
            reasons += _unread(lists)
        return reasons + await self.rest.read(warnings_of, self.account, run_id, last, period)

    def _now(self) -> datetime:
        return from_us(self.rest.clock.wall_us())


def _unread(lists: dict[str, ListState]) -> list[str]:
    """Return which lists of futures could not be read, and why."""
    histories = {each.value for each in HistoryList}
    return [
        f"{name}: {was.reason or 'not read'}"
        for name, was in sorted(lists.items())
        if name not in histories and was.state != COMPLETE
    ]
