"""One text message over a WebSocket (RFC 6455), and its answer: all that is said to Node's inspector."""

from __future__ import annotations

import base64
import os
import socket

from percore.errors import PercoreError

_LONGEST_ANSWER = 1 << 20
_TEXT, _CLOSE = 0x1, 0x8


def exchange(sock: socket.socket, path: str, message: str) -> str:
    """What the server says first that is a text. Raises OSError and PercoreError."""
    host = "{}:{}".format(*sock.getpeername()[:2])
    key = base64.b64encode(os.urandom(16)).decode()
    sock.sendall(
        f"GET {path} HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n\r\n".encode()
    )
    with sock.makefile("rb") as file:
        if b" 101 " not in file.readline(1024):
            raise PercoreError("the inspector refused the connection")
        while file.readline(4096).strip():
            pass
        sock.sendall(frame(message.encode()))
        while True:
            kind, content = read_frame(file)
            if kind == _CLOSE:
                raise PercoreError("the inspector closed the connection")
            if kind == _TEXT:
                return content.decode(errors="replace")


def frame(content: bytes) -> bytes:
    """A whole text message, masked, as a client must."""
    length, masked = len(content), 0x80
    if length < 126:
        size = bytes([masked | length])
    else:
        mark, width = (126, 2) if length < 1 << 16 else (127, 8)
        size = bytes([masked | mark]) + length.to_bytes(width, "big")
    mask = os.urandom(4)
    return bytes([0x80 | _TEXT]) + size + mask + bytes(byte ^ mask[at % 4] for at, byte in enumerate(content))


def read_frame(file: object) -> tuple[int, bytes]:
    """The kind of a message of the server, and its content. Node never splits one that is as short as ours."""
    first, second = read(file, 2)
    length = second & 0x7F
    if length >= 126:
        length = int.from_bytes(read(file, 2 if length == 126 else 8), "big")
    if length > _LONGEST_ANSWER:
        raise PercoreError("the inspector's answer is too long")
    return first & 0x0F, read(file, length)


def read(file: object, count: int) -> bytes:
    content: bytes = file.read(count)  # type: ignore[attr-defined]
    if len(content) < count:
        raise PercoreError("the inspector closed the connection")
    return content
