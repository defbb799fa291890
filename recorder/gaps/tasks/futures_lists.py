"""Fetches the lists of positions and conditional orders: part of every back-fill.

Each is one answer: what is held or waits now, and how others ended. They are asked for again while
a list has left out what a frame had reported (`projections.futures`): only a second look reports a
list that was a moment behind from an end.

Most accounts hold no futures, and a key may not be allowed to ask. So a list that is refused, or
that doesn't come, is written down and changes nothing, unless the account is known to hold any:
then it is waited for as patiently as the histories are.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence

import trio
from attrs import frozen

from recorder.exchange.lists import FUTURES_FETCHED_AS, read_futures_list
from recorder.exchange.messages import Unrecognised
from recorder.exchange.rest import CredentialsRefused, Declined, Unreadable
from recorder.exchange.rest_requests import (
    Kind,
    RestRequest,
    conditional_history_request,
    list_request,
)
from recorder.rest.client import Asks, RestAnswer, RestUnavailable

log = logging.getLogger("recorder.backfill")

#: The lists as the notes name them; a pair stands behind the last, as each has its own.
OPEN_POSITIONS = "open_positions"
CLOSED_POSITIONS = "closed_positions"
CONDITIONAL_ORDERS = "conditional_orders"
CONDITIONAL_HISTORY = "conditional_order_history"

#: How often all are asked for, while one leaves out what was reported.
LOOKS = 3
#: How often one is asked for that doesn't come, where no futures are known of.
TRIES = 4
#: First and longest wait before a list is asked for again; it doubles in between.
RETRY_FIRST_S = 0.5
RETRY_LONGEST_S = 60.0

#: Writes down what was asked and what came: (facts of the note, answer, its type) → position.
Write = Callable[[Mapping[str, object], RestAnswer | None, str], Awaitable[int]]


@frozen
class _Result:
    """What came of one request: so many rows, or None and the problem.

    ``is_final``: asking again is no use.
    """

    rows: int | None
    problem: str = ""
    is_final: bool = False


@frozen
class FuturesLists:
    """One run's reading of them."""

    client: Asks
    write: Write
    #: Returns the pairs whose conditional orders may have ended, once what came is folded.
    pairs: Callable[[], Awaitable[Sequence[str]]]
    #: Waits until the events up to this one are folded; reports whether a list left anything out.
    is_left_out: Callable[[int], Awaitable[bool]]
    #: Returns whether futures of the account were ever reported.
    is_held: Callable[[], Awaitable[bool]]
    #: A list that gave nothing for so long is given up all the same.
    give_up_s: float

    async def read(self) -> int:
        """Read all; return the position of the last event, 0 if there was none."""
        last, refused = 0, set[str]()
        for _ in range(LOOKS):
            requests = await self._requests()
            for name, request in requests.items():
                if name in refused:
                    continue
                position, is_read = await self._ask(name, request)
                last = max(last, position)
                if not is_read:
                    refused.add(name)
            if refused >= set(requests) or not await self.is_left_out(last):
                break
        return last

    async def _requests(self) -> Mapping[str, RestRequest]:
        found = {
            OPEN_POSITIONS: list_request(Kind.OPEN_POSITIONS),
            CLOSED_POSITIONS: list_request(Kind.CLOSED_POSITIONS_SUMMARY),
            CONDITIONAL_ORDERS: list_request(Kind.CONDITIONALS),
        }
        for pair in await self.pairs():
            found[f"{CONDITIONAL_HISTORY} {pair}"] = conditional_history_request(pair)
        return found

    async def _ask(self, name: str, request: RestRequest) -> tuple[int, bool]:
        """Ask until a list came, or it is no use; return the last event, and whether it came."""
        last, wait_s, since_s, tries = 0, RETRY_FIRST_S, trio.current_time(), 0
        while True:
            tries += 1
            answer: RestAnswer | None = None
            try:
                answer = await self.client.get(request)
                result = _read(answer)
            except RestUnavailable as error:
                result = _Result(None, str(error))
            is_over = result.rows is None and (
                result.is_final or await self._is_vain(tries, trio.current_time() - since_s)
            )
            last = await self._keep(name, request, answer, result, is_over=is_over) or last
            if result.rows is not None or is_over:
                return last, result.rows is not None
            await trio.sleep(wait_s)
            wait_s = min(wait_s * 2, RETRY_LONGEST_S)

    async def _is_vain(self, tries: int, passed_s: float) -> bool:
        """Return whether enough was asked: a gap of an account with futures needs the answer."""
        if tries < TRIES:
            return False
        return passed_s > self.give_up_s or not await self.is_held()

    async def _keep(
        self,
        name: str,
        request: RestRequest,
        answer: RestAnswer | None,
        result: _Result,
        *,
        is_over: bool,
    ) -> int:
        if result.problem:
            log.warning("%s: %s", name, result.problem)
        if answer is None and not is_over:
            return 0
        facts = {
            "list": name,
            "request": request.path_with_query,
            "status": answer and answer.status,
            "reason": result.problem or None,
            "page": result.rows is not None,
            "rows": result.rows or 0,
            "given_up": is_over,
        }
        # What is no list that a fold could read has no type.
        kind = "" if result.rows is None else FUTURES_FETCHED_AS[request.kind].value
        return await self.write(facts, answer, kind)


def _read(answer: RestAnswer) -> _Result:
    """Return how many rows a list has, or what is wrong with it."""
    outcome = answer.read()
    if answer.status == 200 and not isinstance(outcome, Unreadable):
        content = read_futures_list(FUTURES_FETCHED_AS[answer.request.kind].value, answer.text)
        if isinstance(content, Unrecognised):
            return _Result(None, f"HTTP 200: {content.reason}")
        listed: Sequence[object] | None = getattr(content, "positions", None)
        return _Result(len(getattr(content, "orders", ()) if listed is None else listed))
    words = next(
        (str(word) for name in ("message", "reason") if (word := getattr(outcome, name, None))),
        "no list",
    )
    is_final = isinstance(outcome, CredentialsRefused | Declined)
    return _Result(None, f"HTTP {answer.status}: {words}", is_final)
