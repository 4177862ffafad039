"""What a switch has done so far, written down before it is done: whoever comes next can go on with it, or take it back.

One JSON line an entry, synced. The first says whose switch it is; a last line that was cut short was not done yet.
"""

from __future__ import annotations

import contextlib
import json
import os
from typing import Any

Entry = dict[str, Any]


class Journal:
    def __init__(self, path: str) -> None:
        self.path = path

    def begin(self, **header: Any) -> None:
        """Private: what restores a file may hold secrets."""
        descriptor = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        os.close(descriptor)
        self.note("begin", **header)

    def note(self, what: str, **more: Any) -> None:
        """Returns when it is on the disk."""
        with open(self.path, "ab") as file:
            file.write(json.dumps({"what": what, **more}).encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())

    def read(self) -> list[Entry]:
        """Empty when no switch is unfinished."""
        try:
            with open(self.path, "rb") as file:
                lines = file.read().split(b"\n")[:-1]
        except FileNotFoundError:
            return []
        entries = [json.loads(line) for line in lines]
        return entries if entries and entries[0]["what"] == "begin" else []

    def has(self, what: str) -> bool:
        return any(entry["what"] == what for entry in self.read())

    def end(self) -> None:
        """Nothing is left to be done or taken back."""
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self.path)
