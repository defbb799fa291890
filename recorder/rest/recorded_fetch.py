"""Asks the exchange over REST, and records each answer together with a note of what was requested.

The back-fill, the reconciler and the resolver of commands in doubt share it. It reads the database
as soon as that can be read, waits until folds have caught up, and asks again with a wait that
doubles. What Retry-After demands is waited for in the client.

The log is the only memory: a note and the answer behind it are one transaction, so after a crash a
run goes on with the page that is missing.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from typing import Generic, TypeVar

import trio
from attrs import define, evolve, frozen
from sqlalchemy import Connection

from recorder.clock import Clock
from recorder.errors import StorageUnavailable
from recorder.exchange.rest import CredentialsRefused, Declined, Outcome, RateLimited
from recorder.exchange.rest_requests import RestRequest
from recorder.log.rules.event import Draft, Note, noted
from recorder.log.sql.read import head as read_head
from recorder.log.tasks.inbox import Inbox, Submission
from recorder.projections.sql.rows import fold_position
from recorder.rest.client import Asks, OpenClient, RestAnswer, RestUnavailable
from recorder.units import Aside, P, T, Unit, UnitRunner, in_thread

log = logging.getLogger("recorder.rest")

C = TypeVar("C")
#: Row changes in the transaction of the events at these positions.
Record = Callable[[Connection, Sequence[int]], None]

#: Pause before a database that could not be read is read again.
READ_AGAIN_S = 1.0
#: Between two looks whether the folds have caught up.
FOLD_LOOK_S = 0.1
#: First and longest wait before a request is made again; it doubles in between.
RETRY_FIRST_S = 0.5
RETRY_LONGEST_S = 60.0
#: A longer answer is read in a thread: it takes as long as many frames do.
READ_HERE_BYTES_MAX = 50_000


@frozen
class FetchResult(Generic[C]):
    """What a request gave: its content, or the problem why there is none.

    ``is_final``: asking again is no use. ``position``: the last event that records it, or 0.
    """

    request: RestRequest
    answer: RestAnswer | None = None
    content: C | None = None
    problem: str = ""
    is_final: bool = False
    position: int = 0

    @property
    def status(self) -> int | None:
        """The HTTP status; None where no answer arrived."""
        return None if self.answer is None else self.answer.status


#: Returns what an answer contains.
Read = Callable[[RestAnswer], FetchResult[C]]
#: Makes a result durable: (result, whether the request is given up or final) → last position, or 0.
Keep = Callable[[FetchResult[C], bool], Awaitable[int]]
#: Returns whether enough was asked: (requests made, seconds since the first).
GivesUp = Callable[[int, float], Awaitable[bool]]


@define(eq=False)
class RecordedFetch:
    """One account's recorded requests."""

    account: str
    inbox: Inbox
    reader: UnitRunner
    clock: Clock
    open_client: OpenClient
    #: How a long answer is read.
    aside: Aside = in_thread

    async def ask(self, client: Asks, request: RestRequest, read: Read[C]) -> FetchResult[C]:
        """Make a request once, and read its answer. Records nothing."""
        try:
            answer = await client.get(request)
        except RestUnavailable as error:
            return FetchResult(request, problem=str(error))
        if len(answer.body) > READ_HERE_BYTES_MAX:
            return await self.aside(partial(read, answer))
        return read(answer)

    async def fetch(
        self, ask: Callable[[], Awaitable[FetchResult[C]]], keep: Keep[C], gives_up: GivesUp
    ) -> FetchResult[C]:
        """Ask until there is content or it is no use; keep every result, and return the last."""
        began_s, wait_s, tries, position = self.now_s(), RETRY_FIRST_S, 0, 0
        while True:
            result, tries = await ask(), tries + 1
            is_over = result.is_final or (
                result.content is None and await gives_up(tries, self.now_s() - began_s)
            )
            position = max(position, await keep(result, is_over))
            if result.content is not None or is_over:
                return evolve(result, position=position)
            await trio.sleep(wait_s)
            wait_s = min(wait_s * 2, RETRY_LONGEST_S)

    async def record_answer(
        self, note: Note, facts: Mapping[str, object], result: FetchResult[C], event_type: str
    ) -> int:
        """Make the note and the answer behind it durable; return the last position.

        ``facts`` are completed by the request and its status. ``event_type`` is that of the
        answer's event: empty for what no fold can read.
        """
        asked = {"request": result.request.path_with_query, "status": result.status}
        drafts = [self.note(note, {**facts, **asked})]
        if result.answer is not None:
            drafts.append(result.answer.draft(self.account, event_type))
        return (await self.submit(drafts))[-1]

    async def submit(self, drafts: Sequence[Draft], record: Record | None = None) -> Sequence[int]:
        """Append drafts, and change rows in the same transaction; return the positions."""
        await self.inbox.wait_room()
        positions = await self.inbox.submit(Submission(drafts, record=record))
        assert positions is not None, "no decision of the submission could refuse it"
        return positions

    async def read(self, unit: Unit[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Return what a unit reads, as soon as the database can be read."""
        while True:
            try:
                return await self.reader.run(unit, *args, **kwargs)
            except StorageUnavailable as error:
                log.debug("%s: the database can't be read now: %s", self.account, error)
            await trio.sleep(READ_AGAIN_S)

    async def until_folded(self, position: int, folds: Sequence[str]) -> None:
        """Return when all of these folds have reached ``position``."""
        # The folds move in threads of their own, without a signal to this task.
        while await self.read(fold_position, self.account, folds) < position:  # noqa: ASYNC110
            await trio.sleep(FOLD_LOOK_S)

    async def head(self) -> int:
        """Return the last position of the log."""
        return (await self.read(read_head, self.account)).position

    async def catch_up(self, folds: Sequence[str]) -> int:
        """Wait until these folds have reached the present head; return its position."""
        position = await self.head()
        await self.until_folded(position, folds)
        return position

    def note(self, kind: Note, facts: Mapping[str, object]) -> Draft:
        """Return the draft of a note."""
        return noted(self.account, self.clock.wall_us(), kind, facts)

    def now_s(self) -> float:
        """Return the monotonic clock's seconds."""
        return self.clock.monotonic_ns() / 1e9


def read_outcome(answer: RestAnswer) -> FetchResult[Outcome]:
    """Return what an answer reports, whatever it is, as its content."""
    return FetchResult(answer.request, answer, answer.read())


def without_content(answer: RestAnswer, outcome: Outcome, otherwise: str) -> FetchResult[C]:
    """Return the result for an answer that is not what was asked for: its problem."""
    words = (getattr(outcome, name, None) for name in ("message", "reason"))
    problem = (
        "too many requests"
        if isinstance(outcome, RateLimited)
        else next(filter(None, words), otherwise)
    )
    return FetchResult(
        answer.request,
        answer,
        problem=f"HTTP {answer.status}: {problem}",
        is_final=isinstance(outcome, CredentialsRefused | Declined),
    )
