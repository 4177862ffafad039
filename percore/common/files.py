"""Files written whole, or not at all, whatever the disk has room for. Shared by all parts."""

from __future__ import annotations

import contextlib
import os

from percore.common.typing import Optional


def write_file(
    path: str, content: bytes, *, mode: int = 0o600, owner: int = -1, group: int = -1, dir_fd: Optional[int] = None,
    is_alone: bool = False, sync: bool = True,
) -> None:  # fmt: skip
    """Write beside, then rename over: a reader sees the old text or the new one. Raises OSError that names `path`.

    `mode` counts whatever our umask is. `is_alone`: no other process writes this file, and no other user may change its
    directory, so what a killed process left unfinished is overwritten. Without `sync` a power cut may lose the text.
    """
    parent, name = os.path.split(path)
    unfinished = f"{path}.new" if is_alone else os.path.join(parent, f".{name[:200]}.{os.urandom(6).hex()}")
    try:
        flags = os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | (os.O_TRUNC | os.O_NOFOLLOW if is_alone else os.O_EXCL)
        descriptor = os.open(unfinished, flags, 0o600, dir_fd=dir_fd)
        try:
            write_all(descriptor, content)
            if owner >= 0 or group >= 0:
                os.fchown(descriptor, owner, group)
            os.fchmod(descriptor, mode)
            if sync:
                os.fsync(descriptor)
        finally:
            os.close(descriptor)
        os.rename(unfinished, path, src_dir_fd=dir_fd, dst_dir_fd=dir_fd)
    except BaseException as error:
        with contextlib.suppress(OSError):
            os.unlink(unfinished, dir_fd=dir_fd)
        if isinstance(error, OSError):  # the temporary name means nothing to the reader
            raise OSError(error.errno, error.strerror, path) from None
        raise


def append_line(descriptor: int, line: bytes, *, sync: bool = False) -> None:
    """The whole line, or nothing of it. `sync` returns when it is on the disk."""
    before = os.fstat(descriptor).st_size
    try:
        write_all(descriptor, line + b"\n")
        if sync:
            os.fsync(descriptor)
    except OSError:
        os.ftruncate(descriptor, before)
        raise


def write_all(descriptor: int, data: bytes) -> None:
    """A nearly full disk takes a part of it first, and refuses the rest."""
    while data:
        data = data[os.write(descriptor, data) :]
