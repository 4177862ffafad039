"""A connection to the supervisor that stays open, and never waits: for a view that has other things to do."""

from __future__ import annotations

import contextlib

from percore.common import control
from percore.common.typing import Any, Optional
from percore.supervisor.home import Home, connect


class Link:
    """Sends requests and takes the replies as they come. `is_open` turns False when the supervisor goes away."""

    def __init__(self, home: Home) -> None:
        self._home = home
        self._connection: Optional[control.Connection] = None

    @property
    def is_open(self) -> bool:
        return self._connection is not None

    def fileno(self) -> int:
        assert self._connection
        return self._connection.fileno()

    def open(self) -> bool:
        """Tries to connect; False where no supervisor runs."""
        if self._connection is None:
            with contextlib.suppress(OSError):
                self._connection = control.Connection(connect(self._home.control_socket))
        return self.is_open

    def send(self, op: str, **arguments: Any) -> None:
        try:
            assert self._connection
            self._connection.send(op, **arguments)
        except OSError:
            self.close()

    def read(self) -> list[dict[str, Any]]:
        """The replies that are here by now. One that makes no sense ends the connection."""
        try:
            assert self._connection
            lines = self._connection.receive()
            if lines is not None:
                return [control.decode(line) for line in lines]
        except (OSError, ValueError, RecursionError):
            pass
        self.close()
        return []

    def close(self) -> None:
        if self._connection:
            self._connection.close()
            self._connection = None
