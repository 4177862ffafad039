"""What outlives a worker's main process, or its whole supervisor: found by the token in its environment, wherever it hides."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import time
from collections.abc import Collection

from percore.supervisor.procfs import children_of, tree_of

_DYING_SECONDS = 5.0


def open_survivors(token: str) -> list[int]:
    """Pidfds of what a worker left behind: orphans of ours, and their descendants, that carry the worker's token."""
    marker = f"PERCORE_TOKEN={token}".encode()
    found = []
    for orphan in children_of(os.getpid()):
        try:
            with open(f"/proc/{orphan}/environ", "rb") as file:
                is_ours = marker in file.read().split(b"\0")
        except OSError:
            continue
        for pid in tree_of(orphan) if is_ours else ():
            try:
                found.append(os.pidfd_open(pid))
            except OSError:
                continue
    return found


def kill_survivors(token: str) -> None:
    for pidfd in open_survivors(token):
        kill(pidfd)
        os.close(pidfd)


def kill(pidfd: int) -> None:
    """Nothing happens when the process is gone."""
    with contextlib.suppress(ProcessLookupError):
        signal.pidfd_send_signal(pidfd, signal.SIGKILL)


def kill_strays(home: str, known_tokens: Collection[str]) -> None:
    """Kills workers of an earlier supervisor of this home that nobody adopted: a singleton must not run twice."""
    home_mark = f"PERCORE_HOME={home}".encode()
    killed = []
    known = {f"PERCORE_TOKEN={token}".encode() for token in known_tokens}
    for pid in map(int, filter(str.isdigit, os.listdir("/proc"))):
        try:
            with open(f"/proc/{pid}/environ", "rb") as file:
                variables = set(file.read().split(b"\0"))
            if home_mark not in variables or pid == os.getpid():
                continue
            tokens = {variable for variable in variables if variable.startswith(b"PERCORE_TOKEN=")}
            if not tokens or tokens & known:
                continue
            pidfd = os.pidfd_open(pid)
        except OSError:
            continue
        signal.pidfd_send_signal(pidfd, signal.SIGKILL)
        killed.append(pidfd)
    # Their ports and locks are free only when they are gone. A process that cannot die is not worth waiting for.
    deadline = time.monotonic() + _DYING_SECONDS
    for pidfd in killed:
        select.select([pidfd], [], [], max(0.0, deadline - time.monotonic()))
        os.close(pidfd)
