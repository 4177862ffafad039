"""What outlives a worker's main process, or its whole supervisor: found by the token in its environment, wherever it hides.

A process is held by a pidfd before its environment is read: its pid may be somebody else's a moment later.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import time
from collections.abc import Collection, Iterable, Mapping

from percore.common.procfs import children_of, environment_of, tree_of

_DYING_SECONDS = 5.0
_LOOKS = 50  # what forks may be a step ahead of a look, but not of all of them


def open_survivors(token: str, *, anywhere: bool = False) -> list[int]:
    """Pidfds of what a worker left behind: orphans that carry its token, and their descendants.

    Those of our own child come to us; with `anywhere`, those of a worker that an earlier supervisor started are found.
    """
    marker = f"PERCORE_TOKEN={token}".encode()
    found: dict[int, int] = {}
    for orphan in _all_pids() if anywhere else children_of(os.getpid()):
        if orphan not in found and marker in environment_of(orphan):
            for pid in tree_of(orphan):
                with contextlib.suppress(OSError):
                    if pid not in found:
                        found[pid] = os.pidfd_open(pid)
    return list(found.values())


def carries(pid: int, token: str) -> bool:
    return f"PERCORE_TOKEN={token}".encode() in environment_of(pid)


def kill_survivors(token: str, *, anywhere: bool = False) -> None:
    for _ in range(_LOOKS):
        found = open_survivors(token, anywhere=anywhere)
        for pidfd in found:
            kill(pidfd)
            os.close(pidfd)
        if not found:
            break


def kill(pidfd: int) -> None:
    """Nothing happens when the process is gone."""
    with contextlib.suppress(ProcessLookupError):
        signal.pidfd_send_signal(pidfd, signal.SIGKILL)


def kill_strays(home: str, known_tokens: Collection[str]) -> None:
    """Kills workers of an earlier supervisor of this home that nobody adopted: a singleton must not run twice."""
    for _ in range(_LOOKS):
        found = open_strays(home, known_tokens)
        end([pidfd for pidfds in found.values() for pidfd in pidfds])
        if not found:
            break


def open_strays(home: str, known_tokens: Collection[str]) -> Mapping[str, list[int]]:
    """By app, pidfds of what belongs to a supervisor of this home and carries none of these tokens."""
    home_mark = f"PERCORE_HOME={home}".encode()
    known = {f"PERCORE_TOKEN={token}".encode() for token in known_tokens}
    found: dict[str, list[int]] = {}
    for pid in _all_pids():
        try:
            pidfd = os.pidfd_open(pid)
        except OSError:
            continue
        variables = environment_of(pid)
        tokens = {variable for variable in variables if variable.startswith(b"PERCORE_TOKEN=")}
        if home_mark not in variables or not tokens or tokens & known or pid == os.getpid():
            os.close(pidfd)
            continue
        names = [variable[len(b"PERCORE_APP=") :] for variable in variables if variable.startswith(b"PERCORE_APP=")]
        found.setdefault(os.fsdecode(names[0]) if names else "", []).append(pidfd)
    return found


def end(pidfds: Collection[int]) -> None:
    """Kills them, and returns when they are gone: only then their ports and locks are free. Closes the pidfds."""
    # A process that cannot die is not worth waiting for.
    deadline = time.monotonic() + _DYING_SECONDS
    for pidfd in pidfds:
        kill(pidfd)
    for pidfd in pidfds:
        poll = select.poll()
        poll.register(pidfd, select.POLLIN)
        poll.poll(max(0.0, deadline - time.monotonic()) * 1000)
        os.close(pidfd)


def _all_pids() -> Iterable[int]:
    return map(int, filter(str.isdigit, os.listdir("/proc")))
