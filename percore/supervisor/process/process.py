"""One child process: signal it and its descendants, learn how it ended.

Signals go through a pidfd, so a reused pid can never be hit. Every worker leads its own session. What leaves that session
(setsid, double fork) and outlives the worker, or outlives the whole supervisor, is an orphan: it is found by the token in its
environment. A process is held by a pidfd before its environment is read: its pid may be another process's a moment later.
"""

from __future__ import annotations

import contextlib
import errno
import os
import select
import signal
import socket
import time
from collections.abc import Collection, Iterator, Mapping

from percore.common.procfs import all_pids, children_of, environment_of, parent_of, start_time_of, state_of, tree_of
from percore.common.typing import Optional

_PR_SET_CHILD_SUBREAPER = 36
_PROCESS_GROUP = 1 << 2  # PIDFD_SIGNAL_PROCESS_GROUP
_DYING_SECONDS = 5.0
_LOOKS = 50  # what forks may be a step ahead of a look, but not of all of them
DONE = "exited with code 0"
NOT_STARTED = 127  # the exit code, as a shell has it, of what could not be executed


class Process:
    """A living child, or one adopted from an earlier supervisor."""

    __slots__ = ("channel", "is_child", "pid", "pidfd", "start_time")

    def __init__(self, pid: int, *, is_child: bool, channel: Optional[socket.socket] = None) -> None:
        self.pid = pid
        self.is_child = is_child
        self.channel = channel
        self.pidfd = os.pidfd_open(pid)
        self.start_time = start_time_of(pid)

    def signal(self, number: int, *, whole_group: bool, spared: Collection[int] = ()) -> None:
        """Polite signals may go to the whole group, as a terminal's Ctrl-C would; nothing happens when it is gone."""
        if whole_group and spared:
            for pid in all_pids():
                if pid not in spared and _group_of(pid) == self.pid:
                    _signal_one(pid, number)
            return
        with contextlib.suppress(ProcessLookupError):
            if not whole_group:
                signal.pidfd_send_signal(self.pidfd, number)
                return
            try:
                signal.pidfd_send_signal(self.pidfd, number, None, _PROCESS_GROUP)
            except OSError as error:
                if error.errno != errno.EINVAL:
                    raise
                # Linux before 6.9. As long as the leader is there, be it dead, no group but its own has this number.
                if start_time_of(self.pid) == self.start_time:
                    os.killpg(self.pid, number)

    @property
    def age_seconds(self) -> float:
        """By the kernel's clock: the time of day may have jumped since."""
        started = self.start_time / os.sysconf("SC_CLK_TCK")
        return max(0.0, time.clock_gettime(time.CLOCK_BOOTTIME) - started)

    def kill(self, *, whole_group: bool, spared: Collection[int] = ()) -> None:
        self.signal(signal.SIGKILL, whole_group=whole_group, spared=spared)

    def close(self) -> None:
        os.close(self.pidfd)
        if self.channel:
            self.channel.close()
            self.channel = None


def _group_of(pid: int) -> int:
    with contextlib.suppress(ProcessLookupError):
        return os.getpgid(pid)
    return 0


def _signal_one(pid: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        pidfd = os.pidfd_open(pid)
        try:
            signal.pidfd_send_signal(pidfd, number)
        finally:
            os.close(pidfd)


def adopt(pid: int, start_time: int, *, channel: Optional[socket.socket] = None) -> Optional[Process]:
    """The living process that an earlier supervisor started, or None when it is gone or its pid is another process's."""
    try:
        process = Process(pid, is_child=parent_of(pid) == os.getpid(), channel=channel)
    except OSError:
        return None
    if process.start_time != start_time or state_of(pid) == "Z":
        process.close()
        return None
    return process


def become_subreaper() -> None:
    """Orphans below us come to us, not to init: nothing of a worker's tree can leave our sight."""
    import ctypes

    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def read_status(status: Optional[int]) -> tuple[int, str]:
    """The exit code as a shell would show it, and a wait status in words; None: the end of a process that was not our child."""
    if status is None:
        return 0, "exited"
    if not os.WIFSIGNALED(status):
        return os.WEXITSTATUS(status), f"exited with code {os.WEXITSTATUS(status)}"
    number = os.WTERMSIG(status)
    try:
        return 128 + number, f"killed by {signal.Signals(number).name}"
    except ValueError:
        return 128 + number, f"killed by signal {number}"


# -- orphans ---------------------------------------------------------------------------------------------------------


def open_orphans(token: str, *, anywhere: bool = False, spared: Collection[int] = ()) -> list[int]:
    """Pidfds of what a worker left behind: its orphans, and their descendants, without the `spared`.

    Those of our own child come to us; with `anywhere`, those of a worker that an earlier supervisor started are found.
    """
    found: dict[int, int] = {}
    for orphan in all_pids() if anywhere else children_of(os.getpid()):
        if orphan not in found and has_token(orphan, token):
            for pid in tree_of(orphan):
                with contextlib.suppress(OSError):
                    if pid not in found and pid not in spared:
                        found[pid] = os.pidfd_open(pid)
    return list(found.values())


def has_token(pid: int, token: str) -> bool:
    return f"PERCORE_TOKEN={token}".encode() in environment_of(pid)


def members_of(pid: int, token: str) -> Iterator[int]:
    """The pids of a worker's process and of all below it, then of what left its tree and came to us."""
    yield from tree_of(pid)
    for orphan in children_of(os.getpid()):
        if has_token(orphan, token):
            yield from tree_of(orphan)


def lines_of(pids: Collection[int], token: str) -> set[int]:
    """Of these processes those of one worker, their parents, and so on up to a child of ours."""
    found: set[int] = set()
    for pid in pids:
        member = pid if has_token(pid, token) else 0
        while member > 1 and member != os.getpid() and member not in found:
            found.add(member)
            member = parent_of(member)
    return found


def kill_orphans(token: str, *, anywhere: bool = False, spared: Collection[int] = ()) -> None:
    for _ in range(_LOOKS):
        found = open_orphans(token, anywhere=anywhere, spared=spared)
        for pidfd in found:
            kill(pidfd)
            os.close(pidfd)
        if not found:
            break


def kill(pidfd: int) -> None:
    """Nothing happens when the process is gone."""
    with contextlib.suppress(ProcessLookupError):
        signal.pidfd_send_signal(pidfd, signal.SIGKILL)


def kill_unadopted(home: str, known_tokens: Collection[str]) -> None:
    """Kills workers of an earlier supervisor of this home that were not adopted: a singleton must not run twice."""
    for _ in range(_LOOKS):
        found = open_unadopted(home, known_tokens)
        end([pidfd for pidfds in found.values() for pidfd in pidfds])
        if not found:
            break


def open_unadopted(home: str, known_tokens: Collection[str]) -> Mapping[str, list[int]]:
    """By app, pidfds of what belongs to a supervisor of this home and carries none of these tokens."""
    home_mark = f"PERCORE_HOME={home}".encode()
    known = {f"PERCORE_TOKEN={token}".encode() for token in known_tokens}
    found: dict[str, list[int]] = {}
    for pid in all_pids():
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
