"""Measures the memory of workers that have a limit, and of no others; one that is over its limit is replaced.

Each second, and sooner where a worker that goes on growing would be over its limit by then.
"""

from __future__ import annotations

from collections.abc import Iterator

from percore.common.typing import TYPE_CHECKING, Optional
from percore.supervisor.base.loop import Loop
from percore.supervisor.core.manager import Manager, Observer
from percore.supervisor.core.worker.worker import Worker
from percore.supervisor.process.usage import SHORTEST_SPAN

if TYPE_CHECKING:
    from percore.supervisor.automation.heap_snapshot import HeapSnapshots

_PERIOD = 1.0


class MemoryLimit(Observer):
    def __init__(self, loop: Loop, manager: Manager) -> None:
        self._loop = loop
        self._manager = manager
        self._is_planned = False
        self._snapshots: Optional[HeapSnapshots] = None

    def apps_changed(self) -> None:
        self._plan(_PERIOD)

    def _limited(self) -> Iterator[Worker]:
        apps = self._manager.apps.values()
        return (slot.worker for app in apps if app.config.max_memory_restart for slot in app.slots)

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
                reason = f"{used >> 20} MB is over its limit of {limit >> 20} MB"
                if not (worker.config.heap_snapshots and self._waits_for_snapshot(worker)):
                    self._manager.replace_over_limit(worker, reason)
            else:
                wait = min(wait, worker.child.usage.seconds_until(limit))
        self._plan(max(wait, SHORTEST_SPAN))

    def _waits_for_snapshot(self, worker: Worker) -> bool:
        if self._snapshots is None:
            from percore.supervisor.automation.heap_snapshot import HeapSnapshots  # few apps ask for one

            self._snapshots = HeapSnapshots(self._loop, self._manager.apps.runtime.environment.home)
        return self._snapshots.must_wait(worker)
