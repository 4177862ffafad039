"""Unix sockets: where processes of our own user, or of any other, connect to us; and those at paths that a program names."""

from __future__ import annotations

import contextlib
import os
import socket
import stat

from percore.common.socket_peers import peer_of
from percore.common.typing import Callable, Optional
from percore.supervisor.base import home
from percore.supervisor.base.loop import Loop
from percore.supervisor.config.address import AddressInUse
from percore.supervisor.sockets import sock_diag
from percore.supervisor.sockets.rate_limit import Allowance

# Without a free descriptor, or an allowance, no connection is accepted, and those that wait would wake us again and again.
_REST_SECONDS = 0.2
SocketFile = tuple[int, int]  # device and inode


class UnixServer:
    def __init__(self, loop: Loop, path: str, on_connection: Callable[[socket.socket], None], *, user: Optional[int] = None,
                 all_users: bool = False, allowance: Optional[Allowance] = None) -> None:  # fmt: skip
        """`on_connection` gets each connection, as many as the allowance says; others wait.

        From our own user and root, and from `user`, or with `all_users` from any. Raises OSError.
        """
        self._loop = loop
        self._path = path
        self._on_connection = on_connection
        self._user = user
        self._all_users = all_users
        self._allowance = allowance
        self._socket: Optional[socket.socket] = None
        self._identity = (0, 0)
        self._open()

    def _open(self) -> None:
        self._socket = home.listen(self._path, user=self._user, all_users=self._all_users)
        self._identity = identity_of(self._path)
        self._watch()

    def reopen(self) -> None:
        """Where the file was deleted, no process finds the socket any more; connections stay."""
        if identity_of(self._path) != self._identity:
            self.close()
            self._open()

    def _watch(self) -> None:
        if self._socket:
            self._loop.watch(self._socket.fileno(), self._accept)

    def _accept(self) -> None:
        assert self._socket
        if self._allowance and not self._allowance.take():
            self._rest()
            return
        try:
            connection, _ = self._socket.accept()
        except (BlockingIOError, ConnectionAbortedError):
            return
        except OSError:
            self._rest()
            return
        is_welcome = self._all_users or peer_of(connection).uid in (0, os.geteuid(), self._user)
        if not is_welcome or not self._loop.faults.contain("accepting a client", self._on_connection, connection):
            connection.close()

    def _rest(self) -> None:
        assert self._socket
        self._loop.unwatch(self._socket.fileno())
        self._loop.later(_REST_SECONDS, self._watch)

    def close(self) -> None:
        if self._socket:
            self._loop.unwatch(self._socket.fileno())
            self._socket.close()
            self._socket = None

    def remove(self) -> None:
        self.close()
        if identity_of(self._path) == self._identity:  # else it is another supervisor's
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self._path)


def identity_of(path: str) -> tuple[int, int]:
    try:
        found = os.stat(path)
    except OSError:
        return (0, 0)
    return (found.st_dev, found.st_ino)


# -- sockets at paths that a program, or a process file, names --------------------------------------------------------


def found_at(path: str) -> Optional[os.stat_result]:
    """Of the socket that the path itself names; None where there is none, or something else. A link is something else."""
    try:
        found = os.lstat(path)
    except OSError:
        return None
    return found if stat.S_ISSOCK(found.st_mode) else None


def socket_at(path: str) -> Optional[SocketFile]:
    """Which socket that is."""
    found = found_at(path)
    return (found.st_dev, found.st_ino) if found else None


def remove_stale(path: str) -> None:
    """Makes room where a process that is gone left its socket. Raises AddressInUse where anything else is, or OSError."""
    found = socket_at(path)
    if found is None:
        if os.path.lexists(path):
            raise AddressInUse(
                f"{path} is already in use: it is not a socket",
                next="move that file away, or give the app another path",
            )
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK) as trial:
        try:
            with home.short_path(path) as short:
                trial.connect(short)
        except ConnectionRefusedError:
            remove_socket(path, found)
            return
        except (BlockingIOError, PermissionError):
            pass  # its queue is full; or we may not ask, nor take its place
        except OSError:
            return
    raise AddressInUse(f"{path} is already in use", next="stop the program that listens there")


def remove_socket(path: str, ours: Optional[SocketFile]) -> None:
    """Unless something else lies there by now. Raises OSError where that may not be."""
    if ours and socket_at(path) == ours:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)


# A socket whose path was removed cannot be bound again, so a second name of it is kept beside the first.


def second_name(path: str) -> str:
    return os.path.join(os.path.dirname(path), f".{os.path.basename(path)}.percore")


def take_path(path: str, made: Optional[os.stat_result]) -> Optional[SocketFile]:
    """We have just bound it; `made` is what a worker had there before, by which it shows whose socket it is to be.

    Where the file system allows no second name, what is removed is gone.
    """
    if made:
        with contextlib.suppress(OSError):
            _give(path, made)
    second = second_name(path)
    with contextlib.suppress(OSError):
        if socket_at(second):
            os.unlink(second)  # of one that is gone
        os.link(path, second, follow_symlinks=False)
    return socket_at(path)


def _give(path: str, made: os.stat_result) -> None:
    """The socket gets mode and owner; what somebody else put in its place meanwhile, such as a link, does not."""
    entry = os.open(path, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        if stat.S_ISSOCK(os.fstat(entry).st_mode):
            os.chmod(f"/proc/self/fd/{entry}", stat.S_IMODE(made.st_mode))
            os.chown(f"/proc/self/fd/{entry}", made.st_uid, made.st_gid)
    finally:
        os.close(entry)


def restore(path: str, ours: Optional[SocketFile]) -> bool:
    """Whether the path leads to our socket, again if need be.

    Raises AddressInUse where something else is there by now, or OSError.
    """
    if ours is None or socket_at(path) == ours:
        return ours is not None
    remove_stale(path)
    if socket_at(second_name(path)) != ours:
        return False
    os.link(second_name(path), path, follow_symlinks=False)
    return True


def bound_file(sock: socket.socket, path: str) -> Optional[SocketFile]:
    """Which file is the one of a socket that an earlier supervisor bound; None where the kernel names another."""
    for name in (path, second_name(path)):
        found = socket_at(name)
        try:
            if found and sock_diag.file_of_unix(sock) == found[1] & 0xFFFFFFFF:
                return found
        except OSError:
            return None
    return None
