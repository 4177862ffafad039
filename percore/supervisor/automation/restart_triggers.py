"""What replaces an app's workers without a request: the times of `cron_restart`, and changes of watched files.

The modules that do it are only imported when an app uses them.
"""

from __future__ import annotations

from collections.abc import Mapping

from percore.common.typing import TYPE_CHECKING, Any, Optional
from percore.supervisor.base.home import Home
from percore.supervisor.base.logger import log
from percore.supervisor.base.loop import Loop
from percore.supervisor.config.app import AppConfig
from percore.supervisor.core.app import App
from percore.supervisor.core.jobs import Jobs, Outcome
from percore.supervisor.core.manager import Observer
from percore.supervisor.core.replace import count, replace, that_are_up
from percore.supervisor.core.worker.figures import FILES, SCHEDULE

if TYPE_CHECKING:
    from percore.supervisor.automation.file_watch import FileWatch
    from percore.supervisor.automation.schedule import CronSchedule


class RestartTriggers(Observer):
    def __init__(self, loop: Loop, home: Home, apps: Mapping[str, App], jobs: Jobs) -> None:
        self._loop = loop
        self._home = home
        self._apps = apps
        self._jobs = jobs
        self._schedules: Optional[CronSchedule] = None
        self._watches: dict[str, tuple[AppConfig, Optional[FileWatch]]] = {}
        self._replacing: set[str] = set()
        self._news: dict[str, list[str]] = {}  # files that changed while the app was being replaced

    def apps_changed(self) -> None:
        """An app that was stopped has neither times nor watched files."""
        up = [app for app in self._apps.values() if app.wanted]
        self._follow_times({app.name: app.config.cron_restart for app in up if app.config.cron_restart})
        self._follow_files({app.name: app for app in up if app.config.watch})

    # -- times -------------------------------------------------------------------------------------------------------

    def _follow_times(self, texts: Mapping[str, str]) -> None:
        if self._schedules is None:
            if not texts:
                return
            from percore.supervisor.automation.schedule import CronSchedule

            self._schedules = CronSchedule(self._loop, self._time_came)
        self._schedules.follow(texts)

    def _time_came(self, name: str) -> None:
        if name in self._apps:
            reason = f"time for its cron_restart ({self._apps[name].config.cron_restart})"
            self._replace(name, reason, SCHEDULE, starts=self._apps[name].config.waits_for_its_time)

    # -- files -------------------------------------------------------------------------------------------------------

    def _follow_files(self, watched: Mapping[str, App]) -> None:
        for name, (config, watch) in list(self._watches.items()):
            if name not in watched or _watched_by(watched[name].config) != _watched_by(config):
                del self._watches[name]
                self._news.pop(name, None)
                if watch:
                    watch.close()
        for name, app in watched.items():
            if name not in self._watches:
                self._watches[name] = (app.config, self._open_watch(app))

    def _open_watch(self, app: App) -> Optional[FileWatch]:
        from percore.supervisor.automation.file_watch import Changes, FileWatch
        from percore.supervisor.automation.watched_paths import WatchedPaths

        changes = Changes(self._loop, app.config.watch_delay, lambda paths: self._files_changed(app.name, paths))
        try:
            return FileWatch(self._loop, WatchedPaths(app, self._home), changes)
        except OSError as error:
            log(f"{app.name}: its files cannot be watched: {error.strerror} -> raise fs.inotify.max_user_instances")
            return None

    def _files_changed(self, name: str, paths: list[str]) -> None:
        if name in self._replacing:
            self._news.setdefault(name, []).extend(paths)
            return
        others = f" and {len(paths) - 1} more" if len(paths) > 1 else ""
        self._replace(name, f"{paths[0]}{others} changed", FILES)

    # -- what follows ------------------------------------------------------------------------------------------------

    def _replace(self, name: str, reason: str, cause: str, *, starts: bool = False) -> None:
        """Of an app that only runs at its times, the workers start."""
        self._replacing.add(name)
        steps = self._steps(name, reason, cause, starts)
        self._jobs.submit(f"replace {name}", steps, lambda told: self._is_told(name, told), apps=[name])

    def _steps(self, name: str, reason: str, cause: str, starts: bool) -> Outcome:
        _, watch = self._watches.get(name, (None, None))
        if watch:
            watch.changes.app_starts()
        app = self._apps.get(name)
        slots = [slot for slot in app.slots if slot.wanted or (starts and app.wanted)] if app else []
        if app and slots:
            log(f"{name}: {reason}")
            up = that_are_up(slots)
            yield from replace(app, slots, until_stable=False)
            count(app, up, cause)
        return {}

    def _is_told(self, name: str, message: Mapping[str, Any]) -> None:
        """It is done, or was cancelled, perhaps before it began."""
        if message["event"] != "result":
            return
        self._replacing.discard(name)
        _, watch = self._watches.get(name, (None, None))
        if watch:
            watch.changes.app_started()
        if name in self._news:
            self._files_changed(name, self._news.pop(name))


def _watched_by(config: AppConfig) -> tuple[object, ...]:
    return config.watch, config.ignore_watch, config.watch_delay, config.cwd
