"""Lists of positions and conditional orders are waited for where the account has any."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio
from attrs import define, field
from trio.testing import MockClock

from recorder.exchange.rest_requests import RestRequest
from recorder.gaps.sql.backfill import conditionals_without_end, has_futures, is_unconfirmed
from recorder.gaps.tasks.lists import TRIES, RunLists
from recorder.log.tasks.inbox import Inbox, Submission
from recorder.rest.client import RestAnswer, RestUnavailable
from recorder.rest.recorded_fetch import RecordedFetch
from tests.connection.clocks import TrioClock

HOUR_S = 3_600.0


class Log(Inbox):
    """An inbox whose entries are durable at once."""

    def __init__(self, bench: Bench) -> None:
        super().__init__(100, 100_000)
        self.bench = bench

    async def submit(self, submission: Submission) -> Sequence[int] | None:
        note = submission.drafts[0]
        self.bench.written.append(json.loads(note.payload)["data"])
        return [len(self.bench.written)]


@define(eq=False)
class Bench:
    """An exchange that answers from some second on, and what is written of it."""

    works_from_s: float
    is_held: bool
    status: int = 500
    body: bytes = b"<html>"
    requests: list[str] = field(factory=list)
    written: list[Mapping[str, object]] = field(factory=list)

    async def get(self, request: RestRequest) -> RestAnswer:
        self.requests.append(request.path_with_query.partition("?")[0])
        if trio.current_time() >= self.works_from_s:
            return RestAnswer(request, 200, b"[]", {}, 0, 1)
        if not self.status:
            raise RestUnavailable("no answer")
        return RestAnswer(request, self.status, self.body, {}, 0, 1)

    async def run(self, unit: Any, *_: Any) -> Any:
        """Be the database."""
        found = {conditionals_without_end: [], is_unconfirmed: False, has_futures: self.is_held}
        return found.get(unit, 10**9)

    async def read(self) -> None:
        @asynccontextmanager
        async def open_client() -> AsyncIterator[Bench]:
            yield self

        database: Any = self
        rest = RecordedFetch("main", Log(self), database, TrioClock(), open_client)
        await RunLists(rest, self, 1, HOUR_S).read_futures()

    def result(self) -> list[object]:
        """Return which lists came, in the order in which they did."""
        return [facts["list"] for facts in self.written if facts["page"]]

    def given_up(self) -> list[object]:
        return [facts["list"] for facts in self.written if facts["given_up"]]


ALL = ["open_positions", "closed_positions", "conditional_orders"]


@pytest.mark.parametrize("status", [0, 429, 500, 502])
async def test_what_does_not_come_is_waited_for_where_futures_are_held(
    autojump_clock: MockClock, status: int
) -> None:
    bench = Bench(works_from_s=trio.current_time() + 600, is_held=True, status=status)
    await bench.read()
    assert (bench.result(), bench.given_up()) == (ALL, [])


async def test_a_list_that_gives_nothing_for_an_hour_is_given_up(autojump_clock: MockClock) -> None:
    bench = Bench(works_from_s=trio.current_time() + 1.5 * HOUR_S, is_held=True)
    await bench.read()
    assert (bench.result(), bench.given_up()) == (ALL[1:], ALL[:1])


async def test_an_account_without_futures_waits_for_no_list(autojump_clock: MockClock) -> None:
    began_s = trio.current_time()
    bench = Bench(works_from_s=began_s + HOUR_S, is_held=False)
    await bench.read()
    assert (bench.result(), bench.given_up(), len(bench.requests)) == ([], ALL, 3 * TRIES)
    assert trio.current_time() - began_s < 15


async def test_what_is_refused_is_requested_once(autojump_clock: MockClock) -> None:
    bench = Bench(HOUR_S * 9**9, is_held=True, status=403, body=b'{"code":-19213,"message":"no"}')
    await bench.read()
    assert (bench.given_up(), len(bench.requests)) == (ALL, 3)
