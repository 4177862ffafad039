"""Servers behind a load balancer, and a client for WebSockets; standard library only."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import http.server
import os
import socket
import threading
from collections.abc import Iterator

GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


class Backend(http.server.ThreadingHTTPServer):
    """Says who it is and what it was told; takes uploads and WebSockets, of which it sends each byte back."""

    daemon_threads = True

    def __init__(self, name: str) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.name = name
        self.asked: list[str] = []
        threading.Thread(target=self.serve_forever, daemon=True).start()

    @property
    def port(self) -> int:
        return int(self.server_address[1])

    def end(self) -> None:
        self.shutdown()
        self.server_close()


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Backend

    def do_GET(self) -> None:
        self.server.asked.append(self.path)
        if self.headers.get("Upgrade") == "websocket":
            self._echo()
        else:
            self._answer("".join(f"{name}: {value}\n" for name, value in self.headers.items()))

    def do_POST(self) -> None:
        self.server.asked.append(self.path)
        self._answer(f"{len(self.rfile.read(int(self.headers['Content-Length'])))} bytes")

    def _answer(self, text: str) -> None:
        body = f"{self.server.name}\n{text}".encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _echo(self) -> None:
        self.send_response(101)
        self.send_header("Upgrade", "websocket")
        self.send_header("Connection", "Upgrade")
        self.send_header("Sec-WebSocket-Accept", accept_key(self.headers["Sec-WebSocket-Key"]))
        self.end_headers()
        self.close_connection = True
        with contextlib.suppress(OSError):
            while frame := self.connection.recv(6 + 125):
                payload = bytes(byte ^ frame[2 + at % 4] for at, byte in enumerate(frame[6:]))
                self.connection.sendall(bytes([0x81, len(payload)]) + payload)

    def log_message(self, *_: object) -> None:
        pass


def accept_key(key: str) -> str:
    return base64.b64encode(hashlib.sha1(key.encode() + GUID).digest()).decode()


class Goodbye(Exception):
    """The other side closed the WebSocket as the protocol has it."""


class WebSocket:
    """A client of RFC 6455 that sends short texts."""

    def __init__(self, port: int, address: str = "127.0.0.1") -> None:
        self._socket = socket.create_connection((address, port), timeout=10)
        key = base64.b64encode(os.urandom(16)).decode()
        lines = [
            "GET /live HTTP/1.1", "Host: shop.example.com", "Upgrade: websocket", "Connection: Upgrade",
            f"Sec-WebSocket-Key: {key}", "Sec-WebSocket-Version: 13", "", "",
        ]  # fmt: skip
        self._socket.sendall("\r\n".join(lines).encode())
        head = b""
        while b"\r\n\r\n" not in head:
            head += self._socket.recv(1)
        assert head.startswith(b"HTTP/1.1 101"), head
        assert f"sec-websocket-accept: {accept_key(key)}".lower().encode() in head.lower()

    def says(self, text: str) -> str:
        """What comes back."""
        mask, payload = os.urandom(4), text.encode()
        masked = bytes(byte ^ mask[at % 4] for at, byte in enumerate(payload))
        self._socket.sendall(bytes([0x81, 0x80 | len(payload)]) + mask + masked)
        head = self._socket.recv(2)
        if not head:
            raise ConnectionError("the WebSocket was cut")
        if head[0] == 0x88:
            raise Goodbye
        return self._socket.recv(head[1]).decode()

    def close(self) -> None:
        self._socket.close()


@contextlib.contextmanager
def backends(*names: str) -> Iterator[dict[str, Backend]]:
    made = {name: Backend(name) for name in names}
    try:
        yield made
    finally:
        for one in made.values():
            one.end()


@contextlib.contextmanager
def vanished_port() -> Iterator[int]:
    """A port that answers no attempt to connect, as a host that is gone: the queue of its socket is full."""
    with socket.create_server(("127.0.0.1", 0), backlog=0) as server, contextlib.ExitStack() as opened:
        port = server.getsockname()[1]
        for _ in range(3):
            filler = opened.enter_context(socket.socket())
            filler.setblocking(False)
            filler.connect_ex(("127.0.0.1", port))
        yield port
