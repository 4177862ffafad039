"""Archives that root unpacks: only directories, files, and links that stay inside, and never more than was announced.

The rules are those of tarfile's own filter `data`, which the Pythons of some hosts lack, and a bound on size and number.
"""

from __future__ import annotations

import gzip
import os
import tarfile
import zlib
from collections.abc import Iterator
from typing import BinaryIO

MOST_MEMBERS = 1_000_000
SPARE_BYTES = 64 * 1024 * 1024
"""Headers, and what is counted differently on the other side."""


class Refused(tarfile.TarError):
    """What no artifact of percore has."""


def extract(archive: BinaryIO, directory: str, *, announced_bytes: int) -> None:
    """Raises tarfile.TarError, or OSError; what was unpacked until then is there."""
    most = announced_bytes * 2 + SPARE_BYTES
    with tarfile.open(fileobj=_Bounded(archive, most), mode="r|") as tar:  # type: ignore[call-overload]
        if hasattr(tarfile, "fully_trusted_filter"):
            tar.extraction_filter = tarfile.fully_trusted_filter  # ours has looked already
        for member in _checked(tar, os.path.realpath(directory), most):
            tar.extract(member, directory)


class _Bounded:
    """The unpacked stream: a small archive may hold a header of gigabytes."""

    def __init__(self, archive: BinaryIO, most: int) -> None:
        self._stream = gzip.GzipFile(fileobj=archive, mode="rb")
        self._most = self._left = most

    def read(self, size: int) -> bytes:
        try:
            piece = self._stream.read(size)
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise tarfile.ReadError(f"it is damaged: {error}") from None
        self._left -= len(piece)
        if self._left < 0:
            raise Refused(f"it unpacks to more than {self._most} bytes")
        return piece


def _checked(tar: tarfile.TarFile, directory: str, most: int) -> Iterator[tarfile.TarInfo]:
    left = most
    for count, member in enumerate(tar):
        tar.members.clear()  # type: ignore[attr-defined] # each is done with before the next, and there may be many
        left -= member.size
        if count >= MOST_MEMBERS:
            raise Refused(f"it has more than {MOST_MEMBERS} members")
        if left < 0:
            raise Refused(f"it unpacks to more than {most} bytes")
        yield _tamed(member, directory)


def _tamed(member: tarfile.TarInfo, directory: str) -> tarfile.TarInfo:
    """Of our owner, without rights that are not an owner's alone to give."""
    _refuse_outside(member, directory, member.name)
    if member.issym():
        _refuse_leading_out(member, directory)
    elif member.islnk():
        _refuse_outside(member, directory, member.linkname)
        if os.path.islink(os.path.join(directory, member.linkname)):
            raise Refused(f"'{member.name}' is a hard link to a link")
    elif not (member.isreg() or member.isdir()):
        raise Refused(f"'{member.name}' is neither a file, a directory nor a link")
    member.uid, member.gid, member.uname, member.gname = os.geteuid(), os.getegid(), "", ""
    member.mode = 0o755 if member.isdir() else (member.mode & 0o755) | 0o600
    return member


def _refuse_outside(member: tarfile.TarInfo, directory: str, path: str) -> None:
    """A name that goes up, or through a link, wherever that leads: artifacts have none."""
    parts = path.split("/")
    if os.path.isabs(path) or ".." in parts or "\0" in path:
        raise Refused(f"'{member.name}' leads out of it")
    for count in range(1, len(parts)):
        if os.path.islink(os.path.join(directory, *parts[:count])):
            raise Refused(f"'{member.name}' goes through a link")


def _refuse_leading_out(member: tarfile.TarInfo, directory: str) -> None:
    target = member.linkname
    real = os.path.realpath(os.path.join(directory, os.path.dirname(member.name), target))
    if os.path.isabs(target) or "\0" in target or os.path.commonpath([real, directory]) != directory:
        raise Refused(f"the link '{member.name}' leads out of it, to {target}")
