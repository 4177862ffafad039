"""The private Unix socket where workers get their listening sockets and hear that they should drain.

`bindshim.c` and `preload.cjs` are the other side. A worker shows the token that only it was given. Whatever else arrives here,
and however often, ends with its own connection: a worker that we hang up on asks again.
"""

from __future__ import annotations

import errno
import os
import socket
import time

from percore.common.socket_peers import peer_of
from percore.common.typing import TYPE_CHECKING, Callable, Optional
from percore.errors import PercoreError
from percore.supervisor.base.logger import log
from percore.supervisor.base.loop import Loop, Timer
from percore.supervisor.base.rlimits import share_of_descriptors
from percore.supervisor.config.address import Address
from percore.supervisor.sockets.rate_limit import Allowance
from percore.supervisor.sockets.unix import UnixServer
from percore.supervisor.sockets.worker_requests import LONGEST_REQUEST, parse_request

# A worker connects only when it has something to say.
_SILENT_SECONDS = 5.0
_MOST_SILENT = 64
_MOST_AT_ONCE, _MOST_PER_SECOND = 2000, 500
_MOST_PRELOADS = 256  # of one worker: each of its Node processes has one
_LONGEST_REPORT = 64
_MOST_REPORTS = 100  # that it is drained; one for each time that it was asked


class Drainable:
    """A process of a worker that can be asked to finish its connections through its connection."""

    def __init__(self, ask: Callable[[bool], None]) -> None:
        """`ask` is told whether the process must also stop accepting, because others accept from the same socket."""
        self.ask = ask
        self.is_drained = False
        self.reports = 0  # of the process, about that


if TYPE_CHECKING:
    from typing import Protocol

    class Client(Protocol):
        """What a worker is to us; `str` names it."""

        @property
        def uid(self) -> int:
            """The user of its processes."""

        @property
        def preloads(self) -> list[Drainable]: ...

        def socket_for(self, address: Address) -> Optional[socket.socket]:
            """Its own of the shared ones; None where it is only to believe that it listens.

            Raises PercoreError or OSError, BlockingIOError for "ask again".
            """

        def reserve(self, address: Address) -> Optional[socket.socket]:
            """A socket that is bound there, for it alone; None where it needs none. Raises as `socket_for`."""

        def listens(self, address: Address) -> None:
            """It has its socket of this address."""

        def shares(self, address: Address) -> bool:
            """The socket at this path is its app's."""

        def closed(self) -> None:
            """It closed one of its sockets."""

        def must_not_connect(self, address: Address) -> Optional[bool]:
            """True where only its app's own, empty, port would answer; None: it need not ask any more."""

        def refused(self, reason: str) -> bool:
            """Why it cannot do what it wants. True where the log should say so; of a worker that is not ready, its end does."""

        def listens_alone(self) -> None: ...

        def add_preload(self, preload: Drainable) -> None: ...

    class ClientFinder(Protocol):
        """Who knows the workers."""

        def find_worker(self, token: str) -> Optional[Client]: ...

        def has_worker_of(self, uid: int) -> bool: ...


class Broker:
    def __init__(
        self, loop: Loop, path: str, workers: ClientFinder, *, user: Optional[int] = None, all_users: bool = False
    ) -> None:
        """For workers of our own user, and of `user`; with `all_users` for those of any."""
        self._loop = loop
        self._workers = workers
        self._all_users = all_users
        self._complaints = Allowance(3, 0.1)
        self._silent: dict[socket.socket, float] = {}  # who has not asked yet, and until when; the longest first
        self._timer: Optional[Timer] = None
        self._preloads = 0
        self._most_preloads = share_of_descriptors(4)
        allowance = Allowance(_MOST_AT_ONCE, _MOST_PER_SECOND)
        self.server = UnixServer(loop, path, self._accept, user=user, all_users=all_users, allowance=allowance)

    def close(self) -> None:
        self.server.close()

    def _accept(self, connection: socket.socket) -> None:
        if self._all_users and not self._workers.has_worker_of(peer_of(connection).uid):
            connection.close()
            return
        if len(self._silent) >= _MOST_SILENT:
            self._drop(next(iter(self._silent)))
        connection.setblocking(False)
        self._silent[connection] = time.monotonic() + _SILENT_SECONDS
        self._loop.watch(
            connection.fileno(), lambda: self._read(connection), on_fault=lambda _: self._failed(connection)
        )
        if self._timer is None:
            self._timer = self._loop.later(_SILENT_SECONDS, self._drop_silent)

    def _drop_silent(self) -> None:
        now = time.monotonic()
        for connection in [connection for connection, limit in self._silent.items() if limit <= now]:
            self._drop(connection)
        soonest = next(iter(self._silent.values()), None)
        self._timer = self._loop.later(soonest - now, self._drop_silent) if soonest else None

    def _read(self, connection: socket.socket) -> None:
        try:
            # Requests are far shorter than a socket buffer, so each arrives whole.
            line = connection.recv(LONGEST_REQUEST)
        except BlockingIOError:
            return
        except OSError:
            line = b""
        self._silent.pop(connection, None)
        if not (line and self._answer(connection, line)):
            self._drop(connection)

    def _answer(self, connection: socket.socket, line: bytes) -> bool:
        """True when the connection stays."""
        try:
            request = parse_request(line)
        except ValueError as error:
            self._complain(connection, str(error))
            _send(connection, b"fail %d\n" % errno.EINVAL)
            return False
        worker = self._workers.find_worker(request.token)
        # Who learned a token does not get another user's socket.
        if worker is None or peer_of(connection).uid not in (0, os.geteuid(), worker.uid):
            _send(connection, b"own\n")
        elif request.verb == "drain-me":
            return self._keep(connection, worker)
        elif request.address is None:
            if request.verb == "alone":
                worker.listens_alone()
            elif request.verb == "closed":
                worker.closed()
            _send(connection, b"own\n")
        elif address := _absolute(request.address, peer_of(connection).pid):
            self._answer_about(connection, worker, request.verb, address)
        else:
            _send(connection, b"own\n")
        return False

    def _answer_about(self, connection: socket.socket, worker: Client, verb: str, address: Address) -> None:
        if verb == "unlink":
            _send(connection, b"done\n" if worker.shares(address) else b"own\n")
        elif verb == "connect":
            is_refused = worker.must_not_connect(address)
            refusal = b"fail %d\n" % errno.ECONNREFUSED
            _send(connection, b"done\n" if is_refused is None else refusal if is_refused else b"own\n")
        else:
            self._hand_over(connection, worker, address, is_reserved=verb == "reserve")

    def _complain(self, connection: socket.socket, problem: str) -> None:
        if self._complaints.take():
            pid, uid, _ = peer_of(connection)
            log(f"a request of process {pid} (user {uid}) on the worker socket was refused: {problem}")

    def _hand_over(self, connection: socket.socket, worker: Client, address: Address, *, is_reserved: bool) -> None:
        try:
            found = worker.reserve(address) if is_reserved else worker.socket_for(address)
        except PercoreError as error:
            self._refuse(connection, worker, errno.EADDRINUSE, str(error))
            return
        except BlockingIOError:
            return
        except OSError as error:
            advice = " -> name it in the process file (port, listen)" if error.errno == errno.EACCES else ""
            reason = f"it may not listen on {address}: {error.strerror}{advice}"
            self._refuse(connection, worker, error.errno or errno.EADDRINUSE, reason)
            return
        if found is None:
            _send(connection, b"done\n")
            return
        try:
            socket.send_fds(connection, [b"take\n"], [found.fileno()])
        except OSError:
            return
        finally:
            if is_reserved:
                found.close()  # it is the worker's alone
        if not is_reserved:
            worker.listens(address)

    def _refuse(self, connection: socket.socket, worker: Client, number: int, reason: str) -> None:
        _send(connection, b"fail %d\n" % number)
        if worker.refused(reason) and self._complaints.take():
            log(f"{worker}: {reason}")

    # -- what stays --------------------------------------------------------------------------------------------------

    def _keep(self, connection: socket.socket, worker: Client) -> bool:
        """The process waits for the word to drain. False where there are too many of them."""
        if len(worker.preloads) >= _MOST_PRELOADS or self._preloads >= self._most_preloads:
            self._complain(connection, f"{worker} has too many connections")
            return False
        self._preloads += 1
        drainable = Drainable(lambda closes: _send(connection, b"close\n" if closes else b"drain\n"))
        worker.add_preload(drainable)
        self._loop.watch(connection.fileno(), lambda: self._read_drained(connection, worker, drainable))
        return True

    def _read_drained(self, connection: socket.socket, worker: Client, drainable: Drainable) -> None:
        try:
            text = connection.recv(_LONGEST_REPORT)
        except BlockingIOError:
            return
        except OSError:
            text = b""
        drainable.reports += 1
        if not text or b"drained" in text:
            drainable.is_drained = True
        if not text or drainable.reports > _MOST_REPORTS:
            if drainable in worker.preloads:
                worker.preloads.remove(drainable)
            self._preloads -= 1
            self._drop(connection)

    def _failed(self, connection: socket.socket) -> None:
        """Something of ours failed over it: the program hears that it cannot bind."""
        _send(connection, b"fail %d\n" % errno.EIO)
        self._drop(connection)

    def _drop(self, connection: socket.socket) -> None:
        self._silent.pop(connection, None)
        self._loop.unwatch(connection.fileno())
        connection.close()


def _absolute(address: Optional[Address], pid: int) -> Optional[Address]:
    """A path that the process at the other end gave, as seen from where that one is."""
    if address is None or address.family != socket.AF_UNIX or address.host.startswith("/"):
        return address
    try:
        path = os.path.normpath(os.path.join(os.readlink(f"/proc/{pid}/cwd"), address.host))
    except OSError:
        return None
    return address._replace(host=path) if path.isprintable() else None


def _send(connection: socket.socket, text: bytes) -> None:
    try:
        connection.send(text)
    except OSError:
        return
