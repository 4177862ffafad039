"""The files of an app's directory, whatever lies there. Only regular files and links are read, at most so much of them, and
piece by piece; what is neither is left out and named, and what cannot be read is an error that names it.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import stat
import tarfile
from collections.abc import Iterable, Iterator, Sequence
from fnmatch import fnmatch
from pathlib import Path
from typing import Any, NamedTuple

from percore.errors import PreflightError, describe_os_error

NEVER = (
    ".git",
    ".percore",
    "node_modules",
    "__pycache__",
    ".venv",
    "*.pyc",
    ".env",
    ".env.*",
    ".DS_Store",
    "*.log",
    "coverage",
)
"""Not part of the source: made by tools, or secret."""

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


class Entry(NamedTuple):
    """A regular file or a link, by its name from the directory on."""

    name: str
    is_link: bool
    is_program: bool


class Tree(NamedTuple):
    entries: tuple[Entry, ...]
    left_out: tuple[str, ...]  # "NAME, which is a socket"

    @property
    def names(self) -> list[str]:
        return [entry.name for entry in self.entries]


def read_tree(directory: Path, exclude: Sequence[str] = (), *, keep_all: bool = False) -> Tree:
    """Sorted in each directory, without the excluded patterns and, unless `keep_all`, what is never deployed."""
    patterns = (*exclude, *(() if keep_all else NEVER))
    entries: list[Entry] = []
    left_out: list[str] = []
    size = 0
    for name, found in _walk(directory, patterns):
        kind = stat.S_IFMT(found.st_mode)
        if kind in _KINDS:
            left_out.append(f"{shown(name)}, which is {_KINDS[kind]}")
            continue
        is_link = kind == stat.S_IFLNK
        entries.append(Entry(name, is_link, not is_link and bool(found.st_mode & 0o111)))
        size += 0 if is_link else found.st_size
        if size > MOST_BYTES:
            raise _too_much(f"more than {MOST_BYTES >> 30} GB, with '{shown(name)}'", directory)
        if len(entries) > MOST_FILES:
            raise _too_much(f"more than {MOST_FILES} files", directory)
    return Tree(tuple(entries), tuple(left_out))


def _too_much(what: str, directory: Path) -> BuildError:
    return BuildError(
        f"there is {what}; nothing was deployed", where=str(directory), next="move what is not part of the app"
    )


def _walk(directory: Path, patterns: Sequence[str]) -> Iterator[tuple[str, os.stat_result]]:
    waiting = [""]
    while waiting:
        prefix = waiting.pop()
        directories = []
        for name, found in _list(directory, prefix):
            if is_excluded(name, patterns):
                continue
            if stat.S_ISDIR(found.st_mode):
                directories.append(f"{name}/")
            else:
                yield name, found
        waiting += reversed(directories)


def _list(directory: Path, prefix: str) -> list[tuple[str, os.stat_result]]:
    with _named(prefix or "."), os.scandir(directory / prefix) as entries:
        return sorted(((f"{prefix}{entry.name}", entry.stat(follow_symlinks=False)) for entry in entries), key=_by_name)


def _by_name(entry: tuple[str, os.stat_result]) -> str:
    return entry[0]


def is_excluded(name: str, patterns: Sequence[str]) -> bool:
    """A pattern with a slash, or of the top directory, meets the whole name; the others meet a name at any depth."""
    last = name.rsplit("/", 1)[-1]
    return any(fnmatch(name, pattern) or (pattern in NEVER and fnmatch(last, pattern)) for pattern in patterns)


def hash_tree(directory: Path, tree: Tree, begin: bytes = b"") -> str:
    """One hash over names, contents and which of them are programs."""
    digest = hashlib.sha256(begin)
    for entry in tree.entries:
        path = directory / entry.name
        digest.update(os.fsencode(entry.name) + (b"\0x\0" if entry.is_program else b"\0-\0"))
        with _named(entry.name):
            digest.update(os.fsencode(os.readlink(path)) if entry.is_link else hash_file(path, entry.name))
    return digest.hexdigest()


def hash_file(path: Path, name: str) -> bytes:
    digest = hashlib.sha256()
    with open_whole(path, name) as (source, _):
        for piece in iter(lambda: source.read(_PIECE), b""):
            digest.update(piece)
    return digest.digest()


@contextlib.contextmanager
def open_whole(path: Path, name: str) -> Iterator[tuple[io.BufferedReader, os.stat_result]]:
    """A regular file, and as much of it as there was when it was opened; BuildError when it became another meanwhile."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
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
