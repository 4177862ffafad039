"""The files of one app with `watch`: tells when they changed, and have been left alone for a moment since.

inotify knows single folders only, so every folder below is watched, and new ones are followed. What is not there yet is
looked for now and then.
"""

from __future__ import annotations

import errno
import math
import os
import re
import time
from collections import deque

from percore.common.bounds import regex_limit
from percore.common.typing import Callable, NamedTuple, Optional
from percore.errors import UsageError
from percore.supervisor import inotify
from percore.supervisor.config import globs
from percore.supervisor.config.app import AppConfig
from percore.supervisor.loop import Loop, Timer

_QUIET_SECONDS = 0.1
_LONGEST_WAIT = 5.0  # while files change all the time
_SLICE_SECONDS = 0.01  # of looking for folders, before others have their turn
_MISSING_SECONDS = 2.0
# A file that changes each time when the app was just started is written by the app itself.
_EARLY_SECONDS = 2.0
_OWN_TIMES = 3
_SLOWEST_SECONDS = 30.0


class Root(NamedTuple):
    """One entry of `watch`: a folder, a single file in one, or what of a folder a glob names."""

    folder: str
    pattern: Optional[re.Pattern[str]] = None
    is_deep: bool = True

    def covers(self, path: str) -> bool:
        if self.pattern:
            with regex_limit(self.pattern.pattern):
                return bool(self.pattern.fullmatch(path))
        return path == self.folder or path.startswith(self.folder.rstrip("/") + "/")


class Watcher:
    def __init__(self, loop: Loop, config: AppConfig, is_own: Callable[[str], bool],
                 changed: Callable[[list[str]], None], log: Callable[[str], None]) -> None:  # fmt: skip
        """`is_own` knows the files that the supervisor writes for the app. Raises OSError."""
        self._loop = loop
        self._config = config
        self._is_own = is_own
        self._tell = changed
        self._log = log
        self._roots = [make_root(entry, config.cwd) for entry in config.watch]
        self._is_ignored = globs.make_filter(config.ignore_watch or globs.DEFAULT_IGNORED, config.cwd)
        self._inotify = inotify.Inotify()
        self._folders: dict[int, str] = {}
        self._pending: deque[tuple[str, bool]] = deque()  # folders to look at, and whether their files are news
        self._missing: set[str] = set()
        self._changed: dict[str, None] = {}
        self._first = self._last = 0.0
        self._timer: Optional[Timer] = None
        self._scan_timer: Optional[Timer] = None
        self._said: set[str] = set()
        self._started_at = time.monotonic()
        self._suspects: dict[str, int] = {}
        self._early_in_a_row = 0
        self._has_given_up = False
        loop.watch(self._inotify.descriptor, self._read)
        self._look_again()

    def close(self) -> None:
        self._loop.unwatch(self._inotify.descriptor)
        self._inotify.close()
        for timer in (self._timer, self._scan_timer):
            if timer:
                timer.cancel()

    def app_starts(self) -> None:
        self._started_at = math.inf

    def app_started(self) -> None:
        self._started_at = time.monotonic()

    def _is_early(self, moment: float) -> bool:
        return moment - self._started_at < _EARLY_SECONDS

    # -- folders -----------------------------------------------------------------------------------------------------

    def _look_again(self) -> None:
        """Begins with all roots; what is watched already costs little."""
        self._missing.clear()
        self._pending.extend((root.folder, False) for root in self._roots)
        self._scan()

    def _scan(self) -> None:
        self._scan_timer = None
        end = time.monotonic() + _SLICE_SECONDS
        while self._pending and time.monotonic() < end:
            self._follow(*self._pending.popleft())
        if self._pending:
            self._scan_timer = self._loop.later(0, self._scan)
        elif self._missing:
            self._scan_timer = self._loop.later(_MISSING_SECONDS, self._find_missing)

    def _find_missing(self) -> None:
        self._pending.extend((folder, True) for folder in self._missing)
        self._missing.clear()
        self._scan()

    def _follow(self, folder: str, files_are_news: bool) -> None:
        is_root = any(root.folder == folder for root in self._roots)
        try:
            watch = self._inotify.add(folder, follow=is_root)
            self._folders[watch] = folder
            with os.scandir(folder) as entries:
                for entry in entries:
                    if entry.is_dir(follow_symlinks=False):
                        self._plan(entry.path, files_are_news)
                    elif files_are_news:
                        self._note(entry.path)
        except OSError as error:
            self._not_followed(folder, error, is_root=is_root)

    def _not_followed(self, folder: str, error: OSError, *, is_root: bool) -> None:
        if error.errno == errno.ENOSPC:
            self._pending.clear()
            self._say(
                f"the kernel watches no more folders ({len(self._folders)} here), so changes in {folder} and others go "
                "unseen -> set ignore_watch, or raise fs.inotify.max_user_watches"
            )
        elif is_root:
            self._missing.add(folder)
            self._say(f"{folder} cannot be watched: {error.strerror}; it is as soon as it can be")
        elif error.errno not in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):
            self._say(f"{folder} cannot be watched: {error.strerror}")

    def _plan(self, folder: str, files_are_news: bool) -> None:
        root = self._root_of(folder)
        if root and not self._is_left_out(folder, root.folder):
            self._pending.append((folder, files_are_news))

    def _is_left_out(self, path: str, folder: str) -> bool:
        try:
            return self._has_given_up or self._is_ignored(path, folder)
        except UsageError as error:
            self._give_up("ignore_watch", error)
            return True

    def _give_up(self, key: str, error: UsageError) -> None:
        """A pattern without end is tried once: the supervisor has more to do than this app's files."""
        self._say(f"{key}: {error}; nothing is watched any more")
        self._has_given_up = True

    def _root_of(self, folder: str) -> Optional[Root]:
        """The one that wants the folders inside `folder` too."""
        inside = (root for root in self._roots if root.is_deep and globs.below(folder, root.folder))
        return next(inside, None)

    def _forget(self, folder: str) -> None:
        """It moved away: its watches would go with it, under another name."""
        for watch, place in list(self._folders.items()):
            if place == folder or place.startswith(f"{folder}/"):
                self._inotify.remove(watch)
                del self._folders[watch]

    # -- changes -----------------------------------------------------------------------------------------------------

    def _read(self) -> None:
        for change in self._inotify.read():
            if change.mask & inotify.OVERFLOW:
                self._say("more files changed at once than the kernel could tell; it counts as a change")
                self._note(self._roots[0].folder, is_sure=True)
                self._look_again()
            elif change.mask & inotify.IGNORED:
                self._lost(self._folders.pop(change.watch, ""))
            elif change.watch in self._folders:
                self._read_change(change, os.path.join(self._folders[change.watch], change.name))

    def _lost(self, folder: str) -> None:
        if any(root.folder == folder for root in self._roots):
            self._missing.add(folder)
            self._scan()

    def _read_change(self, change: inotify.Change, path: str) -> None:
        if change.mask & inotify.IS_DIR:
            if change.mask & (inotify.CREATE | inotify.MOVED_TO):
                self._plan(path, True)
                self._scan()
            elif change.mask & inotify.MOVED_FROM:
                self._forget(path)
                self._note(path)
        elif not change.mask & inotify.CREATE or not _will_be_closed(path):
            self._note(path)

    def _note(self, path: str, *, is_sure: bool = False) -> None:
        if not is_sure and not self._counts(path):
            return
        now = time.monotonic()
        if not self._changed:
            self._first = now
            self._plan_report(self._quiet_seconds)
        self._last = now
        self._changed[path] = None

    def _counts(self, path: str) -> bool:
        roots = self._roots_around(path)
        if not roots or self._is_own(path) or all(self._is_left_out(path, root.folder) for root in roots):
            return False
        if self._suspects.get(path, 0) >= _OWN_TIMES and self._is_early(time.monotonic()):
            self._say(f"{path} changes whenever the app starts, so the app writes it: such changes are left out")
            return False
        return True

    def _roots_around(self, path: str) -> list[Root]:
        try:
            return [root for root in self._roots if not self._has_given_up and root.covers(path)]
        except UsageError as error:
            self._give_up("watch", error)
            return []

    @property
    def _quiet_seconds(self) -> float:
        """An app that writes other files at each start is started ever more slowly."""
        loops = max(0, self._early_in_a_row - _OWN_TIMES)
        return max(self._config.watch_delay, min(_QUIET_SECONDS * 2.0 ** min(loops, 30), _SLOWEST_SECONDS))

    def _plan_report(self, seconds: float) -> None:
        self._timer = self._loop.later(seconds, self._report)

    def _report(self) -> None:
        now = time.monotonic()
        wait = self._last + self._quiet_seconds - now
        if wait > 0 and now - self._first < max(_LONGEST_WAIT, self._quiet_seconds):
            self._plan_report(wait)
            return
        paths = list(self._changed)
        self._changed.clear()
        if self._is_early(self._first):
            self._early_in_a_row += 1
            self._suspects = {path: self._suspects.get(path, 0) + 1 for path in paths}
        else:
            self._early_in_a_row = 0
            self._suspects = {}
        self._tell(paths)

    def _say(self, sentence: str) -> None:
        if sentence not in self._said:
            self._said.add(sentence)
            self._log(f"{self._config.name}: watch: {sentence}")


def make_root(entry: str, cwd: str) -> Root:
    path = os.path.normpath(os.path.join(cwd, entry))
    if globs.has_magic(entry) and not os.path.lexists(path):
        inner = os.path.normpath(os.path.join(cwd, entry))
        folder = globs.fixed_part(inner)
        return Root(folder, re.compile(globs.translate(inner, keep=len(folder))))
    if os.path.isfile(path):
        # Editors put a new file in its place, so the folder is what can be watched.
        return Root(os.path.dirname(path), re.compile(re.escape(path)), is_deep=False)
    return Root(path)


def _will_be_closed(path: str) -> bool:
    """A new file counts when it is written; a link, which nobody writes to, at once."""
    try:
        found = os.lstat(path)
    except OSError:
        return True
    return (found.st_mode & 0o170000) == 0o100000 and found.st_nlink == 1
