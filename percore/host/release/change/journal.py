"""What a switch has done so far, written down before it is done: the next agent can go on with it, or roll it back.

One JSON line an entry, synced. The first says whose switch it is; a last line that was cut short was not done yet.

A disk may become full in the middle of a switch. What has to be written then, to roll it back or to confirm it, has its room
already: `begin` sets some aside, and `give_room` frees it.
"""

from __future__ import annotations

import contextlib
import json
import os
from typing import Any

from percore.common.files import write_all
from percore.errors import PreflightError
from percore.host.files import append_line
from percore.host.paths import open_private

Entry = dict[str, Any]

ROOM_BYTES = 256 * 1024


class Journal:
    def __init__(self, path: str) -> None:
        self.path = path

    def begin(self, **header: Any) -> None:
        """Private: what restores a file may hold secrets. PreflightError, and nothing begun, where there is no room."""
        try:
            for path, size in ((self._room_path, ROOM_BYTES), (self.path, 0)):
                descriptor = open_private(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
                try:
                    write_all(descriptor, bytes(size))
                finally:
                    os.close(descriptor)
            self.note("begin", **header)
        except OSError as error:
            self.end()
            raise PreflightError(f"{error.strerror}: {self.path}", next="make room there, then deploy again") from None

    def note(self, what: str, **more: Any) -> None:
        """Returns when it is on the disk."""
        append_line(self.path, json.dumps({"what": what, **more}).encode(), sync=True)

    def read(self) -> list[Entry]:
        """Empty when no switch is unfinished."""
        try:
            with os.fdopen(open_private(self.path, os.O_RDONLY), "rb") as file:
                lines = file.read().split(b"\n")[:-1]
        except FileNotFoundError:
            return []
        entries = [json.loads(line) for line in lines]
        return entries if entries and entries[0]["what"] == "begin" else []

    def has(self, what: str) -> bool:
        return any(entry["what"] == what for entry in self.read())

    def give_room(self) -> None:
        """From here on only little is written, and it must be."""
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self._room_path)

    def end(self) -> None:
        """Nothing is left to be done or rolled back."""
        self.give_room()
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self.path)

    @property
    def _room_path(self) -> str:
        return f"{self.path}.room"
