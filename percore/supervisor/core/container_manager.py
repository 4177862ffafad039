"""All apps of a container: its program ends when nothing of them runs any more, and no other supervisor takes over."""

from __future__ import annotations

from collections.abc import Mapping

from percore.common.typing import Any, Optional
from percore.errors import UsageError
from percore.supervisor.base.logger import log
from percore.supervisor.base.states import HAS_PROCESS, State
from percore.supervisor.core.jobs import Outcome
from percore.supervisor.core.manager import Manager
from percore.supervisor.core.status import is_crash_looping
from percore.supervisor.core.worker.worker import Worker

NOTHING_ONLINE = 2  # as PM2's runtime ends


class ContainerManager(Manager):
    exit_code = 0
    _has_begun = False
    _is_ending = False

    def has_begun(self, reply: Mapping[str, Any]) -> None:
        """All apps were started; one that failed is tried again, as always."""
        if reply["event"] == "result":
            self._has_begun = True
            self.jobs.note_change()

    def end_when_nothing_runs(self) -> None:
        if not self._has_begun or self._is_ending:
            return
        workers = [worker for app in self.apps.values() for worker in app.workers]
        codes = [code_of(worker) for worker in workers]
        if any(code is None for code in codes) or any(app.leaving for app in self.apps.values()):
            return
        self._is_ending = True
        self.exit_code = NOTHING_ONLINE if NOTHING_ONLINE in codes else next(filter(None, codes), 0)
        log(f"nothing runs any more: ends with {self.exit_code}")
        self.loop.later(0, lambda: self.jobs.submit("end", self.shut_down(), lambda _: None, urgent=True))

    def shut_down(self) -> Outcome:
        self._is_ending = True  # on request it ends with 0, whatever the apps did before
        return super().shut_down()

    def update(self, root: str, python: str) -> Outcome:
        raise UsageError("percore runtime is not replaced in place", next="start a new container")

    def leave(self) -> Outcome:
        raise UsageError(
            "the workers of percore runtime end with it", next="percore startup on a host, not in a container"
        )


def code_of(worker: Worker) -> Optional[int]:
    """What a worker that is over says; None while it runs, or is about to."""
    if worker.state is State.FATAL or is_crash_looping(worker) or _was_held_back(worker):
        return NOTHING_ONLINE
    if worker.state in HAS_PROCESS or worker.state is State.BACKOFF:
        return None
    code = worker.history.exit_code if worker.state is State.EXITED else 0
    return 0 if code in worker.config.stop_exit_codes else code


def _was_held_back(worker: Worker) -> bool:
    """It was to start and never did, as what it depends on does not run."""
    return worker.state is State.STOPPED and bool(worker.failure) and not worker.history.started_time
