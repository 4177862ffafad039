"""Reading a log while it is written, rotated, emptied, moved away: each line once, in order, in pieces of bounded size.

Positions in a log change when a rotation takes its first bytes out, so they are counted from where its data begins
(`data_begins`), and what moved to older files since is added. A rotation that is under way changes no position
(rotation.py); what it moves is read when it is done.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Iterator
from contextlib import AbstractContextManager

from percore.common.typing import NamedTuple, Optional
from percore.supervisor.base.user_files import AnyUser, acting, find, open_here
from percore.supervisor.logs.files import data_begins, id_of
from percore.supervisor.logs.rotate import noted, older_files

_PIECE = 1 << 20
_STEP = 64 << 10
_MARK_BYTES = 64


class _Changed(Exception):
    """Something moved while it was read."""


class _Anchor(NamedTuple):
    """The state of a log that positions are counted from."""

    newest: int  # the modification time of `.1`, which names it; 0: there is none
    first: int  # where the log's own data begins


class _FoundLog:
    """A log that has its name, or had it, open, and its older files: they lie beside the name that no link has."""

    def __init__(self, path: str, user: Optional[AnyUser]) -> None:
        """Raises OSError."""
        self._path = path
        self._found = find(path, user, os.O_RDONLY)
        self.descriptor = self._found.descriptor
        self.name = self._found.path
        found = os.fstat(self.descriptor)
        self._file = id_of(found)
        if not stat.S_ISREG(found.st_mode):  # /dev/stdout is another one for each program
            self.close()
            raise OSError(errno.EINVAL, "it is no regular file", path)

    def acting(self) -> AbstractContextManager[None]:
        return acting(self._found.user)

    def close(self) -> None:
        self._found.close()

    @property
    def size(self) -> int:
        return os.fstat(self.descriptor).st_size

    def is_replaced(self) -> bool:
        """Another file has the log's name now: a worker started after the old one was moved or deleted."""
        try:
            return id_of(os.stat(self._path)) != self._file
        except OSError:
            return False

    def look(self) -> _Anchor:
        return _Anchor(name_of(f"{self.name}.1"), data_begins(self.descriptor))

    def verify(self, now: _Anchor) -> None:
        if noted(self.name) or now != self.look():
            raise _Changed

    def read(self, start: int, end: int) -> bytes:
        return os.pread(self.descriptor, end - start, start)

    def read_parts(self, moved: list[tuple[str, int]], now: _Anchor, start: int, end: int) -> bytes:
        """Bytes of the moved parts and the log as one, counted from the begin of the oldest part."""
        found = []
        for place, size in moved:
            if start < size and start < end:
                found.append(_read_file(place, start, min(size, end)))
                start += len(found[-1])
            start, end = start - size, end - size
        if start < end:
            found.append(self.read(now.first + start, now.first + end))
        return b"".join(found)

    def last_lines(self, count: int, end: int, most: int) -> list[bytes]:
        """Those before this position, of at most so many bytes."""
        now = self.look()
        parts: list[bytes] = []
        newlines = taken = 0
        for block in self._blocks_back(now.first, end):
            parts.append(block)
            newlines += block.count(b"\n")
            taken += len(block)
            if newlines > count or taken > most:
                break
        self.verify(now)
        return b"".join(reversed(parts)).splitlines()[-count:]

    def _blocks_back(self, first: int, end: int) -> Iterator[bytes]:
        yield from _blocks_back(self.descriptor, first, end)
        for place in older_files(self.name):
            if place.endswith(".gz"):
                return  # as far back as that, zcat is the tool
            with open(open_here(place, os.O_RDONLY), "rb") as file:
                yield from _blocks_back(file.fileno(), 0, os.fstat(file.fileno()).st_size)


class Follower:
    def __init__(self, path: str, *, user: Optional[AnyUser] = None, begin: Optional[int] = None) -> None:
        """Begins at this byte, or at the end of the log; where it is not there yet, with its first.

        What is read, is read as `user` (None: we): the log is his, and so is what it may be a link to.
        """
        import gzip  # noqa: F401  (while another user's rights are used, Python's own files may not be readable)

        self.has_lost = False  # True when something was rotated away before it could be read
        self.problem = ""  # why it cannot be read, other than that it is not there
        self._path = path
        self._user = user
        self._anchor = _Anchor(0, 0)
        self._position = 0  # in the log as it was at the anchor
        self._mark = b""  # what stands before the position: after an emptying it does not
        self._log = self._open()
        if self._log:
            first, end = self._anchor.first, self._log.size
            self._position = end if begin is None else max(first, begin if begin <= end else first)
            self._mark = self._log.read(max(first, self._position - _MARK_BYTES), self._position)

    def close(self) -> None:
        if self._log:
            self._log.close()
            self._log = None

    def read(self) -> bytes:
        """Whole lines that were written since, at most about a megabyte; call again while something comes."""
        for _ in range(5):
            try:
                return self._read()
            except (_Changed, FileNotFoundError):
                continue
        return b""

    def last_lines(self, count: int, *, most_bytes: int = 0) -> list[bytes]:
        """Lines before the position, at most `count`, from older files too; of very long ones only the end."""
        if count <= 0 or not self._log:
            return []
        for _ in range(5):
            try:
                with self._log.acting():
                    return self._log.last_lines(count, self._position, most_bytes or max(8 << 20, count * 4096))
            except (_Changed, FileNotFoundError):
                continue
        return []

    def _open(self) -> Optional[_FoundLog]:
        try:
            log = _FoundLog(self._path, self._user)
        except OSError as error:
            self.problem = "" if isinstance(error, FileNotFoundError) else str(error.strerror)
            return None
        with log.acting():
            self._anchor = log.look()
        self._position, self._mark = self._anchor.first, b""
        return log

    def _read(self) -> bytes:
        self._log = self._log or self._open()
        text = self._read_from(self._log)
        if not text and self._log and self._log.is_replaced():
            self.close()
            self._log = self._open()
            text = self._read_from(self._log)
        return text

    def _read_from(self, log: Optional[_FoundLog]) -> bytes:
        if not log:
            return b""
        with log.acting():
            step = noted(log.name)
            return self._read_beside(log, step.cut) if step else self._read_on(log)

    def _read_on(self, log: _FoundLog) -> bytes:
        now = log.look()
        moved = moved_since(log.name, self._anchor.newest) if now.newest != self._anchor.newest else []
        self.has_lost |= bool(moved) and self._anchor.newest not in (0, *map(_name_of_part, older_files(log.name)))
        moved_bytes = sum(size for _, size in moved)
        # From where the data of the oldest moved part begins.
        position = self._position - self._anchor.first
        end = moved_bytes + log.size - now.first
        if position < 0 or position > end:
            return self._begin_again(now)
        mark = log.read_parts(moved, now, max(0, position - len(self._mark)), position)
        text = log.read_parts(moved, now, position, min(position + _PIECE, end))
        log.verify(now)
        if not self._mark.endswith(mark):
            return self._begin_again(now)
        text = _whole_lines(text)
        position += len(text)
        self._keep_mark(text)
        if position >= moved_bytes:
            self._anchor, self._position = now, now.first + position - moved_bytes
        else:
            self._position = self._anchor.first + position
        return text

    def _read_beside(self, log: _FoundLog, cut: int) -> bytes:
        """During a rotation of what stands before `cut`."""
        if self._position < cut:
            return b""
        text = _whole_lines(log.read(self._position, self._position + _PIECE))
        if noted(log.name) is None:
            raise _Changed
        self._position += len(text)
        self._keep_mark(text)
        return text

    def _keep_mark(self, text: bytes) -> None:
        if text:
            self._mark = (self._mark + text[-_MARK_BYTES:])[-_MARK_BYTES:]

    def _begin_again(self, now: _Anchor) -> bytes:
        """The log was emptied, or so much was rotated away meanwhile that the place is lost: what is there is new."""
        self._anchor, self._position, self._mark = now, now.first, b""
        raise _Changed


def _blocks_back(log: int, first: int, end: int) -> Iterator[bytes]:
    """What stands between the two, the last block first."""
    while end > first:
        step = min(_STEP, end - first)
        end -= step
        yield os.pread(log, step, end)


def _whole_lines(text: bytes) -> bytes:
    """A line that fills a whole piece comes in pieces."""
    return text if len(text) >= _PIECE and b"\n" not in text else text[: text.rfind(b"\n") + 1]


def name_of(place: str) -> int:
    """What names an older file, whatever number it has and whether it is compressed: the moment it was moved."""
    for name in (place, f"{place}.gz"):
        with contextlib.suppress(OSError):
            return os.lstat(name).st_mtime_ns
    return 0


def _name_of_part(place: str) -> int:
    return os.lstat(place).st_mtime_ns


def moved_since(path: str, newest: int) -> list[tuple[str, int]]:
    """(place, size) of the older files that are newer than that one, oldest first."""
    found: list[tuple[str, int]] = []
    for place in older_files(path):
        if _name_of_part(place) == newest:
            break
        found.insert(0, (place, _size(place)))
    return found


def _size(place: str) -> int:
    if not place.endswith(".gz"):
        return os.lstat(place).st_size
    with open(open_here(place, os.O_RDONLY), "rb") as file:  # a gzip file ends with it
        file.seek(-4, os.SEEK_END)
        return int.from_bytes(file.read(4), "little")


def _read_file(place: str, start: int, end: int) -> bytes:
    if place.endswith(".gz"):
        import gzip

        with open(open_here(place, os.O_RDONLY), "rb") as raw, gzip.open(raw) as packed:
            packed.seek(start)
            return packed.read(end - start)
    with open(open_here(place, os.O_RDONLY), "rb") as file:
        return os.pread(file.fileno(), end - start, start)
