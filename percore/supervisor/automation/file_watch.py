"""The files of one app with `watch`: tells when they changed, and have been left alone for a moment since.

inotify knows single directories only, so every directory below is watched, and new ones are followed. What is not there yet is
looked for from time to time.
"""

from __future__ import annotations

import errno
import math
import os
import time
from collections import deque
from contextlib import suppress

from percore.common.typing import Callable, Optional
from percore.supervisor.automation.watched_paths import WatchedPaths
from percore.supervisor.base import inotify
from percore.supervisor.base.loop import Loop, Timer

_QUIET_SECONDS = 0.1
_LONGEST_WAIT = 5.0  # while files change all the time
_SLICE_SECONDS = 0.01  # of looking for directories, before others have their turn
_MISSING_SECONDS = 2.0
# A file that changes each time when the app was just started is written by the app itself.
_EARLY_SECONDS = 2.0
_OWN_TIMES = 3
_SLOWEST_SECONDS = 30.0


class Changes:
    """What changed since the last report, which comes when nothing has changed for a moment."""

    def __init__(self, loop: Loop, delay: float, report: Callable[[list[str]], None]) -> None:
        """`delay` is the least time without a change before a report."""
        self._loop = loop
        self._delay = delay
        self._tell = report
        self._changed: dict[str, None] = {}
        self._first = self._last = 0.0
        self._timer: Optional[Timer] = None
        self._started_at = time.monotonic()
        self._suspects: dict[str, int] = {}
        self._early_in_a_row = 0

    def app_starts(self) -> None:
        self._started_at = math.inf

    def app_started(self) -> None:
        self._started_at = time.monotonic()

    def is_by_app(self, path: str) -> bool:
        """True for a file that changes whenever the app starts, and just did."""
        return self._suspects.get(path, 0) >= _OWN_TIMES and self._is_early(time.monotonic())

    def _is_early(self, moment: float) -> bool:
        return moment - self._started_at < _EARLY_SECONDS

    def add(self, path: str) -> None:
        now = time.monotonic()
        if not self._changed:
            self._first = now
            self._timer = self._loop.later(self._quiet_seconds, self._report)
        self._last = now
        self._changed[path] = None

    @property
    def _quiet_seconds(self) -> float:
        """An app that writes other files at each start is started ever more slowly."""
        loops = max(0, self._early_in_a_row - _OWN_TIMES)
        return max(self._delay, min(_QUIET_SECONDS * 2.0 ** min(loops, 30), _SLOWEST_SECONDS))

    def _report(self) -> None:
        now = time.monotonic()
        wait = self._last + self._quiet_seconds - now
        if wait > 0 and now - self._first < max(_LONGEST_WAIT, self._quiet_seconds):
            self._timer = self._loop.later(wait, self._report)
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

    def close(self) -> None:
        if self._timer:
            self._timer.cancel()


class FileWatch:
    def __init__(self, loop: Loop, paths: WatchedPaths, changes: Changes) -> None:
        """`changes` receives what changed. Raises OSError."""
        self.changes = changes
        self._loop = loop
        self._paths = paths
        self._inotify = inotify.Inotify()
        self._directories: dict[int, str] = {}
        self._pending: deque[tuple[str, bool]] = deque()  # directories to look at, and whether their files are news
        self._missing: set[str] = set()
        self._links: set[str] = set()  # on the way to a root
        self._scan_timer: Optional[Timer] = None
        loop.watch(self._inotify.descriptor, self._read)
        self._look_again()

    def close(self) -> None:
        self._loop.unwatch(self._inotify.descriptor)
        self._inotify.close()
        self.changes.close()
        if self._scan_timer:
            self._scan_timer.cancel()

    # -- directories -------------------------------------------------------------------------------------------------

    def _look_again(self) -> None:
        """Begins with all roots; what is watched already costs little."""
        self._missing.clear()
        for root in self._paths.roots:
            self._follow_links(root.directory)
            self._pending.append((root.directory, False))
        self._scan()

    def _follow_links(self, directory: str) -> None:
        """`current` may lead elsewhere one day: the directory that it lies in tells."""
        for link in links_in(directory):
            self._links.add(link)
            with suppress(OSError):
                self._directories[self._inotify.add(os.path.dirname(link))] = os.path.dirname(link)

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
        self._pending.extend((directory, True) for directory in self._missing)
        self._missing.clear()
        self._scan()

    def _follow(self, directory: str, files_are_news: bool) -> None:
        is_root = self._paths.is_root(directory)
        try:
            watch = self._inotify.add(directory)
            if self._directories.setdefault(watch, directory) != directory:
                return  # it is watched by another name: links may lead in circles
            with os.scandir(directory) as entries:
                for entry in entries:
                    if entry.is_dir():
                        self._plan(entry.path, files_are_news)
                    elif files_are_news:
                        self._note(entry.path)
        except OSError as error:
            self._not_followed(directory, error, is_root=is_root)

    def _not_followed(self, directory: str, error: OSError, *, is_root: bool) -> None:
        if error.errno == errno.ENOSPC:
            self._pending.clear()
            self._paths.log_once(
                f"the kernel watches no more directories ({len(self._directories)} here), so changes in {directory} and "
                "others go unseen -> set ignore_watch, or raise fs.inotify.max_user_watches"
            )
        elif is_root:
            self._missing.add(directory)
            self._paths.log_once(f"{directory} cannot be watched: {error.strerror}; it is as soon as it can be")
        elif error.errno not in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):
            self._paths.log_once(f"{directory} cannot be watched: {error.strerror}")

    def _plan(self, directory: str, files_are_news: bool) -> None:
        if self._paths.is_directory_wanted(directory):
            self._pending.append((directory, files_are_news))

    def _forget(self, directory: str) -> None:
        """It moved away: its watches would go with it, under another name."""
        for watch, place in list(self._directories.items()):
            if place == directory or place.startswith(f"{directory}/"):
                self._inotify.remove(watch)
                del self._directories[watch]

    # -- changes -----------------------------------------------------------------------------------------------------

    def _read(self) -> None:
        for change in self._inotify.read():
            if change.mask & inotify.OVERFLOW:
                self._paths.log_once("more files changed at once than the kernel could tell; it counts as a change")
                self.changes.add(self._paths.roots[0].directory)
                self._look_again()
            elif change.mask & inotify.IGNORED:
                self._lost(self._directories.pop(change.watch, ""))
            elif change.watch in self._directories:
                self._read_change(change, os.path.join(self._directories[change.watch], change.name))

    def _lost(self, directory: str) -> None:
        if self._paths.is_root(directory):
            self._missing.add(directory)
            self._scan()

    def _read_change(self, change: inotify.InotifyChange, path: str) -> None:
        if change.mask & inotify.IS_DIR:
            if change.mask & (inotify.CREATE | inotify.MOVED_TO):
                self._plan(path, True)
                self._scan()
            elif change.mask & inotify.MOVED_FROM:
                self._forget(path)
                self._note(path)
        elif not change.mask & inotify.CREATE or not _will_be_closed(path):
            self._follow_link(path)
            self._note(path)

    def _follow_link(self, path: str) -> None:
        """It may be a link to another directory now."""
        if path in self._links:
            for root in self._paths.roots:
                if root.directory == path or root.directory.startswith(f"{path}/"):
                    self._forget(root.directory)
                    self.changes.add(path)
            self._look_again()
        elif os.path.islink(path) and os.path.isdir(path):
            self._forget(path)
            self._plan(path, True)
            self._scan()

    def _note(self, path: str) -> None:
        if not self._paths.is_file_wanted(path):
            return
        if self.changes.is_by_app(path):
            self._paths.log_once(
                f"{path} changes whenever the app starts, so the app writes it: such changes are left out"
            )
            return
        self.changes.add(path)


def links_in(path: str) -> list[str]:
    parts = path.split(os.sep)
    return [prefix for end in range(2, len(parts) + 1) if os.path.islink(prefix := os.sep.join(parts[:end]))]


def _will_be_closed(path: str) -> bool:
    """A new file counts when it is written; a link, which nobody writes to, at once."""
    try:
        found = os.lstat(path)
    except OSError:
        return True
    return (found.st_mode & 0o170000) == 0o100000 and found.st_nlink == 1
