"""The REST client over real sockets: a simulated exchange, and servers that do everything wrong."""

from __future__ import annotations

import gzip
import logging
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import httpx
import pytest
import trio
from attrs import define, field

from recorder.clock import SystemClock
from recorder.exchange.pacing import TokenBucket
from recorder.exchange.rest import (
    CredentialsRefused,
    ExchangeUnavailable,
    NoSuchOrder,
    OrdersFound,
    RateLimited,
    RowsFound,
    Unreadable,
)
from recorder.exchange.rest_requests import (
    Kind,
    OrderName,
    RestRequest,
    history_request,
    list_request,
    order_detail_request,
    order_status_request,
)
from recorder.exchange.signing import signed_headers
from recorder.rest import client as rest
from recorder.rest.client import Headers, RestClient, RestUnavailable, open_rest
from recorder.simulator import Simulator, SimulatorConfig, serve
from tests.connection.clocks import TrioClock

WAIT_MAX_S = 10.0
KEY, SECRET = "a-key-for-tests", "a-secret-for-tests"
LIMIT = {"side": "BUY", "pair": "BTCZAR", "quantity": "0.001", "price": "1000000"}


def bucket() -> TokenBucket:
    return TokenBucket(100, 1000)


# Against the simulated exchange


@asynccontextmanager
async def exchange(**settings: Any) -> AsyncIterator[Simulator]:
    config = SimulatorConfig(key=KEY, secret=SECRET, **settings)
    with trio.fail_after(WAIT_MAX_S):
        async with trio.open_nursery() as nursery:
            yield await nursery.start(serve, config)
            nursery.cancel_scope.cancel()


@asynccontextmanager
async def asking(simulator: Simulator, **who: str) -> AsyncIterator[RestClient]:
    given = {"key": KEY, "secret": SECRET, "sub_account_id": ""} | who

    def introduce(timestamp_ms: int, method: str, path: str) -> Headers:
        return signed_headers(
            given["key"], given["secret"], timestamp_ms, method, path, given["sub_account_id"]
        )

    async with open_rest(simulator.rest_url, introduce, SystemClock(), bucket()) as client:
        yield client


def place(simulator: Simulator, name: str, **changed: str) -> str:
    """Place an order as a command would, and return its id."""
    payload = {**LIMIT, "customerOrderId": name, **changed}
    frames = simulator.exchange.command(
        {"type": "PLACE_LIMIT_ORDER", "clientMsgId": "m", "payload": payload}
    )
    order_id: str = frames[0]["data"]["orderId"]
    return order_id


def cancel(simulator: Simulator, name: str) -> None:
    payload = {"pair": "BTCZAR", "customerOrderId": name}
    simulator.exchange.command(
        {"type": "CANCEL_LIMIT_ORDER", "clientMsgId": "m", "payload": payload}
    )


async def test_an_order_is_found_by_either_name_in_whatever_state() -> None:
    async with exchange() as simulator, asking(simulator) as client:
        placed = {name: place(simulator, name) for name in ("open", "cancelled")}
        placed["failed"] = place(simulator, "failed", quantity="500")
        cancel(simulator, "cancelled")
        for name, order_id in placed.items():
            by_name, by_id = OrderName.customer_order_id(name), OrderName.order_id(order_id)
            for request in (
                order_status_request("BTCZAR", by_name),
                order_status_request("BTCZAR", by_id),
                order_detail_request(by_name),
                order_detail_request(by_id),
            ):
                found = (await client.get(request)).read()
                assert isinstance(found, OrdersFound)
                assert found.orders[0].order_id == order_id
                assert found.orders[0].customer_order_id == name
                expected = {"open": "Placed"}.get(name, name.capitalize())
                assert found.orders[0].status == expected


async def test_an_order_that_never_came_is_none_in_any_state() -> None:
    async with exchange() as simulator, asking(simulator) as client:
        place(simulator, "other")
        name = OrderName.customer_order_id("unknown")
        detail = (await client.get(order_detail_request(name))).read()
        assert detail == NoSuchOrder(in_any_state=True, text="[]")
        status = (await client.get(order_status_request("BTCZAR", name))).read()
        assert isinstance(status, NoSuchOrder)
        assert not status.in_any_state


async def test_lists_and_pages_are_answered_with_signed_queries() -> None:
    async with exchange() as simulator, asking(simulator) as client:
        order_id = place(simulator, "filled", price="2000000")
        place(simulator, "cancelled")
        cancel(simulator, "cancelled")
        place(simulator, "open")
        start = datetime.now(UTC) - timedelta(hours=1)
        orders = (await client.get(list_request(Kind.OPEN_ORDERS))).read()
        assert isinstance(orders, OrdersFound)
        assert [order.customer_order_id for order in orders.orders] == ["open"]
        window = history_request(
            Kind.ORDER_HISTORY, start=start, end=start + timedelta(hours=2), limit=2
        )
        page = (await client.get(window)).read()
        assert isinstance(page, OrdersFound)
        assert [order.customer_order_id for order in page.orders] == ["open", "cancelled"]
        trades = (await client.get(history_request(Kind.TRADES, start=start))).read()
        assert isinstance(trades, RowsFound)
        assert {row.text("orderId") for row in trades.rows} == {order_id}
        last = trades.rows[-1].required_text("id")
        before = history_request(Kind.TRADES, start=start, before_id=last)
        assert (await client.get(before)).read() == RowsFound((), text="[]")
        for request in (
            list_request(Kind.BALANCES),
            history_request(Kind.TRANSACTIONS, start=start),
        ):
            rows = (await client.get(request)).read()
            assert isinstance(rows, RowsFound)
            assert rows.rows


async def test_a_sub_account_s_header_is_signed() -> None:
    async with exchange(sub_account_id="903671169785507840") as simulator:
        async with asking(simulator, sub_account_id="903671169785507840") as client:
            assert (await client.get(list_request(Kind.OPEN_ORDERS))).status == 200


@pytest.mark.parametrize("wrong", [{"secret": "wrong"}, {"key": "wrong"}, {"sub_account_id": "9"}])
async def test_wrong_credentials_are_reported_as_such(wrong: dict[str, str]) -> None:
    async with exchange() as simulator, asking(simulator, **wrong) as client:
        assert isinstance(
            (await client.get(list_request(Kind.OPEN_ORDERS))).read(), CredentialsRefused
        )


async def test_an_exchange_with_problems_is_reported_as_such() -> None:
    async with exchange() as simulator, asking(simulator) as client:
        simulator.faults.change({"rest_status": 503})
        assert isinstance(
            (await client.get(list_request(Kind.OPEN_ORDERS))).read(), ExchangeUnavailable
        )
        simulator.faults.change({"rest_status": 0, "rest_is_html": True})
        assert isinstance((await client.get(list_request(Kind.OPEN_ORDERS))).read(), Unreadable)


# Against servers that do everything wrong

Serve = Callable[[trio.SocketStream], Awaitable[None]]


@define
class Wrong:
    """A server that receives a request's head and then does as it was reported."""

    act: Serve
    port: int = 0
    heads: list[bytes] = field(factory=list)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def converse_with(self, stream: trio.SocketStream) -> None:
        async with stream:
            head = b""
            while b"\r\n\r\n" not in head:
                part = await stream.receive_some(65_536)
                if not part:
                    return
                head += part
            self.heads.append(head)
            with suppress(trio.BrokenResourceError):
                await self.act(stream)


def whole(status: str, body: bytes, *headers: str) -> bytes:
    head = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", "Connection: close", *headers]
    return "\r\n".join(head).encode() + b"\r\n\r\n" + body


def sends(wire: bytes) -> Serve:
    async def act(stream: trio.SocketStream) -> None:
        await stream.send_all(wire)

    return act


async def sends_nothing(_: trio.SocketStream) -> None:
    await trio.sleep_forever()


async def trickles(stream: trio.SocketStream) -> None:
    await stream.send_all(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
    while True:
        await stream.send_all(b" ")
        await trio.sleep(0.01)


async def never_ends(stream: trio.SocketStream) -> None:
    await stream.send_all(b"HTTP/1.1 200 OK\r\n\r\n")
    while True:
        await stream.send_all(b" " * 1_000_000)


@asynccontextmanager
async def wrong(act: Serve) -> AsyncIterator[Wrong]:
    server = Wrong(act)
    with trio.fail_after(WAIT_MAX_S):
        async with trio.open_nursery() as nursery:
            listeners: list[trio.SocketListener] = await nursery.start(
                partial(trio.serve_tcp, server.converse_with, 0, host="127.0.0.1")
            )
            server.port = listeners[0].socket.getsockname()[1]
            yield server
            nursery.cancel_scope.cancel()


def credentials(_: int, __: str, ___: str) -> Headers:
    return [("X-VALR-API-KEY", KEY), ("X-VALR-SIGNATURE", SECRET)]


async def ask(server: Wrong, *, timeout_s: float = WAIT_MAX_S) -> rest.RestAnswer:
    clock = SystemClock()
    async with open_rest(server.url, credentials, clock, bucket(), timeout_s=timeout_s) as client:
        return await client.get(list_request(Kind.OPEN_ORDERS))


@pytest.mark.parametrize(
    ("wire", "outcome"),
    [
        (whole("200 OK", b"[]"), OrdersFound),
        (whole("500 Internal Server Error", b"no"), ExchangeUnavailable),
        (whole("400 Bad Request", b"<html>Bad Request</html>"), Unreadable),
        (whole("200 OK", b"<html>Welcome</html>"), Unreadable),
        (whole("200 OK", b"[\xff]"), Unreadable),
        (whole("200 OK", b'[{"orderId": "a'), Unreadable),
        (whole("302 Found", b"[]", "Location: /elsewhere"), Unreadable),
        (whole("307 Temporary Redirect", b"", "Location: http://127.0.0.1:1/"), Unreadable),
        (whole("302 Found", b"", "Location: http://["), Unreadable),
        (whole("204 No Content", b""), Unreadable),
        (whole("403 Forbidden", b"<html>blocked</html>"), CredentialsRefused),
    ],
)
async def test_a_whole_answer_is_returned_whatever_it_reports(wire: bytes, outcome: type) -> None:
    async with wrong(sends(wire)) as server:
        answer = await ask(server)
        assert isinstance(answer.read(), outcome)
        assert str(answer.status).encode() in wire[:20]
        assert len(server.heads) == 1


@pytest.mark.parametrize(
    "act",
    [
        sends(b""),
        sends(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n[]"),
        sends(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n[]\r\n"),
        sends(b"this is no HTTP\r\n\r\n"),
        sends(b"HTTP/1.1 200 OK\r\nX: " + b"x" * 1_000_000 + b"\r\n\r\n[]"),
        sends(whole("200 OK", gzip.compress(b"[]"), "Content-Encoding: gzip")),
        sends(f"{KEY} {SECRET} is no HTTP\r\n\r\n".encode()),
        never_ends,
    ],
)
async def test_where_no_whole_answer_comes_it_reports_so_and_holds_no_secret(act: Serve) -> None:
    async with wrong(act) as server:
        with pytest.raises(RestUnavailable) as caught:
            await ask(server)
        assert "GET /v1/orders/open" in str(caught.value)
        shown = "".join(traceback.format_exception(caught.value))
        assert KEY not in shown
        assert SECRET not in shown
        assert caught.value.__context__ is None
        assert len(server.heads) == 1


async def test_an_answer_without_end_is_read_no_further_than_the_limit() -> None:
    async with wrong(never_ends) as server:
        with pytest.raises(RestUnavailable, match="longer than 16000000 bytes"):
            await ask(server)


@pytest.mark.parametrize("act", [sends_nothing, trickles])
async def test_the_time_is_boxed_however_slowly_an_answer_comes(act: Serve) -> None:
    async with wrong(act) as server:
        with pytest.raises(RestUnavailable, match=r"no whole answer within 0\.1 s"):
            await ask(server, timeout_s=0.1)


async def test_an_address_without_a_server_is_unavailable() -> None:
    async with wrong(sends_nothing) as server:
        url = server.url
    async with open_rest(url, credentials, SystemClock(), bucket()) as client:
        with pytest.raises(RestUnavailable, match="ConnectError"):
            await client.get(list_request(Kind.OPEN_ORDERS))


async def test_credentials_that_no_header_can_hold_are_not_shown() -> None:
    for bad in ("kéy-of-ours", "key-of-ours\r\nX: y", "key-of-ours\n"):
        headers = [("X-VALR-API-KEY", bad)]
        async with open_rest(
            "http://127.0.0.1:1", lambda *_, given=headers: given, SystemClock(), bucket()
        ) as client:
            with pytest.raises(RestUnavailable) as caught:
                await client.get(list_request(Kind.OPEN_ORDERS))
            assert "of-ours" not in "".join(traceback.format_exception(caught.value))


async def test_what_would_be_sent_otherwise_than_signed_is_not_sent() -> None:
    async with wrong(sends(whole("200 OK", b"[]"))) as server:
        async with open_rest(server.url, credentials, SystemClock(), bucket()) as client:
            for path in ("/v1/a b", "/v1/é", '/v1/?a="', "/v1/a#b", "/v1/../a", "/v1/\r\nX: y"):
                with pytest.raises(RestUnavailable):
                    await client.get(RestRequest(path, Kind.OPEN_ORDERS))
        assert server.heads == []


async def test_the_path_goes_out_as_it_was_signed() -> None:
    name = OrderName.customer_order_id("a b/c:d,e%")
    now = datetime(2026, 1, 2, tzinfo=UTC)
    history = history_request(Kind.TRADES, start=now, end=now, before_id="X Y,:")
    async with wrong(sends(whole("200 OK", b"[]"))) as server:
        async with open_rest(server.url, credentials, SystemClock(), bucket()) as client:
            for request in (order_detail_request(name), history):
                await client.get(request)
                line = server.heads[-1].split(b"\r\n")[0]
                assert line == f"GET {request.path_with_query} HTTP/1.1".encode()


async def test_no_secret_is_logged_or_shown(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    limited = whole("429 Too Many Requests", b"", "Retry-After: 1")
    for act in (sends(whole("200 OK", b"[]")), sends(limited), sends(b"")):
        async with wrong(act) as server:
            async with open_rest(server.url, credentials, SystemClock(), bucket()) as client:
                try:
                    shown = repr(await client.get(list_request(Kind.OPEN_ORDERS)))
                except RestUnavailable as error:
                    shown = repr(error)
                shown += repr(client)
            assert KEY.encode() in server.heads[0]
            assert KEY not in shown + caplog.text
            assert SECRET not in shown + caplog.text


# The rate


def answering(*answers: httpx.Response) -> tuple[httpx.MockTransport, list[float]]:
    """Return a transport that gives these answers, then empty lists; and the times of asking."""
    left, times = list(answers), []

    async def answer(_: httpx.Request) -> httpx.Response:
        times.append(trio.current_time())
        return left.pop(0) if left else httpx.Response(200, text="[]")

    return httpx.MockTransport(answer), times


@asynccontextmanager
async def limited(
    transport: httpx.MockTransport, capacity: int = 10, per_s: float = 10
) -> AsyncIterator[RestClient]:
    async with open_rest(
        "https://exchange.example",
        credentials,
        TrioClock(),
        TokenBucket(capacity, per_s),
        transport=transport,
    ) as client:
        yield client


async def test_requests_keep_the_rate_in_the_order_of_coming(autojump_clock: object) -> None:
    transport, times = answering()
    async with limited(transport, capacity=2, per_s=4) as client:
        began = trio.current_time()
        async with trio.open_nursery() as nursery:
            for _ in range(6):
                nursery.start_soon(client.get, list_request(Kind.OPEN_ORDERS))
    passed = [at - began for at in times]
    assert passed == pytest.approx([0, 0, 0.25, 0.5, 0.75, 1.0], abs=1e-3)


AT = {"Date": "Wed, 21 Oct 2026 07:28:00 GMT", "Retry-After": "Wed, 21 Oct 2026 07:30:00 GMT"}


@pytest.mark.parametrize(
    ("headers", "wait_s"),
    [({"Retry-After": "7"}, 7), (AT, 120), ({}, 60), ({"Retry-After": "soon"}, 60)],
)
async def test_after_a_429_nothing_is_asked_until_it_is_over(
    autojump_clock: object, headers: dict[str, str], wait_s: float
) -> None:
    transport, times = answering(
        httpx.Response(429, headers={**headers, "x-valr-ratelimited": "true"})
    )
    async with limited(transport) as client:
        answer = await client.get(list_request(Kind.OPEN_ORDERS))
        assert isinstance(answer.read(), RateLimited)
        assert answer.headers["x-valr-ratelimited"] == "true"
        assert len(times) == 1
        await client.get(list_request(Kind.OPEN_ORDERS))
    assert times[1] - times[0] == pytest.approx(wait_s + 0.1, abs=1e-3)


@pytest.mark.parametrize(("headers", "wait_s"), [({"Retry-After": "7"}, 7), (AT, 120), ({}, 0)])
async def test_an_exchange_that_is_away_is_asked_when_it_allows(
    autojump_clock: object, headers: dict[str, str], wait_s: float
) -> None:
    transport, times = answering(httpx.Response(503, headers=headers))
    async with limited(transport) as client:
        for _ in range(2):
            await client.get(list_request(Kind.OPEN_ORDERS))
    assert times[1] - times[0] == pytest.approx(wait_s + (0.1 if wait_s else 0), abs=1e-3)


async def test_who_waits_already_waits_for_the_penalty_too(autojump_clock: object) -> None:
    transport, times = answering(httpx.Response(429, headers={"Retry-After": "5"}))
    async with limited(transport, capacity=1, per_s=1) as client, trio.open_nursery() as nursery:
        nursery.start_soon(client.get, list_request(Kind.OPEN_ORDERS))
        nursery.start_soon(client.get, list_request(Kind.OPEN_ORDERS))
    assert times[1] - times[0] >= 5


async def test_a_request_is_signed_when_it_is_sent_not_when_it_is_made(
    autojump_clock: object,
) -> None:
    transport, times = answering()
    signed_ms: list[int] = []

    def introduce(timestamp_ms: int, _: str, __: str) -> Headers:
        signed_ms.append(timestamp_ms)
        return ()

    async with open_rest(
        "https://exchange.example", introduce, TrioClock(), TokenBucket(1, 1), transport=transport
    ) as client:
        for _ in range(3):
            await client.get(list_request(Kind.OPEN_ORDERS))
    assert signed_ms == pytest.approx([at * 1000 for at in times], abs=1)


async def test_a_wait_that_is_cancelled_takes_no_token(autojump_clock: object) -> None:
    transport, times = answering()
    async with limited(transport, capacity=1, per_s=1) as client:
        await client.get(list_request(Kind.OPEN_ORDERS))
        with trio.move_on_after(0.5):
            await client.get(list_request(Kind.OPEN_ORDERS))
        await client.get(list_request(Kind.OPEN_ORDERS))
    assert times[1] - times[0] == pytest.approx(1, abs=1e-3)
