"""A connection to the supervisor that stays open, and never waits: for a view that has other things to do."""

from __future__ import annotations

import contextlib
import socket

from percore.common import control
from percore.common.typing import Any, Optional
from percore.supervisor.home import Home, connect


class Link:
    """Sends requests and takes the replies as they come. `is_open` turns False when the supervisor goes away."""

    def __init__(self, home: Home) -> None:
        self._home = home
        self._socket: Optional[socket.socket] = None
        self._unread = b""

    @property
    def is_open(self) -> bool:
        return self._socket is not None

    def fileno(self) -> int:
        assert self._socket
        return self._socket.fileno()

    def open(self) -> bool:
        """Tries to connect; False where no supervisor runs."""
        if self._socket is None:
            with contextlib.suppress(OSError):
                self._socket = connect(self._home.control_socket)
                self._unread = b""
        return self.is_open

    def send(self, op: str, **arguments: Any) -> None:
        try:
            assert self._socket
            self._socket.sendall(control.encode({"version": control.VERSION, "op": op, **arguments}))
        except OSError:
            self.close()

    def read(self) -> list[dict[str, Any]]:
        """The replies that are here by now."""
        try:
            assert self._socket
            part = self._socket.recv(1 << 20)
        except OSError:
            part = b""
        if not part:
            self.close()
            return []
        *lines, self._unread = (self._unread + part).split(b"\n")
        return [control.decode(line) for line in lines]

    def close(self) -> None:
        if self._socket:
            self._socket.close()
            self._socket = None
