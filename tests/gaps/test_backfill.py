"""What the back-fill gives up, and when, on a clock that jumps."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

import pytest
import trio
from attrs import define, field
from trio.testing import MockClock

from recorder.exchange.paging import HistoryList
from recorder.exchange.rest_requests import RestRequest
from recorder.gaps.sql.backfill import (
    ListState,
    Period,
    conditionals_without_end,
    is_unconfirmed,
    last_answers,
    lists_of,
    uncounted,
    unfinished,
    unhealed_within,
    warnings_of,
)
from recorder.gaps.tasks.backfill import Backfiller
from recorder.log.rules.event import Draft
from recorder.log.tasks.inbox import Inbox, Submission
from recorder.projections.sql.rows import fold_position
from recorder.rest.client import RestAnswer, RestUnavailable
from recorder.rest.recorded_fetch import RecordedFetch
from tests.connection.clocks import TrioClock

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
NOW_US = 1_772_366_400_000_000
#: What every back-fill asks for besides; here the account holds none.
FUTURES = ("/v1/positions/", "/v1/orders/conditionals")
DONE = {name.value: ListState("complete") for name in HistoryList}


@define(eq=False)
class Bench:
    """A run of which only the trades are still to be read, and what is written of it."""

    answer: Callable[[RestRequest], RestAnswer]
    written: list[Draft] = field(factory=list)
    requested_at: list[float] = field(factory=list)
    finished: trio.Event = field(factory=trio.Event)

    async def run(self, unit: Any, *_: Any) -> Any:
        """Be the database."""
        if unit is unfinished:
            lists = {name: row for name, row in DONE.items() if name != "trades"}
            return None if self.finished.is_set() else Period(NOW, NOW, None, None, 1, lists)
        is_over = any(facts["given_up"] for facts in self.facts())
        reported = {"trades": ListState("incomplete", None, "given up")} if is_over else {}
        found: dict[Any, Any] = {lists_of: DONE | reported, warnings_of: [], uncounted: 0}
        found |= {fold_position: 10**9, unhealed_within: [], last_answers: [3]}
        found |= {conditionals_without_end: [], is_unconfirmed: False}
        return found.get(unit)

    async def get(self, request: RestRequest) -> RestAnswer:
        """Be the exchange."""
        if request.path_with_query.startswith(FUTURES):
            return answered(200, b"[]")(request)
        self.requested_at.append(trio.current_time())
        return self.answer(request)

    def take(self, submission: Submission) -> Sequence[int]:
        """Be the log."""
        self.written += submission.drafts
        if any(draft.type == "BACKFILL_FINISHED" for draft in submission.drafts):
            self.finished.set()
        return range(len(self.written) - len(submission.drafts) + 2, len(self.written) + 2)

    def facts(self, kind: str = "BACKFILL_PAGE") -> list[Any]:
        """Return what the notes of a kind report of the trades."""
        notes = [json.loads(each.payload)["data"] for each in self.written if each.type == kind]
        return [each for each in notes if each.get("list", "trades") == "trades"]

    def fetched(self) -> list[tuple[str, str]]:
        """Return type and text of what was fetched of the trades."""
        fetched = [each for each in self.written if each.origin == "fetched"]
        return [(each.type, each.payload) for each in fetched if each.type in ("", "REST_TRADES")]


class Log(Inbox):
    """An inbox whose entries are durable at once."""

    bench: Bench

    async def submit(self, submission: Submission) -> Sequence[int] | None:
        return self.bench.take(submission)


async def run_to_the_end(bench: Bench, give_up_s: float = 600.0) -> None:
    @asynccontextmanager
    async def open_client() -> AsyncIterator[Bench]:
        yield bench

    log = Log(100, 100_000)
    log.bench = bench
    database: Any = bench
    rest = RecordedFetch("main", log, database, TrioClock(NOW_US), open_client)
    backfiller = Backfiller(rest, head=0, after_s=1.0, give_up_s=give_up_s)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(backfiller.run)
        await bench.finished.wait()
        nursery.cancel_scope.cancel()


def answered(status: int, body: bytes, **headers: str) -> Callable[[RestRequest], RestAnswer]:
    def answer(request: RestRequest) -> RestAnswer:
        return RestAnswer(request, status, body, headers, NOW_US, NOW_US)

    return answer


def silent(request: RestRequest) -> RestAnswer:
    raise RestUnavailable("no host is there")


async def test_a_list_without_an_answer_is_asked_for_ever_more_seldom_and_given_up(
    autojump_clock: MockClock,
) -> None:
    bench = Bench(silent)
    await run_to_the_end(bench)
    waits = [b - a for a, b in zip(bench.requested_at, bench.requested_at[1:], strict=False)]
    assert waits[:3] == pytest.approx([0.5, 1.0, 2.0])
    assert max(waits) == pytest.approx(60.0)
    assert 600 <= bench.requested_at[-1] < 700
    (reported,) = bench.facts()
    assert (reported["given_up"], reported["status"]) == (True, None)
    assert "no host is there" in reported["reason"]
    assert bench.facts("BACKFILL_FINISHED")[0]["complete"] is False


async def test_what_is_refused_is_given_up_at_once_and_kept(autojump_clock: MockClock) -> None:
    bench = Bench(answered(401, b'{"code":-11252,"message":"Request has an invalid signature"}'))
    await run_to_the_end(bench)
    assert len(bench.requested_at) == 1
    (reported,) = bench.facts()
    assert (reported["given_up"], reported["status"], reported["page"]) == (True, 401, False)
    note, refusal = bench.written[:2]
    assert (note.type, refusal.type, refusal.origin) == ("BACKFILL_PAGE", "", "fetched")
    assert [text for _, text in bench.fetched()] == [refusal.payload]
    assert bench.written[-1].type == "BACKFILL_FINISHED"


async def test_a_page_is_kept_byte_for_byte_behind_the_note_about_it(
    autojump_clock: MockClock,
) -> None:
    rows = b'[ {"id":"t","price":"1","quantity":"1"} ]'
    answers = iter([answered(500, b"oops"), answered(200, rows), answered(200, b"[]")])
    bench = Bench(lambda request: next(answers)(request))
    await run_to_the_end(bench)
    assert bench.fetched() == [("", "oops"), ("REST_TRADES", rows.decode()), ("REST_TRADES", "[]")]
    problem, first, last = bench.facts()
    assert (problem["page"], problem["given_up"], problem["reason"]) == (
        False,
        False,
        "HTTP 500: no page",
    )
    assert first["request"].startswith("/v1/account/tradehistory?")
    assert '"before_id": "t"' in first["next"]
    assert last["next"] is None
