"""Files and links on the host, by paths that lead through no link of another user (`paths`)."""

from __future__ import annotations

import contextlib
import grp
import os
import pwd
from typing import Optional

from percore.common import files
from percore.errors import RolloutError
from percore.host.paths import naming, open_directory, open_for_reading, open_private, parent_of


def write_file(
    path: str, content: bytes, *, mode: int = 0o644, owner: Optional[str] = None, group: Optional[str] = None
) -> None:
    """In one step: a reader sees the old text or the new one."""
    with parent_of(path) as (directory, name):
        uid, gid = uid_of(owner or None), gid_of(group or None)
        files.write_file(name, content, mode=mode, owner=uid, group=gid, dir_fd=directory)


def append_line(path: str, line: bytes, *, sync: bool = False) -> None:
    """The file is private. `sync` returns when it is on the disk. OSError, with the path in it, where it does not fit."""
    descriptor = open_private(path, os.O_RDWR | os.O_APPEND | os.O_CREAT)
    try:
        with naming(path):
            _drop_cut_line(descriptor)
            files.append_line(descriptor, line, sync=sync)
    finally:
        os.close(descriptor)


def _drop_cut_line(descriptor: int) -> None:
    """What a power cut left of the last line would make one that nobody can read of it and the next one."""
    size = os.fstat(descriptor).st_size
    if size and os.pread(descriptor, 1, size - 1) != b"\n":
        os.ftruncate(descriptor, os.pread(descriptor, size, 0).rfind(b"\n") + 1)


def read_file(path: str) -> bytes:
    with open_for_reading(path) as source:
        return source.read()


def replace_link(path: str, to: str) -> None:
    """Point a symbolic link elsewhere in one step: there is no moment without it."""
    with parent_of(path) as (directory, name):
        temporary = f"{name}.{os.getpid()}.new"
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary, dir_fd=directory)
        os.symlink(to, temporary, dir_fd=directory)
        os.rename(temporary, name, src_dir_fd=directory, dst_dir_fd=directory)


def set_rights(directory: str, mode: int, owner: Optional[str] = None, group: Optional[str] = None) -> None:
    """It is made where there is none."""
    descriptor = open_directory(directory, make=True)
    try:
        with naming(directory):
            os.fchmod(descriptor, mode)
            if owner or group:
                os.fchown(descriptor, uid_of(owner or None), gid_of(group or None))
    finally:
        os.close(descriptor)


def uid_of(owner: Optional[str]) -> int:
    """By name or number; -1 for None. Raises RolloutError for a user that does not exist."""
    if owner is None:
        return -1
    if owner.isdigit():
        return int(owner)
    try:
        return pwd.getpwnam(owner).pw_uid
    except KeyError:
        raise RolloutError(f"user '{owner}' does not exist here") from None


def gid_of(group: Optional[str]) -> int:
    """As `uid_of`. A user's name is its login group, where that is called otherwise."""
    if group is None:
        return -1
    if group.isdigit():
        return int(group)
    with contextlib.suppress(KeyError):
        return grp.getgrnam(group).gr_gid
    with contextlib.suppress(KeyError):
        return pwd.getpwnam(group).pw_gid
    raise RolloutError(f"group '{group}' does not exist here")
