"""The files of an app's directory, whatever lies there. Only regular files and links are read, at most so much of them, and
piece by piece; what is neither is left out and named, and what cannot be read is an error that names it.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import io
import operator
import os
import stat
import tarfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from percore.errors import PreflightError, describe_os_error

MOST_BYTES = 8 << 30
MOST_FILES = 1_000_000

_PIECE = 1 << 20
_KINDS = {
    stat.S_IFIFO: "a named pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


class BuildError(PreflightError):
    """The app could not be built; no host was touched."""


FILE, PROGRAM, LINK, DIRECTORY = b"-", b"x", b"l", b"d"
_TYPES = {stat.S_IFLNK: LINK, stat.S_IFDIR: DIRECTORY}

LeavesOut = Callable[[str], bool]
"""Whether a name from the directory on stays out; that of a directory ends with a slash, and all in it stays out too."""


class Entry(NamedTuple):
    """A regular file, a link or an empty directory, by its name from the top on. `bytes` of a file."""

    name: str
    type: bytes
    bytes: int


class Tree(NamedTuple):
    entries: tuple[Entry, ...]
    left_out: tuple[str, ...]  # "NAME, which is a socket"

    @property
    def names(self) -> list[str]:
        return [entry.name for entry in self.entries]


def read_tree(directory: Path, leaves_out: LeavesOut = lambda name: False) -> Tree:
    """Sorted in each directory. Of directories only those that are empty are entries."""
    entries: list[Entry] = []
    left_out: list[str] = []
    size = 0
    for name, found in _walk(directory, leaves_out):
        kind = stat.S_IFMT(found.st_mode)
        if kind in _KINDS:
            left_out.append(f"{shown(name)}, which is {_KINDS[kind]}")
            continue
        entry = _entry(name, kind, found)
        entries.append(entry)
        size += entry.bytes
        if size > MOST_BYTES:
            raise _too_much(f"more than {MOST_BYTES >> 30} GB, with '{shown(name)}'", directory)
        if len(entries) > MOST_FILES:
            raise _too_much(f"more than {MOST_FILES} files", directory)
    return Tree(tuple(entries), tuple(left_out))


def _entry(name: str, kind: int, found: os.stat_result) -> Entry:
    if kind == stat.S_IFREG:
        return Entry(name, PROGRAM if found.st_mode & 0o111 else FILE, found.st_size)
    return Entry(name, _TYPES[kind], 0)


def _too_much(what: str, directory: Path) -> BuildError:
    return BuildError(
        f"there is {what}; nothing was deployed", where=str(directory), next="move what is not part of the app"
    )


def _walk(directory: Path, leaves_out: LeavesOut) -> Iterator[tuple[str, os.stat_result]]:
    waiting = [""]
    while waiting:
        prefix = waiting.pop()
        directories = []
        for name, found in _list(directory, prefix):
            is_directory = stat.S_ISDIR(found.st_mode)
            if leaves_out(f"{name}/" if is_directory else name):
                continue
            if is_directory and not _is_empty(directory / name):
                directories.append(f"{name}/")
            else:
                yield name, found
        waiting += reversed(directories)


def _is_empty(directory: Path) -> bool:
    """One that may not be read is not: `_list` then says so."""
    try:
        with os.scandir(directory) as entries:
            return next(entries, None) is None
    except OSError:
        return False


def _list(directory: Path, prefix: str) -> list[tuple[str, os.stat_result]]:
    with _named(prefix or "."), os.scandir(directory / prefix) as entries:
        return sorted(((f"{prefix}{entry.name}", entry.stat(follow_symlinks=False)) for entry in entries), key=_by_name)


def _by_name(entry: tuple[str, os.stat_result]) -> str:
    return entry[0]


def hash_tree(directory: Path, tree: Tree, begin: bytes = b"") -> str:
    """One hash over names, types and contents."""
    digest = hashlib.sha256(begin)
    for entry in tree.entries:
        digest.update(os.fsencode(entry.name) + b"\0" + entry.type + b"\0")
        with _named(entry.name):
            digest.update(_content(directory / entry.name, entry))
    return digest.hexdigest()


def _content(path: Path, entry: Entry) -> bytes:
    if entry.type == DIRECTORY:
        return b""
    return os.fsencode(os.readlink(path)) if entry.type == LINK else hash_file(path, entry.name)


def hash_file(path: Path, name: str) -> bytes:
    digest = hashlib.sha256()
    with open_whole(path, name) as (source, _):
        for piece in iter(lambda: source.read(_PIECE), b""):
            digest.update(piece)
    return digest.digest()


_FLAGS = ("O_NONBLOCK", "O_NOFOLLOW", "O_CLOEXEC", "O_BINARY")
_READ = functools.reduce(operator.or_, (getattr(os, name, 0) for name in _FLAGS), os.O_RDONLY)
"""Windows has only the last one, which it needs."""


@contextlib.contextmanager
def open_whole(path: Path, name: str) -> Iterator[tuple[io.BufferedReader, os.stat_result]]:
    """A regular file, and as much of it as there was when it was opened; BuildError when it became another meanwhile."""
    descriptor = os.open(path, _READ)
    with open(descriptor, "rb", buffering=0) as file:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode):
            raise _changed(name)
        yield io.BufferedReader(_Part(file, found.st_size, name)), found
        if os.fstat(descriptor).st_size != found.st_size:
            raise _changed(name)


class _Part(io.RawIOBase):
    """The first bytes of a file: no more, and no fewer."""

    def __init__(self, file: io.FileIO, size: int, name: str) -> None:
        self._file = file
        self._left = size
        self._name = name

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        part = memoryview(buffer)[: min(len(buffer), self._left)]
        count = self._file.readinto(part) if self._left else 0
        if self._left and not count:
            raise _changed(self._name)
        self._left -= count
        return count


def _changed(name: str) -> BuildError:
    return BuildError(f"'{shown(name)}' changed while it was read; nothing was deployed", next="deploy again")


@contextlib.contextmanager
def _named(name: str) -> Iterator[None]:
    """An error of the system names the file by its path in the app."""
    try:
        yield
    except FileNotFoundError:
        raise _changed(name) from None
    except OSError as error:
        raise BuildError(
            f"'{shown(name)}' cannot be read: {error.strerror}; nothing was deployed",
            next="make it readable, or move it out of the app's directory",
        ) from None


def write_tar(out: Any, entries: Iterable[tuple[str, Path]]) -> int:
    """Write files under the given names, always the same bytes for the same files; returns their unpacked size."""
    unpacked = 0
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for name, path in sorted(entries, key=lambda entry: entry[0]):
            with _named(name):
                unpacked += _add(tar, name, path)
    return unpacked


def _add(tar: tarfile.TarFile, name: str, path: Path) -> int:
    member = tarfile.TarInfo(name)
    if path.is_symlink():
        member.type, member.linkname = tarfile.SYMTYPE, os.readlink(path)
        tar.addfile(member)
        return 0
    if path.is_dir():
        member.type, member.mode = tarfile.DIRTYPE, 0o755
        tar.addfile(member)
        return 4096
    with open_whole(path, name) as (source, found):
        member.mode = 0o755 if found.st_mode & 0o111 else 0o644
        member.size = found.st_size
        tar.addfile(member, source)
    return -(-member.size // 4096) * 4096  # as a disk counts it


def shown(name: str) -> str:
    """A name of any bytes, as one can print it."""
    return name if name.isprintable() else ascii(name)[1:-1]


def describe(error: OSError) -> BuildError:
    return BuildError(f"build failed: {describe_os_error(error)}; nothing was deployed", next="fix it and deploy again")
