"""Every switch of this host: who, when, what, how it ended. One JSON line each, the newest last.

Private: an app's answer to a health check may be in it."""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Mapping
from typing import Any

from percore.host.files import append_line, write_file
from percore.host.paths import open_private

KEPT = 500


class History:
    def __init__(self, path: str) -> None:
        self.path = path

    def add(self, **entry: Any) -> None:
        """`who`, `what` (deploy, rollback, converge), `release`, `former`, `result`, perhaps more; `at` is added.

        On a full disk nothing is added: what it would tell of is done, and must not fail for that.
        """
        with contextlib.suppress(OSError):
            self._add(entry)

    def _add(self, entry: Mapping[str, Any]) -> None:
        lines = self._lines()
        if len(lines) >= 2 * KEPT:
            write_file(self.path, b"".join(lines[-KEPT:]), mode=0o600)
        append_line(self.path, json.dumps({"at": time.time(), **entry}).encode())

    def last(self, count: int) -> list[dict[str, Any]]:
        found = []
        for line in self._lines()[-count:]:
            try:
                found.append(json.loads(line))
            except ValueError:
                continue  # cut short by a full disk
        return found

    def _lines(self) -> list[bytes]:
        try:
            with os.fdopen(open_private(self.path, os.O_RDONLY), "rb") as file:
                return file.readlines()
        except FileNotFoundError:
            return []
