"""What an app is run with, as two short texts to compare by: of a worker, of a process file and of a release."""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping

from percore.common.typing import Any


def record_hashes(app: Mapping[str, Any]) -> tuple[str, str]:
    """(of what is run and how, of its variables) of an app's record; the release does not count."""
    rest = {name: value for name, value in app.items() if name not in ("release", "source", "env")}
    return _hash_of(rest), _hash_of(app.get("env", {}))


def _hash_of(value: Any) -> str:
    return f"{zlib.crc32(json.dumps(value, sort_keys=True).encode()):08x}"
