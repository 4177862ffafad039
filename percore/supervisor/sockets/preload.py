"""Whether a library can be loaded into a program, so that its workers share a port without knowing it."""

from __future__ import annotations

import errno
import os
import stat
import struct

from percore.common.typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import BinaryIO

_INTERPRETER, _NOTE = 3, 4
# Of headers that are none: a program has a dozen segments.
_MOST_SEGMENTS, _LONGEST_SEGMENT = 256, 256


def why_not(program: str) -> str:
    """Why nothing can be loaded into the program; empty where it can, or where it is none that the kernel executes itself."""
    try:
        with open_regular(program) as file:
            mode = os.fstat(file.fileno()).st_mode
            start = file.read(64)
            if start[:4] != b"\x7fELF" or start[4:6] != b"\x02\x01" or len(start) < 64:
                return ""
            (offset,), (size, count) = struct.unpack_from("<Q", start, 32), struct.unpack_from("<HH", start, 54)
            file.seek(offset)
            if count > _MOST_SEGMENTS or size > _LONGEST_SEGMENT:
                return ""
            table = file.read(size * count)
            segments = [struct.unpack_from("<I4xQ16xQ", table, size * index) for index in range(count)]
            if not any(kind == _INTERPRETER for kind, _, _ in segments):
                return "it is linked statically"
            for kind, place, length in segments:
                file.seek(place)
                if kind == _NOTE and b"Go\0\0" in file.read(min(length, 4096)):
                    return "it is a Go program, which asks the kernel by itself"
    except (OSError, ValueError, OverflowError, struct.error):
        return ""
    return "it runs with the rights of its owner" if mode & (stat.S_ISUID | stat.S_ISGID) else ""


def open_regular(path: str) -> BinaryIO:
    """Only a regular file: a pipe or a device would keep us waiting, or do something. Raises OSError."""
    place = os.open(path, os.O_PATH | os.O_CLOEXEC)
    try:
        if not stat.S_ISREG(os.fstat(place).st_mode):
            raise OSError(errno.EINVAL, "it is no regular file", path)
        return open(f"/proc/self/fd/{place}", "rb")
    finally:
        os.close(place)
