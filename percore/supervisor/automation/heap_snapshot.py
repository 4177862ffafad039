"""`heap_snapshots`: what a worker has in memory is written to a file before it is replaced for its size.

`percore heap` does it in a process of its own: it looks at free disk and memory first, and removes older files.
"""

from __future__ import annotations

import os
import signal
import time

from percore.common.typing import Callable
from percore.supervisor.base.environment import clean_environment
from percore.supervisor.base.home import Home
from percore.supervisor.base.logger import log
from percore.supervisor.base.loop import Loop
from percore.supervisor.base.program import this_program
from percore.supervisor.core.worker.worker import Worker

_MOST_SECONDS = 60.0  # then the worker is replaced, whether there is a file or not


class HeapSnapshots:
    """One file for each process; one at a time, as each takes memory."""

    def __init__(self, loop: Loop, home: Home) -> None:
        self._loop = loop
        self._home = home
        self._begun: dict[int, float] = {}  # by pid of the worker
        self._running: dict[int, Callable[[], None]] = {}  # by pid of the worker: what ends its snapshot

    def must_wait(self, worker: Worker) -> bool:
        """True while a snapshot of it is being made; begins it where that has not been tried yet."""
        pid = worker.pid
        if pid not in self._begun and not self._running:
            self._begun = {known: since for known, since in self._begun.items() if os.path.exists(f"/proc/{known}")}
            self._begun[pid] = time.monotonic()
            self._begin(worker)
        if pid in self._running and time.monotonic() - self._begun[pid] > _MOST_SECONDS:
            self._running.pop(pid)()
            log(f"{worker.config.name} {worker.number}: no heap snapshot within {_MOST_SECONDS:g} s")
        return pid in self._running

    def _begin(self, worker: Worker) -> None:
        directory = os.path.join(self._home.path, "heap")
        argv = [
            *this_program().argv(module="cli"), "heap", str(worker.place.id), "--force", "--output", directory,
            "--keep", str(worker.config.heap_snapshots),
        ]  # fmt: skip
        env = {**clean_environment(os.environ), "PERCORE_HOME": self._home.path}
        try:
            os.makedirs(directory, mode=0o700, exist_ok=True)
            child = os.posix_spawn(
                argv[0], argv, env, setsid=True, setsigmask=(),
                setsigdef=[signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGPIPE, signal.SIGCHLD],
                file_actions=[(os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDWR, 0), (os.POSIX_SPAWN_DUP2, 0, 1)],
            )  # fmt: skip
            pidfd = os.pidfd_open(child)
        except OSError as error:
            log(f"{worker.config.name} {worker.number}: no heap snapshot: {error.strerror}")
            return
        pid = worker.pid
        log(f"{worker.config.name} {worker.number}: a heap snapshot first, in {directory}")
        self._running[pid] = lambda: signal.pidfd_send_signal(pidfd, signal.SIGKILL)
        self._loop.watch(pidfd, lambda: self._ended(pid, pidfd))

    def _ended(self, pid: int, pidfd: int) -> None:
        self._loop.unwatch(pidfd)
        os.close(pidfd)
        self._running.pop(pid, None)
