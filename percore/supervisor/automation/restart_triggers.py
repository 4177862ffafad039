"""What a process file asks for once and for all: new workers at the times of `cron_restart`, and when watched files change.

The modules that do it are only imported when an app uses them.
"""

from __future__ import annotations

from collections.abc import Mapping

from percore.common.typing import TYPE_CHECKING, Callable, Optional
from percore.supervisor.config.app import AppConfig
from percore.supervisor.core.app import App
from percore.supervisor.core.jobs import Jobs, Outcome
from percore.supervisor.core.worker_record import log_paths_of
from percore.supervisor.home import Home
from percore.supervisor.loop import Loop
from percore.supervisor.process.pid_file import pid_path

if TYPE_CHECKING:
    from percore.supervisor.automation.file_watch import Watcher
    from percore.supervisor.automation.schedule import Schedules


class Routines:
    def __init__(self, loop: Loop, home: Home, apps: Mapping[str, App], jobs: Jobs, log: Callable[[str], None]) -> None:
        self._loop = loop
        self._home = home
        self._apps = apps
        self._jobs = jobs
        self._log = log
        self._schedules: Optional[Schedules] = None
        self._watchers: dict[str, tuple[AppConfig, Optional[Watcher]]] = {}
        self._renewing: set[str] = set()
        self._news: dict[str, list[str]] = {}  # files that changed while the app was being renewed

    def follow(self) -> None:
        """Called when apps may have changed. An app that was stopped has neither times nor watched files."""
        up = [app for app in self._apps.values() if app.wanted]
        self._follow_times({app.name: app.config.cron_restart for app in up if app.config.cron_restart})
        self._follow_files({app.name: app for app in up if app.config.watch})

    # -- times -------------------------------------------------------------------------------------------------------

    def _follow_times(self, texts: Mapping[str, str]) -> None:
        if self._schedules is None:
            if not texts:
                return
            from percore.supervisor.automation.schedule import Schedules

            self._schedules = Schedules(self._loop, self._time_came)
        self._schedules.follow(texts)

    def _time_came(self, name: str) -> None:
        if name in self._apps:
            self._renew(name, f"time for its cron_restart ({self._apps[name].config.cron_restart})")

    # -- files -------------------------------------------------------------------------------------------------------

    def _follow_files(self, watched: Mapping[str, App]) -> None:
        for name, (config, watcher) in list(self._watchers.items()):
            if name not in watched or not is_watched_alike(watched[name].config, config):
                del self._watchers[name]
                self._news.pop(name, None)
                if watcher:
                    watcher.close()
        for name, app in watched.items():
            if name not in self._watchers:
                self._watchers[name] = (app.config, self._open_watcher(app))

    def _open_watcher(self, app: App) -> Optional[Watcher]:
        from percore.supervisor.automation.file_watch import Watcher

        try:
            return Watcher(
                self._loop, app.config, lambda path: self._is_own(app, path),
                lambda paths: self._files_changed(app.name, paths), self._log,
            )  # fmt: skip
        except OSError as error:
            self._log(
                f"{app.name}: its files cannot be watched: {error.strerror} -> raise fs.inotify.max_user_instances"
            )
            return None

    def _is_own(self, app: App, path: str) -> bool:
        """Also what a rotation puts beside a log: `.1`, `.2`..."""
        if path.startswith(f"{self._home.path}/"):
            return True
        own = {pid_path(app.config, slot.id, self._home.pids) for slot in app.slots}
        for worker in app.workers:
            own.update(log_paths_of(worker))
        return path in own or any(path.startswith(f"{place}.") for place in own if place)

    def _files_changed(self, name: str, paths: list[str]) -> None:
        if name in self._renewing:
            self._news.setdefault(name, []).extend(paths)
            return
        others = f" and {len(paths) - 1} more" if len(paths) > 1 else ""
        self._renew(name, f"{paths[0]}{others} changed")

    # -- what follows ------------------------------------------------------------------------------------------------

    def _renew(self, name: str, reason: str) -> None:
        self._renewing.add(name)
        self._jobs.submit(f"renew {name}", self._steps(name, reason), lambda _: None)

    def _steps(self, name: str, reason: str) -> Outcome:
        _, watcher = self._watchers.get(name, (None, None))
        if watcher:
            watcher.app_starts()
        try:
            app = self._apps.get(name)
            slots = [slot for slot in app.slots if slot.wanted] if app else []
            if app and slots:
                self._log(f"{name}: {reason}")
                yield from app.renew(slots, soak=False)
        finally:
            self._renewing.discard(name)
            _, watcher = self._watchers.get(name, (None, None))
            if watcher:
                watcher.app_started()
            if name in self._news:
                self._files_changed(name, self._news.pop(name))
        return {}


def is_watched_alike(one: AppConfig, other: AppConfig) -> bool:
    return (one.watch, one.ignore_watch, one.watch_delay, one.cwd) == (
        other.watch, other.ignore_watch, other.watch_delay, other.cwd,
    )  # fmt: skip
