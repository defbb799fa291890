"""Compares what we hold with what the exchange answers over REST, while frames keep arriving.

On a schedule and when a person asks. Balances and open orders are asked for and compared with
everything that ours passed through from the request until a little after the answer
(`projections.diffing`); what differs is asked for again, and only what differs each time is a
difference. The histories are read by the back-fill, like any period that is asked for; a row of
the period that its answers had to fill in is a difference too, one that has ended with it.

What was asked, answered and found is in the log; `projections.reconciliations` makes the tables of
it. Nothing is called equal that wasn't compared: without an answer, or if observation is lost
meanwhile, the comparison ends as incomplete, and reports why.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from functools import partial

import trio
from attrs import define, field, frozen
from sqlalchemy import Connection

from recorder.clock import Clock
from recorder.errors import StorageUnavailable
from recorder.exchange.fields import FieldError, Fields
from recorder.exchange.lists import FETCHED_AS
from recorder.exchange.paging import OVERLAP
from recorder.exchange.rest import (
    CredentialsRefused,
    Declined,
    OrdersFound,
    Outcome,
    RateLimited,
    RowsFound,
)
from recorder.exchange.rest_requests import Kind, RestRequest, list_request
from recorder.gaps.sql.backfill import asked_for, fold_position
from recorder.log.rules.event import Draft, Note, noted
from recorder.log.tasks.inbox import Inbox, Submission
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
from recorder.reconciliation.sql.history_checks import reported_otherwise
from recorder.reconciliation.sql.reconciliation import (
    FOLDS,
    Missed,
    ask_history,
    balances_window,
    broken_off,
    filled_in,
    head_position,
    history_request,
    history_since,
    mark_taken,
    next_request,
    open_differences,
    orders_window,
    was_cut,
    why_not_now,
)
from recorder.rest.client import Asks, OpenClient, RestAnswer, RestUnavailable
from recorder.timestamps import from_us
from recorder.units import P, T, Unit, UnitRunner

log = logging.getLogger("recorder.reconciliation")

Record = Callable[[Connection, Sequence[int]], None]

#: Between two looks whether something is to be compared.
POLL_S = 1.0
FOLD_LOOK_S = 0.1
#: The first comparison of a process is made so long after its start, or after the schedule's time.
FIRST_AFTER_S = 60.0
#: A request waits so long for a connection; then its comparison is incomplete.
READY_WAIT_S = 60.0
#: Frames that speak of an answer's moment have come so long after it.
SETTLE_S = 2.0
#: What differs is compared so often before it is a difference, …
LOOKS = 3
#: … and an answer that stays away is asked for so often, with a wait that doubles.
TRIES = 5
RETRY_FIRST_S = 0.5
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
    found: list[tuple[Difference, int]] = field(factory=list)
    missed: list[Missed] = field(factory=list)
    #: The lists that were compared, and how much of each.
    counts: dict[str, int] = field(factory=dict)
    period: tuple[datetime, datetime] | None = None
    #: (list, key) of earlier differences that the histories have shown again.
    listed: frozenset[tuple[str, str]] = frozenset()


@frozen
class _Looked:
    """One answer, the positions around it, and what is in it."""

    first: int
    last: int
    answer_position: int
    outcome: RowsFound | OrdersFound


class _NoAnswer(Exception):
    """The exchange gave no list; the text describes what it did instead."""


@define(eq=False)
class Reconciler:
    """One account's comparisons."""

    account: str
    inbox: Inbox
    reader: UnitRunner
    clock: Clock
    open_client: OpenClient
    #: The head of the log when this process took the account: folds must have read up to there.
    head: int
    #: Seconds between two by schedule; 0: only when asked.
    every_s: float
    #: Whether gaps are fetched by themselves; then a comparison waits for that.
    is_backfilled: bool = True

    async def run(self) -> None:
        """Compare when it is time to, for ever."""
        await self._until_folded(self.head, _NOTES)
        for reconciliation_id in await self._look(broken_off, self.account):
            run = _Run(reconciliation_id, ["the recorder ended in the middle of it"])
            await self._submit([self._finished(run, INCOMPLETE)])
        due_s = self._now_s() + min(FIRST_AFTER_S, self.every_s)
        while True:
            request_id = await self._look(next_request, self.account)
            is_due = self.every_s > 0 and self._now_s() >= due_s
            if request_id is None and not (is_due and await self._why_not() is None):
                await trio.sleep(POLL_S)
                continue
            await self._reconcile(request_id)
            due_s = self._now_s() + self.every_s

    async def _reconcile(self, request_id: str | None) -> None:
        run = _Run(await self._begin(request_id))
        reason = await self._until_ready()
        if reason is not None:
            run.reasons.append(reason)
        else:
            async with self.open_client() as client:
                await self._compare_all(client, run)
        await self._finish(run)

    async def _compare_all(self, client: Asks, run: _Run) -> None:
        begun = await self._look(head_position, self.account)
        for name, request in (
            (BALANCES, list_request(Kind.BALANCES)),
            (OPEN_ORDERS, list_request(Kind.OPEN_ORDERS)),
        ):
            try:
                found, count = await self._compare(client, run, name, request)
            except _NoAnswer as problem:
                # Also where only a second look got none: what stood open before may stand still.
                run.reasons.append(f"{name}: {problem}")
            else:
                run.found += found
                run.counts[name] = count
        await self._compare_histories(run)
        await self._until_folded(await self._look(head_position, self.account))
        if await self._look(was_cut, self.account, begun):
            # Our state did not move meanwhile: a difference then proves nothing.
            run.reasons.append("the connection was lost meanwhile")
            run.found.clear()
            run.counts.clear()
            run.listed = frozenset()

    async def _begin(self, request_id: str | None) -> int:
        requested_by = "schedule" if request_id is None else "person"
        record: Record | None = None
        if request_id is not None:
            now = from_us(self.clock.wall_us())
            record = partial(mark_taken, account=self.account, request_id=request_id, now=now)
        facts = {"requested_by": requested_by, "request_id": request_id}
        (run_id,) = await self._submit([self._note(Note.RECONCILIATION_STARTED, facts)], record)
        return run_id

    async def _until_ready(self) -> str | None:
        """Wait until our state is known; return why it still isn't."""
        with trio.move_on_after(READY_WAIT_S):
            # No signal of it reaches this task.
            while await self._why_not() is not None:  # noqa: ASYNC110
                await trio.sleep(POLL_S)
        return await self._why_not()

    async def _why_not(self) -> str | None:
        return await self._look(why_not_now, self.account, is_backfilled=self.is_backfilled)

    # What stands now: balances, open orders

    async def _compare(
        self, client: Asks, run: _Run, name: str, request: RestRequest
    ) -> tuple[list[tuple[Difference, int]], int]:
        """Return what differs each time, and how much was compared. Raises _NoAnswer."""
        left: set[str] | None = None
        for _ in range(LOOKS):
            looked = await self._ask(client, run, name, request)
            found, count = await self._differs(looked)
            if left is not None:
                found = [each for each in found if each.key in left]
            if not found:
                break
            left = {each.key for each in found}
        return [(each, looked.answer_position) for each in found], count

    async def _differs(self, looked: _Looked) -> tuple[list[Difference], int]:
        """Return what differs, and how many rows were compared. Raises _NoAnswer."""
        span = looked.first, looked.last
        if isinstance(looked.outcome, OrdersFound):
            theirs = looked.outcome.orders
            named = [order.order_id for order in theirs]
            stood = await self._look(orders_window, self.account, *span, named)
            return differing_orders(theirs, stood, looked.first), len(stood.keys() | set(named))
        try:
            reported = dict(_balance(row) for row in looked.outcome.rows)
        except FieldError as error:
            raise _NoAnswer(str(error)) from error
        held = await self._look(balances_window, self.account, *span)
        return differing_balances(reported, held), len(held.keys() | reported.keys())

    async def _ask(self, client: Asks, run: _Run, name: str, request: RestRequest) -> _Looked:
        """Return an answer once frames of its moment are folded. Raises _NoAnswer."""
        wait_s, problem = RETRY_FIRST_S, ""
        for _ in range(TRIES):
            first = await self._look(head_position, self.account)
            try:
                answer = await client.get(request)
            except RestUnavailable as error:
                problem = str(error)
            else:
                outcome = answer.read()
                position = await self._keep(run, name, answer, outcome)
                if isinstance(outcome, RowsFound | OrdersFound):
                    await trio.sleep(SETTLE_S)
                    last = await self._look(head_position, self.account)
                    await self._until_folded(last)
                    return _Looked(first, last, position, outcome)
                problem = f"HTTP {answer.status}: {_described(outcome)}"
                if isinstance(outcome, CredentialsRefused | Declined):
                    break
            await trio.sleep(wait_s)
            wait_s *= 2
        raise _NoAnswer(problem)

    async def _keep(self, run: _Run, name: str, answer: RestAnswer, outcome: Outcome) -> int:
        facts = {
            "run": run.reconciliation_id,
            "list": name,
            "request": answer.request.path_with_query,
            "status": answer.status,
        }
        is_list = isinstance(outcome, RowsFound | OrdersFound)
        kind = FETCHED_AS[answer.request.kind].value if is_list else ""
        drafts = [self._note(Note.RECONCILIATION_ANSWER, facts), answer.draft(self.account, kind)]
        return (await self._submit(drafts))[-1]

    # What happened: the histories, through the back-fill

    async def _compare_histories(self, run: _Run) -> None:
        until = from_us(self.clock.wall_us()) - HISTORY_SETTLE
        since = await self._look(history_since, self.account, until, HISTORY_LONGEST)
        if since is None or since >= until:
            return
        record = partial(ask_history, account=self.account, since=since, until=until)
        backfill_id = history_request(run.reconciliation_id)
        asked = {"run": run.reconciliation_id, "list": "histories", "backfill_id": backfill_id}

        def ask(connection: Connection, _: Sequence[int]) -> None:
            record(connection, (run.reconciliation_id,))

        await self._submit([self._note(Note.RECONCILIATION_ANSWER, asked)], ask)
        with trio.move_on_after(HISTORY_WAIT_S) as policy:
            reason = await self._until_fetched(run, backfill_id, since, until)
        if policy.cancelled_caught:
            reason = "they were not read in half an hour"
        if reason is None:
            run.period = since, until
        else:
            run.reasons.append(f"histories: {reason}")

    async def _until_fetched(
        self, run: _Run, backfill_id: str, since: datetime, until: datetime
    ) -> str | None:
        """Wait for the back-fill, and take what it filled in; return why it isn't complete."""
        while True:
            done = await self._look(asked_for, self.account, backfill_id)
            if done is not None and done.state in (COMPLETE, UNFETCHED):
                break
            await trio.sleep(FOLD_LOOK_S)
        if done.run_id is not None:
            run.missed = await self._look(filled_in, self.account, done.run_id, since, until)
            run.counts["history_rows"] = done.rows
            if done.state == COMPLETE:
                await self._hold_against(run, done.run_id, since, until)
        return None if done.state == COMPLETE else done.reason

    async def _hold_against(self, run: _Run, run_id: int, since: datetime, until: datetime) -> None:
        """Find what stands here and the histories report otherwise, or don't."""
        earlier = await self._look(open_differences, self.account)
        wanted = {(was.list, was.key) for _, was in earlier}
        span = since - HISTORY_LAG, until - HISTORY_LAG
        reported = await self._look(reported_otherwise, self.account, run_id, *span, wanted)
        run.found += reported.found
        run.listed = reported.listed

    # The end

    async def _finish(self, run: _Run) -> None:
        drafts = await self._ended_before(run)
        for difference, answer in run.found:
            drafts.append(self._found(run, difference, answer, None))
        for each in run.missed:
            drafts.append(self._found(run, each.difference, each.answer_position, FILLED_IN))
        state = CLEAN
        if run.found or run.missed:
            state = DIFFERING
        if run.reasons:
            state = INCOMPLETE
        drafts.append(self._finished(run, state))
        await self._submit(drafts)
        self._report(run, state)

    async def _ended_before(self, run: _Run) -> list[Draft]:
        """Return the ends of earlier differences whose lists were compared now."""
        again = {(each.list, each.key, each.field) for each, _ in run.found}
        ends = []
        for difference_id, was in await self._look(open_differences, self.account):
            if was.list not in run.counts and (was.list, was.key) not in run.listed:
                continue
            how = FOUND_AGAIN if (was.list, was.key, was.field) in again else GONE
            facts = {"run": run.reconciliation_id, "difference_id": difference_id, "how": how}
            ends.append(self._note(Note.DIFFERENCE_ENDED, facts))
        return ends

    def _found(self, run: _Run, each: Difference, answer: int, ended: str | None) -> Draft:
        facts = {
            "run": run.reconciliation_id,
            "list": each.list,
            "key": each.key,
            "field": each.field,
            "ours": each.ours,
            "theirs": each.theirs,
            "position": each.position,
            "answer_position": answer,
            "ended": ended,
        }
        return self._note(Note.DIFFERENCE_FOUND, facts)

    def _finished(self, run: _Run, state: str) -> Draft:
        facts: dict[str, object] = {
            "run": run.reconciliation_id,
            "state": state,
            "reason": "; ".join(run.reasons) or None,
            "balances": run.counts.get(BALANCES),
            "open_orders": run.counts.get(OPEN_ORDERS),
            "history_rows": run.counts.get("history_rows"),
            "from": run.period and run.period[0].isoformat(),
            "until": run.period and run.period[1].isoformat(),
        }
        return self._note(Note.RECONCILIATION_FINISHED, facts)

    def _report(self, run: _Run, state: str) -> None:
        count = len(run.found) + len(run.missed)
        if state == CLEAN:
            log.info("%s: reconciled: nothing differs from what the exchange answers", self.account)
        elif state == DIFFERING:
            log.warning("%s: reconciled: %d values differ; see `differences`", self.account, count)
        else:
            log.warning("%s: not reconciled: %s", self.account, "; ".join(run.reasons))

    async def _until_folded(self, position: int, folds: Sequence[str] = FOLDS) -> None:
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

    def _note(self, kind: Note, facts: Mapping[str, object]) -> Draft:
        return noted(self.account, self.clock.wall_us(), kind, facts)

    def _now_s(self) -> float:
        return self.clock.monotonic_ns() / 1e9


def _balance(row: Fields) -> tuple[str, Held]:
    """Return (currency, amounts) of a row of the balances. Raises FieldError."""
    currency = row.currency("currency")
    if currency is None:
        raise FieldError("a balance names no currency")
    return currency, Held(row.amount("available"), row.amount("reserved"), row.amount("total"))


def _described(outcome: object) -> str:
    if isinstance(outcome, RateLimited):
        return "too many requests"
    for name in ("message", "reason"):
        if answer := getattr(outcome, name, None):
            return str(answer)
    return "no list"
