"""Fetches over REST what was missed: after each gap, and for periods that a person asks for.

One period at a time: each of its lists is read to the end, page by page, as `exchange.paging`
reports. Each answer becomes an event, together with the note of what was asked and where that list
is read on. So the log shows how far it is, and a run that a crash or a stop broke off is continued
with, at the page that is missing. Frames that come meanwhile are recorded as ever; the folds join
both.

An answer that is no page (a limit, an error page, no answer at all) is asked for again: after as
long as the exchange wants, or else after a wait that doubles. What is refused, and a list that gave
nothing for `GIVE_UP_S`, is given up; the run goes on with the next list, and ends as incomplete.

When everything is in and folded, the run notes what it proves: of a gap, that it is healed, or
that it can't be verified, and why.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from functools import partial

import trio
from attrs import define, frozen
from sqlalchemy import Connection

from recorder.clock import Clock
from recorder.errors import StorageUnavailable
from recorder.exchange.lists import FETCHED_AS, HistoryPage, read_history
from recorder.exchange.paging import (
    Cursor,
    HistoryList,
    Unreadable,
    first_cursor,
    following,
    read_cursor,
)
from recorder.exchange.rest import CredentialsRefused, Declined, RateLimited
from recorder.gaps.sql.backfill import (
    FOLDS,
    FUTURES_FOLD,
    Period,
    ended_conditionals,
    fold_position,
    has_futures,
    is_unconfirmed,
    last_answers,
    lists_of,
    mark_begun,
    mark_ended,
    next_asked,
    next_gap,
    pending_transfers_since,
    uncounted,
    unfinished,
    unhealed_within,
    warnings_of,
)
from recorder.gaps.tasks.futures_lists import FuturesLists
from recorder.log.rules.event import Draft, Note, noted
from recorder.log.tasks.inbox import Inbox, Submission
from recorder.projections.rules.backfills import COMPLETE, RUNNING
from recorder.rest.client import Asks, OpenClient, RestAnswer, RestUnavailable
from recorder.timestamps import from_us
from recorder.units import P, T, Unit, UnitRunner

log = logging.getLogger("recorder.backfill")

#: Row changes in the transaction of the events at these positions.
Record = Callable[[Connection, Sequence[int]], None]

#: Between two looks whether something is to be fetched.
POLL_S = 1.0
#: Between two looks whether the folds have caught up.
FOLD_LOOK_S = 0.1
#: Folds that are farther behind than this are not waited for; the run then ends as incomplete.
FOLD_WAIT_S = 600.0
#: First and longest wait before a page is asked for again.
RETRY_FIRST_S = 0.5
RETRY_LONGEST_S = 60.0
#: A list that has given no page for so long is given up.
GIVE_UP_S = 3_600.0
#: Orders are read again so often, as long as one is filled between an answer and its event.
TOTALS_TRIES = 3
#: No list is longer: ten million rows.
PAGES_MAX = 100_000
#: A longer answer is read in a thread: it takes as long as many frames do.
READ_HERE_BYTES_MAX = 50_000
#: The fold of our notes on fetching.
_NOTES = ("backfills",)
#: What a back-fill can't prove, whatever it reads; docs/backfill.md has the reasons.
NOT_COVERED = (
    "states that an order passed through in the gap: its history reports the latest only",
    "equal deposits of one transaction on two pages",
    "positions and conditional orders that came and went in the gap",
)


@frozen
class _Result:
    """What came of one request: a page, or the problem. ``is_final``: asking again is no use."""

    answer: RestAnswer | None
    page: HistoryPage | None
    problem: str = ""
    is_final: bool = False


@define(eq=False)
class Backfiller:
    """One account's back-fill."""

    account: str
    inbox: Inbox
    reader: UnitRunner
    clock: Clock
    open_client: OpenClient
    #: The head of the log when this process took the account: folds must have read up to there.
    head: int
    #: A closed gap is left alone for so long: the exchange's lists are a moment behind.
    after_s: float
    #: False: only what a person asks for is fetched.
    is_on: bool = True
    give_up_s: float = GIVE_UP_S

    async def run(self) -> None:
        """Fetch what is to be fetched, for ever."""
        await self._until_folded(self.head, _NOTES)
        while True:
            period = await self._next()
            if period is None:
                await trio.sleep(POLL_S)
                continue
            async with self.open_client() as client:
                await self._fetch(client, period)

    async def _next(self) -> Period | None:
        """Return what is to be fetched next: what was begun, what was asked for, a gap."""
        try:
            found = await self.reader.run(unfinished, self.account)
            found = found or await self.reader.run(next_asked, self.account)
            if found is None and self.is_on:
                found = await self.reader.run(next_gap, self.account)
        except StorageUnavailable as error:
            log.warning("%s: what is to be fetched can't be read now: %s", self.account, error)
            return None
        return None if found is None or self._is_too_young(found) else found

    def _is_too_young(self, period: Period) -> bool:
        now = from_us(self.clock.wall_us())
        is_new = period.gap_id is not None and period.run_id is None
        # A wall clock that was set back makes no gap wait.
        return is_new and 0 <= (now - period.until).total_seconds() < self.after_s

    async def _fetch(self, client: Asks, period: Period) -> None:
        """Read every list of a period to its end, and note what that proves."""
        run_id = period.run_id if period.run_id is not None else await self._begin(period)
        last = run_id
        pending = await self._look(pending_transfers_since, self.account, period.since)
        for name in HistoryList:
            state, next_, _ = period.lists.get(name, (RUNNING, None, None))
            if state != RUNNING:
                continue
            cursor = read_cursor(next_) if next_ else self._first(name, period, pending)
            last = max(last, await self._read(client, run_id, cursor))
        last = max(last, await self._read_futures(client, run_id))
        last = await self._read_totals(client, period, run_id, last)
        await self._finish(period, run_id, last)

    async def _read_totals(self, client: Asks, period: Period, run_id: int, last: int) -> int:
        """Read the orders again while one was filled further than its answer could show."""
        for _ in range(TOTALS_TRIES):
            with trio.move_on_after(FOLD_WAIT_S):
                await self._until_folded(last)
            lists = await self._look(lists_of, self.account, run_id)
            is_read = lists.get(HistoryList.ORDERS, ("", None, None))[0] == COMPLETE
            if not is_read or not await self._look(uncounted, self.account, period.since):
                break
            last = await self._read(client, run_id, self._first(HistoryList.ORDERS, period))
        return last

    async def _read_futures(self, client: Asks, run_id: int) -> int:
        """Read what is held and waits of futures; return the position of the last event."""

        async def pairs() -> Sequence[str]:
            return await self._look(ended_conditionals, self.account)

        async def is_left_out(last: int) -> bool:
            with trio.move_on_after(FOLD_WAIT_S):
                await self._until_folded(last, FUTURES_FOLD)
            return await self._look(is_unconfirmed, self.account)

        async def is_held() -> bool:
            return await self._look(has_futures, self.account)

        async def write(facts: Mapping[str, object], answer: RestAnswer | None, kind: str) -> int:
            return await self._write({"run": run_id, **facts}, answer, kind)

        lists = FuturesLists(client, write, pairs, is_left_out, is_held, self.give_up_s)
        return await lists.read()

    async def _begin(self, period: Period) -> int:
        facts = {
            "gap_id": period.gap_id,
            "backfill_id": period.backfill_id,
            "from": period.since.isoformat(),
            "until": period.until.isoformat(),
        }
        record: Record | None = None
        if period.backfill_id is not None:
            record = partial(
                mark_begun,
                account=self.account,
                backfill_id=period.backfill_id,
                now=from_us(self.clock.wall_us()),
            )
        (run_id,) = await self._submit([self._note(Note.BACKFILL_STARTED, facts)], record)
        log.info("%s: fetching %s to %s", self.account, facts["from"], facts["until"])
        return run_id

    def _first(
        self, name: HistoryList, period: Period, pending_since: datetime | None = None
    ) -> Cursor:
        now = from_us(self.clock.wall_us())
        return first_cursor(name, period.since, period.until, now, pending_since)

    async def _read(self, client: Asks, run_id: int, cursor: Cursor) -> int:
        """Read a list to its end, or give it up; return the position of its last event."""
        last, good_s, wait_s, pages = run_id, self._now_s(), RETRY_FIRST_S, 0
        following_: Cursor | None = cursor
        while following_ is not None:
            cursor = following_
            result = await self._ask(client, cursor)
            if result.page is not None:
                following_, result = _next_of(cursor, result, pages)
                pages, good_s, wait_s = pages + 1, self._now_s(), RETRY_FIRST_S
                last = await self._keep(run_id, cursor, result, following_)
                if not result.is_final:
                    continue
                break
            is_over = result.is_final or self._now_s() - good_s > self.give_up_s
            last = max(last, await self._keep_problem(run_id, cursor, result, is_over=is_over))
            if is_over:
                break
            await trio.sleep(wait_s)
            wait_s = min(wait_s * 2, RETRY_LONGEST_S)
        return last

    async def _ask(self, client: Asks, cursor: Cursor) -> _Result:
        request = cursor.request()
        try:
            answer = await client.get(request)
        except RestUnavailable as error:
            return _Result(None, None, str(error))
        if len(answer.body) > READ_HERE_BYTES_MAX:
            return await trio.to_thread.run_sync(_read_answer, answer)
        return _read_answer(answer)

    async def _keep(
        self, run_id: int, cursor: Cursor, result: _Result, following_: Cursor | None
    ) -> int:
        """Make a page durable: the note about it, and the answer itself behind it."""
        assert result.answer is not None and result.page is not None
        facts = self._facts(run_id, cursor, result) | {
            "page": True,
            "rows": result.page.length,
            "unread": len(result.page.unread),
            "next": following_ and following_.text(),
            "given_up": result.is_final,
        }
        if result.page.unread:
            facts["reason"] = result.page.unread[0]
        return await self._write(facts, result.answer, FETCHED_AS[result.answer.request.kind].value)

    async def _keep_problem(
        self, run_id: int, cursor: Cursor, result: _Result, *, is_over: bool
    ) -> int:
        """Write down an answer that is no page; and that the list is given up, if it is."""
        log.warning("%s: %s: %s", self.account, cursor.list.value, result.problem)
        if result.answer is None and not is_over:
            return run_id
        facts = self._facts(run_id, cursor, result) | {"page": False, "given_up": is_over}
        # No list that a fold could read: its type is empty.
        return await self._write(facts, result.answer, "")

    async def _write(
        self, facts: Mapping[str, object], answer: RestAnswer | None, kind: str
    ) -> int:
        """Make durable what was asked, and the answer behind it; return the last position."""
        drafts = [self._note(Note.BACKFILL_PAGE, facts)]
        if answer is not None:
            drafts.append(answer.draft(self.account, kind))
        return (await self._submit(drafts))[-1]

    async def _finish(self, period: Period, run_id: int, last: int) -> None:
        """Wait for the folds, and report whether anything is missing."""
        reasons = await self._open_ends(period, run_id, last)
        reason = "; ".join(reasons) or None
        facts = {"run": run_id, "complete": not reasons, "reason": reason}
        drafts = [self._note(Note.BACKFILL_FINISHED, facts)]
        drafts += await self._verdicts(period, run_id, last, reasons)
        record: Record | None = None
        if period.backfill_id is not None:
            record = partial(
                mark_ended,
                account=self.account,
                backfill_id=period.backfill_id,
                reason=reason,
                now=from_us(self.clock.wall_us()),
            )
        positions = await self._submit(drafts, record)
        log.info("%s: fetched %s", self.account, reason or "everything")
        # Who asks what is next must find this one done.
        await self._until_folded(positions[0], _NOTES)

    async def _verdicts(
        self, period: Period, run_id: int, last: int, reasons: Sequence[str]
    ) -> list[Draft]:
        """Return the run's verdict on its gap, or on those that lie within its period."""
        if period.gap_id is not None:
            judged = [period.gap_id]
        elif reasons:
            return []
        else:
            judged = await self._look(unhealed_within, self.account, run_id, period, self.after_s)
        answers = [] if reasons else await self._look(last_answers, self.account, run_id)
        verdict = {
            "evidence": "; ".join(reasons) or f"back-fill {run_id} read every list to its end",
            "positions": answers,
            "run": run_id,
            "from": period.since.isoformat(),
            "until": period.until.isoformat(),
            "last_answer": last,
            "reasons": list(reasons),
            "not_covered": [*NOT_COVERED, *await self._unasked(run_id)],
        }
        kind = Note.GAP_UNVERIFIABLE if reasons else Note.GAP_HEALED
        return [self._note(kind, {"gap_id": gap_id, **verdict}) for gap_id in judged]

    async def _open_ends(self, period: Period, run_id: int, last: int) -> list[str]:
        """Return why the run proves nothing; nothing if it does."""
        with trio.move_on_after(FOLD_WAIT_S) as policy:
            await self._until_folded(last, (*FOLDS, *FUTURES_FOLD))
        reasons = ["the tables are not folded up to the answers"] * policy.cancelled_caught
        lists = await self._look(lists_of, self.account, run_id)
        warnings = await self._look(warnings_of, self.account, run_id, last, period)
        for name in HistoryList:
            state, _, reason = lists.get(name, (RUNNING, None, "it was not read"))
            if state != COMPLETE or reason:
                reasons.append(f"{name.value}: {reason or 'not read to its end'}")
        if await self._look(has_futures, self.account):
            reasons += await self._unasked(run_id)
        return reasons + warnings

    async def _unasked(self, run_id: int) -> list[str]:
        """Return which lists of futures did not come, and why."""
        lists = await self._look(lists_of, self.account, run_id)
        names = {each.value for each in HistoryList}
        return [
            f"{name}: {reason or 'not read'}"
            for name, (state, _, reason) in sorted(lists.items())
            if name not in names and state != COMPLETE
        ]

    async def _until_folded(self, position: int, folds: Sequence[str] = FOLDS) -> None:
        """Return when these folds stand at ``position``."""
        # The folds move in threads of their own, without a signal to this task.
        while await self._look(fold_position, self.account, folds) < position:  # noqa: ASYNC110
            await trio.sleep(FOLD_LOOK_S)

    async def _look(self, unit: Unit[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Return what a unit reads, as soon as the database lets it."""
        while True:
            try:
                return await self.reader.run(unit, *args, **kwargs)
            except StorageUnavailable as error:
                log.warning("%s: the database can't be read now: %s", self.account, error)
            await trio.sleep(POLL_S)

    async def _submit(self, drafts: Sequence[Draft], record: Record | None = None) -> Sequence[int]:
        """Return the positions of what is durable now."""
        await self.inbox.wait_room()
        positions = await self.inbox.submit(Submission(drafts, record=record))
        assert positions is not None, "nothing was asked that could refuse it"
        return positions

    def _facts(self, run_id: int, cursor: Cursor, result: _Result) -> dict[str, object]:
        return {
            "run": run_id,
            "list": cursor.list.value,
            "request": cursor.request().path_with_query,
            "status": result.answer and result.answer.status,
            "reason": result.problem or None,
        }

    def _note(self, kind: Note, facts: Mapping[str, object]) -> Draft:
        return noted(self.account, self.clock.wall_us(), kind, facts)

    def _now_s(self) -> float:
        return self.clock.monotonic_ns() / 1e9


def _next_of(cursor: Cursor, result: _Result, pages: int) -> tuple[Cursor | None, _Result]:
    """Return where the list is read on; where that can't be, the problem is final."""
    assert result.page is not None
    try:
        if pages >= PAGES_MAX:
            raise Unreadable(f"it has more than {PAGES_MAX} pages")
        return following(cursor, result.page), result
    except Unreadable as error:
        return None, _Result(result.answer, result.page, str(error), is_final=True)


def _read_answer(answer: RestAnswer) -> _Result:
    """Return the page in an answer, or the problem that it describes."""
    if answer.status == 200:
        content = read_history(FETCHED_AS[answer.request.kind].value, answer.text)
        if isinstance(content, HistoryPage):
            return _Result(answer, content)
    outcome = answer.read()
    problem = f"HTTP {answer.status}: {_words(outcome)}"
    return _Result(answer, None, problem, isinstance(outcome, CredentialsRefused | Declined))


def _words(outcome: object) -> str:
    if isinstance(outcome, RateLimited):
        return "too many requests"
    for name in ("message", "reason"):
        if content := getattr(outcome, name, None):
            return str(content)
    return "no page"
