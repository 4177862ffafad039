"""One JSON line each way over the control socket.

Request:  {"version": 1, "op": "reload", ...arguments}
Replies:  any number of {"event": "worker", ...}, then one {"event": "result", "ok": true, ...} or
          {"event": "result", "ok": false, "error": "one line", "exit_code": 4, "log_tail": [...]}.
"""

from __future__ import annotations

import json
from collections.abc import Mapping

from percore.common.typing import Any
from percore.errors import PercoreError

VERSION = 1
LONGEST_LINE = 16 * 1024 * 1024


def encode(message: Mapping[str, Any]) -> bytes:
    return json.dumps(message, separators=(",", ":")).encode() + b"\n"


def decode(line: bytes) -> dict[str, Any]:
    """Raises ValueError when the line is not a JSON object."""
    message = json.loads(line)
    if not isinstance(message, dict):
        raise ValueError("not a JSON object")
    return message


def failure(error: PercoreError) -> dict[str, Any]:
    """The result line for an error."""
    reply: dict[str, Any] = {"event": "result", "ok": False, "error": str(error), "exit_code": error.exit_code}
    if error.detail:
        reply["log_tail"] = error.detail.splitlines()
    if error.app:
        reply["app"] = error.app
    return reply
