"""One request to the supervisor, and its replies as they come; starts a supervisor where one is needed."""

from __future__ import annotations

import contextlib
import os
import socket
import struct
import time
from collections.abc import Iterator

from percore.common import control
from percore.common.passwords import for_programs
from percore.common.typing import Any
from percore.errors import PercoreError
from percore.supervisor import lock
from percore.supervisor.home import Home, connect
from percore.supervisor.logs.files import open_log
from percore.supervisor.program import this_program

_START_SECONDS = 10.0
_TIMEOUTS = (TimeoutError, socket.timeout)  # two of them before Python 3.10
_SILENCE_SECONDS = 5.0
_LONGEST_ANSWER = 1 << 30


class NoDaemon(PercoreError):
    """No supervisor runs for this home."""


def request(home: Home, op: str, **arguments: Any) -> Iterator[dict[str, Any]]:
    """Every reply, the result last. Raises NoDaemon, or PercoreError when the supervisor goes away in between."""
    try:
        sock = connect(home.control_socket, _SILENCE_SECONDS)
    except (FileNotFoundError, ConnectionRefusedError):
        if lock.is_held(home.lock):
            raise NoDaemon(f"the supervisor in {home.path} has lost its socket", next="percore ping") from None
        hint = "percore ping, which goes on with what it left" if was_running(home) else "percore start FILE"
        raise NoDaemon(f"no supervisor runs in {home.path}", next=hint) from None
    except _TIMEOUTS:
        raise PercoreError("the supervisor does not answer", where=home.path, next=f"see {home.daemon_log}") from None
    except OSError as error:
        raise PercoreError(f"the supervisor cannot be reached: {error.strerror}", where=home.control_socket) from None
    sock.settimeout(_SILENCE_SECONDS)
    # A supervisor that is killed resets the connection; one that ends closes it. Both are the same to the caller.
    with sock, contextlib.suppress(ConnectionError):
        _send(home, sock, control.encode({"version": control.VERSION, "op": op, **arguments}))
        for line in _lines(home, sock):
            message = _message(line)
            yield message
            if message["event"] == "result":
                return
    raise PercoreError("the supervisor closed the connection before it answered", next="see 'percore list'")


def _send(home: Home, sock: socket.socket, text: bytes) -> None:
    left = memoryview(text)
    while left:
        try:
            left = left[sock.send(left) :]
        except _TIMEOUTS:
            _refuse_silence(home)


def _lines(home: Home, sock: socket.socket) -> Iterator[bytes]:
    """Whole lines, as they come. A long job says nothing for a while: then the supervisor is asked whether it is there."""
    unread = bytearray()
    while True:
        try:
            part = sock.recv(1 << 18)
        except _TIMEOUTS:
            _refuse_silence(home)
            continue
        if not part and not unread:
            return
        *lines, rest = part.split(b"\n")
        for line in lines:
            unread += line
            yield bytes(unread)
            unread.clear()
        unread += rest
        if not part or len(unread) > _LONGEST_ANSWER:
            raise PercoreError("the supervisor's answer was cut off", next="try it again")


def _message(line: bytes) -> dict[str, Any]:
    try:
        message = control.decode(line)
    except (ValueError, RecursionError):
        message = {}
    if not isinstance(message.get("event"), str):
        raise PercoreError("the supervisor's answer cannot be read", next="percore update, if it is of another version")
    return message


def _refuse_silence(home: Home) -> None:
    """Raises PercoreError unless the supervisor answers a ping: it may be stopped, or hang."""
    pid = 0
    try:
        with connect(home.control_socket, _SILENCE_SECONDS) as sock:
            pid, _, _ = struct.unpack("3i", sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
            sock.settimeout(_SILENCE_SECONDS)
            sock.sendall(control.encode({"version": control.VERSION, "op": "ping"}))
            if sock.recv(1):
                return
    except _TIMEOUTS:
        pass
    except OSError:
        return  # it has just ended, which the other connection tells
    who = f"the supervisor (pid {pid})" if pid else "the supervisor"
    raise PercoreError(
        f"{who} does not answer", where=home.path,
        next=f"kill -CONT {pid or 'PID'} where it was stopped; else kill -9 {pid or 'PID'} and percore ping: "
        "its workers go on",
    )  # fmt: skip


def was_running(home: Home) -> bool:
    """True where a supervisor left a state that the next one takes up."""
    return os.path.exists(home.state)


def is_running(home: Home) -> bool:
    try:
        connect(home.control_socket, _SILENCE_SECONDS).close()
    except _TIMEOUTS:
        return True  # it is asked next, and does not answer
    except OSError:
        return False
    return True


def ensure_daemon(home: Home) -> None:
    """Starts a supervisor in the background unless one runs; returns when it answers."""
    if is_running(home):
        return
    import subprocess  # not for commands that only ask

    try:
        home.make()
        log = open(open_log(home.daemon_log), "ab")  # noqa: SIM115
    except OSError as error:
        what = f"the supervisor cannot have its directory: {error.strerror}"
        raise PercoreError(what, where=error.filename, next="make room or set PERCORE_HOME") from None
    with log:
        environment = for_programs(PERCORE_HOME=home.path)
        daemon = subprocess.Popen(
            this_program().argv(), stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            start_new_session=True, cwd="/", env=environment,
        )  # fmt: skip
    deadline = time.monotonic() + _START_SECONDS
    # Where another supervisor answers by now, ours must have ended too: later, it would follow that one.
    while not (is_running(home) and (daemon.poll() is not None or lock.holder(home.lock) == daemon.pid)):
        if daemon.poll() is not None and not lock.is_held(home.lock):
            raise PercoreError("the supervisor could not be started", next=f"see {home.daemon_log}")
        if time.monotonic() > deadline:
            raise PercoreError(
                f"the supervisor does not answer after {_START_SECONDS:g} s", next=f"see {home.daemon_log}"
            )
        time.sleep(0.005)


def wait_until_gone(home: Home, pid: int) -> None:
    """Returns when the supervisor `pid`, which was told to end, is gone; raises PercoreError when it does not end.

    A service manager may have started the next one by then, so the lock alone does not tell.
    """
    deadline = time.monotonic() + _START_SECONDS
    while lock.is_held(home.lock) and os.path.exists(f"/proc/{pid}"):
        if time.monotonic() > deadline:
            raise PercoreError("the supervisor did not end", where=home.path, next="see 'percore list'")
        time.sleep(0.005)
