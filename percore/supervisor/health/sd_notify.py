"""READY=1 from workers, by systemd's notify protocol (sd_notify(3)): for programs that are not Node, or speak it anyway.

The kernel tells who sent a message (SO_PASSCRED), so no worker can speak for another one.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import socket
import struct
from collections.abc import Iterator

from percore.common.procfs import parent_of
from percore.common.typing import TYPE_CHECKING, Optional
from percore.supervisor.base.home import bind
from percore.supervisor.base.loop import Loop
from percore.supervisor.sockets.rate_limit import Allowance
from percore.supervisor.sockets.unix import identity_of

_LONGEST_MESSAGE = 4096
_MOST_AT_ONCE, _MOST_PER_SECOND = 1000, 200
_REST_SECONDS = 0.2  # for the kernel to hold back who sends without end
_DEEPEST_TREE = 64

if TYPE_CHECKING:
    from typing import Protocol

    class ReadyListener(Protocol):
        """Who knows the workers."""

        def worker_is_ready(self, pid: int) -> bool:
            """A process said so; False: it is no worker itself, its parent may be."""

        def has_worker_of(self, uid: int) -> bool: ...


class NotifySocket:
    def __init__(
        self, loop: Loop, address: str, workers: ReadyListener, *, user: Optional[int] = None, all_users: bool = False
    ) -> None:
        """For workers of our own user, and of `user`; with `all_users` for those of any."""
        self._loop = loop
        self._workers = workers
        self._path = "" if address.startswith("@") else address
        self._name = address
        self._user = user
        self._all_users = all_users
        self._allowance = Allowance(_MOST_AT_ONCE, _MOST_PER_SECOND)
        self._identity = (0, 0)
        self._open()

    def _open(self) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        try:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
            if self._path:
                bind(self._socket, self._path, user=self._user, all_users=self._all_users)
                self._identity = identity_of(self._path)
            else:
                self._socket.bind("\0" + self._name[1:])
        except OSError:
            self._socket.close()
            raise
        self._watch()

    def _watch(self) -> None:
        if self._socket.fileno() >= 0:
            self._loop.watch(self._socket.fileno(), self._read)

    def reopen(self) -> None:
        """Where the file was deleted."""
        if self._path and identity_of(self._path) != self._identity:
            self._loop.unwatch(self._socket.fileno())
            self._socket.close()
            self._open()

    def close(self) -> None:
        self._loop.unwatch(self._socket.fileno())
        self._socket.close()
        if self._path and identity_of(self._path) == self._identity:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self._path)

    def _read(self) -> None:
        if not self._allowance.take():
            self._loop.unwatch(self._socket.fileno())
            self._loop.later(_REST_SECONDS, self._watch)
            return
        try:
            space = socket.CMSG_SPACE(12) + socket.CMSG_SPACE(4 * 253)  # descriptors may come along; they are closed
            text, control, _, _ = self._socket.recvmsg(_LONGEST_MESSAGE, space, socket.MSG_CMSG_CLOEXEC)
        except OSError:
            return
        pid, uid = _sender_in(control)
        if self._is_allowed(uid) and b"READY=1" in text.split(b"\n"):
            # The message may come from below the worker: a shell, npm or a launcher stands between.
            for ancestor in itertools.islice(_line_of(pid), _DEEPEST_TREE):
                if self._workers.worker_is_ready(ancestor):
                    return

    def _is_allowed(self, uid: int) -> bool:
        return self._workers.has_worker_of(uid) if self._all_users else uid in (0, os.geteuid(), self._user)


def _sender_in(control: list[tuple[int, int, bytes]]) -> tuple[int, int]:
    """Pid and user, as the kernel says. What descriptors came along are closed."""
    pid, uid = 0, -1
    for level, kind, data in control:
        if level == socket.SOL_SOCKET and kind == socket.SCM_CREDENTIALS and len(data) == 12:
            pid, uid, _ = struct.unpack("iII", data)
        elif level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            for (descriptor,) in struct.iter_unpack("i", data[: len(data) // 4 * 4]):
                os.close(descriptor)
    return pid, uid


def _line_of(pid: int) -> Iterator[int]:
    """The process, its parent, and so on up to us."""
    while pid > 1 and pid != os.getpid():
        yield pid
        pid = parent_of(pid)
