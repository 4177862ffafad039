"""The control socket: a request in, a manager call, replies out. Only root and the supervisor's own user may ask."""

from __future__ import annotations

import contextlib
import functools
import os
import socket
from collections.abc import Mapping, Sequence

from percore import __version__
from percore.common import control
from percore.common.socket_peers import peer_of
from percore.common.typing import Any, Callable, Optional, Protocol
from percore.errors import PercoreError, UsageError
from percore.supervisor import control_operations
from percore.supervisor.base import systemd
from percore.supervisor.base.environment import clean_environment
from percore.supervisor.base.home import Home
from percore.supervisor.base.loop import Loop, Timer
from percore.supervisor.core import apply, operations, status
from percore.supervisor.core.jobs import Outcome, Reply
from percore.supervisor.core.manager import Manager
from percore.supervisor.core.persistence import dump, resurrect
from percore.supervisor.sockets.unix import UnixServer

# With more than that not taken, or waiting, a client is read from no more: an answer of any size goes out whole, and one after
# the other.
_MOST_UNSENT_BYTES = 1024 * 1024
_MOST_ASKS = 64
_MOST_AT_ONCE = 256 * 1024
# A client that takes nothing of so much for so long is disconnected, so that it costs no more memory.
_PATIENCE_SECONDS = 30.0
_MOST_CLIENTS = 256

_URGENT = frozenset({"stop", "delete", "kill"})
_JOBS: Mapping[str, Callable[..., Outcome]] = {
    "apply": apply.apply,
    "start": apply.start,
    "start_selected": operations.start_selected,
    "stop": operations.stop,
    "restart": operations.restart,
    "reload": operations.reload,
    "scale": operations.scale,
    "delete": operations.delete,
}
"""What is done to the apps, one after the other."""


class Logs(Protocol):
    """The logs of all workers."""

    dropped: dict[str, int]  # by path: bytes that were lost

    def reopen(self) -> None: ...


class Server:
    def __init__(self, loop: Loop, home: Home, manager: Manager, logs: Logs) -> None:
        self._loop = loop
        self._home = home
        self._manager = manager
        self._logs = logs
        apps = manager.apps
        self._at_once: Mapping[str, Callable[..., Optional[Mapping[str, Any]]]] = {
            "ping": self._ping,
            "status": lambda: status.status(apps),
            "describe": self._describe,
            "reset": self._reset,
            "signal": lambda **fields: {"count": operations.signal(apps, **fields)},
            "dump": lambda **fields: {"apps": dump(apps, home.dump, **fields)},
            "compare": lambda **fields: {"changes": apply.compare(apps, fields.pop("apps"), **fields)},
            "jobs": lambda selectors: {"jobs": operations.report_jobs(apps, selectors)},
            "run_job": lambda selectors: operations.run_jobs(apps, selectors),
            "reload_logs": self._reload_logs,
            "farewell": lambda pid: apps.runtime.farewells.answered(pid),
        }
        self._instance = os.urandom(8).hex()  # a pid does not tell a supervisor from its successor
        self.clients: dict[ControlClient, int] = {}  # in the order in which they came, with their pids
        self._socket = UnixServer(loop, home.control_socket, self._accept)

    def _accept(self, connection: socket.socket) -> None:
        if len(self.clients) >= _MOST_CLIENTS:
            # Those that ask nothing go first; they need no timer as long as there is room.
            next((client for client in self.clients if not client.asks), next(iter(self.clients))).finish()
        client = ControlClient(self._loop, connection, self._answer, self._forget)
        self.clients[client] = peer_of(connection).pid
        self._note_askers()

    def _forget(self, client: ControlClient) -> None:
        self.clients.pop(client, None)
        self._note_askers()

    def _note_askers(self) -> None:
        self._manager.apps.runtime.children.askers = set(self.clients.values())

    def reopen(self) -> None:
        self._socket.reopen()

    def close(self) -> None:
        self._socket.remove()
        for client in list(self.clients):
            client.finish()

    def _answer(self, line: bytes, reply: Reply) -> None:
        try:
            request = self._decode(line)
            if request.get("version") != control.VERSION and request.get("op") not in ("ping", "update"):
                raise UsageError(
                    "this command is of another version than the running supervisor", next="percore update"
                )
            op, fields = control_operations.read(request)
            if op in self._at_once:
                reply({"event": "result", "ok": True, **(self._at_once[op](**fields) or {})})
            elif op == "farewells":
                self._manager.apps.runtime.farewells.listen(reply)
            else:
                self._submit(op, fields, reply)
        except PercoreError as error:
            reply(control.failure(error))
        except Exception as error:
            reply(control.failure(self._loop.faults.note("answering a request", error)))

    def _decode(self, line: bytes) -> dict[str, Any]:
        try:
            return control.decode(line)
        except ValueError as error:
            raise UsageError(f"the request is malformed: {str(error)[:200]}") from None

    def _submit(self, op: str, fields: dict[str, Any], reply: Reply) -> None:
        """What takes its time: it is refused at once where that can be said already, not after what is in the queue."""
        if op in ("apply", "start"):
            fields["base_env"] = fields.pop("env") or clean_environment(os.environ)
            fields["configs"] = fields.pop("apps")
        elif op == "leave":
            if systemd.is_there():
                raise PercoreError("this supervisor belongs to a service manager, so it stays")
            descriptors = self._manager.persistence.store.fds
            reply = functools.partial(reply, descriptors=descriptors)  # type: ignore[call-arg]
        names = operations.names_for(self._manager.apps, op, fields)
        title = " ".join([op, *fields.get("selectors", ())])
        self._manager.jobs.submit(title, self._make_job(op, fields), reply, apps=names, urgent=op in _URGENT)

    def _make_job(self, op: str, fields: Mapping[str, Any]) -> Outcome:
        manager = self._manager
        if op in _JOBS:
            return _JOBS[op](manager.apps, **fields)
        if op == "watch":
            return self._set_watch(**fields)
        if op == "resurrect":
            return resurrect(manager.apps, self._home.dump)
        if op == "update":
            return manager.update(**fields)
        return manager.leave() if op == "leave" else manager.kill()

    def _set_watch(self, selectors: Sequence[str], on: Optional[bool]) -> Outcome:
        operations.set_watch(self._manager.apps, selectors, on)
        self._manager.tell_observers()  # before the answer: what changes from now on counts
        yield from ()
        return {}

    # -- done at once ------------------------------------------------------------------------------------------------

    def _ping(self) -> Mapping[str, Any]:
        faults = self._loop.faults.summary()
        return {"pid": os.getpid(), "version": __version__, "instance": self._instance, "faults": faults}

    def _describe(self, selectors: Sequence[str], *, with_env: bool) -> Mapping[str, Any]:
        workers = status.describe(self._manager.apps, selectors, self._logs.dropped, with_env=with_env)
        return {"workers": workers, "faults": self._loop.faults.summary()}

    def _reset(self, selectors: Sequence[str]) -> Mapping[str, Any]:
        operations.reset(self._manager.apps, selectors)
        self._manager.jobs.note_change()
        return {}

    def _reload_logs(self) -> None:
        self._logs.reopen()


class ControlClient:
    """One connection: lines in, lines out. From a client that does not take its answers nothing more is read until it does."""

    def __init__(self, loop: Loop, connection: socket.socket, answer: Callable[[bytes, Reply], None],
                 on_close: Callable[[ControlClient], object]) -> None:  # fmt: skip
        self._loop = loop
        self._connection = connection
        self._answer = answer
        self._on_close = on_close
        self._unread = bytearray()
        self._unsent = bytearray()
        self._patience: Optional[Timer] = None
        self._taken = 0  # bytes, since the last look
        self.asks = 0  # requests that wait for their result
        self._is_answering = False
        self._is_open = True
        connection.setblocking(False)
        self._watch()

    def _watch(self) -> None:
        if not self._is_open:
            return
        if self._is_full and not self._unsent:
            self._loop.unwatch(self._connection.fileno())  # until the results it waits for are there
            return
        self._loop.watch(self._connection.fileno(), self._ready, readable=not self._is_full,
                         writable=bool(self._unsent), on_fault=lambda _: self._close())  # fmt: skip

    @property
    def _is_full(self) -> bool:
        return len(self._unsent) > _MOST_UNSENT_BYTES or self.asks >= _MOST_ASKS

    def _ready(self) -> None:
        try:
            self._send()
            if not self._is_full:
                self._read()
            self._go_on()
        except MemoryError:
            self._unread, self._unsent = bytearray(), bytearray()
            self._close()

    def _read(self) -> None:
        try:
            part = self._connection.recv(65536)
        except BlockingIOError:
            return
        except OSError:
            part = b""
        self._unread += part
        if not part or (len(self._unread) > control.LONGEST_LINE and b"\n" not in self._unread):
            self._close()

    def _go_on(self) -> None:
        """Answers what was asked, as far as there is room for the answers."""
        if self._is_answering:
            return
        self._is_answering = True
        try:
            while self._is_open and not self._is_full and (end := self._unread.find(b"\n")) >= 0:
                line = bytes(self._unread[:end])
                del self._unread[: end + 1]
                self.asks += 1
                self._answer(line, self.reply)
        finally:
            self._is_answering = False
            self._watch()

    def reply(self, message: Mapping[str, Any], descriptors: Sequence[int] = ()) -> None:
        """A client that went away changes nothing: the job goes on."""
        self.asks -= message["event"] == "result"
        if not self._is_open:
            return
        if descriptors:
            with contextlib.suppress(OSError):
                socket.send_fds(self._connection, [control.encode(message)], descriptors)
            return
        self._unsent += control.encode(message)
        self._send()
        self._go_on()

    def _send(self) -> None:
        if not self._is_open:
            return
        try:
            while self._unsent:
                with memoryview(self._unsent) as view:
                    sent = self._connection.send(view[:_MOST_AT_ONCE])
                del self._unsent[:sent]
                self._taken += sent
        except BlockingIOError:
            if self._patience is None:
                self._taken = 0
                self._patience = self._loop.later(_PATIENCE_SECONDS, self._look_again)
        except OSError:
            self._close()

    def _look_again(self) -> None:
        """An answer is given the time that it takes, but one of which nothing is taken is not kept for ever."""
        self._patience = None
        if self._is_full and self._unsent and not self._taken:
            self._close()
        elif self._unsent:
            self._taken = 0
            self._patience = self._loop.later(_PATIENCE_SECONDS, self._look_again)

    def finish(self) -> None:
        """Sends what is left, as far as the client takes it at once."""
        self._send()
        self._close()

    def _close(self) -> None:
        if self._is_open:
            self._is_open = False
            self._unsent.clear()
            if self._patience:
                self._patience.cancel()
            self._loop.unwatch(self._connection.fileno())
            self._connection.close()
            self._on_close(self)
