"""What a log may take, and what it takes. Only looks.

`retention` and `rotate` change logs, and are loaded when there is reason to.
"""

from __future__ import annotations

import os

from percore.common.typing import NamedTuple, Optional
from percore.supervisor.logs.files import FileId


class RotationLimits(NamedTuple):
    """`max_size` bytes in one file (0: any number), and that many older files."""

    max_size: int
    keep: int
    compress: bool = False


class LogTask(NamedTuple):
    """One log. `place`: where it is open, if it lost its name; `file`: which one its writer has open."""

    app: str
    path: str
    limits: RotationLimits
    max_total: int = 0  # bytes of all logs of the app; 0: any number
    min_free: int = 0  # bytes to leave on the disk
    place: str = ""
    file: Optional[FileId] = None
    is_due: bool = False
    is_aged: bool = False
    user: Optional[str] = None  # whose log it is, as the app's config names him
    group: Optional[str] = None


class RetentionReport(NamedTuple):
    moved: int
    dropped: dict[str, int]  # by path: bytes that cannot be read any more, although the limits would have kept them
    problems: list[str]


def held_bytes(path: str) -> int:
    """What a log takes on the disk, roughly: a hole that a rotation left does not count."""
    try:
        found = os.stat(path)
        return min(found.st_size, found.st_blocks * 512)
    except OSError:
        return 0


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


def space_of(task: LogTask) -> Space:
    """Of a small disk never more than a twentieth is to be left free."""
    try:
        disk = os.statvfs(os.path.dirname(os.path.realpath(task.path)))
    except OSError:
        return Space(0, 0)
    return Space(disk.f_bavail * disk.f_frsize, min(task.min_free, disk.f_blocks * disk.f_frsize // 20))


def free_missing(task: LogTask) -> bool:
    return space_of(task).is_missing
