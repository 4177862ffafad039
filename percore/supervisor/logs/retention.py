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
from percore.supervisor.logs.limits import Chore, RetentionReport, free_missing, held_bytes, space_of
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


def do_chores(chores: Iterable[Chore]) -> RetentionReport:
    import gzip  # noqa: F401  (before another user's rights are taken, with which Python's own files may not be readable)
    import shutil  # noqa: F401

    chores = list(chores)
    moved = 0
    dropped: dict[str, int] = {}
    problems = []
    for chore in make_room(chores, dropped):
        try:
            moved += _tend(chore)
        except OSError as error:
            problems.append(f"{chore.path} cannot be rotated: {error.strerror}")
    if moved:
        keep_totals(chores)
    return RetentionReport(moved, dropped, problems)


@contextlib.contextmanager
def held(chore: Chore) -> Iterator[tuple[str, int]]:
    """The path of the log to work on it, as its user, in this block, and the locked log; -1 where it is none."""
    try:
        found = find(chore.path, identity_or_none(chore.user, chore.group), None if chore.place else os.O_RDWR)
    except FileNotFoundError:
        yield "", -1
        return
    try:
        opened = _open_nameless(chore)
    except OSError:
        found.close()
        raise
    with found, locked(found.path, opened=opened, expected=chore.file) as log:
        yield found.path, log


def _open_nameless(chore: Chore) -> int:
    """A log that lost its name, through the process that has it open; -1 where that has something else open there, or is gone."""
    try:
        seen = os.open(chore.place, os.O_PATH | os.O_CLOEXEC)
    except FileNotFoundError:
        return -1
    try:
        is_it = chore.file == id_of(os.fstat(seen))
        return os.open(f"/proc/self/fd/{seen}", os.O_RDWR | os.O_CLOEXEC) if is_it else -1
    finally:
        os.close(seen)


def _tend(chore: Chore) -> int:
    moved = 0
    with held(chore) as (path, log):
        if log < 0:
            return 0
        if chore.is_aged:
            moved += rotate(path, chore.limits, log, whole=True)
        while part := rotate(path, chore.limits, log):
            moved += part
            if free_missing(chore):
                break
        if chore.limits.compress and moved and not free_missing(chore):
            compress_older(path)
    return moved


# -- the limit of an app ---------------------------------------------------------------------------------------------


def keep_totals(chores: Iterable[Chore]) -> None:
    """The oldest files of each app go, until all of its logs together are below its limit."""
    by_app: dict[str, list[Chore]] = {}
    for chore in chores:
        by_app.setdefault(chore.app, []).append(chore)
    for of_app in by_app.values():
        limit = of_app[0].max_total
        if limit:
            used = sum(held_bytes(chore.place or chore.path) for chore in of_app)
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
    chore: Chore

    def remove(self) -> None:
        with find(self.chore.path, identity_or_none(self.chore.user, self.chore.group)) as found:
            os.unlink(found.path + self.ending)


def sorted_by_age(chores: Iterable[Chore]) -> list[Older]:
    """The older files of these logs, oldest first."""
    found = []
    for chore in chores:
        path = os.path.realpath(chore.path)
        for place in older_files(path):
            with contextlib.suppress(OSError):
                entry = os.lstat(place)
                found.append(Older(entry.st_mtime_ns, place[len(path) :], entry.st_size, chore))
    return sorted(found, key=lambda older: older.age)


# -- a full disk -----------------------------------------------------------------------------------------------------


def make_room(chores: Iterable[Chore], dropped: dict[str, int]) -> Iterator[Chore]:
    """On a disk that is nearly full older files go first, then the older part of each log; yields what can be rotated."""
    tight = []
    for chore in chores:
        if free_missing(chore):
            tight.append(chore)
        elif chore.is_due:
            yield chore
    for older in sorted_by_age(tight):
        if free_missing(older.chore):
            with contextlib.suppress(OSError):
                older.remove()
                dropped[older.chore.path] = dropped.get(older.chore.path, 0) + older.size
    for chore in tight:
        kept = min(_KEPT_WHEN_FULL, chore.limits.max_size or _KEPT_WHEN_FULL)
        if free_missing(chore):
            with contextlib.suppress(OSError), held(chore) as (path, log):
                if log >= 0:
                    finish_interrupted(path, chore.limits.keep, log)
                    if size := drop(kept, log):
                        dropped[chore.path] = dropped.get(chore.path, 0) + size
        elif chore.is_due:
            yield chore


def reserve(chore: Chore) -> None:
    """Takes blocks beyond the end of the log, for what is written when others have filled the disk.

    Node dies of an error while it writes to a file, and many another program does.
    """
    with contextlib.suppress(OSError), held(chore) as (_, log):
        if log >= 0:
            allocate(log, min(_RESERVE, max(1, space_of(chore).floor // 2)))
