"""A Unix socket at which processes knock: those of our own user, or where workers run as others, of any."""

from __future__ import annotations

import contextlib
import os
import socket
import struct

from percore.common.typing import Callable, Optional
from percore.supervisor import home
from percore.supervisor.loop import Loop
from percore.supervisor.sockets.rate_limit import Allowance

# Without a free descriptor, or an allowance, nobody is let in, and who waits outside would wake us again and again.
_REST_SECONDS = 0.2


class Door:
    def __init__(self, loop: Loop, path: str, let_in: Callable[[socket.socket], None], *, user: Optional[int] = None,
                 everybody: bool = False, allowance: Optional[Allowance] = None) -> None:  # fmt: skip
        """`let_in` gets each connection, as many as the allowance says; others wait.

        `user`: he may knock as well, or with `everybody` anyone. Raises OSError.
        """
        self._loop = loop
        self._path = path
        self._let_in = let_in
        self._user = user
        self._everybody = everybody
        self._allowance = allowance
        self._socket: Optional[socket.socket] = None
        self._identity = (0, 0)
        self._open()

    def _open(self) -> None:
        self._socket = home.listen(self._path, user=self._user, everybody=self._everybody)
        self._identity = identity_of(self._path)
        self._watch()

    def open_again(self) -> None:
        """Where somebody deleted the file, nobody finds the door any more; who came in before stays."""
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
        if not self._loop.faults.contain("letting a client in", self._let_in, connection):
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


def user_of(connection: socket.socket) -> int:
    """Whose process is at the other end."""
    _, uid, _ = struct.unpack("iII", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
    return int(uid)


def process_of(connection: socket.socket) -> int:
    """The pid of who connected."""
    pid, _, _ = struct.unpack("iII", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
    return int(pid)


def identity_of(path: str) -> tuple[int, int]:
    try:
        found = os.stat(path)
    except OSError:
        return (0, 0)
    return (found.st_dev, found.st_ino)
