"""Every switch of this host: who, when, what, how it ended. One JSON line each, the newest last."""

from __future__ import annotations

import json
import os
import time
from typing import Any

KEPT = 500


class History:
    def __init__(self, path: str) -> None:
        self.path = path

    def add(self, **entry: Any) -> None:
        """`who`, `what` (deploy, rollback, converge), `release`, `former`, `result`, perhaps more; `at` is added."""
        lines = self._lines()
        if len(lines) >= 2 * KEPT:
            with open(f"{self.path}.new", "wb") as file:
                file.writelines(lines[-KEPT:])
            os.rename(f"{self.path}.new", self.path)
        with open(self.path, "ab") as file:
            file.write(json.dumps({"at": time.time(), **entry}).encode() + b"\n")

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
            with open(self.path, "rb") as file:
                return file.readlines()
        except FileNotFoundError:
            return []
