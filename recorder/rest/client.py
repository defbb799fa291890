"""Makes one request to the exchange over HTTP: one answer, within a time, or `RestUnavailable`.

The client keeps the rate. It signs each request when it is sent, for a signature made before a wait
could be stale after it. A request is sent at most once; whether to repeat it is the caller's to
decide. After a 429 the whole account waits as long as Retry-After demands, or else until VALR's
minute is over; after a 503 as long as Retry-After demands, if there is one.

Time and bytes of an answer are bounded, and only the configured host is reached: no redirect and no
proxy of the environment is followed. Headers, which hold key and signature, are in no exception, no
log line and no repr.
"""

from __future__ import annotations

import logging
import ssl
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Protocol

import httpx
import trio
from attrs import define, field, frozen

from recorder.clock import Clock
from recorder.errors import RecorderError
from recorder.exchange.pacing import TokenBucket
from recorder.exchange.rest import (
    Outcome,
    read_answer,
    retry_after_s,
)
from recorder.exchange.rest_requests import (
    RestRequest,
)
from recorder.exchange.session_actions import TOO_MANY_WAIT_S, excerpt
from recorder.log.rules.event import Draft, Origin, storable_payload

log = logging.getLogger("recorder.rest")

#: From the first byte of connecting to the last of the answer.
TIMEOUT_S = 15.0
#: A page of a hundred rows has under 100 kB; a list of open orders has no pages.
ANSWER_BYTES_MAX = 16_000_000
#: What is kept of an answer's headers.
KEPT_HEADERS = ("content-type", "date", "retry-after", "x-valr-ratelimited")
HEADER_CHARS_MAX = 200

Headers = Sequence[tuple[str, str]]
#: Makes one request's headers of its time in milliseconds, its method, and its path with query.
Introduce = Callable[[int, str, str], Headers]


class RestUnavailable(RecorderError):
    """No whole answer arrived. Reaction: repeat the request later, or do without.

    Whether the exchange has received the request isn't known. No request here changes anything.
    """


@frozen
class RestAnswer:
    """An answer as received. Times are whole microseconds since 1970, by our clock.

    ``requested_us`` is before the first byte was sent, ``answered_us`` after the last was read: the
    answer was true at some time between them. Names of ``headers`` are in lower case.
    """

    request: RestRequest
    status: int
    body: bytes = field(repr=False)
    headers: Mapping[str, str]
    requested_us: int
    answered_us: int

    @property
    def text(self) -> str:
        """The body as text. Bytes that are no UTF-8 are replaced."""
        return self.body.decode("utf-8", "replace")

    def read(self) -> Outcome:
        """Return what the answer reports."""
        return read_answer(self.request, self.status, self.text, self.headers)

    def draft(self, account: str, kind: str) -> Draft:
        """Return the event that keeps the answer byte for byte; ``kind`` becomes its type."""
        payload, encoding = storable_payload(_as_text(self.body))
        fetched = Origin.FETCHED.value
        return Draft(account, self.answered_us, None, None, fetched, kind, payload, encoding)


class Asks(Protocol):
    """The one thing that users of a `RestClient` need."""

    async def get(self, request: RestRequest) -> RestAnswer:
        """Send the request once and return its answer. Raises RestUnavailable."""
        ...


#: Opens an account's client for as long as it is needed.
OpenClient = Callable[[], AbstractAsyncContextManager[Asks]]


@frozen
class _Result:
    status: int
    body: bytes
    headers: Mapping[str, str]


@define(eq=False)
class RestClient:
    """One account's client, made by `open_rest`. Any task may use it; they wait in order."""

    _base_url: str
    _introduce: Introduce = field(repr=False)
    _clock: Clock = field(repr=False)
    _bucket: TokenBucket
    _http: httpx.AsyncClient = field(repr=False)
    _timeout_s: float
    _turn: trio.Lock = field(factory=trio.Lock, repr=False)

    async def get(self, request: RestRequest) -> RestAnswer:
        """Send the request once and return its answer, whatever its status.

        Waits first until the rate allows it; the time-out begins then. Raises RestUnavailable.
        """
        await self._wait_for_turn()
        url = _url(self._base_url, request.path_with_query)
        requested_us = self._clock.wall_us()
        headers = self._headers(request, requested_us)
        result = await self._exchange(request.method, url, headers)
        if isinstance(result, str):
            raise RestUnavailable(f"{_described(request)}: {result}")
        answer = RestAnswer(
            request, result.status, result.body, result.headers, requested_us, self._clock.wall_us()
        )
        self._keep_limit(answer)
        return answer

    async def _wait_for_turn(self) -> None:
        async with self._turn:
            # Tokens come with time alone; there is no signal to wait for.
            while wait_s := self._bucket.take(self._now_s()):  # noqa: ASYNC110
                await trio.sleep(wait_s)

    def _headers(self, request: RestRequest, requested_us: int) -> Headers:
        headers = self._introduce(requested_us // 1_000, request.method, request.path_with_query)
        if not all(value.isascii() and value.isprintable() for _, value in headers):
            raise RestUnavailable(
                f"{_described(request)}: key or sub-account id hold a character that no header can;"
                " check the credentials"
            )
        return headers

    async def _exchange(self, method: str, url: httpx.URL, headers: Headers) -> _Result | str:
        """Send, and read the answer to its end; or return why there is none.

        The reason is returned, not raised: httpx's errors hold the request's headers, or quote what
        the other side sent, which may be our key. They must not become an error's context.
        """
        try:
            with trio.fail_after(self._timeout_s):
                async with self._http.stream(method, url, headers=list(headers)) as answer:
                    if _is_compressed(answer):
                        return "the answer is compressed, although that was not requested"
                    body = await _read_body(answer)
                    if body is None:
                        return f"the answer is longer than {ANSWER_BYTES_MAX} bytes"
                    return _Result(answer.status_code, body, _kept(answer.headers))
        except trio.TooSlowError:
            return f"no whole answer within {self._timeout_s:g} s"
        except httpx.HTTPError as error:
            why = excerpt(str(error), [value for _, value in headers])
            return f"{type(error).__name__}: {why}" if why else type(error).__name__

    def _keep_limit(self, answer: RestAnswer) -> None:
        wait_s = retry_after_s(answer.headers)
        if answer.status == 429 and wait_s is None:
            wait_s = TOO_MANY_WAIT_S
        if answer.status not in (429, 503) or wait_s is None:
            return
        log.warning("the exchange limits our REST requests: none for %g s", wait_s)
        self._bucket.penalise(self._now_s(), wait_s)

    def _now_s(self) -> float:
        return self._clock.monotonic_ns() / 1e9


@asynccontextmanager
async def open_rest(
    base_url: str,
    introduce: Introduce,
    clock: Clock,
    bucket: TokenBucket,
    *,
    timeout_s: float = TIMEOUT_S,
    transport: httpx.AsyncBaseTransport | None = None,
) -> AsyncIterator[RestClient]:
    """Open a client of one account; connections are made when they are needed, and kept.

    The bucket may be shared with other accounts, as VALR also counts by address.
    """
    http = httpx.AsyncClient(
        # Ours covers the whole exchange; httpx's would cover each part.
        timeout=None,
        follow_redirects=False,
        event_hooks={"response": [_forget_location]},
        trust_env=False,
        verify=ssl.create_default_context(),
        transport=transport,
        headers={"Accept": "application/json", "Accept-Encoding": "identity"},
    )
    async with http:
        yield RestClient(base_url.rstrip("/"), introduce, clock, bucket, http, timeout_s)


def _as_text(body: bytes) -> str | bytes:
    try:
        return body.decode()
    except UnicodeDecodeError:
        return body


def _url(base_url: str, path_with_query: str) -> httpx.URL:
    """Return the address. What is sent must be what is signed, to the byte."""
    try:
        url = httpx.URL(base_url + path_with_query)
    except httpx.InvalidURL as error:
        raise RestUnavailable(f"{base_url}{path_with_query} is no address: {error}") from error
    if not url.raw_path.endswith(path_with_query.encode()):
        raise RestUnavailable(f"{path_with_query} can't be sent as it would be signed")
    return url


async def _read_body(answer: httpx.Response) -> bytes | None:
    """Return the body, or None if it is too long. Raises httpx.HTTPError."""
    body, length = bytearray(), 0
    # Generators of httpx that are left early fail under trio. So the response is closed, and they
    # end by themselves.
    try:
        async for part in answer.aiter_bytes():
            length += len(part)
            if length > ANSWER_BYTES_MAX:
                await answer.aclose()
            else:
                body += part
    except httpx.HTTPError:
        if length <= ANSWER_BYTES_MAX:
            raise
    return bytes(body) if length <= ANSWER_BYTES_MAX else None


def _is_compressed(answer: httpx.Response) -> bool:
    """Return whether an answer is compressed: few bytes of it could exceed any limit."""
    reported: str = answer.headers.get("content-encoding", "identity")
    return reported.strip().lower() != "identity"


async def _forget_location(answer: httpx.Response) -> None:
    """Remove a redirect's target: httpx reads it even if redirects are off."""
    answer.headers.pop("location", None)


def _kept(headers: httpx.Headers) -> Mapping[str, str]:
    return {name: headers[name][:HEADER_CHARS_MAX] for name in KEPT_HEADERS if headers.get(name)}


def _described(request: RestRequest) -> str:
    return f"{request.method} {request.path_with_query}"
