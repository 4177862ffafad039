"""One rollout at a time on a host: a lease that ends with the process that holds it, however that process ends."""

from __future__ import annotations

import fcntl
import json
import os
import time
from typing import Optional

from percore.errors import LockedError


class Lock:
    """A kernel file lock; the file's text says who holds it, since when, and is only for people to read."""

    def __init__(self, path: str) -> None:
        self.path = path
        self._fd: Optional[int] = None

    def acquire(self, owner: str) -> None:
        """Raises LockedError with the present owner; taking it twice in one process is harmless."""
        if self._fd is not None:
            return
        os.makedirs(os.path.dirname(self.path), exist_ok=True)
        fd = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            held = _describe(os.read(fd, 4096))
            os.close(fd)
            raise LockedError(
                f"another rollout is running here: {held}", next="wait for it to end, then try again"
            ) from None
        os.ftruncate(fd, 0)
        os.write(fd, json.dumps({"owner": owner, "since": time.time()}).encode())
        self._fd = fd

    def release(self) -> None:
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None


def _describe(text: bytes) -> str:
    try:
        note = json.loads(text)
        return f"{note['owner']}, for {max(0, int(time.time() - note['since']))} s"
    except (ValueError, KeyError, TypeError):
        return "owner unknown"
