"""Keeps the log formatter (logs/formatter.py) running while an app needs it, and tells it what to read."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import time
from collections.abc import Iterator, Mapping

from percore.common.files import write_file
from percore.common.typing import Any
from percore.supervisor.base.environment import clean_environment
from percore.supervisor.base.home import Home
from percore.supervisor.base.logger import log
from percore.supervisor.base.loop import Loop
from percore.supervisor.base.program import this_program
from percore.supervisor.core.app import App
from percore.supervisor.core.manager import Observer
from percore.supervisor.core.worker.record import log_paths_of, written_paths_of
from percore.supervisor.logs.files import has_formatter
from percore.supervisor.logs.formatter_files import FormatterFiles

_PLAN_VERSION = ("PERCORE_SCRIBE_PLAN", "2")  # a variable of the formatter, which tells what it can read
_LAST_SECONDS = 5.0
_SHORT_LIFE_SECONDS = 0.5


class LogFormatting(Observer):
    def __init__(self, loop: Loop, home: Home, apps: Mapping[str, App]) -> None:
        self._loop = loop
        self._home = home
        self._files = FormatterFiles.of(home)
        self._apps = apps
        self._plan: list[Any] = []
        self._pidfd = -1
        self._began_at = 0.0
        self._end_another_version()

    def apps_changed(self) -> None:
        """Writes the plan when it is another one, and starts the formatter when none runs."""
        plan = [entry for app in self._apps.values() for entry in _entries_of(app)]
        if plan != self._plan:
            self._plan = plan
            self._write_plan(plan)
        if plan and self._pidfd < 0:
            self._start()

    def close(self) -> None:
        """When no worker is left, waits until the formatter has written the last lines."""
        if any(True for app in self._apps.values() for _ in app.living):
            return
        self._write_plan([])
        if self._pidfd >= 0:
            select.select([self._pidfd], [], [], _LAST_SECONDS)

    def _write_plan(self, plan: list[Any]) -> None:
        for directory in (self._files.raw_logs, self._files.directory):
            os.makedirs(directory, mode=0o700, exist_ok=True)
        try:
            write_file(self._files.plan, json.dumps(plan).encode(), is_alone=True, sync=False)
        except OSError as error:
            log(f"{self._files.plan} could not be written ({error.strerror}): new logs stay in {self._files.raw_logs}")

    def _start(self) -> None:
        pid = self._running()
        if pid <= 0:
            argv = this_program().argv(module="logs.formatter")
            env = {**clean_environment(os.environ), "PERCORE_HOME": self._home.path, **dict([_PLAN_VERSION])}
            null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
            try:
                pid = os.posix_spawn(
                    argv[0], argv, env, setsid=True, setsigmask=(),
                    setsigdef=[signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGPIPE, signal.SIGCHLD],
                    file_actions=[(os.POSIX_SPAWN_DUP2, null, 0), (os.POSIX_SPAWN_DUP2, null, 1),
                                  (os.POSIX_SPAWN_DUP2, 2, 2)],
                )  # fmt: skip
            except OSError as error:
                log(f"the log formatter cannot be started ({error.strerror}): new logs stay in {self._files.raw_logs}")
                self._loop.later(_LAST_SECONDS, self.apps_changed)
                return
            finally:
                os.close(null)
        try:
            self._pidfd = os.pidfd_open(pid)
        except OSError:
            self._loop.later(0.1, self.apps_changed)  # it is over already
            return
        self._began_at = time.monotonic()
        self._loop.watch(self._pidfd, self._ended)

    def _running(self) -> int:
        """The pid of the formatter that an earlier supervisor started; 0 where there is none."""
        with contextlib.suppress(OSError, ValueError), open(self._files.lock, "rb+") as lock:
            import fcntl

            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return int(lock.read())
        return 0

    def _end_another_version(self) -> None:
        """It would not understand our plan, and remove what it does not know; the next one goes on at the same byte."""
        pid = self._running()
        with contextlib.suppress(OSError), open(f"/proc/{pid}/environ", "rb") as environ:
            if os.fsencode("=".join(_PLAN_VERSION)) not in environ.read().split(b"\0"):
                pidfd = os.pidfd_open(pid)
                signal.pidfd_send_signal(pidfd, signal.SIGKILL)
                select.select([pidfd], [], [], _LAST_SECONDS)
                os.close(pidfd)

    def _ended(self) -> None:
        self._loop.unwatch(self._pidfd)
        os.close(self._pidfd)
        self._pidfd = -1
        is_short = time.monotonic() - self._began_at < _SHORT_LIFE_SECONDS
        self._loop.later(_SHORT_LIFE_SECONDS if is_short else 0, self.apps_changed)


def _entries_of(app: App) -> Iterator[dict[str, Any]]:
    """In the form of formatter.Entry. Two workers of one slot, in a reload, share their raw logs."""
    seen = set()
    for worker in app.workers:
        config = worker.config
        if not has_formatter(config):
            continue
        paths = log_paths_of(worker)
        for raw, path, stream in zip(written_paths_of(worker), paths, ("out", "err")):
            if raw in seen:
                continue
            seen.add(raw)
            targets = [target for target in dict.fromkeys((path, paths.combined)) if target not in ("", os.devnull)]
            yield {
                "spool": raw, "targets": targets, "app": app.name, "id": worker.place.id, "stream": stream,
                "date_format": config.log_date_format or "", "is_json": config.log_type == "json",
                "user": config.user, "group": config.group,
            }  # fmt: skip
