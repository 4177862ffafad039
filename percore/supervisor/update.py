"""Replacing the supervisor's own program while its workers run.

The same process executes the new program (execve): the workers stay its children, the listening sockets and the lock stay
open. The new program is tried first; one that cannot start, or cannot read the state, never gets that far.
"""

from __future__ import annotations

import fcntl
import os
import signal
import sys

from percore.hints import NamedTuple, NoReturn, Optional
from percore.supervisor import limits

_FIRST_PASSED_FD = 3  # sd_listen_fds(3): systemd passes descriptors in the same way
STORE = "store"
LOCK = "lock"
PLAN_VARIABLE = "PERCORE_RUNTIME_PLAN"  # the number of the descriptor from which `percore runtime` reads what to run


class Program(NamedTuple):
    """A percore that can run as supervisor: the folder that holds the package, and the Python to run it with."""

    root: str
    python: str

    def argv(self, function: str = "main", *, module: str = "daemon") -> list[str]:
        # Without site-packages: the supervisor needs the standard library only, and is two megabytes smaller.
        place = f"import sys; sys.path.insert(0, {self.root!r}); "
        code = place + f"from percore.supervisor.{module} import {function}; {function}()"
        return [self.python, "-I", "-S", "-c", code]


def this_program() -> Program:
    root = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    return Program(root, sys.executable)


def become(program: Program, store_fds: tuple[int, int], lock_fd: int) -> NoReturn:
    """Executes the program in this very process, with these descriptors open. Raises OSError when it cannot be executed."""
    # No signal may meet the new program before it has its handlers; it takes the block off.
    signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    high = [fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, 64) for descriptor in (*store_fds, lock_fd)]
    for number, descriptor in enumerate(high, _FIRST_PASSED_FD):
        os.dup2(descriptor, number, inheritable=True)
    passed = {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "3", "LISTEN_FDNAMES": f"{STORE}:{STORE}:{LOCK}"}
    with limits.as_given():
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
