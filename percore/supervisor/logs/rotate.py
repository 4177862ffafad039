"""Rotating a log under its writer: the oldest bytes move to another file, and the writer never notices.

A worker appends to its file by itself and knows nothing of us, so the file cannot be renamed away. Instead its first blocks
are copied out and cut off. `app.log` goes on as `app.log.1`, `app.log.2` (or `.2.gz`), newest first; a line may begin in
one file and end in the next. One after the other:

1. the blocks are copied to `app.log.moving`;
2. the link `app.log.rotation` is made: its target says which bytes are copied, and it exists at once or not at all;
3. a hole is left in their place. No byte changes its position, so this can be done again;
4. older files get a number more, and the copy becomes `app.log.1`;
5. the link goes;
6. ext4 and xfs take the hole out of the file. Elsewhere (tmpfs, btrfs) it stays, and the file only looks as long as before.

After a kill, the next process finds the link and goes on with 3, or finds none and begins again.

All of it is done with the rights of the log's user (user_files.py), and no file that was replaced by a link is opened.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import os
import stat
import time
from collections.abc import Iterator

from percore.common.typing import NamedTuple, Optional
from percore.supervisor.base.user_files import open_here
from percore.supervisor.logs.files import FileId, data_begins, id_of
from percore.supervisor.logs.limits import RotationLimits

_KEEP_SIZE, _PUNCH_HOLE, _COLLAPSE_RANGE = 0x01, 0x02, 0x08
_CANNOT_COLLAPSE = (errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS)


class RotationStep(NamedTuple):
    """What the link `.rotation` says: the bytes from `first` to `cut` are copied."""

    first: int
    cut: int


@contextlib.contextmanager
def locked(path: str, *, opened: int = -1, expected: Optional[FileId] = None) -> Iterator[int]:
    """The open log, for the process that changes it; -1 when it is none of our business.

    That is: it does not exist, is no file, is not the `expected` one, or another process is changing it.
    `opened`: the log itself, when it has lost its name.
    """
    try:
        log = opened if opened >= 0 else open_here(path, os.O_RDWR)
    except FileNotFoundError:
        yield -1
        return
    try:
        found = os.fstat(log)
        is_ours = stat.S_ISREG(found.st_mode) and expected in (None, id_of(found))
        try:
            if is_ours:
                fcntl.flock(log, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            is_ours = False
        yield log if is_ours else -1
    finally:
        os.close(log)


def rotate(path: str, limits: RotationLimits, log: int, *, whole: bool = False) -> int:
    """Moves at most `max_size` bytes out of the locked log when it holds more than that, or `whole`; returns how many.

    To be called again while it returns a number. Raises OSError; nothing is lost then.
    """
    finish_interrupted(path, limits.keep, log)
    first, end = data_begins(log), os.fstat(log).st_size
    if not whole and (not limits.max_size or end - first <= limits.max_size):
        return 0
    cut = _cut_point(log, min(end, first + limits.max_size) if limits.max_size else end)
    if cut <= first:
        return 0
    copy_out(path, log, RotationStep(first, cut))
    note(path, RotationStep(first, cut))
    finish_interrupted(path, limits.keep, log)
    return cut - first


def drop(keep_bytes: int, log: int) -> int:
    """Cuts the oldest bytes off, without a copy, until that many are left; returns how many are gone."""
    first = data_begins(log)
    cut = _cut_point(log, os.fstat(log).st_size - keep_bytes)
    if cut <= first:
        return 0
    leave_hole(log, RotationStep(first, cut))
    take_hole_out(log)
    return cut - first


def _cut_point(log: int, wished: int) -> int:
    """Only whole blocks can be cut off, and never the last byte."""
    block = os.fstatvfs(log).f_bsize
    return min(wished, os.fstat(log).st_size - 1) // block * block


# -- the steps -------------------------------------------------------------------------------------------------------


def copy_out(path: str, log: int, step: RotationStep) -> None:
    found = os.fstat(log)
    copy = _create(f"{path}.moving", found)
    try:
        position = step.first
        while position < step.cut:
            sent = os.sendfile(copy, log, position, step.cut - position)
            if sent == 0:
                raise OSError(errno.EIO, "the log became shorter while it was copied")
            position += sent
        os.fdatasync(copy)
        # Names this part for readers, whatever number it gets: the file system's own clock is too coarse.
        os.utime(copy, ns=(time.time_ns(), time.time_ns()))
    except OSError:
        with contextlib.suppress(OSError):
            os.unlink(f"{path}.moving")
        raise
    finally:
        os.close(copy)


def _create(path: str, like: os.stat_result) -> int:
    """A new file with the owner and the mode of another: nothing that another user put in the way is written to."""
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)
    created = open_here(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, stat.S_IMODE(like.st_mode))
    with contextlib.suppress(PermissionError):
        os.fchown(created, like.st_uid, like.st_gid)
    return created


def note(path: str, step: RotationStep) -> None:
    os.symlink(f"{step.first}-{step.cut}", f"{path}.rotation")


def noted(path: str) -> Optional[RotationStep]:
    try:
        first, _, cut = os.readlink(f"{path}.rotation").partition("-")
        return RotationStep(int(first), int(cut))
    except (OSError, ValueError):
        return None


def finish_interrupted(path: str, keep: int, log: int) -> None:
    step = noted(path)
    if step:
        if os.path.lexists(f"{path}.moving"):
            if step.cut <= os.fstat(log).st_size:  # else it was emptied meanwhile
                leave_hole(log, step)
            shift(path, keep)
        os.unlink(f"{path}.rotation")
    else:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(f"{path}.moving")
    take_hole_out(log)


def leave_hole(log: int, step: RotationStep) -> None:
    _fallocate(log, _PUNCH_HOLE | _KEEP_SIZE, step.first, step.cut - step.first)


def punch(log: int, end: int) -> None:
    """Gives back what stands before byte `end`; the file looks as long as before. Raises OSError where that cannot be."""
    _fallocate(log, _PUNCH_HOLE | _KEEP_SIZE, 0, end)


def shift(path: str, keep: int) -> None:
    """The copy becomes number 1, 1 becomes 2, and what is older than `keep` files goes. A gap, left by a kill, closes."""
    count = sum(1 for _ in older_files(path))
    for number in range(count, 0, -1):
        for ending in ("", ".gz"):
            with contextlib.suppress(FileNotFoundError):
                if number >= keep:
                    os.unlink(f"{path}.{number}{ending}")
                else:
                    os.rename(f"{path}.{number}{ending}", f"{path}.{number + 1}{ending}")
    if keep:
        os.rename(f"{path}.moving", f"{path}.1")
    else:
        os.unlink(f"{path}.moving")


def take_hole_out(log: int) -> None:
    """Where the file system can; what only looks long does no harm."""
    first = _cut_point(log, data_begins(log))
    if first:
        try:
            _fallocate(log, _COLLAPSE_RANGE, 0, first)
        except OSError as error:
            if error.errno not in _CANNOT_COLLAPSE:
                raise


def allocate(log: int, length: int) -> None:
    """Blocks beyond the end, which stays where it is."""
    _fallocate(log, _KEEP_SIZE, os.fstat(log).st_size, length)


def _fallocate(log: int, mode: int, offset: int, length: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.fallocate64(log, mode, ctypes.c_longlong(offset), ctypes.c_longlong(length)) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


# -- older files -----------------------------------------------------------------------------------------------------


def older_files(path: str) -> Iterator[str]:
    """What was moved out of the log, newest first."""
    number = 1
    while True:
        name = f"{path}.{number}"
        if not os.path.lexists(name):
            name += ".gz"
            if not os.path.lexists(name):
                return
        yield name
        number += 1


def compress_older(path: str) -> None:
    """From the second on: a program that follows the log may still be reading the first. Raises OSError."""
    for place in list(older_files(path))[1:]:
        if not place.endswith(".gz"):
            _compress(place)


def _compress(place: str) -> None:
    import gzip
    import shutil

    unfinished = f"{place}.gz.new"
    try:
        with open(open_here(place, os.O_RDONLY), "rb") as plain:
            found = os.fstat(plain.fileno())
            with os.fdopen(_create(unfinished, found), "wb") as raw:
                with gzip.GzipFile("", "wb", 6, raw) as packed:
                    shutil.copyfileobj(plain, packed, 1 << 20)
                raw.flush()
                os.utime(raw.fileno(), ns=(found.st_atime_ns, found.st_mtime_ns))
        os.rename(unfinished, f"{place}.gz")
    except OSError:
        with contextlib.suppress(OSError):
            os.unlink(unfinished)
        raise
    os.unlink(place)
