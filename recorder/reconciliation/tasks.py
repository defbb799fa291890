"""Compares what we hold with what the exchange answers over REST, while frames keep arriving.

It runs on a schedule and when the operator requests it. Balances and open orders are read, and
compared with everything that ours passed through from the request until a little after the answer
(`projections.rules.diffing`). What differs is read again; only what differs each time is a
difference. The back-fill reads the histories, like any requested period. A row of the period that
its answers had to fill in is a difference too, one that has ended with it.

What was requested, answered and found is in the log; `projections.rules.reconciliations` makes the
tables of it. Nothing is called equal that wasn't compared: without an answer, or if the connection
is lost meanwhile, the comparison ends as incomplete, and reports why.
"""

from __future__ import annotations

import logging
from datetime import datetime, timedelta
from functools import partial

import trio
from attrs import asdict, define, field, frozen

from recorder.exchange.fields import FieldError, Fields
from recorder.exchange.lists import FETCHED_AS
from recorder.exchange.paging import OVERLAP
from recorder.exchange.rest import OrdersFound, RowsFound
from recorder.exchange.rest_requests import Kind, RestRequest, list_request
from recorder.gaps.sql.backfill import requested
from recorder.log.rules.event import Draft, Note
from recorder.projections.rules.backfills import COMPLETE
from recorder.projections.rules.backfills import INCOMPLETE as UNFETCHED
from recorder.projections.rules.diffing import (
    BALANCES,
    OPEN_ORDERS,
    Difference,
    Held,
    differing_balances,
    differing_orders,
)
from recorder.projections.rules.reconciliations import (
    CLEAN,
    DIFFERING,
    FILLED_IN,
    FOUND_AGAIN,
    GONE,
    INCOMPLETE,
)
from recorder.reconciliation.sql.history_checks import (
    FoundDifference,
    filled_in,
    reported_otherwise,
)
from recorder.reconciliation.sql.reconciliation import (
    FOLDS,
    balances_window,
    history_request,
    history_since,
    mark_taken,
    next_request,
    open_differences,
    orders_window,
    request_history,
    unfinished,
    was_cut,
    why_not_now,
)
from recorder.rest.client import Asks, RestAnswer
from recorder.rest.recorded_fetch import (
    FOLD_LOOK_S,
    FetchResult,
    Record,
    RecordedFetch,
    without_content,
)
from recorder.timestamps import from_us

log = logging.getLogger("recorder.reconciliation")

#: Between two looks whether something is to be compared.
POLL_S = 1.0
#: The first comparison of a process is made so long after its start, or after the schedule's time.
FIRST_AFTER_S = 60.0
#: A request waits so long for a connection; then its comparison is incomplete.
READY_WAIT_S = 60.0
#: Frames about an answer's time have arrived so long after it.
SETTLE_S = 2.0
#: What differs is compared so often before it is a difference, …
LOOKS = 3
#: … and a list that doesn't come is requested so often.
TRIES = 5
#: Histories are compared up to so long ago, when whatever they report had long come as a frame, …
HISTORY_SETTLE = timedelta(seconds=10)
#: … and of one day at the most.
HISTORY_LONGEST = timedelta(days=1)
#: Rows of ours are looked for there once they are so much older: clocks differ by less, and the
#: period is read with as much overlap.
HISTORY_LAG = OVERLAP
#: A back-fill that takes longer leaves the comparison incomplete.
HISTORY_WAIT_S = 1_800.0
_NOTES = ("reconciliations",)


@define
class _Run:
    """One comparison under way."""

    reconciliation_id: int
    reasons: list[str] = field(factory=list)
    found: list[FoundDifference] = field(factory=list)
    #: What the histories reported and no frame had.
    filled_in: list[FoundDifference] = field(factory=list)
    #: The lists that were compared, and how much of each.
    counts: dict[str, int] = field(factory=dict)
    period: tuple[datetime, datetime] | None = None
    #: (list, key) of earlier differences that the histories have shown again.
    listed: frozenset[tuple[str, str]] = frozenset()

    @property
    def state(self) -> str:
        """What the comparison ends as."""
        if self.reasons:
            return INCOMPLETE
        return DIFFERING if self.found or self.filled_in else CLEAN


@frozen
class _Listed:
    """What an answer lists, and the head of the log when it was requested."""

    first: int
    outcome: RowsFound | OrdersFound


class _NoAnswer(Exception):
    """The exchange gave no list; the text describes what it did instead."""


@define(eq=False)
class Reconciler:
    """One account's comparisons."""

    rest: RecordedFetch
    #: The head of the log when this process took the account: folds must have read up to there.
    head: int
    #: Seconds between two by schedule; 0: only when requested.
    every_s: float
    #: Whether gaps are fetched by themselves; then a comparison waits for that.
    is_backfilled: bool = True

    @property
    def account(self) -> str:
        """The account's name."""
        return self.rest.account

    async def run(self) -> None:
        """Compare when it is time to, for ever."""
        await self.rest.until_folded(self.head, _NOTES)
        for reconciliation_id in await self.rest.read(unfinished, self.account):
            run = _Run(reconciliation_id, ["the recorder ended in the middle of it"])
            await self.rest.submit([self._finished(run)])
        due_s = self.rest.now_s() + min(FIRST_AFTER_S, self.every_s)
        while True:
            request_id = await self.rest.read(next_request, self.account)
            is_due = self.every_s > 0 and self.rest.now_s() >= due_s
            if request_id is None and not (is_due and await self._why_not() is None):
                await trio.sleep(POLL_S)
                continue
            await self._reconcile(request_id)
            due_s = self.rest.now_s() + self.every_s

    async def _reconcile(self, request_id: str | None) -> None:
        run = _Run(await self._begin(request_id))
        reason = await self._until_ready()
        if reason is not None:
            run.reasons.append(reason)
        else:
            async with self.rest.open_client() as client:
                await self._compare_all(client, run)
        await self._finish(run)

    async def _compare_all(self, client: Asks, run: _Run) -> None:
        begun = await self.rest.head()
        for name, kind in ((BALANCES, Kind.BALANCES), (OPEN_ORDERS, Kind.OPEN_ORDERS)):
            try:
                found, count = await self._compare(client, run, name, list_request(kind))
            except _NoAnswer as problem:
                # Also where only a second answer failed: an earlier difference may be there still.
                run.reasons.append(f"{name}: {problem}")
            else:
                run.found += found
                run.counts[name] = count
        await self._compare_histories(run)
        await self.rest.catch_up(FOLDS)
        if await self.rest.read(was_cut, self.account, begun):
            # Our state did not move meanwhile: a difference then proves nothing.
            run.reasons.append("the connection was lost meanwhile")
            run.found.clear()
            run.counts.clear()
            run.listed = frozenset()

    async def _begin(self, request_id: str | None) -> int:
        requested_by = "schedule" if request_id is None else "person"
        record: Record | None = None
        if request_id is not None:
            now = from_us(self.rest.clock.wall_us())
            record = partial(mark_taken, account=self.account, request_id=request_id, now=now)
        facts = {"requested_by": requested_by, "request_id": request_id}
        note = self.rest.note(Note.RECONCILIATION_STARTED, facts)
        (run_id,) = await self.rest.submit([note], record)
        return run_id

    async def _until_ready(self) -> str | None:
        """Wait until our state is known; return why it still isn't."""
        with trio.move_on_after(READY_WAIT_S):
            # No signal of it reaches this task.
            while await self._why_not() is not None:  # noqa: ASYNC110
                await trio.sleep(POLL_S)
        return await self._why_not()

    async def _why_not(self) -> str | None:
        return await self.rest.read(why_not_now, self.account, is_backfilled=self.is_backfilled)

    # The present: balances, open orders

    async def _compare(
        self, client: Asks, run: _Run, name: str, request: RestRequest
    ) -> tuple[list[FoundDifference], int]:
        """Return what differs each time, and how much was compared. Raises _NoAnswer."""
        left: set[str] | None = None
        for _ in range(LOOKS):
            result = await self._list(client, run, name, request)
            found, count = await self._differing(result)
            if left is not None:
                found = [each for each in found if each.key in left]
            if not found:
                break
            left = {each.key for each in found}
        return [FoundDifference(each, result.position) for each in found], count

    async def _differing(self, result: FetchResult[_Listed]) -> tuple[list[Difference], int]:
        """Return what differs, and how many rows were compared. Raises _NoAnswer."""
        assert result.content is not None
        first, outcome = result.content.first, result.content.outcome
        # Frames about the answer's time are folded before anything is compared.
        await trio.sleep(SETTLE_S)
        span = first, await self.rest.catch_up(FOLDS)
        if isinstance(outcome, OrdersFound):
            ids = [order.order_id for order in outcome.orders]
            held = await self.rest.read(orders_window, self.account, *span, ids)
            return differing_orders(outcome.orders, held, first), len(held.keys() | set(ids))
        try:
            reported = dict(_balance(row) for row in outcome.rows)
        except FieldError as error:
            raise _NoAnswer(str(error)) from error
        passed = await self.rest.read(balances_window, self.account, *span)
        return differing_balances(reported, passed), len(passed.keys() | reported.keys())

    async def _list(
        self, client: Asks, run: _Run, name: str, request: RestRequest
    ) -> FetchResult[_Listed]:
        """Return an answer that is a list, and is recorded. Raises _NoAnswer."""

        async def ask() -> FetchResult[_Listed]:
            read = partial(_read_list, await self.rest.head())
            return await self.rest.ask(client, request, read)

        result = await self.rest.fetch(ask, partial(self._keep, run, name), _is_enough)
        if result.content is None:
            raise _NoAnswer(result.problem)
        return result

    async def _keep(self, run: _Run, name: str, result: FetchResult[_Listed], _: bool) -> int:
        if result.answer is None:
            return 0
        facts = {"run": run.reconciliation_id, "list": name}
        event_type = FETCHED_AS[result.request.kind].value if result.content else ""
        return await self.rest.record_answer(Note.RECONCILIATION_ANSWER, facts, result, event_type)

    # The past: the histories, through the back-fill

    async def _compare_histories(self, run: _Run) -> None:
        until = from_us(self.rest.clock.wall_us()) - HISTORY_SETTLE
        since = await self.rest.read(history_since, self.account, until, HISTORY_LONGEST)
        if since is None or since >= until:
            return
        run_id = run.reconciliation_id
        facts = {"run": run_id, "list": "histories", "backfill_id": history_request(run_id)}
        record = partial(
            request_history, account=self.account, run_id=run_id, since=since, until=until
        )
        await self.rest.submit([self.rest.note(Note.RECONCILIATION_ANSWER, facts)], record)
        with trio.move_on_after(HISTORY_WAIT_S) as waiting:
            reason = await self._until_fetched(run, since, until)
        if waiting.cancelled_caught:
            reason = "they were not read in half an hour"
        if reason is None:
            run.period = since, until
        else:
            run.reasons.append(f"histories: {reason}")

    async def _until_fetched(self, run: _Run, since: datetime, until: datetime) -> str | None:
        """Wait for the back-fill, and take what it filled in; return why it isn't complete."""
        backfill_id = history_request(run.reconciliation_id)
        while True:
            done = await self.rest.read(requested, self.account, backfill_id)
            if done is not None and done.state in (COMPLETE, UNFETCHED):
                break
            await trio.sleep(FOLD_LOOK_S)
        if done.run_id is not None:
            run.filled_in = await self.rest.read(filled_in, self.account, done.run_id, since, until)
            run.counts["history_rows"] = done.rows
            if done.state == COMPLETE:
                await self._check_histories(run, done.run_id, since, until)
        return None if done.state == COMPLETE else done.reason

    async def _check_histories(
        self, run: _Run, run_id: int, since: datetime, until: datetime
    ) -> None:
        """Find what we hold and the histories list otherwise, or don't list."""
        earlier = await self.rest.read(open_differences, self.account)
        keys = {(was.list, was.key) for _, was in earlier}
        span = since - HISTORY_LAG, until - HISTORY_LAG
        reported = await self.rest.read(reported_otherwise, self.account, run_id, *span, keys)
        run.found += reported.found
        run.listed = reported.listed

    # The end

    async def _finish(self, run: _Run) -> None:
        drafts = await self._ended_before(run)
        drafts += [self._found(run, each, None) for each in run.found]
        drafts += [self._found(run, each, FILLED_IN) for each in run.filled_in]
        await self.rest.submit([*drafts, self._finished(run)])
        self._report(run)

    async def _ended_before(self, run: _Run) -> list[Draft]:
        """Return the ends of earlier differences whose lists were compared now."""
        differences = [found.difference for found in run.found]
        again = {(each.list, each.key, each.field) for each in differences}
        ends = []
        for difference_id, was in await self.rest.read(open_differences, self.account):
            if was.list not in run.counts and (was.list, was.key) not in run.listed:
                continue
            how = FOUND_AGAIN if (was.list, was.key, was.field) in again else GONE
            facts = {"run": run.reconciliation_id, "difference_id": difference_id, "how": how}
            ends.append(self.rest.note(Note.DIFFERENCE_ENDED, facts))
        return ends

    def _found(self, run: _Run, found: FoundDifference, ended: str | None) -> Draft:
        facts = {"run": run.reconciliation_id, **asdict(found.difference)}
        facts |= {"answer_position": found.answer_position, "ended": ended}
        return self.rest.note(Note.DIFFERENCE_FOUND, facts)

    def _finished(self, run: _Run) -> Draft:
        facts: dict[str, object] = {
            "run": run.reconciliation_id,
            "state": run.state,
            "reason": "; ".join(run.reasons) or None,
            "balances": run.counts.get(BALANCES),
            "open_orders": run.counts.get(OPEN_ORDERS),
            "history_rows": run.counts.get("history_rows"),
            "from": run.period and run.period[0].isoformat(),
            "until": run.period and run.period[1].isoformat(),
        }
        return self.rest.note(Note.RECONCILIATION_FINISHED, facts)

    def _report(self, run: _Run) -> None:
        count = len(run.found) + len(run.filled_in)
        if run.state == CLEAN:
            log.info("%s: reconciled: nothing differs from what the exchange answers", self.account)
        elif run.state == DIFFERING:
            log.warning("%s: reconciled: %d values differ; see `differences`", self.account, count)
        else:
            log.warning("%s: not reconciled: %s", self.account, "; ".join(run.reasons))


async def _is_enough(tries: int, _: float) -> bool:
    return tries >= TRIES


def _read_list(first: int, answer: RestAnswer) -> FetchResult[_Listed]:
    outcome = answer.read()
    if isinstance(outcome, RowsFound | OrdersFound):
        return FetchResult(answer.request, answer, _Listed(first, outcome))
    return without_content(answer, outcome, "no list")


def _balance(row: Fields) -> tuple[str, Held]:
    """Return (currency, amounts) of a row of the balances. Raises FieldError."""
    currency = row.currency("currency")
    if currency is None:
        raise FieldError("a balance names no currency")
    return currency, Held(row.amount("available"), row.amount("reserved"), row.amount("total"))
