"""`hooks`: tells commands and addresses what happened to an app. Another process runs them (hook_runner.py), so that nothing
they do can hold up the supervisor; what comes too often is counted instead.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import time
from collections.abc import Mapping

from percore.common.typing import Any, Optional
from percore.errors import PercoreError
from percore.supervisor.base.environment import clean_environment
from percore.supervisor.base.home import Home
from percore.supervisor.base.logger import log
from percore.supervisor.base.loop import Loop
from percore.supervisor.base.program import this_program
from percore.supervisor.base.states import State, WorkerRole
from percore.supervisor.base.user import identity_of
from percore.supervisor.core.app import App
from percore.supervisor.core.manager import Observer
from percore.supervisor.core.status import is_crash_looping
from percore.supervisor.core.worker.worker import Worker

_QUIET_SECONDS = 10.0  # between two of the same kind about one app
_MOST_RUNNERS = 8


class EventHooks(Observer):
    def __init__(self, loop: Loop, home: Home, apps: Mapping[str, App]) -> None:
        self._loop = loop
        self._home = home
        self._apps = apps
        self._silent: dict[tuple[str, str], int] = {}  # (app, event) told lately -> how many came since
        self._latest: dict[tuple[str, str], tuple[App, dict[str, Any]]] = {}
        self._in_trouble: set[tuple[str, int]] = set()
        self._reload_failures: dict[str, str] = {}
        self._runners = 0

    def worker_changed(self, app: App, worker: Worker) -> None:
        place = (app.name, worker.number)
        if worker.role is not WorkerRole.CURRENT or not app.config.hooks or app.config.is_job:
            return
        if worker.state is State.FATAL:
            self._in_trouble.add(place)
            self._tell(app, "given_up", worker.failure, worker)
        elif worker.state is State.BACKOFF or (
            worker.state is State.EXITED and worker.history.has_failed(worker.config)
        ):
            self._tell(app, "crash", worker.failure, worker)
            if is_crash_looping(worker) and place not in self._in_trouble:
                self._in_trouble.add(place)
                self._tell(app, "crash_loop", worker.failure, worker)
        elif worker.is_ready and worker.is_stable and place in self._in_trouble:
            self._in_trouble.discard(place)
            self._tell(app, "recovered", "it runs again", worker)

    def worker_over_limit(self, app: App, worker: Worker, reason: str) -> None:
        self._tell(app, "memory", reason, worker)

    def job_failed(self, app: App, worker: Worker, reason: str) -> None:
        self._tell(app, "job_failed", reason, worker)

    def apps_changed(self) -> None:
        for app in self._apps.values():
            if app.config.hooks:
                self._loop.faults.contain(f"running hooks of {app.name}", self._app_changed, app)

    def _app_changed(self, app: App) -> None:
        """A reload failed, or one went well after that."""
        before = self._reload_failures.get(app.name, "")
        if app.reload_failure == before:
            return
        self._reload_failures[app.name] = app.reload_failure
        if app.reload_failure:
            self._tell(app, "reload_failed", app.reload_failure)
        else:
            self._tell(app, "recovered", "the reload went well")

    def _tell(self, app: App, event: str, reason: str, worker: Optional[Worker] = None) -> None:
        if not app.config.hooks.get(event):
            return
        message: dict[str, Any] = {
            "event": event, "app": app.name, "reason": reason, "host": socket.gethostname(),
            "time": time.strftime("%Y-%m-%dT%H:%M:%S%z"), "release": app.config.release, "count": 1,
        }  # fmt: skip
        if worker:
            message.update(
                slot=worker.number, pid=worker.pid, restarts=worker.history.restarts, log_tail=worker.history.last_tail
            )
        key = (app.name, event)
        if key in self._silent:
            self._silent[key] += 1
            self._latest[key] = (app, message)
            return
        self._silent[key] = 0
        self._loop.later(_QUIET_SECONDS, lambda: self._tell_rest(key))
        self._send(app, message)

    def _tell_rest(self, key: tuple[str, str]) -> None:
        """What came meanwhile, as one."""
        count = self._silent.pop(key)
        app, message = self._latest.pop(key, (None, {}))
        if app and count:
            self._silent[key] = 0
            self._loop.later(_QUIET_SECONDS, lambda: self._tell_rest(key))
            self._send(app, {**message, "count": count})

    def _send(self, app: App, message: Mapping[str, Any]) -> None:
        if self._runners >= _MOST_RUNNERS:
            log(f"{app.name}: hook {message['event']} left out: {self._runners} others still run")
            return
        try:
            self._start_runner(app, message)
        except (OSError, PercoreError) as error:
            log(f"{app.name}: hook {message['event']} could not be run: {error}")

    def _start_runner(self, app: App, message: Mapping[str, Any]) -> None:
        identity = identity_of(app.config.user, app.config.group)
        task = {
            "message": message,
            "targets": list(app.config.hooks[message["event"]]),
            "secret": app.config.env.get("PERCORE_HOOK_SECRET", ""),
            "cwd": app.config.cwd,
            "identity": [identity.uid, identity.gid, list(identity.groups)] if identity else None,
        }
        env = {
            **clean_environment(os.environ),
            **(identity.variables if identity else {}),
            "PERCORE_HOME": self._home.path,
        }
        argv = this_program().argv(module="automation.hook_runner")
        event_file = os.memfd_create("event")
        try:
            os.write(event_file, json.dumps(task).encode())
            os.lseek(event_file, 0, os.SEEK_SET)
            pid = os.posix_spawn(
                argv[0], argv, env, setsid=True, setsigmask=(),
                setsigdef=[signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGPIPE, signal.SIGCHLD],
                file_actions=[(os.POSIX_SPAWN_DUP2, event_file, 0), (os.POSIX_SPAWN_DUP2, 2, 1)],
            )  # fmt: skip
            pidfd = os.pidfd_open(pid)
        finally:
            os.close(event_file)
        self._runners += 1
        self._loop.watch(pidfd, lambda: self._runner_ended(pidfd))

    def _runner_ended(self, pidfd: int) -> None:
        self._loop.unwatch(pidfd)
        os.close(pidfd)
        self._runners -= 1
