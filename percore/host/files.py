"""Lines at the end of a file: whole, or not at all, whatever the disk has room for."""

from __future__ import annotations

import os

from percore.host.paths import open_private


def append_line(path: str, line: bytes, *, sync: bool = False) -> None:
    """The file is private. `sync` returns when it is on the disk. OSError, with the path in it, where it does not fit."""
    descriptor = open_private(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    try:
        before = os.fstat(descriptor).st_size
        try:
            write_all(descriptor, line + b"\n")
            if sync:
                os.fsync(descriptor)
        except OSError as error:
            os.ftruncate(descriptor, before)
            raise OSError(error.errno, error.strerror, path) from None
    finally:
        os.close(descriptor)


def write_all(descriptor: int, data: bytes) -> None:
    """A nearly full disk takes a part of it first, and refuses the rest."""
    while data:
        data = data[os.write(descriptor, data) :]
