"""Notices when somebody removes the path of a listening Unix socket: it is put back. Loaded with the first such path."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable

from percore.common.typing import TYPE_CHECKING
from percore.supervisor.base.inotify import Inotify
from percore.supervisor.base.loop import Loop
from percore.supervisor.sockets.unix import second_name

if TYPE_CHECKING:
    from typing import Protocol

    class PathOwner(Protocol):
        def restore_paths(self) -> None:
            """One of them may be gone."""


class PathWatch:
    def __init__(self, loop: Loop, owner: PathOwner) -> None:
        """Raises OSError."""
        self._loop = loop
        self._owner = owner
        self._inotify = Inotify()
        loop.watch(self._inotify.descriptor, self._something_happened)

    def follow(self, paths: Iterable[str]) -> None:
        """Through their second names: the kernel tells when a socket has one name less."""
        for path in paths:
            with contextlib.suppress(OSError):  # it has none, and could not be put back
                self._inotify.add_names_of(second_name(path))

    def _something_happened(self) -> None:
        self._inotify.read()
        self._owner.restore_paths()

    def close(self) -> None:
        self._loop.unwatch(self._inotify.descriptor)
        self._inotify.close()
