"""Graceful replacements that were not asked for: of an unhealthy worker, of one over its memory limit, for stranded clients."""

from __future__ import annotations

from collections.abc import Mapping

from percore.common.typing import Callable
from percore.supervisor.core.app import App
from percore.supervisor.core.jobs import Jobs, Outcome
from percore.supervisor.core.slot import Slot
from percore.supervisor.core.worker import Worker


class Replacements:
    def __init__(self, apps: Mapping[str, App], jobs: Jobs, log: Callable[[str], None]) -> None:
        self._apps = apps
        self._jobs = jobs
        self._log = log
        self._under_way: set[Slot] = set()

    def ask(self, worker: Worker, reason: str) -> None:
        """Nothing happens when the worker is being replaced already, or is not its slot's worker any more."""
        app = self._apps.get(worker.config.name)
        for slot in app.slots if app else ():
            if app and slot.worker is worker and slot not in self._under_way:
                self._replace(app, slot, f"{app.name} {slot.number}: {reason}")

    def is_under_way(self, worker: Worker) -> bool:
        return any(slot.worker is worker for slot in self._under_way)

    def serve_stranded(self) -> None:
        for app in self._apps.values():
            for slot in app.slots:
                if slot.stranded():
                    self.ask(slot.worker, "clients wait in the queue of a worker that is gone")

    def _replace(self, app: App, slot: Slot, reason: str) -> None:
        self._log(reason)
        self._under_way.add(slot)

        def steps() -> Outcome:
            try:
                yield from app.renew([slot])
                slot.worker.history.restarts += 1
            finally:
                self._under_way.discard(slot)
            return {}

        self._jobs.submit(reason, steps(), lambda _: None)
