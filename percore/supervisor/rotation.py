"""Rotating a log under its writer: the oldest bytes move to another file, and the writer never notices.

A worker appends to its file by itself and knows nothing of us, so the file cannot be renamed away. Instead its first blocks
are copied out and then cut off: ext4 and xfs take them out of the file (COLLAPSE_RANGE); tmpfs, btrfs and others leave a
hole (PUNCH_HOLE), and the file only looks as long as before. `app.log` goes on as `app.log.1`, `app.log.2`, newest first; a
line may begin in one file and end in the next.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Iterator
from typing import NamedTuple, Optional

from percore.supervisor.logs import data_begins

_KEEP_SIZE, _PUNCH_HOLE, _COLLAPSE_RANGE = 0x01, 0x02, 0x08
_COMPARED_AT_ONCE = 1 << 20


class Limits(NamedTuple):
    """`max_size` bytes in one file, and that many older files."""

    max_size: int
    keep: int


def rotate(path: str, limits: Limits) -> int:
    """Moves at most `max_size` bytes to `path`.1 when the file holds more than that; returns how many.

    To be called again while it returns a number: so one call never takes long. Raises OSError; nothing is lost then.
    """
    try:
        log = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except FileNotFoundError:
        return 0
    try:
        found = os.fstat(log)
        if not stat.S_ISREG(found.st_mode):
            return 0
        _finish_interrupted(log, path, limits.keep)
        first = data_begins(log)
        block = os.fstatvfs(log).f_bsize
        if os.fstat(log).st_size - first <= limits.max_size:
            return 0
        # Only whole blocks can be cut off, and never the last byte.
        cut = min(first + limits.max_size, os.fstat(log).st_size - 1) // block * block
        if cut <= first:
            return 0
        _copy(log, first, cut, path, found)
        _cut_off(log, first, cut)
        _shift(path, limits.keep)
        return cut - first
    finally:
        os.close(log)


def older_files(path: str) -> Iterator[str]:
    """What was moved out of the log, newest first."""
    number = 1
    while os.path.exists(f"{path}.{number}"):
        yield f"{path}.{number}"
        number += 1


def _copy(log: int, first: int, cut: int, path: str, found: os.stat_result) -> None:
    """Its last step is one rename: there is a whole copy, or none."""
    unfinished = f"{path}.moving"
    copy = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, stat.S_IMODE(found.st_mode))
    try:
        with contextlib.suppress(PermissionError):
            os.fchown(copy, found.st_uid, found.st_gid)
        position = first
        while position < cut:
            sent = os.sendfile(copy, log, position, cut - position)
            if sent == 0:
                raise OSError(errno.EIO, "the log became shorter while it was copied")
            position += sent
    except OSError:
        with contextlib.suppress(OSError):
            os.unlink(unfinished)
        raise
    finally:
        os.close(copy)
    os.rename(unfinished, f"{path}.moved")


def _cut_off(log: int, first: int, cut: int) -> None:
    try:
        if first == 0:
            _fallocate(log, _COLLAPSE_RANGE, 0, cut)
            return
    except OSError as error:
        if error.errno not in (errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS):
            raise
    _fallocate(log, _PUNCH_HOLE | _KEEP_SIZE, 0, cut)


def _fallocate(log: int, mode: int, offset: int, length: int) -> None:
    import ctypes

    libc = ctypes.CDLL(None, use_errno=True)
    if libc.fallocate64(log, mode, ctypes.c_longlong(offset), ctypes.c_longlong(length)) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def _finish_interrupted(log: int, path: str, keep: int) -> None:
    """A supervisor was killed in between: what it copied may be cut off already, or not.

    The contents tell, unless the log goes on with the very same bytes: then repetitions of one line can be dropped.
    """
    with contextlib.suppress(FileNotFoundError):
        os.unlink(f"{path}.moving")
    try:
        copy = os.open(f"{path}.moved", os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    try:
        first, length = data_begins(log), os.fstat(copy).st_size
        if _is_same(log, first, copy, length):
            _cut_off(log, first, first + length)
    finally:
        os.close(copy)
    _shift(path, keep)


def _is_same(log: int, first: int, copy: int, length: int) -> bool:
    for offset in range(0, length, _COMPARED_AT_ONCE):
        part = os.pread(copy, min(_COMPARED_AT_ONCE, length - offset), offset)
        if os.pread(log, len(part), first + offset) != part:
            return False
    return True


def _shift(path: str, keep: int) -> None:
    """The copy becomes number 1, 1 becomes 2, and what is older than `keep` files goes."""
    count = sum(1 for _ in older_files(path))
    for number in range(count, 0, -1):
        if number >= keep:
            os.unlink(f"{path}.{number}")
        else:
            os.rename(f"{path}.{number}", f"{path}.{number + 1}")
    if keep:
        os.rename(f"{path}.moved", f"{path}.1")
    else:
        os.unlink(f"{path}.moved")


class Follower:
    """Reads what is appended to a log, also across rotations."""

    def __init__(self, path: str, offset: int) -> None:
        self._path = path
        self._offset = offset
        self._newest_older = _inode(f"{path}.1")

    def read(self) -> bytes:
        """Whole lines that were written since the last call. A file that became shorter by itself was emptied."""
        before = self._rotations()
        if before is None:
            return b""  # what a rotation moves is read when it is done
        try:
            log = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return b""
        try:
            moved = self._moved_since()
            first, end = data_begins(log), os.fstat(log).st_size
            offset = self._offset
            if first == 0:
                offset -= sum(len(part) for part in moved)
            missing = max(0, first - offset)
            text = b"".join(moved)[-missing:] if missing else b""
            position = max(offset, first) if offset <= end else first
            text += os.pread(log, end - position, position)
        except FileNotFoundError:
            return b""
        finally:
            os.close(log)
        if before != self._rotations():
            return b""  # one began meanwhile
        whole, newline, rest = text.rpartition(b"\n")
        self._offset, self._newest_older = end - len(rest), before
        return whole + newline

    def _rotations(self) -> Optional[int]:
        """Names the newest older file (0: none); None in the middle of a rotation."""
        return None if os.path.exists(f"{self._path}.moved") else _inode(f"{self._path}.1")

    def _moved_since(self) -> list[bytes]:
        """What was moved out since the last call, oldest first."""
        found: list[bytes] = []
        for path in older_files(self._path):
            if _inode(path) == self._newest_older:
                break
            with open(path, "rb") as file:
                found.insert(0, file.read())
        return found


def _inode(path: str) -> int:
    try:
        return os.stat(path).st_ino
    except OSError:
        return 0
