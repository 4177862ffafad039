"""Reading a log while it is written, rotated, emptied, moved away: each line once, in order, in pieces of bounded size.

Positions in a log change when a rotation takes its first bytes out, so they are counted from where its data begins
(`data_begins`), and what moved to older files since is added. A rotation that is under way changes no position
(rotation.py); what it moves is read when it is done.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from contextlib import AbstractContextManager

from percore.common.typing import NamedTuple, Optional
from percore.supervisor.base.user_files import AnyUser, FoundPath, acting, find, open_here
from percore.supervisor.logs.files import FileId, data_begins, id_of
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
        self._found: Optional[FoundPath] = None
        self._log = -1
        self._file: Optional[FileId] = None
        self._anchor = _Anchor(0, 0)
        self._position = 0  # in the log as it was at the anchor
        self._mark = b""  # what stands before the position: after an emptying it does not
        self._open()
        if self._log >= 0:
            first, end = self._anchor.first, os.fstat(self._log).st_size
            self._position = end if begin is None else max(first, begin if begin <= end else first)
            marked = max(first, self._position - _MARK_BYTES)
            self._mark = os.pread(self._log, self._position - marked, marked)

    def close(self) -> None:
        if self._found:
            self._found.close()
            self._found = None
            self._log = -1

    def read(self) -> bytes:
        """Whole lines that were written since, at most about a megabyte; call again while something comes."""
        for _ in range(5):
            try:
                return self._read()
            except (_Changed, FileNotFoundError):
                continue
        return b""

    def last_lines(self, count: int) -> list[bytes]:
        """Lines before the position, at most `count`, from older files too; of very long ones only the end."""
        for _ in range(5):
            try:
                with self._as_user():
                    return self._read_back(count) if count > 0 and self._found else []
            except (_Changed, FileNotFoundError):
                continue
        return []

    # -- the log ----------------------------------------------------------------------------------------------------

    @property
    def _real(self) -> str:
        """The log's own name, beside which its older files lie, whatever link leads there."""
        return self._found.path if self._found else self._path

    def _as_user(self) -> AbstractContextManager[None]:
        return acting(self._found.user if self._found else None)

    def _open(self) -> None:
        try:
            self._found = find(self._path, self._user, os.O_RDONLY)
        except OSError as error:
            self.problem = "" if isinstance(error, FileNotFoundError) else str(error.strerror)
            return
        self._log = self._found.descriptor
        self._file = id_of(os.fstat(self._log))
        with self._as_user():
            self._anchor = self._look()
        self._position, self._mark = self._anchor.first, b""

    def _is_replaced(self) -> bool:
        """Another file has the log's name now: a worker started after the old one was moved or deleted."""
        try:
            return id_of(os.stat(self._path)) != self._file
        except OSError:
            return False

    def _look(self) -> _Anchor:
        return _Anchor(name_of(f"{self._real}.1"), data_begins(self._log))

    def _read(self) -> bytes:
        if not self._found:
            self._open()
            if not self._found:
                return b""
        with self._as_user():
            text = self._read_on()
        if not text and self._is_replaced():
            self.close()
            self._open()
            with self._as_user():
                return self._read_on() if self._found else b""
        return text

    def _read_on(self) -> bytes:
        step = noted(self._real)
        if step:
            return self._read_beside(step.cut)
        now = self._look()
        moved = moved_since(self._real, self._anchor.newest) if now.newest != self._anchor.newest else []
        self.has_lost |= bool(moved) and self._anchor.newest not in (0, *map(_name_of_part, older_files(self._real)))
        moved_bytes = sum(size for _, size in moved)
        # From where the data of the oldest moved part begins.
        position = self._position - self._anchor.first
        end = os.fstat(self._log).st_size
        if position < 0 or position > moved_bytes + end - now.first:
            return self._begin_again(now)
        mark = self._read_parts(moved, now, max(0, position - len(self._mark)), position)
        text = self._read_parts(moved, now, position, min(position + _PIECE, moved_bytes + end - now.first))
        self._verify(now)
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

    def _read_beside(self, cut: int) -> bytes:
        """During a rotation of what stands before `cut`."""
        if self._position < cut:
            return b""
        text = _whole_lines(os.pread(self._log, _PIECE, self._position))
        if noted(self._real) is None:
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

    def _verify(self, now: _Anchor) -> None:
        if noted(self._real) or now != self._look():
            raise _Changed

    def _read_parts(self, moved: list[tuple[str, int]], now: _Anchor, start: int, end: int) -> bytes:
        """Bytes of the moved parts and the log as one, counted from the begin of the oldest part."""
        found = []
        for place, size in moved:
            if start < size and start < end:
                found.append(_read_file(place, start, min(size, end)))
                start += len(found[-1])
            start, end = start - size, end - size
        if start < end:
            found.append(os.pread(self._log, end - start, now.first + start))
        return b"".join(found)

    # -- backwards ---------------------------------------------------------------------------------------------------

    def _read_back(self, count: int) -> list[bytes]:
        now = self._look()
        parts: list[bytes] = []
        newlines = taken = 0
        most = max(8 << 20, count * 4096)
        for block in self._blocks_back(now.first):
            parts.append(block)
            newlines += block.count(b"\n")
            taken += len(block)
            if newlines > count or taken > most:
                break
        self._verify(now)
        return b"".join(reversed(parts)).splitlines()[-count:]

    def _blocks_back(self, first: int) -> Iterator[bytes]:
        end = self._position
        while end > first:
            step = min(_STEP, end - first)
            end -= step
            yield os.pread(self._log, step, end)
        for place in older_files(self._real):
            if place.endswith(".gz"):
                return  # as far back as that, zcat is the tool
            with open(open_here(place, os.O_RDONLY), "rb") as file:
                end = os.fstat(file.fileno()).st_size
                while end > 0:
                    step = min(_STEP, end)
                    end -= step
                    yield os.pread(file.fileno(), step, end)


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
