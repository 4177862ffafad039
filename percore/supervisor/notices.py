"""READY=1 from workers, by systemd's notify protocol (sd_notify(3)): for programs that are not Node, or speak it anyway.

The kernel tells who sent a message (SO_PASSCRED), so no worker can speak for another one.
"""

from __future__ import annotations

import contextlib
import os
import socket
import struct
from collections.abc import Iterator

from percore.hints import Callable
from percore.supervisor.door import identity_of
from percore.supervisor.home import bind
from percore.supervisor.loop import Loop
from percore.supervisor.procfs import parent_of

_LONGEST_MESSAGE = 4096


class Notices:
    def __init__(self, loop: Loop, address: str, is_ready: Callable[[int], bool], *, everybody: bool = False) -> None:
        """`is_ready` is called with a process that said so; False: it is no worker itself, its parent may be.

        `everybody`: any user may send.
        """
        self._loop = loop
        self._is_ready = is_ready
        self._path = "" if address.startswith("@") else address
        self._name = address
        self._everybody = everybody
        self._identity = (0, 0)
        self._open()

    def _open(self) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        if self._path:
            bind(self._socket, self._path, everybody=self._everybody)
            self._identity = identity_of(self._path)
        else:
            self._socket.bind("\0" + self._name[1:])
        self._loop.watch(self._socket.fileno(), self._read)

    def open_again(self) -> None:
        """Where somebody deleted the file."""
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
        try:
            space = socket.CMSG_SPACE(12) + socket.CMSG_SPACE(4 * 253)  # descriptors may come along; they are closed
            text, control, _, _ = self._socket.recvmsg(_LONGEST_MESSAGE, space, socket.MSG_CMSG_CLOEXEC)
        except OSError:
            return
        sender = 0
        for level, kind, data in control:
            if level == socket.SOL_SOCKET and kind == socket.SCM_CREDENTIALS:
                sender = struct.unpack("3i", data)[0]
            elif level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                for (descriptor,) in struct.iter_unpack("i", data[: len(data) // 4 * 4]):
                    os.close(descriptor)
        if b"READY=1" in text.split(b"\n"):
            # The message may come from below the worker: a shell, npm or a launcher stands between.
            for pid in _line_of(sender):
                if self._is_ready(pid):
                    return


def _line_of(pid: int) -> Iterator[int]:
    """The process, its parent, and so on up to us."""
    while pid > 1 and pid != os.getpid():
        yield pid
        pid = parent_of(pid)
