"""The private Unix socket where workers get their listening sockets and hear that they should drain.

`bindshim.c` and `preload.cjs` are the other side. A worker shows the token that only it was given.
"""

from __future__ import annotations

import errno
import os
import socket

from percore.errors import PercoreError
from percore.hints import Callable, Optional
from percore.supervisor.address import Address
from percore.supervisor.door import Door, user_of
from percore.supervisor.loop import Loop
from percore.supervisor.sockets import Listener
from percore.supervisor.worker import Drainable, Worker

_LONGEST_REQUEST = 1024


class Handover:
    def __init__(self, loop: Loop, path: str, find_worker: Callable[[str], Optional[Worker]],
                 open_listener: Callable[[Worker, Address], Listener],
                 is_welcome: Optional[Callable[[int], bool]] = None) -> None:  # fmt: skip
        """`open_listener` gives the shared sockets, or raises PercoreError or OSError.

        `is_welcome`: any user may knock, and these are let in.
        """
        self._is_welcome = is_welcome
        self._loop = loop
        self._find_worker = find_worker
        self._open_listener = open_listener
        self.door = Door(loop, path, self._let_in, everybody=is_welcome is not None)

    def close(self) -> None:
        self.door.close()

    def _let_in(self, connection: socket.socket) -> None:
        if self._is_welcome and not self._is_welcome(user_of(connection)):
            connection.close()
            return
        connection.setblocking(False)
        self._loop.watch(
            connection.fileno(), lambda: self._read(connection), on_fault=lambda _: self._refuse(connection)
        )

    def _read(self, connection: socket.socket) -> None:
        try:
            request = connection.recv(_LONGEST_REQUEST)
        except BlockingIOError:
            return
        except OSError:
            request = b""
        # Requests are far shorter than a socket buffer, so each arrives whole.
        words = request.decode(errors="replace").split()
        worker = self._find_worker(words[1]) if len(words) > 2 else None
        if worker and user_of(connection) not in (0, os.geteuid(), worker.uid):
            worker = None  # who learned a token does not get another user's socket
        if worker and words[0] == "bind" and len(words) == 7:
            self._hand_over(connection, worker, words)
        elif worker and words[0] == "drain-me":
            drainable = Drainable(lambda closes: _send(connection, b"close\n" if closes else b"drain\n"))
            worker.add_preload(drainable)
            self._loop.watch(connection.fileno(), lambda: self._read_drained(connection, worker, drainable),
                             on_fault=lambda _: self._drop(connection))  # fmt: skip
            return
        elif words:
            if worker and words[0] == "alone":
                worker.listens_alone()
            _send(connection, b"own\n")
        self._drop(connection)

    def _hand_over(self, connection: socket.socket, worker: Worker, words: list[str]) -> None:
        try:
            family, kind, v6only = int(words[3]), int(words[4]), words[5] != "0"
            address = Address.from_sockaddr(family, kind, v6only, bytes.fromhex(words[6]))
        except (ValueError, IndexError):
            _send(connection, b"own\n")
            return
        try:
            listener = self._open_listener(worker, address)
        except PercoreError as error:
            worker.failure = str(error)
            _send(connection, b"fail %d\n" % errno.EADDRINUSE)
            return
        except OSError as error:
            worker.failure = f"it may not listen on {address}: {error.strerror}"
            _send(connection, b"fail %d\n" % (error.errno or errno.EADDRINUSE))
            return
        shared = listener.socket_for(worker.number, worker.generation)
        try:
            socket.send_fds(connection, [b"take\n"], [shared.fileno()])
        except OSError:
            return
        worker.bound(address, listener)

    def _read_drained(self, connection: socket.socket, worker: Worker, drainable: Drainable) -> None:
        try:
            text = connection.recv(64)
        except BlockingIOError:
            return
        except OSError:
            text = b""
        if not text or b"drained" in text:
            drainable.is_drained = True
        if not text:
            if drainable in worker.preloads:
                worker.preloads.remove(drainable)
            self._drop(connection)

    def _refuse(self, connection: socket.socket) -> None:
        """Something of ours failed over it: the program hears that it cannot bind."""
        _send(connection, b"fail %d\n" % errno.EIO)
        self._drop(connection)

    def _drop(self, connection: socket.socket) -> None:
        self._loop.unwatch(connection.fileno())
        connection.close()


def _send(connection: socket.socket, text: bytes) -> None:
    try:
        connection.send(text)
    except OSError:
        return
