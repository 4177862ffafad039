"""One JSON line each way over the control socket.

Request:  {"version": 1, "op": "reload", ...arguments}
Replies:  any number of {"event": "worker", ...}, then one {"event": "result", "ok": true, ...} or
          {"event": "result", "ok": false, "error": "one line", "exit_code": 4, "log_tail": [...]}.
"""

from __future__ import annotations

import json
import socket
from collections.abc import Mapping

from percore.common.typing import Any, Optional
from percore.errors import PercoreError

VERSION = 1
LONGEST_LINE = 16 * 1024 * 1024
LONGEST_ANSWER = 1 << 30
_PIECE_BYTES = 1 << 18


def encode(message: Mapping[str, Any]) -> bytes:
    return json.dumps(message, separators=(",", ":")).encode() + b"\n"


def request(op: str, **arguments: Any) -> bytes:
    return encode({"version": VERSION, "op": op, **arguments})


def decode(line: bytes) -> dict[str, Any]:
    """Raises ValueError when the line is not a JSON object."""
    try:
        message = json.loads(line)
    except RecursionError:
        raise ValueError("nested too deeply") from None
    if not isinstance(message, dict):
        raise ValueError("not a JSON object")
    return message


def decode_or_none(line: bytes) -> Optional[dict[str, Any]]:
    try:
        return decode(line)
    except ValueError:
        return None


def failure(error: PercoreError) -> dict[str, Any]:
    """The result line for an error."""
    reply: dict[str, Any] = {"event": "result", "ok": False, "error": str(error), "exit_code": error.exit_code}
    if error.detail:
        reply["log_tail"] = error.detail.splitlines()
    if error.app:
        reply["app"] = error.app
    return reply


class Connection:
    """The end that asks. It waits as long as its socket does; `longest` is the most that one line of an answer may have."""

    def __init__(self, sock: socket.socket, *, longest: int = LONGEST_ANSWER) -> None:
        self._socket = sock
        self._longest = longest
        self._unread = bytearray()
        self.received = 0  # bytes

    @property
    def is_cut_off(self) -> bool:
        """What has come ends in the middle of a line."""
        return bool(self._unread)

    def fileno(self) -> int:
        return self._socket.fileno()

    def send(self, op: str, **arguments: Any) -> None:
        self._socket.sendall(request(op, **arguments))

    def receive(self) -> Optional[list[bytes]]:
        """The lines that became whole by what comes next; None at the end. Raises OSError, or ValueError for too long a line."""
        part = self._socket.recv(_PIECE_BYTES)
        if not part:
            return None
        self.received += len(part)
        *lines, rest = part.split(b"\n")
        if lines:
            lines[0] = bytes(self._unread + lines[0])
            self._unread.clear()
        self._unread += rest
        if len(self._unread) > self._longest:
            raise ValueError(f"longer than {self._longest} bytes")
        return lines

    def close(self) -> None:
        self._socket.close()
