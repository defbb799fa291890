"""An exchange as cheap as `blaster` that also takes commands, and stamps when each arrived.

It answers the upgrade, reports AUTHENTICATED and a small snapshot, and then sends BALANCE_UPDATEs
at a rate for ever. Every command that comes in is written to standard output as its ``clientMsgId``
and the monotonic time of its bytes in nanoseconds, and answered like VALR does: received, then
taken.

    python taker.py PORT RATE
"""

from __future__ import annotations

import itertools
import json
import socket
import sys
import threading
import time
from collections.abc import Iterator

from blaster import balance, frame, upgrade

PONG = frame('{"type":"PONG"}')


def frames_of(connection: socket.socket) -> Iterator[tuple[int, int, bytes]]:
    """Yield (moment, opcode, payload) of every frame of a client; its masks are taken off."""
    held = b""
    while received := connection.recv(65_536):
        now_ns = time.monotonic_ns()
        held += received
        while len(held) >= 2:
            length, start = held[1] & 0x7F, 2
            if length == 126:
                length, start = int.from_bytes(held[2:4]), 4
            end = start + 4 + length
            if len(held) < end:
                break
            mask, masked = held[start : start + 4], held[start + 4 : end]
            key = int.from_bytes((mask * (length // 4 + 1))[:length])
            payload = (int.from_bytes(masked) ^ key).to_bytes(length)
            yield now_ns, held[0] & 0x0F, payload
            held = held[end:]


def answer(connection: socket.socket, turn: threading.Lock, command: str) -> None:
    """Report that an order was received, and that it was taken."""
    order_id = f"00000000-0000-4000-8000-{abs(hash(command)) % 10**12:012d}"
    received = {
        "type": "PLACE_LIMIT_WS_RESPONSE",
        "data": {"orderId": order_id},
        "clientMsgId": command,
    }
    processed = {"type": "ORDER_PROCESSED", "data": {"orderId": order_id, "success": True}}
    with turn:
        connection.sendall(frame(json.dumps(received)) + frame(json.dumps(processed)))


def take(connection: socket.socket, turn: threading.Lock, gone: threading.Event) -> None:
    """Take commands and PINGs until the other side leaves."""
    try:
        for now_ns, opcode, payload in frames_of(connection):
            if opcode != 1:
                continue
            text_ = json.loads(payload)
            if text_.get("type") == "PING":
                with turn:
                    connection.sendall(PONG)
            elif command := text_.get("clientMsgId"):
                sys.stdout.write(f"{command} {now_ns}\n")
                answer(connection, turn, command)
    except OSError:
        pass
    gone.set()


def talk(
    connection: socket.socket, turn: threading.Lock, gone: threading.Event, rate: float
) -> None:
    """Send balances at a rate until the other side leaves."""
    began = time.perf_counter()
    for number in itertools.count():
        wait = began + number / rate - time.perf_counter()
        if wait > 0:
            time.sleep(wait)
        if gone.is_set():
            return
        try:
            with turn:
                connection.sendall(frame(balance(number + 1, time.time_ns())))
        except OSError:
            return


def main() -> None:
    """Serve one connection after the other."""
    port, rate = int(sys.argv[1]), float(sys.argv[2])
    # What is printed is read while we run.
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    # A thread that waits for the other one's turn waits shortly.
    sys.setswitchinterval(0.0005)
    server = socket.create_server(("127.0.0.1", port))
    print("ready", server.getsockname()[1])
    while True:
        connection, _ = server.accept()
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        gone, turn = threading.Event(), threading.Lock()
        upgrade(connection)
        threading.Thread(target=take, args=(connection, turn, gone), daemon=True).start()
        if rate:
            talk(connection, turn, gone, rate)
        gone.wait()
        connection.close()


if __name__ == "__main__":
    main()
