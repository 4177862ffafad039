"""The locks of apt and dpkg: who holds one is waited for, with a word."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from typing import Callable, Optional

from percore.errors import RolloutError

LOCKS = (
    "/var/lib/dpkg/lock-frontend",
    "/var/lib/dpkg/lock",
    "/var/lib/apt/lists/lock",
    "/var/cache/apt/archives/lock",
)
LOCK_SECONDS = 600.0
_PAUSE_SECONDS = 0.5

KEEP_FILES = ("--force-confdef", "--force-confold")
"""Of dpkg: a changed configuration file stays, as nobody is there to be asked."""

OPTIONS = (
    "-oDPkg::Lock::Timeout=120",  # for whoever is faster than we are
    *(f"-oDpkg::Options::={option}" for option in KEEP_FILES),
)

_UPDATES = "/var/lib/dpkg/updates"


def is_interrupted() -> bool:
    """dpkg was ended in the middle of its work, and says so until `dpkg --configure -a`."""
    try:
        return any(name.isdigit() for name in os.listdir(_UPDATES))
    except OSError:
        return False


def wait_for_lock(say: Callable[[str], None], *, seconds: float = LOCK_SECONDS) -> None:
    """RolloutError when another process holds one for too long."""
    deadline = time.monotonic() + seconds
    told = ""
    while holder := _holder():
        if time.monotonic() > deadline:
            raise RolloutError(
                f"{holder} still holds the lock of dpkg after {seconds:g} s", next="wait for it to end, then try again"
            )
        if holder != told:
            say(f"waiting for the lock of dpkg, which {holder} holds")
            told = holder
        time.sleep(_PAUSE_SECONDS)


def _holder() -> Optional[str]:
    """`apt-get (pid 812)`; None where the locks are free, or nobody can say."""
    for pid in _pids_with_locks():
        if pid != os.getpid() and _has_open(pid):
            return f"{_name_of(pid)} (pid {pid})"
    return None


def _pids_with_locks() -> Iterator[int]:
    """Of all processes that hold a lock on any file: `1: POSIX  ADVISORY  WRITE 812 fe:00:1234 0 EOF`."""
    try:
        with open("/proc/locks", encoding="ascii") as lines:
            words = [line.split() for line in lines]
    except OSError:
        return
    for line in words:
        if line[1] == "POSIX" and line[4].isdigit():
            yield int(line[4])


def _has_open(pid: int) -> bool:
    folder = f"/proc/{pid}/fd"
    with contextlib.suppress(OSError):  # it ended meanwhile
        for name in os.listdir(folder):
            with contextlib.suppress(OSError):
                if os.readlink(f"{folder}/{name}") in LOCKS:
                    return True
    return False


def _name_of(pid: int) -> str:
    try:
        with open(f"/proc/{pid}/comm", encoding="utf-8", errors="replace") as source:
            return source.read().strip()
    except OSError:
        return "a process"
