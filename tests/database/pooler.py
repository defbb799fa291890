"""A small connection pooler in transaction mode: it lends a server for one transaction."""

from __future__ import annotations

import os
import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from attrs import define, field

#: PostgreSQL's own: version 3.0, and the request for TLS.
STARTUP, TLS = 196_608, 80_877_103


@define
class Pooler:
    """Listens on a port; ``server`` is the path of PostgreSQL's socket."""

    server: Path
    #: Which of the idle servers is given out next: -1 the last that came back, 0 the first.
    takes: int
    ignores_options: bool
    listener: socket.socket = field(factory=lambda: socket.create_server(("127.0.0.1", 0)))
    servers: list[socket.socket] = field(factory=list)
    threads: list[threading.Thread] = field(factory=list)
    #: Those that no client has at present.
    idle: list[socket.socket] = field(factory=list)
    _greeting: bytes = b""

    @property
    def port(self) -> int:
        return int(self.listener.getsockname()[1])

    def run(self) -> None:
        """Serve until the listener is closed."""
        with suppress(OSError):
            while True:
                client, _ = self.listener.accept()
                thread = threading.Thread(target=self._serve, args=(client,), daemon=True)
                self.threads.append(thread)
                thread.start()

    def _serve(self, client: socket.socket) -> None:
        with suppress(OSError, ConnectionError, struct.error), client:
            parameters = self._startup(client)
            if b"options" in parameters and not self.ignores_options:
                _send(client, b"E", b"SFATAL\0C08P01\0Munsupported startup parameter: options\0\0")
                return
            lent = self._lend(parameters)
            # A process id and a key of its own, as a pooler gives.
            _send(client, b"R", bytes(4))
            client.sendall(self._greeting)
            _send(client, b"K", struct.pack("!ii", 4_000_000, 1))
            _send(client, b"Z", b"I")
            self.idle.append(lent)
            while True:
                self._transaction(client, parameters)

    def _startup(self, client: socket.socket) -> list[bytes]:
        while True:
            length, code = struct.unpack("!ii", _exactly(client, 8))
            rest = _exactly(client, length - 8)
            if code == STARTUP:
                return rest.split(b"\0")
            client.sendall(b"N")

    def _lend(self, parameters: list[bytes]) -> socket.socket:
        if self.idle:
            return self.idle.pop(self.takes)
        server = socket.socket(socket.AF_UNIX)
        self.servers.append(server)
        server.connect(str(self.server))
        named = dict(zip(parameters[::2], parameters[1::2], strict=False))
        ours = {b"user": named[b"user"], b"database": named[b"database"]}
        body = b"".join(part + b"\0" for each in ours.items() for part in each) + b"\0"
        server.sendall(struct.pack("!ii", len(body) + 8, STARTUP) + body)
        greeting = b""
        while (message := _message(server))[:1] != b"Z":
            greeting += message if message[:1] == b"S" else b""
        self._greeting = greeting
        return server

    def _transaction(self, client: socket.socket, parameters: list[bytes]) -> None:
        """Pass messages on until the server is idle again, and take it back."""
        sent = _message(client)
        server = self._lend(parameters)
        while True:
            server.sendall(sent)
            if sent[:1] in b"SQ":
                while (answered := _message(server))[:1] != b"Z":
                    client.sendall(answered)
                if answered[-1:] == b"I":
                    self.idle.append(server)
                    client.sendall(answered)
                    return
                client.sendall(answered)
            sent = _message(client)


@contextmanager
def transaction_pooler(
    url: str, *, takes: int = -1, ignores_options: bool = False
) -> Iterator[str]:
    """Put a pooler before the server of a URL; give the URL that leads through it."""
    folder = url.partition("?host=")[2].partition("&")[0]
    name = url.partition("?")[0].rpartition("/")[2]
    pooler = Pooler(Path(folder) / ".s.PGSQL.5432", takes, ignores_options)
    threading.Thread(target=pooler.run, daemon=True).start()
    try:
        yield f"postgresql://postgres@127.0.0.1:{pooler.port}/{name}?sslmode=disable"
    finally:
        pooler.listener.shutdown(socket.SHUT_RDWR)
        pooler.listener.close()
        for thread in pooler.threads:
            thread.join(5)
        for each in pooler.servers:
            each.close()


def _message(peer: socket.socket) -> bytes:
    head = _exactly(peer, 5)
    return head + _exactly(peer, struct.unpack("!i", head[1:])[0] - 4)


def _send(peer: socket.socket, kind: bytes, body: bytes) -> None:
    peer.sendall(kind + struct.pack("!i", len(body) + 4) + body)


def _exactly(peer: socket.socket, size: int) -> bytes:
    read = b""
    while len(read) < size:
        part = peer.recv(size - len(read))
        if not part:
            raise ConnectionError(os.strerror(104))
        read += part
    return read
