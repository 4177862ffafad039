"""JSON as Node writes it, without blanks: what greps PM2's output looks for `"status":"online"`."""

from __future__ import annotations

import json

from percore.common.typing import Any


def node_json(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode(errors="backslashreplace")
