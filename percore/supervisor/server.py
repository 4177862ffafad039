"""The control socket: a request in, a manager call, replies out. Only root and the supervisor's own user may ask."""

from __future__ import annotations

import contextlib
import os
import socket
import struct
from collections.abc import Mapping, Sequence

from percore import __version__
from percore.errors import PercoreError, UsageError
from percore.hints import Any, Callable
from percore.supervisor import protocol, systemd
from percore.supervisor.config import AppConfig
from percore.supervisor.door import Door
from percore.supervisor.identity import clean_environment
from percore.supervisor.jobs import Reply
from percore.supervisor.loop import Loop
from percore.supervisor.manager import Manager
from percore.supervisor.update import Program

# A client that does not read its replies loses the connection, not the supervisor its memory.
_MOST_UNREAD_BYTES = 4 * 1024 * 1024
_MOST_CLIENTS = 256


class Server:
    def __init__(self, loop: Loop, path: str, manager: Manager) -> None:
        self._loop = loop
        self._manager = manager
        self._instance = os.urandom(8).hex()  # a pid does not tell a supervisor from its successor
        self.clients: dict[Client, None] = {}  # in the order in which they came
        self.door = Door(loop, path, self._let_in)

    def _let_in(self, connection: socket.socket) -> None:
        _, uid, _ = struct.unpack("3i", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
        if uid not in (0, os.geteuid()):
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
            request = protocol.decode(line)
            if request.get("version") != protocol.VERSION and request.get("op") not in ("ping", "update"):
                raise UsageError(
                    "this command is of another version than the running supervisor", next="percore update"
                )
            self._perform(request, reply)
        except PercoreError as error:
            reply(protocol.failure(error))
        except (KeyError, TypeError, ValueError) as error:
            reply(protocol.failure(UsageError(f"the request is malformed: {error!r}")))

    def _perform(self, request: Mapping[str, Any], reply: Reply) -> None:
        manager, op = self._manager, request["op"]
        if op in ("ping", "status", "describe", "reset", "signal", "dump"):
            reply({"event": "result", "ok": True, **self._do_at_once(op, request)})
        elif op in ("apply", "start"):
            configs = [AppConfig.from_record(record) for record in request["apps"]]
            base_env = request.get("env") or clean_environment(os.environ)
            if op == "start":
                manager.jobs.submit("start", manager.start(configs, base_env, request.get("how", "start")), reply)
            else:
                steps = manager.apply(configs, base_env, release=request["release"], owner=request["owner"])
                manager.jobs.submit("apply", steps, reply)
        elif op in ("start_selected", "stop", "restart", "reload", "delete"):
            selectors = selectors_of(request)
            # Refused at once, not after what is in the queue.
            (manager.select_whole if op == "delete" else manager.select)(selectors)
            perform: Callable[..., Any] = getattr(manager, op)
            more = {key: request[key] for key in ("changes", "base_env") if request.get(key) is not None}
            title = f"{op} {' '.join(selectors)}"
            manager.jobs.submit(title, perform(selectors, **more), reply, urgent=op in ("stop", "delete"))
        elif op == "watch":
            manager.jobs.submit("watch", manager.set_watch(selectors_of(request), request.get("on")), reply)
        elif op == "compare":
            configs = [AppConfig.from_record(record) for record in request["apps"]]
            reply({"event": "result", "ok": True, "changes": manager.compare(configs, owner=request["owner"])})
        elif op == "scale":
            manager.jobs.submit("scale", manager.scale(request["name"], request["count"]), reply)
        elif op == "resurrect":
            manager.jobs.submit("resurrect", manager.resurrect(), reply)
        elif op == "update":
            manager.jobs.submit("update", manager.update(Program(request["root"], request["python"])), reply)
        elif op == "leave":
            if systemd.is_there():
                raise PercoreError("this supervisor belongs to a service manager, so it stays")
            send: Callable[..., None] = reply
            manager.jobs.submit("leave", manager.leave(), lambda message: send(message, manager.store.fds))
        elif op == "reload_logs":
            manager.log_rounds.reopen()
            reply({"event": "result", "ok": True})
        elif op == "kill":
            manager.jobs.submit("kill", manager.kill(), reply, urgent=True)
        else:
            raise UsageError(f"the supervisor knows no operation '{op}'")

    def _do_at_once(self, op: str, request: Mapping[str, Any]) -> Mapping[str, Any]:
        manager = self._manager
        if op == "ping":
            return {"pid": os.getpid(), "version": __version__, "instance": self._instance}
        if op == "status":
            return manager.status()
        if op == "dump":
            return {"apps": manager.dump(force=bool(request.get("force")))}
        selectors = selectors_of(request)
        if op == "describe":
            return {"workers": manager.describe(selectors, with_env=bool(request.get("with_env")))}
        if op == "signal":
            return {"count": manager.signal(selectors, int(request["number"]))}
        manager.reset(selectors)
        return {}


def selectors_of(request: Mapping[str, Any]) -> list[str]:
    return list(request["selectors"]) if "selectors" in request else [request["selector"]]


class Client:
    """One connection: lines in, lines out."""

    def __init__(self, loop: Loop, connection: socket.socket, answer: Callable[[bytes, Reply], None],
                 on_close: Callable[[Client], object]) -> None:  # fmt: skip
        self._loop = loop
        self._connection = connection
        self._answer = answer
        self._on_close = on_close
        self._unread = bytearray()
        self._unsent = b""
        self.asks = 0  # requests that wait for their result
        self._is_open = True
        connection.setblocking(False)
        loop.watch(connection.fileno(), self._ready)

    def _ready(self) -> None:
        try:
            self._read()
        except MemoryError:
            self._unread = bytearray()
            self._close()

    def _read(self) -> None:
        self._flush()
        try:
            part = self._connection.recv(65536)
        except BlockingIOError:
            return
        except OSError:
            part = b""
        self._unread += part
        if not part or len(self._unread) > protocol.LONGEST_LINE:
            self._close()
            return
        if b"\n" not in part:
            return
        *lines, self._unread = self._unread.split(b"\n")
        for line in lines:
            self.asks += 1
            self._answer(bytes(line), self.reply)

    def reply(self, message: Mapping[str, Any], descriptors: Sequence[int] = ()) -> None:
        """A client that went away changes nothing: the job goes on."""
        self.asks -= message["event"] == "result"
        if not self._is_open:
            return
        if descriptors:
            with contextlib.suppress(OSError):
                socket.send_fds(self._connection, [protocol.encode(message)], descriptors)
            return
        self._unsent += protocol.encode(message)
        self._flush()

    def _flush(self) -> None:
        try:
            while self._unsent:
                self._unsent = self._unsent[self._connection.send(self._unsent) :]
        except BlockingIOError:
            pass
        except OSError:
            self._close()
            return
        if len(self._unsent) > _MOST_UNREAD_BYTES:
            self._close()
        elif self._is_open:
            self._loop.watch(self._connection.fileno(), self._ready, writable=bool(self._unsent))

    def finish(self) -> None:
        """Sends what is left, as far as the client takes it at once."""
        self._flush()
        self._close()

    def _close(self) -> None:
        if self._is_open:
            self._is_open = False
            self._loop.unwatch(self._connection.fileno())
            self._connection.close()
            self._on_close(self)
