"""Starting a program as a child of ours.

posix_spawn shares our memory with the child until it executes the program, so nothing is copied; a fork would cost each start
some milliseconds of copied pages. Only a child that becomes another user, is told its own pid, or enters a control group is
forked: posix_spawn knows none of these.
"""

from __future__ import annotations

import fcntl
import os
import signal
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress

from percore.common.typing import NamedTuple, NoReturn, Optional
from percore.errors import PercoreError
from percore.supervisor.base import rlimits
from percore.supervisor.base.user import Identity
from percore.supervisor.process.process import Process

# Where a worker finds what we give it. 0, 1, 2 as always; the rest is closed on exec.
FIRST_LISTEN_FD = 3  # sd_listen_fds(3)
CHANNEL_FD = 60  # Node's IPC channel
STORE_FDS = (61, 62)  # keep the listening sockets alive when the supervisor dies (store.FdStore)
_FIRST_FREE_FD = 63
_DEFAULT_SIGNALS = (
    signal.SIGINT, signal.SIGTERM, signal.SIGCHLD, signal.SIGHUP, signal.SIGPIPE, signal.SIGXFSZ, signal.SIGUSR1,
    signal.SIGUSR2, signal.SIGQUIT,
)  # fmt: skip


class WorkerCommand(NamedTuple):
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
    listen_fds: tuple[int, ...] = ()
    group: str = ""  # the file by which it enters its control group
    stdin_path: str = os.devnull  # or a pipe, made where it is missing


class NotExecuted(PercoreError):
    """The program could not be started; nothing is left of it."""


def spawn(command: WorkerCommand) -> Process:
    """Starts the command as the leader of a new session. Raises NotExecuted, or OSError where we lack something."""
    ours, theirs = socket.socketpair() if command.channel else (None, None)
    try:
        with _placed(command, ours, theirs) as places:
            # LISTEN_PID is only known in the child.
            is_special = command.identity or command.listen_fds or command.group
            pid = _fork(command, places) if is_special else _posix_spawn(command, places)
    except BaseException:
        if ours:
            ours.close()
        raise
    finally:
        if theirs:
            theirs.close()
    if ours:
        ours.setblocking(False)
    return Process(pid, is_child=True, channel=ours)


@contextmanager
def _placed(
    command: WorkerCommand, ours: Optional[socket.socket], channel: Optional[socket.socket]
) -> Iterator[dict[int, int]]:
    """By number in the child: our descriptors for it, all out of the way of those numbers."""
    opened = [_open_stdin(command.stdin_path)]
    places = {0: opened[0], 1: command.out_fd, 2: command.err_fd}
    if channel:
        places[CHANNEL_FD] = channel.fileno()
    places.update(zip(STORE_FDS, command.store_fds))
    if ours and not command.store_fds:
        places[STORE_FDS[0]] = ours.fileno()  # so that its channel outlives us all the same (rescue.rescue_channel)
    places.update(enumerate(command.listen_fds, FIRST_LISTEN_FD))
    try:
        for number, descriptor in places.items():
            if descriptor < _FIRST_FREE_FD:
                places[number] = fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, _FIRST_FREE_FD)
                opened.append(places[number])
        yield places
    finally:
        for descriptor in opened:
            os.close(descriptor)


def _open_stdin(path: str) -> int:
    """A pipe is opened for both: so it never ends for the worker, and it lives as long as the worker does."""
    if path != os.devnull:
        with suppress(OSError):  # a program that runs without input is better than none
            os.mkfifo(path, 0o600)
        with suppress(OSError):
            return os.open(path, os.O_RDWR | os.O_CLOEXEC)
    return os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)


def _posix_spawn(command: WorkerCommand, places: Mapping[int, int]) -> int:
    actions = [(os.POSIX_SPAWN_DUP2, descriptor, number) for number, descriptor in places.items()]
    with _in_directory(command.cwd):
        try:
            with rlimits.as_given():
                return os.posix_spawn(
                    command.program, command.argv, command.env, file_actions=actions, setsid=True, setsigmask=(),
                    setsigdef=_DEFAULT_SIGNALS,
                )  # fmt: skip
        except OSError as error:
            raise _not_executed(f"execute {command.argv[0]}", error) from None


@contextmanager
def _in_directory(path: str) -> Iterator[None]:
    """We change to it ourselves, for a moment: posix_spawn has no such argument."""
    before = os.open(".", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        try:
            os.chdir(path)
        except OSError as error:
            raise _not_executed(f"change to directory {path}", error) from None
        try:
            yield
        finally:
            os.fchdir(before)
    finally:
        os.close(before)


def _not_executed(step: str, error: BaseException) -> NotExecuted:
    return NotExecuted(f"cannot {step}: {getattr(error, 'strerror', None) or error}")


def _fork(command: WorkerCommand, places: Mapping[int, int]) -> int:
    error_read, error_write = os.pipe2(os.O_CLOEXEC)
    # A signal that met the child before it took our handlers off would be noted in our own loop's pipe.
    signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    try:
        pid = os.fork()
        if pid == 0:
            _become(command, places, error_write)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        os.close(error_write)
        with open(error_read, encoding="utf-8", errors="replace") as errors:
            problem = errors.read()  # ends when the program is executed, which closes the other end
    if problem:
        os.waitpid(pid, 0)
        raise NotExecuted(problem)
    return pid


def _listen_variables(command: WorkerCommand) -> dict[str, str]:
    count = len(command.listen_fds)
    return {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": str(count)} if count else {}


def _become(command: WorkerCommand, places: Mapping[int, int], error_write: int) -> NoReturn:
    """In the child: from fork to exec."""
    step = "prepare"
    try:
        os.setsid()
        signal.set_wakeup_fd(-1)
        for caught in _DEFAULT_SIGNALS:
            signal.signal(caught, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        error_write = fcntl.fcntl(error_write, fcntl.F_DUPFD_CLOEXEC, _FIRST_FREE_FD)
        for number, descriptor in places.items():
            os.dup2(descriptor, number, inheritable=True)
        if command.group:
            step = "enter its control group"
            with open(command.group, "w") as entry:
                entry.write("0")
            step = "prepare"
        if command.identity:
            os.setgroups(command.identity.groups)
            os.setgid(command.identity.gid)
            os.setuid(command.identity.uid)
        step = f"change to directory {command.cwd}"
        os.chdir(command.cwd)
        step = f"execute {command.argv[0]}"
        rlimits.give_back()
        os.execve(command.program, command.argv, {**command.env, **_listen_variables(command)})
    except BaseException as error:
        os.write(error_write, str(_not_executed(step, error)).encode(errors="replace"))
    finally:
        os._exit(127)
