"""One child process: spawn it, signal it and its descendants, learn how it ended.

Signals go through a pidfd, so a reused pid can never be hit. Every worker leads a session of its own; what escapes from
that (setsid, double fork) comes back to us as subreaper and is found by the token in its environment.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import time
from collections.abc import Collection, Mapping
from typing import Callable, NamedTuple, Optional

from percore.supervisor.identity import Identity

# Where a worker finds what we give it. 0, 1, 2 as always; the rest is closed on exec.
CHANNEL_FD = 3  # Node's IPC channel
STORE_FDS = (4, 5)  # keep the listening sockets alive when the supervisor dies (sockets.FdStore)

_PR_SET_CHILD_SUBREAPER = 36
_DYING_SECONDS = 5.0
NOT_STARTED = 127  # the exit code, as a shell has it, of what could not be executed


class Command(NamedTuple):
    """What to execute, and with what. Descriptors belong to the caller."""

    argv: tuple[str, ...]
    program: str  # the file to execute: a search between fork and exec would cost every start two milliseconds
    cwd: str
    env: Mapping[str, str]
    out_fd: int
    err_fd: int
    store_fds: tuple[int, ...] = ()
    channel: bool = False  # open Node's IPC channel
    identity: Optional[Identity] = None


class Process:
    """A living child, or one adopted from an earlier supervisor."""

    __slots__ = ("_error_read", "channel", "is_child", "pid", "pidfd", "start_time")

    def __init__(
        self, pid: int, *, is_child: bool, channel: Optional[socket.socket] = None, error_read: int = -1
    ) -> None:
        self.pid = pid
        self.is_child = is_child
        self.channel = channel
        self._error_read = error_read
        self.pidfd = os.pidfd_open(pid)
        self.start_time = start_time_of(pid)

    def signal(self, number: int, *, whole_group: bool) -> None:
        """Polite signals may go to the whole group, as a terminal's Ctrl-C would; nothing happens when it is gone."""
        if whole_group:
            try:
                os.killpg(self.pid, number)
                return
            except ProcessLookupError:
                pass  # just forked, it leads no group yet
        try:
            signal.pidfd_send_signal(self.pidfd, number)
        except ProcessLookupError:
            return

    def kill_group(self) -> None:
        self.signal(signal.SIGKILL, whole_group=True)

    @property
    def exec_fd(self) -> int:
        """Readable once the program was, or could not be, executed; -1 after `take_exec_result`."""
        return self._error_read

    def take_exec_result(self) -> str:
        """Why the program could not be executed; empty when it was (the pipe's other end closed on exec)."""
        if self._error_read < 0:
            return ""
        try:
            return os.read(self._error_read, 4096).decode(errors="replace")
        except BlockingIOError:
            return ""
        finally:
            os.close(self._error_read)
            self._error_read = -1

    def close(self) -> None:
        os.close(self.pidfd)
        if self._error_read >= 0:
            os.close(self._error_read)
            self._error_read = -1
        if self.channel:
            self.channel.close()
            self.channel = None


def spawn(command: Command) -> Process:
    """Starts the command; a program that cannot be executed ends with 127 and tells why in `exec_error`. Raises OSError."""
    error_read, error_write = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    ours, theirs = socket.socketpair() if command.channel else (None, None)
    # A signal that met the child before it took our handlers off would be noted in our own loop's pipe.
    signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    try:
        pid = os.fork()
        if pid == 0:
            _become(command, theirs, error_write)
    except OSError:
        for descriptor in (error_read, error_write):
            os.close(descriptor)
        raise
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
    os.close(error_write)
    if theirs:
        theirs.close()
    if ours:
        ours.setblocking(False)
    return Process(pid, is_child=True, channel=ours, error_read=error_read)


def _become(command: Command, channel: Optional[socket.socket], error_write: int) -> None:
    """In the child: from fork to exec. Never returns."""
    step = "prepare"
    try:
        os.setsid()
        signal.set_wakeup_fd(-1)
        number: int
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGCHLD, signal.SIGHUP, signal.SIGPIPE, signal.SIGXFSZ,
                       signal.SIGUSR1, signal.SIGUSR2, signal.SIGQUIT):  # fmt: skip
            signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        null = os.open(os.devnull, os.O_RDONLY)
        # Out of the way of the numbers they are going to, which one of them may hold now.
        wanted = {0: null, 1: command.out_fd, 2: command.err_fd}
        if channel:
            wanted[CHANNEL_FD] = channel.fileno()
        wanted.update(zip(STORE_FDS, command.store_fds))
        import fcntl

        error_write = fcntl.fcntl(error_write, fcntl.F_DUPFD_CLOEXEC, 64)
        high = {number: fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, 64) for number, descriptor in wanted.items()}
        for number, descriptor in high.items():
            os.dup2(descriptor, number, inheritable=True)
        step = f"change to folder {command.cwd}"
        if command.identity:
            os.setgroups(command.identity.groups)
            os.setgid(command.identity.gid)
            os.setuid(command.identity.uid)
        os.chdir(command.cwd)
        step = f"execute {command.argv[0]}"
        os.execve(command.program, list(command.argv), dict(command.env))
    except BaseException as error:
        reason = getattr(error, "strerror", None) or str(error)
        os.write(error_write, f"cannot {step}: {reason}".encode())
    finally:
        os._exit(NOT_STARTED)


def start_time_of(pid: int) -> int:
    """Clock ticks after boot at which `pid` started; 0 when there is no such process.

    Pid and start time together name one process for ever; a pid alone does not.
    """
    return int(_stat_field(pid, 22) or 0)


def parent_of(pid: int) -> int:
    """0 when there is no such process."""
    return int(_stat_field(pid, 4) or 0)


def state_of(pid: int) -> str:
    """One letter, as in proc(5): R, S, D, Z...; empty when there is no such process."""
    return _stat_field(pid, 3).decode()


def _stat_field(pid: int, number: int) -> bytes:
    """A field of /proc/PID/stat, counted as in proc(5), from 3 on; empty when there is no such process."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            # The name, field 2, may hold blanks and brackets.
            return file.read().rpartition(b")")[2].split()[number - 3]
    except (OSError, IndexError):
        return b""


def adopt(pid: int, start_time: int, *, channel: Optional[socket.socket] = None) -> Optional[Process]:
    """The living process that an earlier supervisor started, or None when it is gone or its pid is somebody else's."""
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


def reap(before: Callable[[int], None]) -> list[tuple[int, int]]:
    """(pid, wait status) of every child that ended since the last call.

    `before` is called with each pid while the dead child still holds it, so that signals to its group cannot go astray.
    """
    ended: list[tuple[int, int]] = []
    while True:
        try:
            waiting = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            if waiting is None:
                return ended
            before(waiting.si_pid)
            ended.append(os.waitpid(waiting.si_pid, 0))
        except ChildProcessError:
            return ended


def children_of(pid: int) -> list[int]:
    """Direct children of `pid`."""
    try:
        with open(f"/proc/{pid}/task/{pid}/children", "rb") as file:
            return [int(child) for child in file.read().split()]
    except OSError:
        return []


def tree_of(pid: int) -> list[int]:
    """`pid` and all its descendants, parents first."""
    found = [pid]
    for member in found:
        found.extend(children_of(member))
    return found


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


def describe_status(status: Optional[int]) -> str:
    """A wait status in words; None: the end of a process that was not our child."""
    if status is None:
        return "exited"
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        try:
            return f"killed by {signal.Signals(number).name}"
        except ValueError:
            return f"killed by signal {number}"
    return f"exited with code {os.WEXITSTATUS(status)}"


def exit_code_of(status: Optional[int]) -> int:
    """As a shell would show it: the code, or 128 + signal."""
    if status is None:
        return 0
    return 128 + os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status)
