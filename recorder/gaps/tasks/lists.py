"""Reads the lists of one back-fill: the histories page by page, and the lists of futures.

Each answer is recorded with a note of what was requested and where that list is read on. What is
refused, and a list that gave nothing for too long, is given up; the note reports it.

Most accounts hold no futures, and a key may not be allowed to read them. So a list of futures that
is refused or that doesn't come is noted and changes nothing, unless the account is known to have
had any: then it is waited for as long as the histories are. All are read again while one leaves
out what a frame had reported (`projections.rules.futures`): only a second answer shows whether it
was late or the position has ended.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from functools import partial

import trio
from attrs import frozen

from recorder.exchange.lists import (
    FETCHED_AS,
    FUTURES_FETCHED_AS,
    HistoryPage,
    read_futures_list,
    read_history,
)
from recorder.exchange.messages import Unrecognised
from recorder.exchange.paging import Cursor, Unreadable, following
from recorder.exchange.rest import Unreadable as UnreadableAnswer
from recorder.exchange.rest_requests import (
    Kind,
    RestRequest,
    conditional_history_request,
    list_request,
)
from recorder.gaps.sql.backfill import (
    FUTURES_FOLD,
    conditionals_without_end,
    has_futures,
    is_unconfirmed,
)
from recorder.log.rules.event import Note
from recorder.rest.client import Asks, RestAnswer
from recorder.rest.recorded_fetch import FetchResult, RecordedFetch, without_content

log = logging.getLogger("recorder.backfill")

#: No history is longer: ten million rows.
PAGES_MAX = 100_000
#: Folds that are farther behind than this are not waited for.
FOLD_WAIT_S = 600.0
#: How often the lists of futures are read while one leaves out what was reported.
LOOKS = 3
#: How often a list of futures is requested that doesn't come, where none are known of.
TRIES = 4
#: The lists of futures as the notes name them. The history of each pair has the pair behind it.
FUTURES_LISTS = {
    "open_positions": list_request(Kind.OPEN_POSITIONS),
    "closed_positions": list_request(Kind.CLOSED_POSITIONS_SUMMARY),
    "conditional_orders": list_request(Kind.CONDITIONALS),
}
CONDITIONAL_HISTORY = "conditional_order_history"


@frozen
class Content:
    """A page or a list: the type of its event, what the note adds, where the list is read on."""

    event_type: str
    facts: Mapping[str, object]
    next: Cursor | None = None


@frozen
class RunLists:
    """The reading of one run."""

    rest: RecordedFetch
    client: Asks
    run_id: int
    #: A list that gave nothing for so long is given up.
    give_up_s: float

    async def read_history(self, cursor: Cursor) -> int:
        """Read a history to its end, or give it up; return the position of its last event."""
        last, pages, next_ = self.run_id, 0, cursor
        while True:
            ask = partial(
                self.rest.ask, self.client, next_.request(), partial(_read_page, next_, pages)
            )
            keep = partial(self._keep, next_.list.value)
            result = await self.rest.fetch(ask, keep, self._gave_nothing)
            last = max(last, result.position)
            if result.content is None or result.content.next is None:
                return last
            next_, pages = result.content.next, pages + 1

    async def read_futures(self) -> int:
        """Read the lists of futures; return the position of the last event, 0 if there was none."""
        last, refused = 0, set[str]()
        for _ in range(LOOKS):
            requests = await self._futures_requests()
            for name in [each for each in requests if each not in refused]:
                ask = partial(self.rest.ask, self.client, requests[name], _read_futures)
                result = await self.rest.fetch(ask, partial(self._keep, name), self._are_unneeded)
                last = max(last, result.position)
                if result.content is None:
                    refused.add(name)
            if refused >= requests.keys() or not await self._is_left_out(last):
                break
        return last

    async def _futures_requests(self) -> Mapping[str, RestRequest]:
        pairs = await self.rest.read(conditionals_without_end, self.rest.account)
        of_pairs = {
            f"{CONDITIONAL_HISTORY} {pair}": conditional_history_request(pair) for pair in pairs
        }
        return FUTURES_LISTS | of_pairs

    async def _is_left_out(self, last: int) -> bool:
        """Wait until all is folded; return whether a list left out what was reported."""
        with trio.move_on_after(FOLD_WAIT_S):
            await self.rest.until_folded(last, FUTURES_FOLD)
        return await self.rest.read(is_unconfirmed, self.rest.account)

    async def _gave_nothing(self, _: int, passed_s: float) -> bool:
        return passed_s > self.give_up_s

    async def _are_unneeded(self, tries: int, passed_s: float) -> bool:
        """Return whether enough was asked: a gap of an account with futures needs the answer."""
        if tries < TRIES:
            return False
        has_any = await self.rest.read(has_futures, self.rest.account)
        return not has_any or passed_s > self.give_up_s

    async def _keep(self, name: str, result: FetchResult[Content], is_over: bool) -> int:
        """Record an answer, or that the list is given up; return the last position, or 0."""
        content = result.content
        if content is None:
            log.warning("%s: %s: %s", self.rest.account, name, result.problem)
            if result.answer is None and not is_over:
                return 0
        facts = {
            "run": self.run_id,
            "list": name,
            "reason": result.problem or None,
            "page": content is not None,
            "given_up": is_over,
            **(content.facts if content else {}),
        }
        # What no fold can read has no type.
        event_type = content.event_type if content else ""
        return await self.rest.record_answer(Note.BACKFILL_PAGE, facts, result, event_type)


def _read_page(cursor: Cursor, pages: int, answer: RestAnswer) -> FetchResult[Content]:
    """Return the page in an answer; where the list can't be read on, with a final problem."""
    event_type = FETCHED_AS[answer.request.kind].value
    page = read_history(event_type, answer.text) if answer.status == 200 else None
    if not isinstance(page, HistoryPage):
        return without_content(answer, answer.read(), "no page")
    next_, problem = None, ""
    try:
        if pages >= PAGES_MAX:
            raise Unreadable(f"it has more than {PAGES_MAX} pages")
        next_ = following(cursor, page)
    except Unreadable as error:
        problem = str(error)
    facts: dict[str, object] = {
        "rows": page.length,
        "unread": len(page.unread),
        "next": next_ and next_.text(),
    }
    if page.unread:
        facts["reason"] = page.unread[0]
    content = Content(event_type, facts, next_)
    return FetchResult(answer.request, answer, content, problem, is_final=bool(problem))


def _read_futures(answer: RestAnswer) -> FetchResult[Content]:
    """Return the list in an answer, or what is wrong with it."""
    outcome = answer.read()
    if answer.status != 200 or isinstance(outcome, UnreadableAnswer):
        return without_content(answer, outcome, "no list")
    event_type = FUTURES_FETCHED_AS[answer.request.kind].value
    listed = read_futures_list(event_type, answer.text)
    if isinstance(listed, Unrecognised):
        return FetchResult(answer.request, answer, problem=f"HTTP 200: {listed.reason}")
    rows = getattr(listed, "positions", ()) or getattr(listed, "orders", ())
    return FetchResult(answer.request, answer, Content(event_type, {"rows": len(rows)}))
