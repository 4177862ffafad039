"""The lock file of a home: the supervisor holds it as long as it lives, with its pid in it."""

from __future__ import annotations

import fcntl
import os

from percore.common.typing import Optional


def take(path: str) -> Optional[int]:
    """Its descriptor; None where another process holds it. Raises OSError."""
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            return None
        except OSError:
            os.close(descriptor)
            raise
        if is_at(descriptor, path):
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, b"%d\n" % os.getpid(), 0)
            return descriptor
        os.close(descriptor)  # the file was deleted between the two


def is_at(descriptor: int, path: str) -> bool:
    """Whether the file that we have open is the one that others find."""
    try:
        return os.path.samestat(os.fstat(descriptor), os.stat(path))
    except OSError:
        return False


def is_held(path: str) -> bool:
    try:
        with open(path, "rb") as lock:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False


def holder(path: str) -> int:
    """The pid that its last holder wrote into it; 0 where there is none."""
    try:
        with open(path, "rb") as lock:
            return int(lock.read(20))
    except (OSError, ValueError):
        return 0
