"""Looks at the memory of workers that have a limit, and at no others.

Each second, and sooner where a worker that goes on growing would be over its limit by then.
"""

from __future__ import annotations

from collections.abc import Iterable

from percore.common.typing import Callable
from percore.supervisor.core.worker import Worker
from percore.supervisor.loop import Loop
from percore.supervisor.process.usage import SHORTEST_SPAN

_PERIOD = 1.0


class MemoryWatch:
    def __init__(
        self, loop: Loop, limited: Callable[[], Iterable[Worker]], replace: Callable[[Worker, str], None]
    ) -> None:
        """`limited` gives the workers that have a limit; `replace` is given the reason why one is to be replaced."""
        self._loop = loop
        self._limited = limited
        self._replace = replace
        self._is_planned = False

    def plan(self) -> None:
        """To be called when there may be something to watch that was not there before."""
        self._plan(_PERIOD)

    def _plan(self, seconds: float) -> None:
        if not self._is_planned and any(True for _ in self._limited()):
            self._is_planned = True
            self._loop.later(seconds, self._look)

    def _look(self) -> None:
        self._is_planned = False
        wait = _PERIOD
        for worker in list(self._limited()):
            if not worker.is_ready:
                continue
            worker.child.usage.sample(worker.pid)
            used, limit = worker.child.usage.memory_bytes, worker.config.max_memory_restart or 0
            if used > limit:
                self._replace(worker, f"{used >> 20} MB is over its limit of {limit >> 20} MB")
            else:
                wait = min(wait, worker.child.usage.seconds_until(limit))
        self._plan(max(wait, SHORTEST_SPAN))
