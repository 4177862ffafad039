"""A Unix socket at which processes knock: those of our own user, or where workers run as others, of any."""

from __future__ import annotations

import contextlib
import os
import socket
import struct

from percore.hints import Callable, Optional
from percore.supervisor import home
from percore.supervisor.loop import Loop

# Without a free descriptor nobody can be let in, and whoever waits outside would wake us again and again.
_REST_SECONDS = 0.2


class Door:
    def __init__(
        self, loop: Loop, path: str, let_in: Callable[[socket.socket], None], *, everybody: bool = False
    ) -> None:
        """`let_in` gets each connection. `everybody`: any user may knock. Raises OSError."""
        self._loop = loop
        self._path = path
        self._let_in = let_in
        self._everybody = everybody
        self._socket: Optional[socket.socket] = None
        self._identity = (0, 0)
        self._open()

    def _open(self) -> None:
        self._socket = home.listen(self._path, everybody=self._everybody)
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
        try:
            connection, _ = self._socket.accept()
        except BlockingIOError:
            return
        except OSError:
            self._loop.unwatch(self._socket.fileno())
            self._loop.later(_REST_SECONDS, self._watch)
            return
        if not self._loop.faults.contain("letting a client in", self._let_in, connection):
            connection.close()

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
    _, uid, _ = struct.unpack("3i", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
    return int(uid)


def identity_of(path: str) -> tuple[int, int]:
    try:
        found = os.stat(path)
    except OSError:
        return (0, 0)
    return (found.st_dev, found.st_ino)
