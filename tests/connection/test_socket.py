"""Opening a WebSocket: whatever answers, it ends as a lost session that reports what happened."""

from __future__ import annotations

import base64
import hashlib
import ssl
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import trio
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from trio_websocket import ConnectionClosed

from recorder.connection.socket import open_network_stream, run_on_socket
from recorder.connection.wire import Message, Wire
from recorder.errors import SessionLost

WAIT_MAX_S = 8.0
GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
AGREED = (
    b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Accept: @ACCEPT@\r\n\r\n"
)
CLOSE = b"\x88\x22" + struct.pack("!H", 1007) + b"Request has an invalid signature"

#: Answers that are no upgrade and no refusal.
NONSENSE = {
    "text": b"220 mail.example ESMTP\r\n\r\n",
    "bytes": b"\x00\xff\xfe" * 100,
    "http_2": b"\x00\x00\x12\x04\x00\x00\x00\x00\x00",
    "no_headers": b"HTTP/1.1 101 Switching Protocols\r\n\r\n",
    "another_key": AGREED.replace(b"@ACCEPT@", b"AAAA"),
    "an_extension": AGREED.replace(b"Upgrade: w", b"Sec-WebSocket-Extensions: x\r\nUpgrade: w"),
    "a_protocol": AGREED.replace(b"Upgrade: w", b"Sec-WebSocket-Protocol: x\r\nUpgrade: w"),
    "no_ascii": AGREED.replace(b"Upgrade: w", b"Sec-WebSocket-Protocol: \xff\r\nUpgrade: w"),
    "endless_header": b"HTTP/1.1 101 X\r\nX-Long: " + b"y" * 200_000,
}
#: Refusals that go wrong behind their status.
BROKEN_REFUSALS = {
    "chunks": b"HTTP/1.1 401 X\r\nTransfer-Encoding: chunked\r\n\r\nZZZ\r\n",
    "two_lengths": b"HTTP/1.1 401 X\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nabcde",
    "short": b"HTTP/1.1 403 X\r\nContent-Length: 100\r\n\r\nabc",
}


@asynccontextmanager
async def answering(
    answer: bytes, *, ends: bool, tls: ssl.SSLContext | None = None
) -> AsyncIterator[str]:
    """Serve this answer to every upgrade; end the line behind it, or leave it open."""

    async def serve(bare: trio.SocketStream) -> None:
        stream = bare if tls is None else trio.SSLStream(bare, tls, server_side=True)
        try:
            asked = b""
            while b"\r\n\r\n" not in asked and (result := await stream.receive_some()):
                asked += result
            if asked:
                await stream.send_all(answer.replace(b"@ACCEPT@", _accepted(bytes(asked))))
                if not ends:
                    await trio.sleep_forever()
        except trio.BrokenResourceError:
            return  # Our side has gone.
        finally:
            await trio.aclose_forcefully(stream)

    async with trio.open_nursery() as nursery:
        (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
        nursery.start_soon(trio.serve_listeners, serve, [listener])
        scheme = "ws" if tls is None else "wss"
        yield f"{scheme}://127.0.0.1:{listener.socket.getsockname()[1]}/ws/account"
        nursery.cancel_scope.cancel()


def _accepted(asked: bytes) -> bytes:
    lines = asked.lower().split(b"\r\n")
    place = next(n for n, line in enumerate(lines) if line.startswith(b"sec-websocket-key"))
    key = asked.split(b"\r\n")[place].partition(b":")[2].strip()
    return base64.b64encode(hashlib.sha1(key + GUID).digest())


async def lose(url: str) -> tuple[SessionLost, list[Message]]:
    """Connect and read until the session is lost; return why, and what came before."""
    result: list[Message] = []

    async def read(wire: Wire) -> None:
        try:
            while True:
                result.extend(await wire.messages())
        except ConnectionClosed as error:
            code = error.reason.code if error.reason else None
            raise SessionLost("closed", code=code) from error

    with trio.fail_after(WAIT_MAX_S), pytest.raises(SessionLost) as caught:
        await run_on_socket(url, [], read, open_stream=open_network_stream, max_message_bytes=2**20)
    return caught.value, result


@pytest.mark.parametrize("ends", [True, False], ids=["ends", "stays"])
@pytest.mark.parametrize("name", NONSENSE)
async def test_an_answer_that_is_no_websocket_is_a_lost_session_and_kept(
    name: str, ends: bool
) -> None:
    async with answering(NONSENSE[name], ends=ends) as url:
        lost, _ = await lose(url)
    assert (lost.reason, lost.by) == ("what answered the upgrade is no WebSocket", "recorder")
    assert not lost.refused
    assert lost.unread and NONSENSE[name].startswith(lost.unread[:20])


@pytest.mark.parametrize(
    ("name", "ends"),
    # Where the line stays, what is short may yet come.
    [("chunks", True), ("chunks", False), ("two_lengths", True), ("short", True)],
)
async def test_a_refusal_that_goes_wrong_behind_its_status_is_still_a_refusal(
    name: str, ends: bool
) -> None:
    async with answering(BROKEN_REFUSALS[name], ends=ends) as url:
        lost, _ = await lose(url)
    assert lost.refused
    assert "the upgrade was answered with HTTP 40" in lost.reason


@pytest.mark.parametrize("attempt", range(6))
async def test_frames_right_behind_the_upgrade_are_received_though_the_connection_ends_with_them(
    attempt: int,
) -> None:
    async with answering(AGREED + b'\x81\x10{"type":"ERROR"}' + CLOSE, ends=True) as url:
        lost, result = await lose(url)
    assert (result, lost.code) == (['{"type":"ERROR"}'], 1007)


@pytest.mark.parametrize("attempt", range(6))
async def test_a_line_that_ends_right_behind_the_upgrade_was_cut(attempt: int) -> None:
    async with answering(AGREED, ends=True) as url:
        lost, result = await lose(url)
    assert (result, lost.code) == ([], 1006)


async def test_a_certificate_that_does_not_hold_is_named_at_once(tmp_path: Path) -> None:
    async with answering(AGREED, ends=True, tls=_self_signed(tmp_path)) as url:
        lost, _ = await lose(url)
    assert "certificate verify failed" in lost.reason
    assert not lost.refused


def _self_signed(folder: Path) -> ssl.SSLContext:
    key, name = ec.generate_private_key(ec.SECP256R1()), x509.Name([])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .sign(key, hashes.SHA256())
    )
    path = folder / "both.pem"
    encoding, plain = serialization.Encoding.PEM, serialization.NoEncryption()
    kept = key.private_bytes(encoding, serialization.PrivateFormat.PKCS8, plain)
    path.write_bytes(kept + certificate.public_bytes(encoding))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(path)
    return context
