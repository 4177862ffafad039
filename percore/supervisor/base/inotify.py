"""inotify(7): the kernel tells what changes in a directory. Thin: Python has no module for it."""

from __future__ import annotations

import ctypes
import os
import struct

from percore.common.typing import NamedTuple

MODIFY = 0x2
_ATTRIBUTES = 0x4
CLOSE_WRITE = 0x8
MOVED_FROM = 0x40
MOVED_TO = 0x80
CREATE = 0x100
DELETE = 0x200
_MOVED_ITSELF = 0x800
OVERFLOW = 0x4000
IGNORED = 0x8000
IS_DIR = 0x40000000
_ONLY_DIR = 0x1000000
_NOT_FOLLOWED = 0x2000000
# Not MODIFY: a file that is still written is not a change yet, and a program's own open log would be one for ever.
CHANGES = CLOSE_WRITE | MOVED_FROM | MOVED_TO | CREATE | DELETE

_HEAD = struct.Struct("iIII")


class InotifyChange(NamedTuple):
    watch: int  # what `add` returned
    mask: int
    name: str


class Inotify:
    def __init__(self) -> None:
        """Raises OSError."""
        self._libc = ctypes.CDLL(None, use_errno=True)
        self.descriptor = self._checked(self._libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC))

    def add(self, directory: str, *, more: int = 0) -> int:
        """Raises OSError; ENOSPC when the kernel allows no more. `more`: other events than CHANGES."""
        mask = CHANGES | more | _ONLY_DIR
        return self._checked(self._libc.inotify_add_watch(self.descriptor, os.fsencode(directory), mask))

    def add_names_of(self, path: str, *, follows: bool = False) -> int:
        """Tells when the file, or what the link at `path` leads to with `follows`, gets, loses or changes a name, or gets
        other rights. Raises OSError."""
        mask = _ATTRIBUTES | _MOVED_ITSELF | (0 if follows else _NOT_FOLLOWED)
        return self._checked(self._libc.inotify_add_watch(self.descriptor, os.fsencode(path), mask))

    def remove(self, watch: int) -> None:
        self._libc.inotify_rm_watch(self.descriptor, watch)

    def read(self) -> list[InotifyChange]:
        try:
            data = os.read(self.descriptor, 1 << 16)
        except BlockingIOError:
            return []
        found = []
        position = 0
        while position < len(data):
            watch, mask, _, length = _HEAD.unpack_from(data, position)
            position += _HEAD.size
            name = data[position : position + length].rstrip(b"\0")
            position += length
            found.append(InotifyChange(watch, mask, os.fsdecode(name)))
        return found

    def close(self) -> None:
        os.close(self.descriptor)

    def _checked(self, result: int) -> int:
        if result < 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number))
        return result
