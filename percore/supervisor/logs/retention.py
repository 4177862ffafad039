"""What is to be done to logs now and then: rotate, compress, keep all of an app's below its limit, keep the disk from filling.

Done in another process, a fork that lives as long as the work: a slow disk cannot hold the supervisor's loop. It may be
killed at any moment.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator

from percore.common.typing import NamedTuple
from percore.supervisor.base.user import identity_or_none
from percore.supervisor.base.user_files import find
from percore.supervisor.logs.files import id_of
from percore.supervisor.logs.limits import LogTask, RetentionReport, free_missing, held_bytes, space_of
from percore.supervisor.logs.rotate import (
    allocate,
    compress_older,
    drop,
    finish_interrupted,
    locked,
    older_files,
    rotate,
)

_KEPT_WHEN_FULL = 1 << 20
_RESERVE = 4 << 20


def do_tasks(tasks: Iterable[LogTask]) -> RetentionReport:
    import gzip  # noqa: F401  (before another user's rights are taken, with which Python's own files may not be readable)
    import shutil  # noqa: F401

    tasks = list(tasks)
    moved = 0
    dropped: dict[str, int] = {}
    problems = []
    for task in make_room(tasks, dropped):
        try:
            moved += _tend(task)
        except OSError as error:
            problems.append(f"{task.path} cannot be rotated: {error.strerror}")
    if moved:
        keep_totals(tasks)
    return RetentionReport(moved, dropped, problems)


@contextlib.contextmanager
def held(task: LogTask) -> Iterator[tuple[str, int]]:
    """The path of the log to work on it, as its user, in this block, and the locked log; -1 where it is none."""
    try:
        found = find(task.path, identity_or_none(task.user, task.group), None if task.place else os.O_RDWR)
    except FileNotFoundError:
        yield "", -1
        return
    try:
        opened = _open_nameless(task)
    except OSError:
        found.close()
        raise
    with found, locked(found.path, opened=opened, expected=task.file) as log:
        yield found.path, log


def _open_nameless(task: LogTask) -> int:
    """A log that lost its name, through the process that has it open; -1 where that has something else open there, or is gone."""
    try:
        seen = os.open(task.place, os.O_PATH | os.O_CLOEXEC)
    except FileNotFoundError:
        return -1
    try:
        is_it = task.file == id_of(os.fstat(seen))
        return os.open(f"/proc/self/fd/{seen}", os.O_RDWR | os.O_CLOEXEC) if is_it else -1
    finally:
        os.close(seen)


def _tend(task: LogTask) -> int:
    moved = 0
    with held(task) as (path, log):
        if log < 0:
            return 0
        if task.is_aged:
            moved += rotate(path, task.limits, log, whole=True)
        while part := rotate(path, task.limits, log):
            moved += part
            if free_missing(task):
                break
        if task.limits.compress and moved and not free_missing(task):
            compress_older(path)
    return moved


# -- the limit of an app ---------------------------------------------------------------------------------------------


def keep_totals(tasks: Iterable[LogTask]) -> None:
    """The oldest files of each app go, until all of its logs together are below its limit."""
    by_app: dict[str, list[LogTask]] = {}
    for task in tasks:
        by_app.setdefault(task.app, []).append(task)
    for of_app in by_app.values():
        limit = of_app[0].max_total
        if limit:
            used = sum(held_bytes(task.place or task.path) for task in of_app)
            for older in reversed(sorted_by_age(of_app)):
                used += older.size
                if used > limit:
                    with contextlib.suppress(OSError):
                        older.remove()


class Older(NamedTuple):
    """A file that was moved out of a log."""

    age: int
    ending: str  # what its name has more than that of the log
    size: int
    task: LogTask

    def remove(self) -> None:
        with find(self.task.path, identity_or_none(self.task.user, self.task.group)) as found:
            os.unlink(found.path + self.ending)


def sorted_by_age(tasks: Iterable[LogTask]) -> list[Older]:
    """The older files of these logs, oldest first."""
    found = []
    for task in tasks:
        path = os.path.realpath(task.path)
        for place in older_files(path):
            with contextlib.suppress(OSError):
                entry = os.lstat(place)
                found.append(Older(entry.st_mtime_ns, place[len(path) :], entry.st_size, task))
    return sorted(found, key=lambda older: older.age)


# -- a full disk -----------------------------------------------------------------------------------------------------


def make_room(tasks: Iterable[LogTask], dropped: dict[str, int]) -> Iterator[LogTask]:
    """On a disk that is nearly full older files go first, then the older part of each log; yields what can be rotated."""
    tight = []
    for task in tasks:
        if free_missing(task):
            tight.append(task)
        elif task.is_due:
            yield task
    for older in sorted_by_age(tight):
        if free_missing(older.task):
            with contextlib.suppress(OSError):
                older.remove()
                dropped[older.task.path] = dropped.get(older.task.path, 0) + older.size
    for task in tight:
        kept = min(_KEPT_WHEN_FULL, task.limits.max_size or _KEPT_WHEN_FULL)
        if free_missing(task):
            with contextlib.suppress(OSError), held(task) as (path, log):
                if log >= 0:
                    finish_interrupted(path, task.limits.keep, log)
                    if size := drop(kept, log):
                        dropped[task.path] = dropped.get(task.path, 0) + size
        elif task.is_due:
            yield task


def reserve(task: LogTask) -> None:
    """Takes blocks beyond the end of the log, for what is written when others have filled the disk.

    Node dies of an error while it writes to a file, and many another program does.
    """
    with contextlib.suppress(OSError), held(task) as (_, log):
        if log >= 0:
            allocate(log, min(_RESERVE, max(1, space_of(task).floor // 2)))
