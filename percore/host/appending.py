"""Lines at the end of a file: whole, or not at all, whatever the disk has room for."""

from __future__ import annotations

import os


def append_line(path: str, line: bytes, *, mode: int = 0o644, sync: bool = False) -> None:
    """`sync` returns when it is on the disk. OSError, with the path in it, where it does not fit."""
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, mode)
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
