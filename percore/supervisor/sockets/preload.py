"""What workers load so that they share a port without knowing it, where they find it, and whether a program can load it.

The supervisor's home is private, and often lies in a home that is private as well. So workers of other users find what they
load, and their sockets, in a directory of /var/lib that every user may pass, and only we may change. Each user has separate
sockets, which the kernel opens to no other user: what one user does there delays no other.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import struct
import zlib

from percore.common.typing import TYPE_CHECKING, NamedTuple, Optional
from percore.errors import PercoreError
from percore.supervisor.base.home import Home, make_private

if TYPE_CHECKING:
    from typing import BinaryIO

_FILES = os.path.dirname(os.path.abspath(__file__))
_USERS = "/var/lib/percore-users"
_INTERPRETER, _NOTE = 3, 4
# Of headers that are none: a program has a dozen segments.
_MOST_SEGMENTS, _LONGEST_SEGMENT = 256, 256


class Preload(NamedTuple):
    """The files that workers load: the bind shim (None where none was built for this machine) and Node's part."""

    shim: Optional[str]
    node: str

    @property
    def is_there(self) -> bool:
        """They may have been cleaned up."""
        return all(os.path.exists(path) for path in (self.shim, self.node) if path)


def place_preload(parent: str) -> Preload:
    """Copies both files to a directory in `parent` named by their content: an upgrade never pulls them from under a worker."""
    contents = {}
    for name in (f"bindshim-{os.uname().machine}.so", "preload.cjs"):
        try:
            with open(os.path.join(_FILES, name), "rb") as file:
                contents[name] = file.read()
        except FileNotFoundError:
            continue
    name = f"preload-{zlib.crc32(b''.join(contents.values())):08x}"
    if os.statvfs(parent).f_flag & os.ST_NOEXEC:  # a container's tmpfs: no library is loaded from there
        shim = os.path.join(_FILES, f"bindshim-{os.uname().machine}.so")
        return Preload(shim if os.path.exists(shim) else None, os.path.join(_FILES, "preload.cjs"))
    directory = os.path.join(parent if _can_be_preloaded(parent) else _preloadable_parent(), name)
    os.makedirs(directory, exist_ok=True)
    os.chmod(directory, 0o755)  # whatever our umask is: workers of other users read it, too
    for name, content in contents.items():
        target = os.path.join(directory, name)
        if not os.path.exists(target):
            unfinished = f"{target}.{os.getpid()}"
            with open(unfinished, "wb") as file:
                file.write(content)
            os.chmod(unfinished, 0o644)
            os.rename(unfinished, target)
    shim = os.path.join(directory, f"bindshim-{os.uname().machine}.so")
    return Preload(shim if os.path.exists(shim) else None, os.path.join(directory, "preload.cjs"))


def _can_be_preloaded(path: str) -> bool:
    """LD_PRELOAD separates its entries by both."""
    return not any(character in path for character in " :")


def _preloadable_parent() -> str:
    """A directory of ours that is the same for every start, for a home whose path does not go into LD_PRELOAD.

    Where it can be, not one that is cleaned up now and then: another user could take its place, and be loaded.
    """
    own = os.path.expanduser("~")
    with contextlib.suppress(OSError):
        found = os.stat(own)
        if _can_be_preloaded(own) and found.st_uid == os.geteuid() and not found.st_mode & 0o022:
            cache = os.path.join(own, ".cache")
            os.makedirs(cache, mode=0o700, exist_ok=True)
            return make_private(cache)
    return make_private("/tmp")


# -- workers of other users ------------------------------------------------------------------------------------------


class UserEndpoints(NamedTuple):
    worker_socket: str
    notify_address: str
    preload: Preload


def make_user_endpoints(home: Home, uid: int) -> UserEndpoints:
    """For workers of this user. Raises PercoreError where nothing can be written there."""
    directory = _directory_of(home)
    try:
        for path in (_USERS, directory):
            os.makedirs(path, exist_ok=True)
            os.chmod(path, 0o711)
        return UserEndpoints(
            f"{directory}/worker-{uid}.sock", f"{directory}/notify-{uid}.sock", place_preload(directory)
        )
    except OSError as error:
        raise PercoreError(
            f"{directory}, where workers of other users reach the supervisor, cannot be made: {error.strerror}",
            next="make it writable, or set share_port: false and no wait_ready",
        ) from None


def remove_user_endpoints(home: Home) -> None:
    for place, _, files in os.walk(_directory_of(home), topdown=False):
        for name in files:
            os.unlink(os.path.join(place, name))
        os.rmdir(place)
    with contextlib.suppress(OSError):
        os.rmdir(_USERS)  # unless another supervisor uses it


def former_addresses(home: Home) -> tuple[str, ...]:
    """Where workers that an earlier version started reach us: all users at one socket, or by an abstract name."""
    directory = _directory_of(home)
    name = zlib.crc32(os.fsencode(os.path.join(home.run, "notify.sock")))
    return f"{directory}/worker.sock", f"{directory}/notify.sock", f"@percore-{os.geteuid()}-{name:08x}"


def _directory_of(home: Home) -> str:
    return f"{_USERS}/{zlib.crc32(os.fsencode(home.path)):08x}"


# -- programs --------------------------------------------------------------------------------------------------------


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
