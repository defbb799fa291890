"""Lists of positions and conditional orders are waited for where the account has any."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pytest
import trio
from attrs import define, field
from trio.testing import MockClock

from recorder.exchange.rest_requests import RestRequest
from recorder.gaps.tasks.futures_lists import TRIES, FuturesLists
from recorder.rest.client import RestAnswer, RestUnavailable

HOUR_S = 3_600.0


@define(eq=False)
class Bench:
    """An exchange that answers from some second on, and what is written of it."""

    works_from_s: float
    is_held: bool
    status: int = 500
    body: bytes = b"<html>"
    asked: list[str] = field(factory=list)
    written: list[Mapping[str, object]] = field(factory=list)

    async def get(self, request: RestRequest) -> RestAnswer:
        self.asked.append(request.path_with_query.partition("?")[0])
        if trio.current_time() >= self.works_from_s:
            return RestAnswer(request, 200, b"[]", {}, 0, 1)
        if not self.status:
            raise RestUnavailable("no answer")
        return RestAnswer(request, self.status, self.body, {}, 0, 1)

    async def read(self) -> None:
        async def write(facts: Mapping[str, object], _: RestAnswer | None, __: str) -> int:
            self.written.append(facts)
            return len(self.written)

        async def pairs() -> Sequence[str]:
            return ()

        async def is_left_out(_: int) -> bool:
            return False

        async def is_held() -> bool:
            return self.is_held

        await FuturesLists(self, write, pairs, is_left_out, is_held, HOUR_S).read()

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
    assert (bench.result(), bench.given_up(), len(bench.asked)) == ([], ALL, 3 * TRIES)
    assert trio.current_time() - began_s < 15


async def test_what_is_refused_is_asked_for_once(autojump_clock: MockClock) -> None:
    bench = Bench(HOUR_S * 9**9, is_held=True, status=403, body=b'{"code":-19213,"message":"no"}')
    await bench.read()
    assert (bench.given_up(), len(bench.asked)) == (ALL, 3)
