"""A WebSocket server that is as cheap as it can be, so that what is measured is its reader.

It answers the upgrade, reports AUTHENTICATED and a small snapshot, and then sends frames flat out
or at a rate. Each is a BALANCE_UPDATE of 450 bytes whose ``available`` is its number; at a rate it
also reports when it was sent. Standard output gets one line per connection when all are sent.

    python blaster.py PORT COUNT RATE      RATE 0: flat out
"""

from __future__ import annotations

import base64
import hashlib
import json
import socket
import struct
import sys
import threading
import time

CURRENCIES = 20
CHUNK = 64
END = '{"type":"END"}'
#: A reader that judges the snapshot has done so before the measured frames come.
SETTLE_S = 2.5


def frame(text: str) -> bytes:
    """Return the text as one unmasked WebSocket frame."""
    payload = text.encode()
    if len(payload) < 126:
        return b"\x81" + bytes([len(payload)]) + payload
    return b"\x81\x7e" + struct.pack("!H", len(payload)) + payload


def balance(number: int, sent_ns: int = 0) -> str:
    """Return frame ``number``: a balance that states its number, and when it was sent."""
    currency = f"C{number % CURRENCIES}"
    return json.dumps(
        {
            "type": "BALANCE_UPDATE",
            "data": {
                "currency": {
                    "symbol": currency,
                    "decimalPlaces": 8,
                    "isActive": True,
                    "shortName": currency,
                    "longName": "Benchmark",
                    "supportedWithdrawDecimalPlaces": 8,
                    "collateral": True,
                    "collateralWeight": "0.95",
                },
                "available": str(number),
                "reserved": "0",
                "total": str(number),
                "updatedAt": "2026-01-01T00:00:00.000Z",
                "lendReserved": "0",
                "borrowCollateralReserved": "0",
                "borrowedAmount": "0",
                "totalInReference": str(sent_ns),
                "totalInReferenceWeighted": "14.103693654",
                "referenceCurrency": "ZAR",
            },
        }
    )


def upgrade(connection: socket.socket) -> None:
    """Answer the HTTP upgrade, whatever its credentials."""
    head = b""
    while b"\r\n\r\n" not in head:
        head += connection.recv(4096)
    key = next(
        line.split(b":", 1)[1].strip()
        for line in head.split(b"\r\n")
        if line.lower().startswith(b"sec-websocket-key")
    )
    accept = base64.b64encode(hashlib.sha1(key + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest())
    connection.sendall(
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Accept: " + accept + b"\r\n\r\n"
    )
    connection.sendall(frame('{"type":"AUTHENTICATED"}'))
    for number in range(CURRENCIES):
        connection.sendall(frame(balance(number)))
    connection.sendall(frame('{"type":"OPEN_ORDERS_UPDATE","data":[]}'))


def swallow(connection: socket.socket, turn: threading.Lock, gone: threading.Event) -> None:
    """Answer every PING; read until the other side leaves."""
    try:
        while received := connection.recv(65_536):
            if len(received) > 6:
                with turn:
                    connection.sendall(frame('{"type":"PONG"}'))
    except OSError:
        pass
    gone.set()


def blast(
    connection: socket.socket, turn: threading.Lock, frames: list[bytes], rate: float
) -> float:
    """Send all frames; return the seconds it took."""
    began = time.perf_counter()
    if rate == 0:
        for start in range(0, len(frames), CHUNK):
            with turn:
                connection.sendall(b"".join(frames[start : start + CHUNK]))
    for number in range(len(frames) if rate else 0):
        wait = began + number / rate - time.perf_counter()
        if wait > 0:
            time.sleep(wait)
        with turn:
            connection.sendall(frame(balance(number + 1, time.time_ns())))
    with turn:
        connection.sendall(frame(END))
    return time.perf_counter() - began


def main() -> None:
    """Serve one connection after the other."""
    port, count, rate = int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])
    frames = [frame(balance(number)) for number in range(1, count + 1)]
    server = socket.create_server(("127.0.0.1", port))
    print("ready", server.getsockname()[1], flush=True)
    while True:
        connection, _ = server.accept()
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        gone, turn = threading.Event(), threading.Lock()
        upgrade(connection)
        threading.Thread(target=swallow, args=(connection, turn, gone), daemon=True).start()
        time.sleep(SETTLE_S)
        try:
            seconds = blast(connection, turn, frames, rate)
            print("sent", count, f"{seconds:.3f}", flush=True)
        except OSError:
            print("cut", flush=True)
        gone.wait()
        connection.close()


if __name__ == "__main__":
    main()
