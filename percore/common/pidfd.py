"""Ending exactly the process that was meant, whatever becomes of its pid."""

from __future__ import annotations

import os
import select
import signal

from percore.common.typing import Callable

_DYING_SECONDS = 10.0


def kill(pid: int, is_it: Callable[[], bool]) -> None:
    """Kill a process and wait for its end. `is_it` is asked once the pid can no longer become another process's unseen."""
    try:
        pidfd = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        if is_it():
            signal.pidfd_send_signal(pidfd, signal.SIGKILL)
            select.select([pidfd], [], [], _DYING_SECONDS)
    except ProcessLookupError:
        return
    finally:
        os.close(pidfd)
