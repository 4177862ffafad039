"""The one way in which the agent, which may be root, comes to a path: never through a link that another user may have made.

A path is walked component by component. A link on the way is followed where only root or the agent's own user may have put it
there; elsewhere the path is refused. What is done at its end is done in the open directory, by name, and follows nothing.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from typing import BinaryIO, Optional

from percore.errors import PreflightError, RolloutError

_MOST_LINKS = 40
_DESCRIPTORS = "/proc/self/fd/"
_PATH = getattr(os, "O_PATH", os.O_RDONLY)
_DIRECTORY = _PATH | getattr(os, "O_DIRECTORY", 0) | getattr(os, "O_CLOEXEC", 0)  # a control machine may run Windows


class ForeignLink(RolloutError):
    """A component of a path is a link that another user may have made."""

    def __init__(self, path: str, link: str) -> None:
        super().__init__(
            f"'{link}' is a link that another user may have made, so it is not followed",
            where=path,
            next="remove the link, or name the directory it leads to",
        )


class ForeignDirectory(PreflightError):
    """Another user could change what lies in a directory in which the agent of root works."""

    def __init__(self, path: str, directory: str) -> None:
        super().__init__(
            f"another user may write in '{directory}', so root does not work there",
            where=path,
            next=f"chown root:root {directory} && chmod go-w {directory}",
        )


def refuse_foreign(path: str) -> None:
    """Raises ForeignDirectory for what an agent of root keeps, where another user could change any component of its path."""
    if os.geteuid() == 0:
        with contextlib.suppress(FileNotFoundError):
            os.close(_walk(os.path.abspath(path), path, is_ours=True))


@contextmanager
def parent_of(path: str, *, make: bool = False) -> Iterator[tuple[int, str]]:
    """(the open directory, the last name): what stands under that name is not looked at. `make`: missing parents, mode 0755.

    What fails in it names the whole path.
    """
    parent, name = os.path.split(os.path.abspath(path))
    directory = _walk(parent, path, make=make)
    try:
        with naming(path):
            yield directory, name
    finally:
        os.close(directory)


@contextmanager
def naming(path: str) -> Iterator[None]:
    """Errors name the whole path, not its last component, an open directory, or nothing."""
    try:
        yield
    except OSError as error:
        name = str(error.filename)
        if error.errno is None or (name.startswith("/") and not name.startswith(_DESCRIPTORS)):
            raise
        raise OSError(error.errno, error.strerror, path) from None


def make_parents(path: str) -> None:
    with parent_of(path, make=True):
        pass


@contextmanager
def anchored(path: str, *, make: bool = False) -> Iterator[str]:
    """A name of `path` that no other user can lead elsewhere while it is used, for functions that know no open directories."""
    if not os.path.isdir(_DESCRIPTORS):
        yield path
        return
    with parent_of(path, make=make) as (directory, name):
        yield f"{_DESCRIPTORS}{directory}/{name}"


def open_directory(path: str, *, make: bool = False) -> int:
    """The directory itself, open; a link at the end is followed as on the way."""
    walked = _walk(os.path.abspath(path), path, make=make)
    try:
        return os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=walked)
    finally:
        os.close(walked)


def open_regular(path: str, flags: int = os.O_RDONLY, mode: int = 0o600) -> int:
    """A regular file: neither a link of another user at its end nor a pipe that would make us wait."""
    with parent_of(path) as (directory, name):
        try:
            descriptor = os.open(name, flags | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, mode, dir_fd=directory)
        except OSError as error:
            if error.errno not in (errno.ELOOP, errno.ENXIO):
                raise
            return _open_elsewhere(directory, name, path, flags, mode)
    if stat.S_ISREG(os.fstat(descriptor).st_mode):
        return descriptor
    os.close(descriptor)
    raise OSError(errno.EINVAL, "Not a regular file", path)


def open_private(path: str, flags: int) -> int:
    """A file that is ours alone: made with mode 0600, and set right where an older version made it readable."""
    with parent_of(path, make=bool(flags & os.O_CREAT)) as (directory, name):
        descriptor = os.open(name, flags | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, 0o600, dir_fd=directory)
    found = os.fstat(descriptor)
    if not stat.S_ISREG(found.st_mode) or found.st_uid not in (0, os.geteuid()) or found.st_nlink > 1:
        os.close(descriptor)
        raise RolloutError("is not a file of ours: another user may have made it", where=path, next="remove it")
    if stat.S_IMODE(found.st_mode) != 0o600 and found.st_uid == os.geteuid():
        os.fchmod(descriptor, 0o600)
    return descriptor


def open_for_reading(path: str) -> BinaryIO:
    return os.fdopen(open_regular(path), "rb")


def stat_of(path: str) -> os.stat_result:
    """Of what stands there itself, as lstat."""
    with parent_of(path) as (directory, name):
        return os.stat(name, dir_fd=directory, follow_symlinks=False)


def link_target(path: str) -> Optional[str]:
    """Where the link at `path` leads; None where there is none."""
    try:
        with parent_of(path) as (directory, name):
            return os.readlink(name, dir_fd=directory)
    except OSError:
        return None


def remove(path: str) -> None:
    """A file or a link; nothing happens where there is none."""
    with contextlib.suppress(FileNotFoundError), parent_of(path) as (directory, name):
        os.unlink(name, dir_fd=directory)


def remove_tree(path: str) -> None:
    """As far as it can be removed: what stays is found when the place is needed."""
    with contextlib.suppress(FileNotFoundError), anchored(path) as place:
        shutil.rmtree(place, ignore_errors=True)


def rename(old: str, new: str) -> None:
    with parent_of(old) as (source, old_name), parent_of(new) as (target, new_name):
        os.rename(old_name, new_name, src_dir_fd=source, dst_dir_fd=target)


def _walk(path: str, whole: str, *, make: bool = False, is_ours: bool = False) -> int:
    """`path` is absolute; `whole` is what an error names. `is_ours`: no other user may write on the way."""
    here = os.open("/", _DIRECTORY)
    names = [name for name in path.split("/") if name]
    left = _MOST_LINKS
    try:
        while names:
            name = names.pop(0)
            target = _link_in(here, name)
            if target is None:
                here = _step(here, name, whole, make=make)
                if is_ours and _is_foreign(os.fstat(here)):
                    raise ForeignDirectory(whole, os.readlink(f"/proc/self/fd/{here}"))
                continue
            left -= 1
            _refuse_foreign_link(here, name, whole, left)
            names[:0] = [part for part in target.split("/") if part]
            if target.startswith("/"):
                here = _replace(here, os.open("/", _DIRECTORY))
    except BaseException:
        os.close(here)
        raise
    return here


def _step(here: int, name: str, whole: str, *, make: bool) -> int:
    if make:
        with contextlib.suppress(FileExistsError), naming(whole):
            os.mkdir(name, 0o755, dir_fd=here)
    with naming(whole):
        return _replace(here, os.open(name, _DIRECTORY | os.O_NOFOLLOW, dir_fd=here))


def _replace(old: int, new: int) -> int:
    os.close(old)
    return new


def _link_in(directory: int, name: str) -> Optional[str]:
    try:
        return os.readlink(name, dir_fd=directory)
    except OSError:
        return None


def _refuse_foreign_link(directory: int, name: str, whole: str, left: int = 1) -> None:
    """Raises ForeignLink unless only root and we could put a link of that name there; `left`: so many may follow."""
    if left <= 0:
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), whole)
    link = os.stat(name, dir_fd=directory, follow_symlinks=False)
    if _is_foreign(os.fstat(directory)) or link.st_uid not in (0, os.geteuid()):
        raise ForeignLink(whole, name)


def _is_foreign(directory: os.stat_result) -> bool:
    """Another user may put something of ours there aside. Where the sticky bit is set one may only add to it."""
    others = directory.st_mode & (0o002 if directory.st_gid == 0 or os.geteuid() else 0o022)
    return directory.st_uid not in (0, os.geteuid()) or bool(others and not directory.st_mode & stat.S_ISVTX)


def _open_elsewhere(directory: int, name: str, path: str, flags: int, mode: int) -> int:
    """The file that a link of ours leads to."""
    target = _link_in(directory, name)
    if target is None:
        raise OSError(errno.EINVAL, "Not a regular file", path)
    _refuse_foreign_link(directory, name, path)
    return open_regular(os.path.join(os.path.dirname(os.path.abspath(path)), target), flags, mode)
