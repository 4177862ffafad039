"""Which paths count for an app with `watch`: those that it names, without those that it ignores or that are written for it."""

from __future__ import annotations

import os
import re

from percore.common.bounds import regex_limit
from percore.common.typing import NamedTuple, Optional
from percore.errors import UsageError
from percore.supervisor.base.home import Home
from percore.supervisor.base.logger import log
from percore.supervisor.config import globs
from percore.supervisor.core.app import App
from percore.supervisor.core.worker.record import log_paths_of
from percore.supervisor.process.pid_file import pid_path


class Root(NamedTuple):
    """One entry of `watch`: a directory, a single file in one, or what of a directory a glob names."""

    directory: str
    pattern: Optional[re.Pattern[str]] = None
    is_deep: bool = True

    def covers(self, path: str) -> bool:
        if self.pattern:
            with regex_limit(self.pattern.pattern):
                return bool(self.pattern.fullmatch(path))
        return path == self.directory or path.startswith(self.directory.rstrip("/") + "/")


class WatchedPaths:
    def __init__(self, app: App, home: Home) -> None:
        config = app.config
        self.roots = [make_root(entry, config.cwd) for entry in config.watch]
        self._app = app
        self._home = home
        self._is_ignored = globs.make_filter(config.ignore_watch or globs.DEFAULT_IGNORED, config.cwd)
        self._has_given_up = False
        self._logged: set[str] = set()

    def is_root(self, directory: str) -> bool:
        return any(root.directory == directory for root in self.roots)

    def is_directory_wanted(self, directory: str) -> bool:
        """Whether a root wants the directories inside its own, too, and this one is not ignored."""
        inside = (root for root in self.roots if root.is_deep and globs.below(directory, root.directory))
        root = next(inside, None)
        return root is not None and not self._is_left_out(directory, root.directory)

    def is_file_wanted(self, path: str) -> bool:
        roots = self._roots_around(path)
        return bool(roots) and not (
            self._is_own(path) or all(self._is_left_out(path, root.directory) for root in roots)
        )

    def _roots_around(self, path: str) -> list[Root]:
        try:
            return [root for root in self.roots if not self._has_given_up and root.covers(path)]
        except UsageError as error:
            self._give_up("watch", error)
            return []

    def _is_left_out(self, path: str, directory: str) -> bool:
        try:
            return self._has_given_up or self._is_ignored(path, directory)
        except UsageError as error:
            self._give_up("ignore_watch", error)
            return True

    def _is_own(self, path: str) -> bool:
        """True for files that the supervisor writes, also what a rotation puts beside a log: `.1`, `.2`..."""
        if path.startswith(f"{self._home.path}/"):
            return True
        own = {pid_path(self._app.config, slot.id, self._home.pids) for slot in self._app.slots}
        for worker in self._app.workers:
            own.update(log_paths_of(worker))
        return path in own or any(path.startswith(f"{place}.") for place in own if place)

    def _give_up(self, key: str, error: UsageError) -> None:
        """A pattern without end is tried once: the supervisor has more to do than this app's files."""
        self.log_once(f"{key}: {error}; nothing is watched any more")
        self._has_given_up = True

    def log_once(self, sentence: str) -> None:
        if sentence not in self._logged:
            self._logged.add(sentence)
            log(f"{self._app.name}: watch: {sentence}")


def make_root(entry: str, cwd: str) -> Root:
    path = os.path.normpath(os.path.join(cwd, entry))
    if globs.has_magic(entry) and not os.path.lexists(path):
        directory = globs.fixed_part(path)
        return Root(directory, re.compile(globs.translate(path, keep=len(directory))))
    if os.path.isfile(path):
        # Editors put a new file in its place, so the directory is what can be watched.
        return Root(os.path.dirname(path), re.compile(re.escape(path)), is_deep=False)
    return Root(path)
