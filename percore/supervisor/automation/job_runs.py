"""Jobs: started at their times, stopped after their timeout, and what became of the last run of each.

A run is a worker of the job's only slot. It belongs to no reload and no deploy: the next run is the first with a new config.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping, Sequence

from percore.common.files import write_file
from percore.common.typing import Any
from percore.errors import UsageError
from percore.supervisor.automation.schedule import CronSchedule
from percore.supervisor.base.home import Home
from percore.supervisor.base.logger import log
from percore.supervisor.base.loop import Loop, Timer
from percore.supervisor.base.states import HAS_PROCESS, State
from percore.supervisor.config.kinds import QUEUE
from percore.supervisor.core.app import App
from percore.supervisor.core.jobs import Outcome
from percore.supervisor.core.manager import Manager, Observer
from percore.supervisor.core.worker.worker import Worker

_OVER = (State.EXITED, State.STOPPED, State.FATAL)
_KEPT_LINES, _LONGEST_KEPT = 20, 500


class JobRuns(Observer):
    def __init__(self, loop: Loop, home: Home, manager: Manager) -> None:
        self._loop = loop
        self._manager = manager
        self._schedule = CronSchedule(loop, self._time_came)
        self._limits: dict[str, Timer] = {}
        self._late: dict[str, list[str]] = {}  # jobs that ran into their timeout -> their last lines
        self._queued: set[str] = set()
        self._skipped: dict[str, int] = {}
        self._path = os.path.join(home.path, "jobs.json")
        self._last = _read(self._path)

    @property
    def _jobs(self) -> Mapping[str, App]:
        return {name: app for name, app in self._manager.apps.items() if app.config.is_job}

    def apps_changed(self) -> None:
        jobs = self._jobs
        texts = {name: app.config.job_cron for name, app in jobs.items() if app.wanted and app.config.job_cron}
        zones = {name: app.config.job_timezone for name, app in jobs.items() if app.config.job_timezone}
        self._schedule.follow(texts, zones)
        for app in jobs.values():
            self._follow(app)
        if not jobs.keys() >= self._last.keys():
            self._last = {name: run for name, run in self._last.items() if name in jobs}
            self._save()

    def worker_changed(self, app: App, worker: Worker) -> None:
        if app.config.is_job:
            self._follow(app)

    # -- a run ---------------------------------------------------------------------------------------------------------

    def _time_came(self, name: str) -> None:
        app = self._manager.apps.get(name)
        if app is None:
            return
        if not _is_running(app):
            _start(app)
        elif app.config.job_overlap == QUEUE:
            self._queued.add(name)
            log(f"{name}: its time came while it runs; it runs once more when it has ended")
        else:
            self._skipped[name] = self._skipped.get(name, 0) + 1
            log(f"{name}: its time came while it runs; left out")

    def run_now(self, app: App) -> None:
        """Raises UsageError while it runs."""
        if _is_running(app):
            raise UsageError(f"job '{app.name}' runs already", next=f"percore jobs {app.name}")
        _start(app)

    def _follow(self, app: App) -> None:
        worker = app.slots[0].worker
        if worker.state in HAS_PROCESS:
            self._limit(app, worker)
        elif worker.state in _OVER:
            self._ended(app, worker)

    def _limit(self, app: App, worker: Worker) -> None:
        """Also of a run that an earlier supervisor started."""
        seconds = app.config.job_timeout
        if not seconds or app.name in self._limits or app.name in self._late or not worker.child.process:
            return
        left = worker.child.started_at + seconds - time.monotonic()
        self._limits[app.name] = self._loop.later(max(0.0, left), lambda: self._stop_late(app, seconds))

    def _stop_late(self, app: App, seconds: float) -> None:
        slot = app.slots[0]
        self._late[app.name] = slot.worker.child.log_tail()
        slot.worker.failure = f"stopped after its timeout of {seconds:g} s"
        slot.stop()

    def _ended(self, app: App, worker: Worker) -> None:
        name, history = app.name, worker.history
        if timer := self._limits.pop(name, None):
            timer.cancel()
        app.slots[0].wanted = False
        known = self._last.get(name, {})
        if history.started_time and history.started_time != known.get("started"):
            self._note(app, worker, self._late.pop(name, None))
        if app.is_retired:
            self._manager.jobs.submit(f"forget job {name}", self._forget(app), lambda _: None, apps=[name])
        elif name in self._queued:
            self._queued.discard(name)
            self._loop.later(0, lambda: self._time_came(name))

    def _note(self, app: App, worker: Worker, late: list[str] | None) -> None:
        history = worker.history
        is_seen = worker.child.started_at > 0
        if late is not None:
            history.last_tail = late
        self._last[app.name] = {
            "started": history.started_time,
            "seconds": round(time.monotonic() - worker.child.started_at, 3) if is_seen else None,
            "exit_code": history.exit_code if is_seen else None,
            "end": history.last_end or worker.failure,
            "failed": late is not None
            or (is_seen and worker.state is not State.STOPPED and history.has_failed(worker.config)),
            "release": worker.config.release,
            "lines": [line[:_LONGEST_KEPT] for line in history.last_tail[-_KEPT_LINES:]],
        }
        self._save()
        if self._last[app.name]["failed"]:
            for observer in self._manager.observers:
                self._loop.faults.contain(f"telling of {app.name}", observer.job_failed, app, worker, history.last_end)

    def _forget(self, app: App) -> Outcome:
        if app.is_retired:
            yield from self._manager.apps.delete(app)
        return {}

    # -- what is told ----------------------------------------------------------------------------------------------------

    def report(self, names: Sequence[str]) -> list[dict[str, Any]]:
        """Raises UsageError for a name that is no job."""
        jobs = self._jobs
        for name in names:
            if name not in jobs:
                raise UsageError(f"no job is called '{name}'", next="see 'percore jobs'")
        return [self._describe(app) for app in jobs.values() if not names or app.name in names]

    def _describe(self, app: App) -> dict[str, Any]:
        config, worker = app.config, app.slots[0].worker
        is_running = _is_running(app)
        return {
            "name": app.name,
            "cron": config.job_cron,
            "timezone": config.job_timezone,
            "overlap": config.job_overlap,
            "timeout": config.job_timeout or None,
            "next": self._schedule.next_time(app.name),
            "running_since": worker.history.started_time if is_running else None,
            "pid": worker.pid or None,
            "skipped": self._skipped.get(app.name, 0),
            "last": self._last.get(app.name),
        }

    def _save(self) -> None:
        try:
            write_file(self._path, json.dumps(self._last).encode(), is_alone=True, sync=False)
        except OSError as error:
            log(f"{self._path} could not be written ({error.strerror})")


def _start(app: App) -> None:
    slot = app.slots[0]
    slot.replace_config(app.config)
    slot.start()


def _is_running(app: App) -> bool:
    return not app.slots[0].is_down


def _read(path: str) -> dict[str, Any]:
    """The last runs that an earlier supervisor noted; none where that makes no sense."""
    try:
        with open(path, "rb") as file:
            found = json.loads(file.read(1 << 20))
    except (OSError, ValueError):
        return {}
    if not isinstance(found, dict):
        return {}
    return {name: run for name, run in found.items() if isinstance(run, dict) and isinstance(run.get("started"), float)}
