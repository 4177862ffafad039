"""Proof that a worker serves: a connection to that very worker, answered.

"The port is listening" proves nothing here, because the supervisor's own socket always is. With a health path the proof is
an HTTP answer below 400; without one it is a connection that the worker took out of its accept queue.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
from collections.abc import Sequence

from percore.common.typing import Callable, Optional
from percore.supervisor.base.loop import Loop, Timer
from percore.supervisor.config.address import Address
from percore.supervisor.config.app import AppConfig
from percore.supervisor.sockets.listener import queue_length
from percore.supervisor.sockets.reuseport_bpf import ProbeSource, open_from
from percore.supervisor.sockets.worker_sockets import WorkerSockets

_FIRST_WAIT = 0.02
_LONGEST_WAIT = 0.5
_ATTEMPT_SECONDS = 5.0
_TLS_ALERT = b"\x15\x03"


class WorkerTarget:
    """Where to probe: `source` reaches one worker through a shared port, `queue` is that worker's listening socket.

    `health` is a path or an address; of a path, `asked` is the name by which it is asked for. `find_other` names another process
    that listens there instead of the worker; empty when there is none.
    """

    __slots__ = ("asked", "find_other", "health", "host", "port", "protocol", "queue", "source")

    def __init__(self, host: str, port: int, *, source: Optional[ProbeSource] = None, health: Optional[str] = None,
                 asked: Optional[str] = None, queue: Optional[socket.socket] = None,
                 find_other: Callable[[], str] = str) -> None:  # fmt: skip
        self.host = host
        self.port = port
        self.source = source
        self.protocol, _, address = (health or "").rpartition("://")
        name, slash, path = address.partition("/")
        self.health = health and slash + path
        self.asked = name or asked or "localhost"
        self.queue = queue
        self.find_other = find_other


def target_of(
    sockets: WorkerSockets, address: Address, config: AppConfig, *, is_incoming: bool
) -> Optional[WorkerTarget]:
    """Where this very worker is reached through the shared port; None where nothing can be sent to it alone."""
    listener = sockets.listeners.get(address)
    host, source = address.probe_host, ProbeSource(sockets.slot, incoming=is_incoming)
    if listener is None or host is None or not listener.steered or (":" in host and not source.hops):
        return None
    queue = sockets.socket_of(listener)
    return WorkerTarget(host, address.port, source=source, health=config.health, asked=config.health_host, queue=queue)


class Probe:
    """Tries until the first proof, then calls `on_ready` once. `reason` always says why the last attempt was none.

    `on_failure` hears that reason after each attempt that was none.
    """

    def __init__(self, loop: Loop, target: WorkerTarget, on_ready: Callable[[], None],
                 on_failure: Callable[[str], None] = lambda _: None) -> None:  # fmt: skip
        self._loop = loop
        self._target = target
        self._on_ready = on_ready
        self._on_failure = on_failure
        self._wait = _FIRST_WAIT
        self._sock: Optional[socket.socket] = None
        self._timer: Optional[Timer] = None
        self._reply = b""
        self._queued = 0
        self.reason = "it did not answer yet"
        self._try()

    def turn_to(self, targets: Sequence[WorkerTarget]) -> None:
        """The next attempt is at the next one of these."""
        ports = [target.port for target in targets]
        at = ports.index(self._target.port) if self._target.port in ports else -1
        self._target = targets[(at + 1) % len(targets)]

    def cancel(self) -> None:
        if self._timer:
            self._timer.cancel()
        self._drop()

    def _try(self) -> None:
        target = self._target
        self._reply = b""
        self._queued = 0
        try:
            self._sock = sock = open_from(target.source, target.host)
            code = sock.connect_ex((target.host, target.port))
        except OSError as error:
            code = error.errno or errno.EIO
        if code not in (0, errno.EINPROGRESS):
            self._again(f"connecting to port {target.port}: {os.strerror(code)}")
            return
        self._timer = self._loop.later(_ATTEMPT_SECONDS, lambda: self._again(f"{self._what()} got no answer"))
        self._loop.watch(sock.fileno(), self._on_connected, writable=True)

    def _what(self) -> str:
        address = f"{self._target.protocol}://{self._target.asked}" if self._target.protocol else ""
        return (
            f"GET {address}{self._target.health}"
            if self._target.health
            else f"a connection to port {self._target.port}"
        )

    def _on_connected(self) -> None:
        assert self._sock
        code = self._sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if code:
            self._again(f"connecting to port {self._target.port}: {os.strerror(code)}")
        elif self._target.protocol in ("https", "h2c"):
            self._ask_through_other()
        elif self._target.health:
            first = f"GET {self._target.health} HTTP/1.1\r\nHost: {self._target.asked}\r\n"
            request = f"{first}User-Agent: percore\r\nConnection: close\r\n\r\n"
            self._talk(lambda sock: sock.send(request.encode()), self._on_reply)
        else:
            # We say nothing, and at once: a program that serves one client after the other would wait for our word.
            self._talk(lambda sock: sock.shutdown(socket.SHUT_WR), self._succeed)
            self._check_accepted()

    def _ask_through_other(self) -> None:
        """TLS and HTTP/2 take libraries, or code, that most homes never need."""
        from percore.supervisor.health.exchange import ask_through

        assert self._sock
        target = self._target
        try:
            answers = ask_through(self._sock, target.protocol, target.asked, target.health or "/")
        except OSError as error:
            self._again(f"{self._what()}: {error.strerror}")
            return
        self._loop.unwatch(self._sock.fileno())
        self._sock.close()
        self._sock = answers
        self._loop.watch(answers.fileno(), self._on_reply)

    def _talk(self, speak: Callable[[socket.socket], object], on_answer: Callable[[], None]) -> None:
        assert self._sock
        self._loop.watch(self._sock.fileno(), on_answer)
        with contextlib.suppress(OSError):  # it hung up, which is readable, too
            speak(self._sock)

    def _check_accepted(self) -> None:
        """An accepted connection has left the queue; the kernel alone completes the handshake of one that has not."""
        if self._sock is None:
            return
        try:
            length = 0 if self._target.queue is None else queue_length(self._target.queue)
        except OSError:
            self._again(f"port {self._target.port} was closed")
            return
        if length == 0 or length < self._queued:
            self._succeed()
            return
        self._queued = length
        self.reason = "it does not accept connections"
        if self._timer:
            self._timer.cancel()
        self._timer = self._loop.later(_FIRST_WAIT, self._check_accepted)

    def _on_reply(self) -> None:
        assert self._sock
        try:
            part = self._sock.recv(4096)
        except OSError as error:
            self._again(f"{self._what()}: {error.strerror}")
            return
        self._reply += part
        line, end, _ = self._reply.partition(b"\r\n")
        if not end and part and len(self._reply) < 4096:
            return
        words = line.split(None, 2)
        if line.startswith((b"! ", _TLS_ALERT)):
            text = "its answer is TLS -> health: https://..." if line[:1] != b"!" else line[2:].decode(errors="replace")
            self._again(f"{self._what()}: {text}")
            return
        if len(words) < 2 or not words[0].startswith(b"HTTP/") or len(words[1]) != 3 or not words[1].isdigit():
            self._again(f"{self._what()} was not answered in HTTP")
        elif int(words[1]) >= 400:
            self._again(f"{self._what()} answered {int(words[1])}{self._name_asked(words[1])}")
        else:
            self._succeed()

    def _name_asked(self, status: bytes) -> str:
        """Django and others refuse a name that is not theirs like this."""
        is_name = status in (b"400", b"403", b"421") and not self._target.protocol
        return f" to the name {self._target.asked}, which health_host sets" if is_name else ""

    def _succeed(self) -> None:
        if other := self._target.find_other():
            self._again(f"port {self._target.port} is in use by {other}")
            return
        self.cancel()
        self._on_ready()

    def _again(self, reason: str) -> None:
        self.reason = reason
        self.cancel()
        self._timer = self._loop.later(self._wait, self._try)
        self._wait = min(self._wait * 1.5, _LONGEST_WAIT)
        self._on_failure(reason)

    def _drop(self) -> None:
        if self._sock:
            self._loop.unwatch(self._sock.fileno())
            self._sock.close()
            self._sock = None
