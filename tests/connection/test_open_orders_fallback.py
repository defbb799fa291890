"""A list of open orders that doesn't come is asked for, and only an empty one is inferred from."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import pytest
import trio
from attrs import define, field
from trio.testing import MockClock

from recorder.connection.open_orders_fallback import OpenOrdersFallback
from recorder.exchange.rest_requests import RestRequest
from recorder.exchange.session import Session
from recorder.exchange.session_actions import Action, Fact
from recorder.log.rules.event import Draft, Note, Origin
from recorder.log.tasks.inbox import Inbox
from recorder.rest.client import RestAnswer, RestUnavailable
from recorder.rest.recorded_fetch import READ_HERE_BYTES_MAX, RecordedFetch
from tests.connection.clocks import TrioClock

T = TypeVar("T")

PONG = '{"type":"PONG"}'
ORDER = {"orderId": "o-1", "side": "buy", "remainingQuantity": "1", "currencyPair": "BTCZAR"}


@define(eq=False)
class Bench:
    """A session that was named its balances and no list, and what REST answers, in order."""

    answers: list[object]
    session: Session = field(factory=Session)
    inbox: Inbox = field(factory=lambda: Inbox(100, 1_000_000))
    done: list[Action] = field(factory=list)
    asked: int = 0
    #: Reported while REST is asked, and while a long answer is read elsewhere.
    meanwhile: str = ""
    while_reading: str = ""
    read_aside: int = 0

    def __attrs_post_init__(self) -> None:
        now_s = trio.current_time()
        self.session.on_open(now_s)
        self.report("AUTHENTICATED", '{"type":"AUTHENTICATED"}')
        self.report("BALANCE_UPDATE", '{"type":"BALANCE_UPDATE","data":{"currency":"ZAR"}}')
        self.session.on_time(now_s + 1)
        self.session.on_frame(now_s + 1, "PONG", PONG)
        assert self.session.lacks_list

    def report(self, kind: str, text: str) -> None:
        self.session.on_frame(trio.current_time(), kind, text)

    async def get(self, request: RestRequest) -> RestAnswer:
        self.asked += 1
        if self.meanwhile:
            self.report("OPEN_ORDERS_UPDATE", self.meanwhile)
        answer = self.answers.pop(0)
        if answer is None:
            raise RestUnavailable("no answer")
        if isinstance(answer, int):
            return RestAnswer(request, answer, b"<html>", {}, 0, 1)
        return RestAnswer(request, 200, json.dumps(answer).encode(), {}, 0, 1)

    async def aside(self, work: Callable[[], T]) -> T:
        self.read_aside += 1
        if self.while_reading:
            self.report("OPEN_ORDERS_UPDATE", self.while_reading)
        return work()

    @asynccontextmanager
    async def open(self) -> AsyncIterator[Bench]:
        yield self

    async def run(self) -> None:
        def act(actions: Sequence[Action]) -> None:
            self.done += actions

        with trio.fail_after(3_600):
            reader: Any = None
            rest = RecordedFetch("main", self.inbox, reader, TrioClock(), self.open, self.aside)
            await OpenOrdersFallback(rest).run_for(self.session, act)

    @property
    def notes(self) -> list[str]:
        return [each.note for each in self.done if isinstance(each, Fact)]

    async def kept(self) -> list[tuple[str, str]]:
        """Return type and payload of what went into the log."""
        self.inbox.close()
        drafts = [each for each in await self.inbox.take() if isinstance(each, Draft)]
        assert {each.origin for each in drafts} <= {Origin.FETCHED.value}
        return [(each.type, each.payload) for each in drafts]


async def test_an_empty_list_is_kept_and_stands_for_the_one_that_did_not_come(
    autojump_clock: MockClock,
) -> None:
    bench = Bench([[]])
    await bench.run()
    assert bench.notes == [Note.NO_OPEN_ORDERS, Note.SNAPSHOT_COMPLETE]
    assert await bench.kept() == [("REST_OPEN_ORDERS", "[]")]


async def test_what_is_no_empty_list_concludes_nothing_and_is_asked_for_again(
    autojump_clock: MockClock,
) -> None:
    bench = Bench([None, 500, 403, {"code": 1}, [ORDER], []])
    await bench.run()
    assert (bench.asked, bench.notes) == (6, [Note.NO_OPEN_ORDERS, Note.SNAPSHOT_COMPLETE])
    kinds = [kind for kind, _ in await bench.kept()]
    assert kinds == ["", "", "", "REST_OPEN_ORDERS", "REST_OPEN_ORDERS"]


@pytest.mark.parametrize("content", ["[]", '[{"orderId":"o-1"}]'])
async def test_a_list_that_comes_while_it_is_asked_for_is_what_counts(
    autojump_clock: MockClock, content: str
) -> None:
    frame = f'{{"type":"OPEN_ORDERS_UPDATE","data":{content}}}'
    bench = Bench([[]], meanwhile=frame)
    await bench.run()
    assert (bench.asked, bench.notes, await bench.kept()) == (1, [], [])


async def test_a_list_that_came_is_never_asked_for(autojump_clock: MockClock) -> None:
    bench = Bench([])
    bench.report("OPEN_ORDERS_UPDATE", '{"type":"OPEN_ORDERS_UPDATE","data":[]}')
    await bench.run()
    assert (bench.asked, bench.notes) == (0, [])


async def test_an_answer_that_is_long_is_read_where_it_keeps_no_frame_waiting(
    autojump_clock: MockClock,
) -> None:
    long = [{**ORDER, "customerOrderId": "x" * READ_HERE_BYTES_MAX}]
    bench = Bench([long, []])
    await bench.run()
    assert (bench.asked, bench.read_aside) == (2, 1)
    assert bench.notes == [Note.NO_OPEN_ORDERS, Note.SNAPSHOT_COMPLETE]


async def test_a_list_that_comes_while_a_long_answer_is_read_is_what_counts(
    autojump_clock: MockClock,
) -> None:
    padded = [" " * READ_HERE_BYTES_MAX]
    bench = Bench([padded], while_reading='{"type":"OPEN_ORDERS_UPDATE","data":[]}')
    await bench.run()
    assert (bench.asked, bench.notes, await bench.kept()) == (1, [], [])
