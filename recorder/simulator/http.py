"""As much of HTTP as one port for everything needs, on top of h11."""

from __future__ import annotations

import json
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

import h11
import trio
from attrs import frozen

RECEIVE_BYTES = 65_536
#: A request larger than this is nobody's.
BODY_BYTES_MAX = 1_000_000


@frozen
class Asked:
    """A request. ``path`` includes the query; ``head`` is its bytes as they came."""

    verb: str
    path: str
    headers: Mapping[str, str]
    body: str
    head: bytes

    @property
    def is_upgrade(self) -> bool:
        """True for a WebSocket's opening."""
        return self.headers.get("upgrade", "").lower() == "websocket"


@frozen
class Answer:
    """An answer: a status and a JSON value, or nothing."""

    status: int
    content: Any = None


async def read_request(stream: trio.SocketStream) -> Asked | None:
    """Return the next request, None at the end of the connection or for what is no HTTP."""
    connection = h11.Connection(h11.SERVER, max_incomplete_event_size=65_536)
    head, request, body = b"", None, b""
    while True:
        try:
            event = connection.next_event()
        except h11.RemoteProtocolError:
            return None
        if event is h11.NEED_DATA:
            received = await stream.receive_some(RECEIVE_BYTES)
            head += received
            connection.receive_data(received)
        elif isinstance(event, h11.Request):
            request = event
        elif isinstance(event, h11.Data):
            body += event.data
        if (
            isinstance(event, (h11.EndOfMessage, h11.ConnectionClosed))
            or len(body) > BODY_BYTES_MAX
        ):
            break
        if request is not None and event is h11.PAUSED:
            break
    if request is None:
        return None
    headers = {name.decode().lower(): value.decode("latin-1") for name, value in request.headers}
    return Asked(request.method.decode(), request.target.decode(), headers, body.decode(), head)


async def write_answer(stream: trio.SocketStream, answer: Answer) -> None:
    """Send an answer. The connection stays open for the next request."""
    body = b"" if answer.content is None else json.dumps(answer.content).encode()
    phrase = HTTPStatus(answer.status).phrase
    head = (
        f"HTTP/1.1 {answer.status} {phrase}\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    )
    await stream.send_all(head.encode() + body)
