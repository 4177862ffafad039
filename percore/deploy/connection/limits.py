"""What this machine gives one process: open files, threads, processes, time. A fleet needs more than usual."""

from __future__ import annotations

import contextlib
import errno
import functools
import gc
import sys

FILES_OF_HOST = 6
OTHER_FILES = 150
_NEW_OBJECTS = 20_000  # after so many Python looks for garbage among them; a connection makes a thousand

_LIMITS = {
    errno.EMFILE: ("this process may open no more files", "ulimit -n 4096, then try again; or --limit fewer hosts"),
    errno.ENFILE: ("this machine opens no more files", "see /proc/sys/fs/file-max, or --limit fewer hosts"),
    errno.EAGAIN: ("this machine starts no more processes", "see ulimit -u, or --limit fewer hosts"),
}


def allow_files(hosts: int) -> None:
    """Raise our own limit, as far as we may, to what so many connections need: it is 256 on macOS, and 1024 on Linux."""
    if sys.platform == "win32":  # it has no such limit
        return
    try:
        import resource
    except ImportError:  # nor have some builds of Python
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = OTHER_FILES + FILES_OF_HOST * hosts
    if soft in (-1, resource.RLIM_INFINITY) or soft >= wanted:
        return
    most = wanted if hard in (-1, resource.RLIM_INFINITY) else min(wanted, hard)
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))


@functools.cache  # once: what is frozen is never collected
def collect_rarely() -> None:
    """What is loaded by now stays: that Python looked for garbage in it all the time was a tenth of the work for each host."""
    gc.freeze()
    gc.set_threshold(_NEW_OBJECTS)


def our_limit(error: Exception) -> tuple[str, str] | None:
    """What is no fault of a host, and what to do about it."""
    if isinstance(error, RuntimeError) and "new thread" in str(error):
        return "this machine starts no more threads", "see ulimit -u, or --limit fewer hosts"
    return _LIMITS.get(error.errno or 0) if isinstance(error, OSError) else None
