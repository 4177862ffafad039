"""What the supervisor does by itself when something changed. What few apps use is loaded when the first one does."""

from __future__ import annotations

from collections.abc import Mapping

from percore.common.typing import Callable, Optional
from percore.supervisor.automation.log_rotation import LogRotation
from percore.supervisor.base.home import Home
from percore.supervisor.base.loop import Loop
from percore.supervisor.config.app import AppConfig
from percore.supervisor.core.app import App
from percore.supervisor.core.manager import Manager, Observer
from percore.supervisor.core.worker.worker import Worker
from percore.supervisor.logs.files import OwnLog, has_formatter


class OnDemand(Observer):
    """Stands for an observer whose module would stay in memory."""

    def __init__(
        self, apps: Mapping[str, App], needs: Callable[[AppConfig], object], load: Callable[[], Observer]
    ) -> None:
        """`load` is called when the first app has a config that `needs` it."""
        self._apps = apps
        self._needs = needs
        self._load = load
        self._observer: Optional[Observer] = None

    def worker_changed(self, app: App, worker: Worker) -> None:
        if self._observer:
            self._observer.worker_changed(app, worker)

    def worker_over_limit(self, app: App, worker: Worker, reason: str) -> None:
        if self._observer:
            self._observer.worker_over_limit(app, worker, reason)

    def job_failed(self, app: App, worker: Worker, reason: str) -> None:
        if self._observer:
            self._observer.job_failed(app, worker, reason)

    def apps_changed(self) -> None:
        if self._observer is None and any(self._needs(app.config) for app in self._apps.values()):
            self._observer = self._load()
        if self._observer:
            self._observer.apps_changed()

    def close(self) -> None:
        if self._observer:
            self._observer.close()


def observe(manager: Manager, loop: Loop, home: Home, own_log: Optional[OwnLog]) -> LogRotation:
    """From now on it follows what the apps' configs ask for. Returns the one that others ask as well."""
    apps = manager.apps
    log_rotation = LogRotation(loop, home, apps, own_log)

    def event_hooks() -> Observer:
        from percore.supervisor.automation.event_hooks import EventHooks

        return EventHooks(loop, home, apps)

    def restart_triggers() -> Observer:
        from percore.supervisor.automation.restart_triggers import RestartTriggers

        return RestartTriggers(loop, home, apps, manager.jobs)

    def log_formatting() -> Observer:
        from percore.supervisor.automation.log_formatting import LogFormatting

        return LogFormatting(loop, home, apps)

    def memory_limit() -> Observer:
        from percore.supervisor.automation.memory_limit import MemoryLimit

        return MemoryLimit(loop, manager)

    def job_runs() -> Observer:
        from percore.supervisor.automation.job_runs import JobRuns

        apps.job_runs = made = JobRuns(loop, home, manager)
        return made

    manager.observers += [
        log_rotation,
        OnDemand(apps, lambda config: config.hooks, event_hooks),
        OnDemand(apps, lambda config: config.cron_restart or config.watch, restart_triggers),
        OnDemand(apps, has_formatter, log_formatting),
        OnDemand(apps, lambda config: config.max_memory_restart, memory_limit),
        OnDemand(apps, lambda config: config.is_job, job_runs),
    ]
    return log_rotation
