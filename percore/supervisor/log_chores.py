"""What is to be done to logs now and then: rotate, compress, keep all of an app's below its limit, keep the disk from filling.

Done in a process of its own, a fork that lives as long as the work: a slow disk cannot hold the supervisor's loop. It may be
killed at any moment.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator

from percore.hints import NamedTuple, Optional
from percore.supervisor.logs import FileId
from percore.supervisor.rotation import (
    Limits,
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


class Chore(NamedTuple):
    """One log. `place`: where it is open, if it lost its name; `file`: which one its writer has open."""

    app: str
    path: str
    limits: Limits
    max_total: int = 0  # bytes of all logs of the app; 0: any number
    min_free: int = 0  # bytes to leave on the disk
    place: str = ""
    file: Optional[FileId] = None
    is_due: bool = False
    is_aged: bool = False


class Report(NamedTuple):
    moved: int
    dropped: dict[str, int]  # by path: bytes that nobody can read any more, although the limits would have kept them
    problems: list[str]


def do_chores(chores: Iterable[Chore]) -> Report:
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
    return Report(moved, dropped, problems)


def _tend(chore: Chore) -> int:
    moved = 0
    with locked(chore.path, place=chore.place, expected=chore.file) as log:
        if log < 0:
            return 0
        if chore.is_aged:
            moved += rotate(chore.path, chore.limits, log, whole=True)
        while part := rotate(chore.path, chore.limits, log):
            moved += part
            if free_missing(chore):
                break
        if chore.limits.compress and moved and not free_missing(chore):
            compress_older(chore.path)
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
            for place, size, _ in reversed(sorted_by_age(of_app)):
                used += size
                if used > limit:
                    with contextlib.suppress(OSError):
                        os.unlink(place)


def sorted_by_age(chores: Iterable[Chore]) -> list[tuple[str, int, Chore]]:
    """The older files of these logs with their sizes, oldest first."""
    found = []
    for chore in chores:
        for place in older_files(chore.path):
            with contextlib.suppress(OSError):
                entry = os.stat(place)
                found.append((entry.st_mtime_ns, (place, entry.st_size, chore)))
    return [older for _, older in sorted(found, key=lambda entry: entry[0])]


def held_bytes(path: str) -> int:
    """What a log takes on the disk, roughly: a hole that a rotation left does not count."""
    try:
        found = os.stat(path)
        return min(found.st_size, found.st_blocks * 512)
    except OSError:
        return 0


# -- a full disk -----------------------------------------------------------------------------------------------------


class Space(NamedTuple):
    """On the disk of a log: what is free, and what is to be left free."""

    free: int
    floor: int

    @property
    def is_missing(self) -> bool:
        return self.free < self.floor

    @property
    def is_tight(self) -> bool:
        return self.free < 4 * self.floor


def space_of(chore: Chore) -> Space:
    """Of a small disk never more than a twentieth is to be left free."""
    try:
        disk = os.statvfs(os.path.dirname(chore.path))
    except OSError:
        return Space(0, 0)
    return Space(disk.f_bavail * disk.f_frsize, min(chore.min_free, disk.f_blocks * disk.f_frsize // 20))


def free_missing(chore: Chore) -> bool:
    return space_of(chore).is_missing


def make_room(chores: Iterable[Chore], dropped: dict[str, int]) -> Iterator[Chore]:
    """On a disk that is nearly full older files go first, then the older part of each log; yields what can be rotated."""
    tight = []
    for chore in chores:
        if free_missing(chore):
            tight.append(chore)
        elif chore.is_due:
            yield chore
    for place, size, chore in sorted_by_age(tight):
        if free_missing(chore):
            with contextlib.suppress(OSError):
                os.unlink(place)
                dropped[chore.path] = dropped.get(chore.path, 0) + size
    for chore in tight:
        kept = min(_KEPT_WHEN_FULL, chore.limits.max_size or _KEPT_WHEN_FULL)
        if free_missing(chore):
            with contextlib.suppress(OSError), locked(chore.path, place=chore.place, expected=chore.file) as log:
                if log >= 0:
                    finish_interrupted(chore.path, chore.limits.keep, log)
                    if size := drop(kept, log):
                        dropped[chore.path] = dropped.get(chore.path, 0) + size
        elif chore.is_due:
            yield chore


def reserve(chore: Chore) -> None:
    """Takes blocks beyond the end of the log, for what is written when others have filled the disk.

    Node dies of an error while it writes to a file, and many another program does.
    """
    with contextlib.suppress(OSError), locked(chore.path, place=chore.place, expected=chore.file) as log:
        if log >= 0:
            allocate(log, min(_RESERVE, max(1, space_of(chore).floor // 2)))
