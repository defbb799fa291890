"""One WebSocket: opening it, and turning whatever ends it into `SessionLost`.

The byte stream comes from outside (``open_stream``), so that a test or a simulation can hand over
a pair in memory. trio-websocket waits for ever when the peer closes the TCP connection in the
middle of the handshake, hence the watch on the stream; its own nursery and ours make exception
groups, which are translated here and nowhere else.
"""

from __future__ import annotations

import re
import ssl
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar
from urllib.parse import urlsplit

import h11
import trio
from attrs import define, field
from trio_websocket import (
    ConnectionClosed,
    ConnectionRejected,
)
from wsproto.utilities import ProtocolError

from recorder.connection.wire import Wire
from recorder.errors import SessionLost
from recorder.exchange.session_actions import close_reason, handshake_refusal

E = TypeVar("E", bound=BaseException)

#: Opens the byte stream to a ``ws://`` or ``wss://`` address. Raises OSError.
OpenStream = Callable[[str], Awaitable[trio.abc.Stream]]

#: Name look-up, TCP, TLS and the upgrade together take at most this long.
OPEN_TIMEOUT_S = 10.0
#: A polite close waits this long for the other side's.
CLOSE_TIMEOUT_S = 1.0
#: As much of the answer to the upgrade as is kept to report why it was refused.
OPENING_BYTES_MAX = 4_096

#: As much of what no message could be made of is kept.
UNREAD_BYTES_MAX = 16_384
#: Protocol error, and a text that is no UTF-8.
_CODES_OF_OURS = frozenset({1002, 1007})

_STREAM_ERRORS = (OSError, trio.BrokenResourceError, trio.ClosedResourceError)
#: trio-websocket answers an upgrade it can't make sense of with what no client may report, so h11's
#: complaint of that arrives here; wsproto takes headers for ASCII.
_PROTOCOL_ERRORS = (ProtocolError, h11.ProtocolError, UnicodeError)
#: How an answer over HTTP begins, once its status is reported in full.
_has_status = re.compile(rb"HTTP/[0-9.]+ +([0-9]{3})(?=[ \r\n])").match


async def open_network_stream(url: str) -> trio.abc.Stream:
    """Open TCP, and TLS with certificate and host name checks for ``wss://``. Raises OSError."""
    parts = urlsplit(url)
    secure = parts.scheme == "wss"
    host, port = parts.hostname or "", parts.port or (443 if secure else 80)
    if not secure:
        return await trio.open_tcp_stream(host, port)
    context = ssl.create_default_context()
    # An exchange may close TCP without TLS's goodbye; the WebSocket's own close frame counts.
    stream = await trio.open_ssl_over_tcp_stream(
        host, port, ssl_context=context, https_compatible=True
    )
    try:
        # Left to the first byte, a certificate that doesn't hold would look like a broken line.
        await stream.do_handshake()
    except BaseException:
        await trio.aclose_forcefully(stream)
        raise
    return stream


@define(eq=False)
class WatchedStream(trio.abc.Stream):
    """A stream that signals its end, and keeps what was received last.

    It keeps the first bytes of the answer to the upgrade, until the upgrade is done. ``hidden`` are
    texts of ours that must not appear in a report of what was received.
    """

    _inner: trio.abc.Stream
    hidden: Sequence[str] = field(default=(), repr=False)
    ended: trio.Event = field(factory=trio.Event)
    opening: bytearray | None = field(factory=bytearray)
    last: bytes | bytearray = b""

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        """Receive as the inner stream does, and note its end."""
        try:
            received = await self._inner.receive_some(max_bytes)
        except _STREAM_ERRORS:
            self.ended.set()
            raise
        if received:
            self.last = received
        else:
            self.ended.set()
        if self.opening is not None and len(self.opening) < OPENING_BYTES_MAX:
            self.opening += received
        return received

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """Send as the inner stream does; what can't be sent on is at its end."""
        try:
            await self._inner.send_all(data)
        except _STREAM_ERRORS:
            self.ended.set()
            raise

    async def wait_send_all_might_not_block(self) -> None:
        """Wait as the inner stream does."""
        await self._inner.wait_send_all_might_not_block()

    async def aclose(self) -> None:
        """Close as the inner stream does."""
        self.ended.set()
        await self._inner.aclose()


async def run_on_socket(
    url: str,
    headers: Sequence[tuple[str, str]],
    body: Callable[[Wire], Awaitable[None]],
    *,
    open_stream: OpenStream,
    max_message_bytes: int,
    hidden: Sequence[str] = (),
) -> None:
    """Connect, upgrade, and run ``body(socket)``; close the socket however it ends.

    Raises SessionLost for everything that the network or the exchange does; what ``body`` raises
    by itself passes in a group. Cancelled, it reports goodbye for `CLOSE_TIMEOUT_S` at most. No
    reason repeats what is ``hidden``.
    """
    lost: SessionLost | None = None
    stream = await _open(url, open_stream, hidden)
    try:
        async with trio.open_nursery() as outside:
            talk = trio.CancelScope()
            outside.start_soon(_end_with_us, talk)
            async with trio.open_nursery() as reading:
                # A cancellation ends the talk; the reader goes on, to receive the goodbye.
                reading.cancel_scope.shield = True
                with talk:
                    wire = await _upgrade(reading, stream, url, headers, max_message_bytes)
                    try:
                        await body(wire)
                    finally:
                        wire.leave()
                        await _close(wire)
                reading.cancel_scope.cancel()
            outside.cancel_scope.cancel()
    except* SessionLost as group:
        lost = _first(group)
    except* ConnectionRejected as group:
        lost = lost or _rejected(_first(group), stream)
    except* ConnectionClosed as group:
        lost = lost or SessionLost("the connection was closed", code=_code(_first(group)))
    except* (*_STREAM_ERRORS, *_PROTOCOL_ERRORS) as group:
        broke = SessionLost(f"the connection broke: {_text(_first(group))}")
        lost = lost or (broke if stream.opening is None else _not_upgraded(stream))
    finally:
        await trio.aclose_forcefully(stream)
    if lost is not None:
        raise _attributed(lost, stream)


def session_lost(
    error: ConnectionClosed, max_frame_bytes: int, *, authenticated: bool, hidden: Sequence[str]
) -> SessionLost:
    """Return what a closed session means. The reason does not repeat what is ``hidden``."""
    code = _code(error)
    text = (error.reason.reason if error.reason else None) or ""
    if code == 1009 and text.startswith("Exceeded maximum message size"):
        limit = f"a frame larger than max_frame_bytes ({max_frame_bytes}) came"
        return SessionLost(f"{limit}; raise the setting to take it", code=1009, by="recorder")
    return close_reason(code, text, authenticated=authenticated, hidden=hidden).error()


def _attributed(lost: SessionLost, stream: WatchedStream) -> SessionLost:
    """Return the loss as ours, where it was our side that could not read what came.

    wsproto reports its own refusal to read on like a close by the peer; but a peer's close frame
    holds the code and the reason in plain bytes.
    """
    if lost.code not in _CODES_OF_OURS or lost.by != "exchange":
        return lost
    if lost.code.to_bytes(2, "big") in stream.last:
        return lost
    return SessionLost(
        f"what came is no WebSocket message ({lost.reason})",
        code=lost.code,
        by="recorder",
        unread=bytes(stream.last[-UNREAD_BYTES_MAX:]),
    )


async def _end_with_us(talk: trio.CancelScope) -> None:
    """Pass a cancellation from outside on to what is shielded from it."""
    try:
        await trio.sleep_forever()
    finally:
        talk.cancel()


async def _open(url: str, open_stream: OpenStream, hidden: Sequence[str]) -> WatchedStream:
    try:
        with trio.fail_after(OPEN_TIMEOUT_S):
            return WatchedStream(await open_stream(url), hidden)
    except trio.TooSlowError as error:
        raise SessionLost(f"no connection to {url} within {OPEN_TIMEOUT_S:g} s") from error
    except _STREAM_ERRORS as error:
        raise SessionLost(f"no connection to {url}: {_text(error)}") from error


async def _upgrade(
    nursery: trio.Nursery,
    stream: WatchedStream,
    url: str,
    headers: Sequence[tuple[str, str]],
    max_message_bytes: int,
) -> Wire:
    parts = urlsplit(url)
    wire = Wire(stream, parts.netloc, parts.path or "/", headers, max_message_bytes)
    try:
        with trio.fail_after(OPEN_TIMEOUT_S):
            async with trio.open_nursery() as watch:
                watch.start_soon(_fail_when_ended, stream, wire)
                await wire.open(nursery)
                watch.cancel_scope.cancel()
    except trio.TooSlowError as error:
        late = SessionLost(f"the upgrade was not answered in {OPEN_TIMEOUT_S:g} s")
        raise _refusal(stream) or late from error
    stream.opening = None
    return wire


async def _fail_when_ended(stream: WatchedStream, wire: Wire) -> None:
    await stream.ended.wait()
    if wire.is_open:
        # The line ended right behind the upgrade: what it reported until then is there to be read.
        return
    if stream.opening:
        raise _not_upgraded(stream)
    raise SessionLost("the connection was closed during the handshake")


def _not_upgraded(stream: WatchedStream) -> SessionLost:
    """Return what an answer means that made no WebSocket."""
    return _refusal(stream) or SessionLost(
        "what answered the upgrade is no WebSocket",
        by="recorder",
        unread=bytes(stream.opening or b""),
    )


def _refusal(stream: WatchedStream) -> SessionLost | None:
    """Return the refusal that the beginning of an answer states; None if it states none.

    An answer without a length ends with the connection, and one that goes wrong, or on and on,
    behind its head never ends: trio-websocket would drop the status of them all.
    """
    opening = bytes(stream.opening or b"")
    reported = _has_status(opening)
    if reported is None or reported[1] == b"101":
        return None
    body = opening.partition(b"\r\n\r\n")[2]
    return handshake_refusal(int(reported[1]), (), body, hidden=stream.hidden).error()


async def _close(wire: Wire) -> None:
    with trio.move_on_after(CLOSE_TIMEOUT_S, shield=True):
        await wire.aclose()


def _rejected(error: ConnectionRejected, stream: WatchedStream) -> SessionLost:
    headers = tuple((bytes(name), bytes(value)) for name, value in error.headers or ())
    refusal = handshake_refusal(error.status_code, headers, error.body, hidden=stream.hidden)
    return refusal.error()


def _code(error: ConnectionClosed) -> int | None:
    return error.reason.code if error.reason else None


def _first(group: BaseExceptionGroup[E]) -> E:
    """Return one exception of a group; which one doesn't matter, they have one cause."""
    error = group.exceptions[0]
    return _first(error) if isinstance(error, BaseExceptionGroup) else error


def _text(error: BaseException) -> str:
    """Return the words of the innermost cause, such as "Connection refused"."""
    while True:
        if isinstance(error, BaseExceptionGroup):
            error = error.exceptions[0]
        elif error.__cause__ is not None:
            error = error.__cause__
        else:
            return str(error) or type(error).__name__
