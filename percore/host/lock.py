"""One rollout at a time on a host: a lease that ends with the process that holds it, however that process ends.

People can hold the lock as well (`invoke lock`): a file that stays until they remove it.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import time
from typing import Any, Optional

from percore.common.control import decode_or_none
from percore.common.procfs import uids_of
from percore.errors import LockedError
from percore.host.files import write_file
from percore.host.paths import open_private

PATIENCE_SECONDS = 5.0
"""So long a newcomer waits at least: an owner whose control side was killed notices within a few seconds."""

LEAVING_SECONDS = 120.0
"""So long it waits for an owner that is about to leave: it may be rolling its switch back."""


class Lock:
    """A kernel file lock; the file's text says who holds it, since when, and whether it is about to leave."""

    def __init__(self, path: str) -> None:
        self.path = path
        self._fd: Optional[int] = None
        self._owner = ""

    def acquire(self, owner: str) -> None:
        """Raises LockedError with the present owner; taking it twice in one process is harmless."""
        if self._fd is not None:
            return
        self._refuse_held()
        fd = open_private(self.path, os.O_RDWR | os.O_CREAT)
        began = time.monotonic()
        while not _try_lock(fd):
            if _is_taken_by_another_user(fd):
                fd = self._replace(fd)
                continue
            note = decode_or_none(os.pread(fd, 4096, 0)) or {}
            if time.monotonic() - began > (LEAVING_SECONDS if note.get("leaving") else PATIENCE_SECONDS):
                os.close(fd)
                raise LockedError(
                    f"another rollout is running here: {_describe(note)}", next="wait for it to end, then try again"
                )
            time.sleep(0.1)
        self._fd, self._owner = fd, owner
        self._write({"owner": owner, "since": time.time()})

    def _replace(self, fd: int) -> int:
        """An older version made the file readable by all: a process that opened it keeps the old one, we have a new one."""
        found = os.fstat(fd)
        os.close(fd)
        with contextlib.suppress(FileNotFoundError):
            if os.path.samestat(found, os.lstat(self.path)):
                os.unlink(self.path)
        return open_private(self.path, os.O_RDWR | os.O_CREAT)

    def say_leaving(self) -> None:
        """A process that wants the lock now may wait: it is free in a moment."""
        if self._fd is not None:
            self._write({"owner": self._owner, "since": time.time(), "leaving": True})

    def release(self) -> None:
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None

    def _write(self, note: dict[str, Any]) -> None:
        assert self._fd is not None
        text = json.dumps(note).encode()
        os.pwrite(self._fd, text, 0)
        os.ftruncate(self._fd, len(text))

    # -- held by people ----------------------------------------------------------------------------------------------

    @property
    def _held_path(self) -> str:
        return f"{self.path}.held"

    def holder(self) -> dict[str, Any]:
        """`owner`, `since`, `why` of the person who holds it; empty when it is free."""
        with contextlib.suppress(OSError), os.fdopen(open_private(self._held_path, os.O_RDONLY), "rb") as file:
            return decode_or_none(file.read()) or {"owner": "unknown"}
        return {}

    def hold(self, owner: str, why: str) -> None:
        """Until `let_go`. Raises LockedError when a person holds it already, or a rollout runs."""
        self.acquire(owner)
        note = json.dumps({"owner": owner, "since": time.time(), "why": why})
        write_file(self._held_path, note.encode(), mode=0o600)

    def let_go(self) -> bool:
        """False when it was not held."""
        try:
            os.unlink(self._held_path)
        except FileNotFoundError:
            return False
        return True

    def _refuse_held(self) -> None:
        holder = self.holder()
        if holder:
            why = f": {holder['why']}" if holder.get("why") else ""
            raise LockedError(f"locked by {_describe(holder)}{why}", next="invoke unlock --env ENV, when they agree")


def _try_lock(fd: int) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _is_taken_by_another_user(fd: int) -> bool:
    """A flock needs no right but to open the file. /proc/locks names the process that has it, by device and inode."""
    found = os.fstat(fd)
    file = f"{os.major(found.st_dev):02x}:{os.minor(found.st_dev):02x}:{found.st_ino}"
    with open("/proc/locks", encoding="ascii") as lines:
        rows = [line.split() for line in lines]
    holders = [row[4] for row in rows if row[1] == "FLOCK" and row[5] == file]
    return bool(holders) and not any(_is_ours(pid) for pid in holders)


def _is_ours(pid: str) -> bool:
    """Also one that this /proc does not show (0). One that is gone left its descriptor to another, as no agent does."""
    return pid == "0" or bool(uids_of(int(pid)) & {0, os.geteuid()})


def _describe(note: dict[str, Any]) -> str:
    try:
        return f"{note['owner']}, for {max(0, int(time.time() - note['since']))} s"
    except (KeyError, TypeError, ValueError):
        return str(note.get("owner", "owner unknown"))
