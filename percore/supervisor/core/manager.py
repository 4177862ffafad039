"""All apps of one supervisor, and what follows when one of their workers changes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from percore.common.typing import Callable, Optional
from percore.supervisor.base.logger import log
from percore.supervisor.base.loop import Loop
from percore.supervisor.base.program import Program, trial
from percore.supervisor.core.app import App
from percore.supervisor.core.endpoints.services import WorkerServices
from percore.supervisor.core.jobs import Jobs, Outcome
from percore.supervisor.core.lifecycle import PendingStarts, close_gap
from percore.supervisor.core.persistence import Persistence
from percore.supervisor.core.replace import Replacements
from percore.supervisor.core.status import line_of, status_of
from percore.supervisor.core.worker.worker import Worker
from percore.supervisor.logs.files import LogOpener, open_logs
from percore.supervisor.state.saved import Saved

_CONFLICTS_SECONDS = 10.0


class Observer:
    """Is told what changed; what it raises is logged and affects nothing else."""

    def worker_changed(self, app: App, worker: Worker) -> None:
        """Its state or health is another one."""

    def worker_over_limit(self, app: App, worker: Worker, reason: str) -> None:
        """It is about to be replaced, because it needs too much memory."""

    def job_failed(self, app: App, worker: Worker, reason: str) -> None:
        """A run of a job did not end with success."""

    def apps_changed(self) -> None:
        """After each turn in which an app, a config or a worker may have changed."""

    def close(self) -> None:
        """The supervisor ends."""


class Manager:
    def __init__(self, loop: Loop, persistence: Persistence, open_logs: LogOpener = open_logs) -> None:
        self.loop = loop
        self.apps = persistence.apps
        self.jobs = Jobs(loop.faults)
        self.observers: list[Observer] = []
        self.successor: Optional[Program] = None  # what this process is to execute next
        self.persistence = persistence
        self.pending = PendingStarts(self.apps)
        services = WorkerServices(loop, persistence)
        self.endpoints = services.endpoints
        self._replacements = Replacements(self.apps, self.jobs)
        self.apps.runtime = services.make_runtime(self, open_logs)
        loop.when_awake(_CONFLICTS_SECONDS, self._find_conflicts)

    # -- what workers tell -------------------------------------------------------------------------------------------

    def worker_changed(self, worker: Worker) -> None:
        self.jobs.note_change()
        app = self.apps.get(worker.config.name)
        if app:
            self._contain(f"steering of {app.name}", app.steer)
            self._contain(f"closing addresses of {app.name}", app.addresses.worker_changed)
            for observer in self.observers:
                self._contain(f"following {app.name}", observer.worker_changed, app, worker)
        if line := line_of(worker):
            log(line)
            if self.jobs.is_heard and not (worker.is_ready and worker.liveness.unhealthy):
                self.jobs.tell({"event": "worker", "app": worker.config.name, **status_of(worker)})

    def replace(self, worker: Worker, reason: str) -> None:
        self._replacements.ask(worker, reason)

    # -- what the loop calls -----------------------------------------------------------------------------------------

    def reap_children(self) -> None:
        """Called on SIGCHLD."""
        self.apps.runtime.children.reap()

    def after_turn(self) -> None:
        """Jobs go on whenever something changed; then everything else follows."""
        has_changed = False
        while self.jobs.advance():
            has_changed = True
            self._contain("serving stranded clients", self._replacements.serve_stranded)
            if self.jobs.is_idle and self.loop.is_running:  # else everything was just ended
                for app in self.apps.values():
                    if not self.pending.holds(app):
                        self._contain(f"closing gaps of {app.name}", close_gap, app)
        if has_changed:
            for follow in (self.persistence.fill_store, self.persistence.save, self.pending.follow):
                self._contain("following a change", follow)
            self.tell_observers()

    def tell_observers(self) -> None:
        """Apps may have changed."""
        for observer in self.observers:
            self._contain("following a change", observer.apps_changed)

    def _contain(self, doing: str, step: Callable[..., object], *arguments: object) -> None:
        """What fails about one app must not cost the others theirs."""
        self.loop.faults.contain(doing, step, *arguments)

    def _find_conflicts(self) -> None:
        """Not worth waking up for: a look whenever the supervisor is awake, but not all the time."""
        for app in self.apps.values():
            self._contain(f"looking at ports of {app.name}", app.router.find_conflicts)
        self.loop.when_awake(_CONFLICTS_SECONDS, self._find_conflicts)

    # -- what concerns more than apps --------------------------------------------------------------------------------

    def replace_over_limit(self, worker: Worker, reason: str) -> None:
        app = self.apps.get(worker.config.name)
        if app and not self._replacements.is_under_way(worker):
            for observer in self.observers:
                self._contain(f"following {app.name}", observer.worker_over_limit, app, worker, reason)
        self._replacements.ask_over_limit(worker, reason)

    def restore(self, saved: Optional[Saved], entries: Mapping[str, Sequence[int]]) -> None:
        """Goes on where an earlier supervisor ended. Without a state, what runs goes on serving until an app is started."""
        if saved is None:
            self.apps.aside.find_all()
            return
        from percore.supervisor.core import recovery  # a first start needs none

        recovery.restore(self.apps, self.pending, saved, entries)
        self.endpoints.open_for_users()
        for app in self.apps.values():
            self._contain(f"closing addresses of {app.name}", app.addresses.worker_changed)
        self.jobs.note_change()
        self.persistence.fill_store()
        self.tell_observers()

    # -- its own end -------------------------------------------------------------------------------------------------

    def update(self, root: str, python: str) -> Outcome:
        """Ends the loop, so that this process can execute that program; everything goes on running."""
        program = Program(root, python)
        yield from trial(self.loop, program, self.jobs.note_change)
        self.successor = program
        return (yield from self.leave())

    def leave(self) -> Outcome:
        """Ends the loop; everything goes on running, and another supervisor takes over."""
        self.persistence.save()
        self.persistence.fill_store()
        _end(self)
        yield from ()
        return {}

    def kill(self) -> Outcome:
        """Stops and forgets everything, then ends the loop."""
        yield from self.apps.delete_all()
        _end(self)
        return {}

    def shut_down(self) -> Outcome:
        """Stops everything but keeps it wanted, then ends the loop."""
        yield from self.apps.halt_all()
        _end(self)
        return {}

    def give_up(self) -> None:
        """Another supervisor has our home: everything of ours ends, and nothing more is written there."""
        self.persistence.give_up()
        self.jobs.submit("give up the home", self.shut_down(), lambda _: None, urgent=True)


def _end(manager: Manager) -> None:
    """What is queued would start something that nobody looks after."""
    manager.jobs.end()
    manager.loop.stop()
