"""Into a Node process: SIGUSR1 opens its inspector on loopback, one message begins a job in it, and the inspector closes.

Every user of the host may connect to an open inspector, and do as the process: so it is open for some milliseconds. The job then
runs inside the process by itself, and sends what it made to a socket of ours, with a secret word first.
"""

from __future__ import annotations

import http.client
import json
import os
import re
import secrets
import select
import signal
import socket
import time
from collections.abc import Iterator
from typing import Any, NamedTuple, Optional

from percore.common.procfs import LISTEN, command_line_of, environment_of, net_sockets, sockets_of
from percore.errors import PercoreError
from percore.supervisor.commands.inspection.websocket import exchange

_OPEN_SECONDS = 5.0
_SHORT_SECONDS = 3.0
_PART = 1 << 20
_DELETED = " (deleted)"  # a newer one is installed
_HEAP = "v8.getHeapSnapshot().on('error', () => out.destroy()).pipe(out);"
_PROFILE = """
    const session = new inspector.Session();
    session.connect();
    const post = (method, then) => {
      session.post(method, (error, result) => (error ? out.destroy() : then(result)));
    };
    post('Profiler.enable', () => post('Profiler.start', () => setTimeout(() => post('Profiler.stop', (result) => {
      out.end(JSON.stringify(result.profile));
      session.disconnect();
    }), %d)));
"""
# The command-line interface of the inspector has `require`, in ES modules too, but only while the message is answered.
# Whatever fails must not end the program.
_JOB = """(() => {
  if (process.pid !== %d) return 'another process';
  const inspector = require('inspector');
  const v8 = require('v8');
  const out = require('net').connect(%d, '127.0.0.1');
  out.on('error', () => {});
  out.on('connect', () => {
    try {
      out.write('%s');
      %s
    } catch (error) {
      out.destroy();
    }
  });
  if (%s) setTimeout(() => { inspector.close(); process.debugPort = 0; }, 10);
  return 'started';
})()"""


class NodeTarget(NamedTuple):
    pid: int
    source: str  # the address we connect from: the supervisor steers connections from it to this very worker


class Inspector(NamedTuple):
    port: int
    was_open: bool


def heap_job() -> str:
    return _HEAP


def profile_job(seconds: float) -> str:
    return _PROFILE % round(seconds * 1000)


def run_job(target: NodeTarget, job: str, seconds: float) -> Iterator[bytes]:
    """What the job makes, part by part, within this time. Raises PercoreError."""
    word = secrets.token_hex(16)
    pidfd = open_process(target.pid)
    try:
        with socket.create_server(("127.0.0.1", 0)) as server:
            port = server.getsockname()[1]
            start_job(target, pidfd, job, port, word)
            with accept(server, pidfd, word) as connection:
                yield from parts_of(connection, pidfd, time.monotonic() + seconds)
    finally:
        os.close(pidfd)


def open_process(pid: int) -> int:
    """Any other program would be ended by SIGUSR1."""
    try:
        pidfd = os.pidfd_open(pid)
        if is_node(pid):
            return pidfd
        os.close(pidfd)
    except OSError as error:
        raise PercoreError(f"process {pid} cannot be looked into: {error.strerror}") from None
    raise PercoreError(f"process {pid} is not Node")


def is_node(pid: int) -> bool:
    return program_name(pid) in ("node", "nodejs")


def program_name(pid: int) -> str:
    """What it executes. Raises OSError."""
    name = os.path.basename(os.readlink(f"/proc/{pid}/exe"))
    return name[: -len(_DELETED)] if name.endswith(_DELETED) else name


def start_job(target: NodeTarget, pidfd: int, job: str, port: int, word: str) -> None:
    """Raises PercoreError where the inspector does not open, or the job does not start."""
    inspector = open_inspector(target, pidfd)
    code = _JOB % (target.pid, port, word, job, "false" if inspector.was_open else "true")
    message = {
        "id": 1,
        "method": "Runtime.evaluate",
        "params": {"expression": code, "includeCommandLineAPI": True, "returnByValue": True},
    }
    try:
        path = path_of(target, inspector.port)
        with socket.create_connection(("127.0.0.1", inspector.port), _SHORT_SECONDS, (target.source, 0)) as sock:
            answer = json.loads(exchange(sock, path, json.dumps(message)))
    except (OSError, ValueError, http.client.HTTPException) as error:
        raise PercoreError(f"the inspector of process {target.pid} does not answer: {error}") from None
    value = answer.get("result", {}).get("result", {})
    if value.get("value") != "started":
        reason = value.get("value") or str(value.get("description", answer)).splitlines()[0]
        raise PercoreError(f"the job could not be started in process {target.pid}: {reason}")


def open_inspector(target: NodeTarget, pidfd: int) -> Inspector:
    before = ports_of(target.pid)
    if has_inspector(target.pid):
        for port in sorted(before):
            if path_or_nothing(target, port):
                return Inspector(port, was_open=True)
    try:
        signal.pidfd_send_signal(pidfd, signal.SIGUSR1)
    except OSError as error:
        raise PercoreError(f"process {target.pid} cannot be looked into: {error.strerror}") from None
    deadline = time.monotonic() + _OPEN_SECONDS
    while time.monotonic() < deadline:
        for port in ports_of(target.pid) - before:
            if path_or_nothing(target, port):
                return Inspector(port, was_open=False)
        time.sleep(0.01)
    raise PercoreError(
        f"process {target.pid} opened no inspector within {_OPEN_SECONDS:g} s",
        next="see its error log: port 9229 may be in use, the program busy, or SIGUSR1 used by it",
    )


def has_inspector(pid: int) -> bool:
    """True where it was started with one. Its other ports are not asked."""
    options = [command_line_of(pid), *(each for each in environment_of(pid) if each.startswith(b"NODE_OPTIONS="))]
    return any(re.search(rb"--inspect(?!-port)", each) for each in options)


def ports_of(pid: int) -> set[int]:
    inodes = sockets_of(pid)
    return {each.port for each in net_sockets("tcp") if each.state == LISTEN and each.inode in inodes}


def path_or_nothing(target: NodeTarget, port: int) -> Optional[str]:
    try:
        return path_of(target, port)
    except (OSError, ValueError, LookupError, TypeError, http.client.HTTPException):
        return None


def path_of(target: NodeTarget, port: int) -> str:
    """Where the inspector on this port takes messages: a path that nobody can guess."""
    connection = http.client.HTTPConnection("127.0.0.1", port, _SHORT_SECONDS, (target.source, 0))
    try:
        connection.request("GET", "/json/list")
        found = json.loads(connection.getresponse().read(1 << 16))
    finally:
        connection.close()
    return "/" + str(found[0]["webSocketDebuggerUrl"]).split("/", 3)[3]


def accept(server: socket.socket, pidfd: int, word: str) -> socket.socket:
    """The connection of the job, and no other: it says the word first."""
    deadline = time.monotonic() + _OPEN_SECONDS
    while (left := deadline - time.monotonic()) > 0:
        if pidfd in (ready := readable(server, pidfd, left)):
            raise PercoreError("the process ended")
        if server in ready:
            connection = server.accept()[0]
            connection.settimeout(_OPEN_SECONDS)
            if said(connection, len(word)) == word.encode():
                return connection
            connection.close()
    raise PercoreError("the process did not begin", next="it may be too busy: try again")


def readable(sock: socket.socket, pidfd: int, seconds: float) -> list[Any]:
    wanted: list[Any] = [sock, pidfd]
    return select.select(wanted, [], [], seconds)[0]


def said(connection: socket.socket, count: int) -> bytes:
    content = b""
    try:
        while len(content) < count and (part := connection.recv(count - len(content))):
            content += part
    except OSError:
        return b""
    return content


def parts_of(connection: socket.socket, pidfd: int, deadline: float) -> Iterator[bytes]:
    while True:
        ready = readable(connection, pidfd, max(0.0, deadline - time.monotonic()))
        if connection in ready:
            part = connection.recv(_PART)
            if not part:
                return
            yield part
        elif ready:
            raise PercoreError("the process ended before it was done")
        else:
            raise PercoreError("the process did not finish in time")
