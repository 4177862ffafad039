"""Replacing the supervisor's own program while its workers run.

The same process executes the new program (execve): the workers stay its children, the listening sockets and the lock stay
open. The new program is tried first; one that cannot start, or cannot read the state, never gets that far.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
import sys

from percore.common.typing import Callable, NamedTuple, NoReturn, Optional
from percore.errors import PercoreError
from percore.supervisor.base import rlimits
from percore.supervisor.base.loop import Job, Loop

_FIRST_PASSED_FD = 3  # sd_listen_fds(3): systemd passes descriptors in the same way
STORE = "store"
LOCK = "lock"
_TRIAL_SECONDS = 20.0
_LONGEST_TRIAL = 1 << 16
_CAN = "it can take over"
PLAN_VARIABLE = "PERCORE_RUNTIME_PLAN"  # the number of the descriptor from which `percore runtime` reads what to run


class Program(NamedTuple):
    """A percore that can run as supervisor: the directory with the package, and the Python to run it with."""

    root: str
    python: str

    def argv(self, function: str = "main", *, module: str = "daemon", then: str = "") -> list[str]:
        # Without site-packages: the supervisor needs the standard library only, and is two megabytes smaller.
        place = f"import sys; sys.path.insert(0, {self.root!r}); "
        code = place + f"from percore.supervisor.{module} import {function}; {function}(){then}"
        return [self.python, "-I", "-S", "-c", code]


def this_program() -> Program:
    supervisor = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    return Program(os.path.dirname(os.path.dirname(supervisor)), sys.executable)


def trial(loop: Loop, program: Program, wake: Callable[[], None]) -> Job:
    """Runs the new program as a check: it must load and read the state. Raises PercoreError where it cannot.

    `wake` is called when the job can go on.
    """
    said = os.memfd_create("trial")
    try:
        pidfd = _start_trial(program, said)
        ended: list[bool] = []

        def end(*, in_time: bool) -> None:
            loop.unwatch(pidfd)
            ended.append(in_time)
            wake()

        loop.watch(pidfd, lambda: end(in_time=True))
        timer = loop.later(_TRIAL_SECONDS, lambda: end(in_time=False))
        try:
            while not ended:
                yield
        finally:
            timer.cancel()
            loop.unwatch(pidfd)
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(pidfd, signal.SIGKILL)
            os.close(pidfd)
        lines = os.pread(said, _LONGEST_TRIAL, 0).decode(errors="replace").strip().splitlines()
        if lines[-1:] != [_CAN]:
            reason = (
                (lines or ["it printed nothing"])[-1] if ended[0] else f"it does not start within {_TRIAL_SECONDS:g} s"
            )
            raise PercoreError(f"that program cannot take over ({reason[:200]}); the supervisor keeps running")
    finally:
        os.close(said)


def _start_trial(program: Program, said: int) -> int:
    """Its pidfd; its output goes into `said`."""
    argv = program.argv("check", then=f"; print({_CAN!r})")
    places = [
        (os.POSIX_SPAWN_DUP2, said, 1),
        (os.POSIX_SPAWN_DUP2, said, 2),
        (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
    ]
    try:
        with rlimits.as_given():
            pid = os.posix_spawn(argv[0], argv, os.environ, setsid=True, setsigmask=(), file_actions=places)
        return os.pidfd_open(pid)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise PercoreError(
            f"that program cannot be executed ({reason}); the supervisor keeps running", where=argv[0]
        ) from None


def become(program: Program, store_fds: tuple[int, int], lock_fd: int) -> NoReturn:
    """Executes the program in this very process, with these descriptors open. Raises OSError when it cannot be executed."""
    # No signal may meet the new program before it has its handlers; it takes the block off.
    signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    high = [fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, 64) for descriptor in (*store_fds, lock_fd)]
    for number, descriptor in enumerate(high, _FIRST_PASSED_FD):
        os.dup2(descriptor, number, inheritable=True)
    passed = {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "3", "LISTEN_FDNAMES": f"{STORE}:{STORE}:{LOCK}"}
    with rlimits.as_given():
        os.execve(program.python, program.argv(), {**os.environ, **passed})


def passed_fds(name: str) -> list[int]:
    """The descriptors of this name that systemd, or the program before this one, left us."""
    if os.environ.get("LISTEN_PID") != str(os.getpid()):
        return []
    names = os.environ.get("LISTEN_FDNAMES", "").split(":")
    count = min(int(os.environ.get("LISTEN_FDS", "0")), len(names))
    return [_FIRST_PASSED_FD + i for i in range(count) if names[i] == name]


def passed_lock() -> Optional[int]:
    for descriptor in passed_fds(LOCK):
        os.set_inheritable(descriptor, False)
        return descriptor
    return None
