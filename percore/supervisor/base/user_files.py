"""What lies where another user may write is touched with that user's rights, so no user gets more rights than he has.

A path that a config names is walked directory by directory. As long as only root and we can change what lies in them, our
own rights are right, and links are followed. From the first directory on that another user may change, the kernel is asked in
the name of the worker's user; where that one may not, of the directory's owner. Only what is root's own there (a log that
an earlier percore made) is touched by root, and then never through a link, or by one of several names of a file.

The directory that a path leads to stays open while something is done in it (`FoundPath.path` leads through the descriptor), so
what is renamed or linked meanwhile changes nothing.
"""

from __future__ import annotations

import contextlib
import errno
import os
import pwd
import stat
from collections.abc import Iterable, Iterator

from percore.common.typing import NamedTuple, Optional, Union
from percore.supervisor.base.user import Identity

_MOST_LINKS = 40
_NOT_SO = (errno.EACCES, errno.EPERM, errno.ELOOP)  # with the rights of another user it may go
_OPEN_FLAGS = os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY  # a pipe must not make us wait, nor a terminal become ours
_MOST_TEXT = 1 << 20


class UserIds(NamedTuple):
    uid: int
    gid: int
    groups: tuple[int, ...]


AnyUser = Union[UserIds, Identity]
Actor = tuple[AnyUser, "set[int]"]  # and whose links may lead it, where others may change the directory


def ourselves() -> UserIds:
    return UserIds(os.geteuid(), os.getegid(), tuple(os.getgroups()))


def user_with(uid: int, gid: int) -> UserIds:
    """The user with this number; `gid` is his group where his name is not known."""
    try:
        entry = pwd.getpwuid(uid)
    except KeyError:
        return UserIds(uid, gid, (gid,))
    return UserIds(uid, entry.pw_gid, tuple(os.getgrouplist(entry.pw_name, entry.pw_gid)))


@contextlib.contextmanager
def acting(user: Optional[AnyUser]) -> Iterator[None]:
    """Asks the kernel as this user; None, or a user that is us, changes nothing. Raises OSError where we may not."""
    before = ourselves()
    if user is None or user.uid == before.uid:
        yield
        return
    try:
        os.setgroups(user.groups)
        os.setegid(user.gid)
        os.seteuid(user.uid)
        yield
    finally:
        os.seteuid(before.uid)
        os.setegid(before.gid)
        os.setgroups(before.groups)


class FoundPath:
    """Where a path leads: a name in an open directory, and the user with whose rights it is used.

    As a context manager, whatever is done in its block is done with those rights.
    """

    def __init__(self, directory: int, name: str, user: AnyUser) -> None:
        self.user = user
        self.path = os.path.join(f"/proc/self/fd/{directory}", name)
        self.descriptor = -1  # the open file, where one was asked for
        self._directory = directory
        self._acting: Optional[contextlib.AbstractContextManager[None]] = None

    def __enter__(self) -> FoundPath:
        self._acting = acting(self.user)
        try:
            self._acting.__enter__()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *error: object) -> None:
        assert self._acting
        try:
            self._acting.__exit__(None, None, None)
        finally:
            self.close()

    def take(self) -> int:
        """The open file, which is the caller's from now on."""
        descriptor, self.descriptor = self.descriptor, -1
        return descriptor

    def close(self) -> None:
        for descriptor in (self.descriptor, self._directory):
            if descriptor >= 0:
                os.close(descriptor)
        self.descriptor = self._directory = -1


def find(path: str, user: Optional[AnyUser], flags: Optional[int] = None, *, makes: bool = False) -> FoundPath:
    """Where the path leads, opened with `flags`; without them its directory is to be one that can be written.

    `makes`: missing directories are made. Raises OSError: of what the worker's user (None: we) was told, where neither may.
    """
    walk = _Walk(os.path.join(os.getcwd(), path))
    try:
        foreign = walk.go(ourselves(), makes=makes, stops=True)
        if foreign is None:
            return _open_as(ourselves(), walk, flags, makes=makes)
        return _first_allowed(_actors(user, foreign), walk, flags, makes=makes)
    except OSError as error:
        error.filename = path
        raise
    finally:
        walk.close()


def open_file(path: str, user: Optional[AnyUser], flags: int, *, makes: bool = False) -> int:
    """As `find`, where only the open file is wanted."""
    with contextlib.closing(find(path, user, flags, makes=makes)) as found:
        return found.take()


def write_file(path: str, user: Optional[AnyUser], text: str) -> None:
    """Old or new, never half; missing directories are made. Raises OSError."""
    with find(path, user, makes=True) as found:
        unfinished = f"{found.path}.new"
        with contextlib.suppress(FileNotFoundError):
            os.unlink(unfinished)
        with open(open_here(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644), "w") as file:
            file.write(text)
        os.rename(unfinished, found.path)


def remove_file(path: str, user: Optional[AnyUser]) -> None:
    """Nothing happens where there is none. Raises OSError."""
    with contextlib.suppress(FileNotFoundError), find(path, user) as found:
        os.unlink(found.path)


def _first_allowed(actors: Iterable[Actor], walk: _Walk, flags: Optional[int], *, makes: bool) -> FoundPath:
    refused: Optional[OSError] = None
    for user, trusted in actors:
        own = walk.copy(trusted)
        try:
            return _open_as(user, own, flags, makes=makes)
        except OSError as error:
            refused = refused or error
            if error.errno not in _NOT_SO:
                break
        finally:
            own.close()
    assert refused
    raise refused


def _open_as(user: AnyUser, walk: _Walk, flags: Optional[int], *, makes: bool) -> FoundPath:
    with acting(user):
        walk.go(user, makes=makes)
        found = FoundPath(walk.take(), walk.name, user)
        try:
            if flags is not None:
                found.descriptor = open_here(found.path, flags, follows="/" in walk.name)
            elif not os.access(os.path.dirname(found.path), os.W_OK | os.X_OK, effective_ids=True):
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        except BaseException:
            found.close()
            raise
    return found


def _actors(user: Optional[AnyUser], foreign: os.stat_result) -> Iterator[Actor]:
    """The worker's user, who may be led by whom this directory belongs to, then its owner, then we; each once."""
    ours, owner = ourselves(), foreign.st_uid
    user = user or ours
    if ours.uid != 0:
        yield ours, {0, ours.uid}
        return
    if user.uid != 0:
        yield user, {0, user.uid, owner}
    if owner not in (0, user.uid):
        yield user_with(owner, foreign.st_gid), {0, owner}
    yield ours, set()


def is_private(directory: os.stat_result, uid: int) -> bool:
    """True when only root and this user can change what lies in it."""
    return directory.st_uid in (0, uid) and not directory.st_mode & 0o022


class _Walk:
    """On the way along a path: an open directory, and the names that are left, the next one last."""

    def __init__(self, path: str) -> None:
        self._left = _names(path)
        self._links = 0
        self._trusted: set[int] = set()
        self._directory = _open_directory("/")

    @property
    def name(self) -> str:
        return "/".join(reversed(self._left)) or "."

    def copy(self, trusted: set[int]) -> _Walk:
        """For another try from here on, in which links of these users are followed."""
        other = _Walk("/".join(reversed(self._left)))
        os.dup2(self._directory, other._directory, inheritable=False)
        other._links, other._trusted = self._links, trusted
        return other

    def take(self) -> int:
        directory, self._directory = self._directory, -1
        return directory

    def close(self) -> None:
        if self._directory >= 0:
            os.close(self._directory)
            self._directory = -1

    def go(self, actor: AnyUser, *, makes: bool, stops: bool = False) -> Optional[os.stat_result]:
        """To the directory of the last name, as this user. With `stops`, no further than to the first directory that others
        may change, which is returned."""
        while True:
            directory = os.fstat(self._directory)
            if stops and not (is_private(directory, actor.uid) or self._is_kept(directory, actor.uid)):
                return directory
            if not self._left or (actor.uid == os.getuid() and directory.st_dev == os.stat("/proc").st_dev):
                return None  # where the links of /proc lead, only the kernel knows
            if not self._step(directory, actor, makes=makes):
                return None

    def _is_kept(self, directory: os.stat_result, uid: int) -> bool:
        """True when the next name is ours, in a directory like /tmp, where no user can take another's away."""
        if not self._left or not directory.st_mode & stat.S_ISVTX or directory.st_uid not in (0, uid):
            return False
        with contextlib.suppress(OSError):
            return os.stat(self._left[-1], dir_fd=self._directory, follow_symlinks=False).st_uid in (0, uid)
        return False

    def _step(self, directory: os.stat_result, actor: AnyUser, *, makes: bool) -> bool:
        """One name further; False when the last one is reached, and is no link."""
        name = self._left[-1]
        try:
            entry = _open_entry(name, self._directory)
        except FileNotFoundError:
            if len(self._left) == 1:
                return False
            if not makes:
                raise
            with contextlib.suppress(FileExistsError):
                os.mkdir(name, dir_fd=self._directory)
            return True
        try:
            found = os.fstat(entry)
            if stat.S_ISLNK(found.st_mode):
                self._follow(entry, found, directory, actor)
                return True
            if len(self._left) == 1:
                return False
            if not stat.S_ISDIR(found.st_mode):
                raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
            self._left.pop()
            entry, self._directory = self._directory, entry
            return True
        finally:
            os.close(entry)

    def _follow(self, link: int, found: os.stat_result, directory: os.stat_result, actor: AnyUser) -> None:
        self._links += 1
        if self._links > _MOST_LINKS:
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
        # Not where another user could have put it, to have it followed with more rights than his own.
        if not (
            is_private(directory, actor.uid) or self._is_kept(directory, actor.uid) or found.st_uid in self._trusted
        ):
            raise OSError(errno.ELOOP, "a link is in the way, in a directory that another user may change")
        target = os.readlink("", dir_fd=link)
        self._left.pop()
        self._left += _names(target)
        if target.startswith("/"):
            self.close()
            self._directory = _open_directory("/")


def _names(path: str) -> list[str]:
    return [name for name in reversed(path.split("/")) if name not in ("", ".")]


def _open_directory(path: str) -> int:
    return os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)


def _open_entry(name: str, directory: int) -> int:
    return os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=directory)


# -- files -----------------------------------------------------------------------------------------------------------


def open_here(path: str, flags: int, mode: int = 0o640, *, follows: bool = False) -> int:
    """As `os.open`, with the rights we act with, but never through a link, and without waiting.

    Where others may change the directory, not a file that has further names, and by root only what is root's. Raises OSError.
    `follows`: a link of /proc, which leads where no other user could have led it.
    """
    directory = os.path.dirname(path) or "."
    try:
        descriptor = os.open(path, flags | _OPEN_FLAGS | (0 if follows else os.O_NOFOLLOW), mode)
    except OSError as error:
        if error.errno == errno.ENXIO:
            error.strerror = "it is a pipe that no program reads, or a socket"
        raise
    problem = "" if follows else _problem(os.fstat(descriptor), os.stat(directory), flags)
    if problem:
        os.close(descriptor)
        raise OSError(errno.EPERM, problem, path)
    return descriptor


def _problem(file: os.stat_result, directory: os.stat_result, flags: int) -> str:
    if not stat.S_ISREG(file.st_mode):
        takes_any = flags & os.O_ACCMODE != os.O_RDONLY and (stat.S_ISFIFO(file.st_mode) or stat.S_ISCHR(file.st_mode))
        return "" if takes_any else "it is no regular file"
    if is_private(directory, os.geteuid()):
        return ""
    if file.st_nlink > 1:
        return "it has another name as well, and others may change its directory"
    return "it is another user's" if os.geteuid() == 0 and file.st_uid != 0 else ""


def read_text(path: str, user: Optional[AnyUser], *, most: int = _MOST_TEXT) -> str:
    """Of a regular file of UTF-8 that is no longer than `most` bytes. Raises OSError or ValueError."""
    with find(path, user, os.O_RDONLY) as found, open(found.take(), "rb") as file:
        os.set_blocking(file.fileno(), True)  # /dev/stdin may be a pipe
        content = file.read(most + 1)
    if len(content) > most:
        raise ValueError(f"it is longer than {most} bytes")
    return content.decode("utf-8-sig")


def may_execute(path: str) -> bool:
    """With the rights we act with."""
    return os.access(path, os.X_OK, effective_ids=True) and not os.path.isdir(path)


def is_only_ours(path: str) -> bool:
    """True when only root and we can change the file, or any directory on the way to it."""
    walk = _Walk(os.path.join(os.getcwd(), path))
    try:
        if walk.go(ourselves(), makes=False, stops=True):
            return False
        entry = _open_entry(walk.name, walk._directory)
        try:
            return is_private(os.fstat(entry), os.geteuid())
        finally:
            os.close(entry)
    except OSError:
        return False
    finally:
        walk.close()
