"""As much of HTTP as one port for everything needs, on top of h11."""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

import h11
import trio
from attrs import field, frozen

from recorder.simulator.frames import encode

RECEIVE_BYTES = 65_536
#: No request that is answered here comes near it.
BODY_BYTES_MAX = 1_000_000


@frozen
class Asked:
    """A request. ``path`` includes the query; names of ``headers`` are in lower case."""

    verb: str
    path: str
    headers: Mapping[str, str] = field(repr=False)
    body: bytes = b""
    raw_headers: tuple[tuple[bytes, bytes], ...] = field(default=(), repr=False)

    @property
    def is_upgrade(self) -> bool:
        """True for a WebSocket's opening."""
        return self.headers.get("upgrade", "").lower() == "websocket"


@frozen
class Answer:
    """An answer: a status and a JSON value, or bytes of another content type."""

    status: int
    content: Any = None
    content_type: str = "application/json"
    headers: tuple[tuple[str, str], ...] = ()

    @property
    def body(self) -> bytes:
        """What is sent."""
        if isinstance(self.content, bytes):
            return self.content
        return b"" if self.content is None else encode(self.content).encode()


class HttpStream:
    """One TCP connection's requests, one after the other."""

    def __init__(self, stream: trio.abc.Stream) -> None:
        self.stream = stream
        self._connection = h11.Connection(h11.SERVER)

    async def receive(self) -> Asked | None:
        """Return the next request, or None if there will be none. What is no HTTP is answered 400.

        An upgrade is returned with its head alone; `left_over` is what came behind it.
        """
        try:
            request, body = await self._next_event(), b""
            if not isinstance(request, h11.Request):
                return None
            while isinstance(event := await self._next_event(), h11.Data):
                body += event.data
                if len(body) > BODY_BYTES_MAX:
                    await self.answer(Answer(413, {"message": "too much"}))
                    return None
        except h11.RemoteProtocolError as error:
            await self.answer(Answer(error.error_status_hint, {"message": "no HTTP request"}))
            return None
        except trio.BrokenResourceError:
            return None
        return _asked(request, body)

    async def answer(self, answer: Answer) -> bool:
        """Send the answer to what was received last; False if the connection ends with it."""
        connection, body = self._connection, answer.body
        headers = [
            ("Content-Type", answer.content_type),
            ("Content-Length", str(len(body))),
            *answer.headers,
        ]
        head = h11.Response(
            status_code=answer.status, headers=headers, reason=HTTPStatus(answer.status).phrase
        )
        sent = (connection.send(each) for each in (head, h11.Data(body), h11.EndOfMessage()))
        await self.stream.send_all(b"".join(each or b"" for each in sent))
        if {connection.our_state, connection.their_state} != {h11.DONE}:
            return False
        connection.start_next_cycle()
        return True

    def left_over(self) -> bytes:
        """Return what was received behind an upgrade's head."""
        return self._connection.trailing_data[0]

    async def _next_event(self) -> object:
        while (event := self._connection.next_event()) is h11.NEED_DATA:
            self._connection.receive_data(bytes(await self.stream.receive_some(RECEIVE_BYTES)))
        return event


def _asked(request: h11.Request, body: bytes) -> Asked:
    headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in request.headers}
    return Asked(
        verb=request.method.decode("latin-1"),
        path=request.target.decode("latin-1"),
        headers=headers,
        body=body,
        raw_headers=tuple(request.headers.raw_items()),
    )
