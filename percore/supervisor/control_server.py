"""The control socket: a request in, a manager call, replies out. Only root and the supervisor's own user may ask."""

from __future__ import annotations

import contextlib
import functools
import os
import socket
from collections.abc import Mapping, Sequence

from percore import __version__
from percore.common import control
from percore.common.typing import Any, Callable, Optional
from percore.common.unix_socket import peer_of
from percore.errors import PercoreError, UsageError
from percore.supervisor import control_operations, systemd
from percore.supervisor.core.jobs import Outcome, Reply
from percore.supervisor.core.manager import Manager
from percore.supervisor.loop import Loop, Timer
from percore.supervisor.program import Program
from percore.supervisor.sockets.unix import UnixServer
from percore.supervisor.user import clean_environment

# With more than that not taken, or waiting, a client is read from no more: an answer of any size goes out whole, and one after
# the other.
_MOST_UNSENT_BYTES = 1024 * 1024
_MOST_ASKS = 64
_MOST_AT_ONCE = 256 * 1024
# Who takes nothing of so much for so long loses the connection, not the supervisor its memory.
_PATIENCE_SECONDS = 30.0
_MOST_CLIENTS = 256

_AT_ONCE = frozenset({"ping", "status", "describe", "reset", "signal", "dump", "compare", "reload_logs"})
_URGENT = frozenset({"stop", "delete", "kill"})
_METHODS = {"watch": "set_watch"}


class Server:
    def __init__(self, loop: Loop, path: str, manager: Manager) -> None:
        self._loop = loop
        self._manager = manager
        self._instance = os.urandom(8).hex()  # a pid does not tell a supervisor from its successor
        self.clients: dict[Client, None] = {}  # in the order in which they came
        self.door = UnixServer(loop, path, self._let_in)

    def _let_in(self, connection: socket.socket) -> None:
        if peer_of(connection).uid not in (0, os.geteuid()):
            connection.close()
            return
        if len(self.clients) >= _MOST_CLIENTS:
            # Those that ask nothing go first; they need no timer as long as there is room.
            next((client for client in self.clients if not client.asks), next(iter(self.clients))).finish()
        self.clients[Client(self._loop, connection, self._answer, self.clients.pop)] = None

    def close(self) -> None:
        self.door.remove()
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
            if op in _AT_ONCE:
                reply({"event": "result", "ok": True, **self._do_at_once(op, fields)})
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
        manager = self._manager
        if op in ("apply", "start"):
            fields["base_env"] = fields.pop("env") or clean_environment(os.environ)
            fields["configs"] = fields.pop("apps")
        elif op == "update":
            fields = {"program": Program(fields["root"], fields["python"])}
        elif op == "leave":
            if systemd.is_there():
                raise PercoreError("this supervisor belongs to a service manager, so it stays")
            reply = functools.partial(reply, descriptors=manager.store.fds)  # type: ignore[call-arg]
        elif op == "scale":
            fields = {"name": fields["name"], "wish": fields["count"]}
        elif op == "watch":
            fields = {"selectors": fields["selectors"], "wish": fields["on"]}
        selectors = fields.get("selectors", ())
        if selectors:
            (manager.select_whole if op == "delete" else manager.select)(selectors)
        perform: Callable[..., Outcome] = getattr(manager, _METHODS.get(op, op))
        title = " ".join([op, *selectors])
        manager.jobs.submit(title, perform(**fields), reply, urgent=op in _URGENT)

    def _do_at_once(self, op: str, fields: Mapping[str, Any]) -> Mapping[str, Any]:
        manager = self._manager
        if op == "ping":
            faults = self._loop.faults.summary()
            return {"pid": os.getpid(), "version": __version__, "instance": self._instance, "faults": faults}
        if op == "status":
            return manager.status()
        if op == "dump":
            return {"apps": manager.dump(**fields)}
        if op == "describe":
            return {"workers": manager.describe(**fields), "faults": self._loop.faults.summary()}
        if op == "signal":
            return {"count": manager.signal(**fields)}
        if op == "compare":
            return {"changes": manager.compare(fields["apps"], owner=fields["owner"])}
        if op == "reset":
            manager.reset(**fields)
        else:
            manager.log_rounds.reopen()
        return {}


class Client:
    """One connection: lines in, lines out. Who does not take the answers is asked nothing more until they are taken."""

    def __init__(self, loop: Loop, connection: socket.socket, answer: Callable[[bytes, Reply], None],
                 on_close: Callable[[Client], object]) -> None:  # fmt: skip
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
