"""Who listens on the supervisor's socket, and what it answers: believed only from percore's supervisor, run by its own user.

Its directory belongs to that user, who may put anything there. So the kernel is asked who is at the other end, an answer has a
bound on its size and on its time, and a process is ended through a descriptor of that very process, after one more look.
"""

from __future__ import annotations

import os
import select
import socket
import time
from typing import Any, NamedTuple, Optional

from percore.common import control, pidfd
from percore.common.procfs import command_line_of, start_time_of, uids_of
from percore.common.socket_peers import peer_of
from percore.errors import RolloutError
from percore.host.output import LONGEST_LINE
from percore.host.paths import anchored


class Daemon(NamedTuple):
    """A supervisor that runs. The start time tells it from another process that has its pid later."""

    pid: int
    uid: int
    start_time: int
    command_line: bytes

    def kill(self) -> None:
        """Nothing else is ever ended: a pid that is another process's by now, or runs as another user, is left alone."""
        pidfd.kill(self.pid, lambda: _look_at(self.pid, self.uid) == self)


class Reply(NamedTuple):
    """`result` is empty where the supervisor refuses the question: its own version of the command knows more."""

    daemon: Daemon
    result: dict[str, Any]


def ask(home: str, op: str, *, uid: int, seconds: float) -> Optional[Reply]:
    """None where no process listens.

    Raises RolloutError for another process than a supervisor of user `uid`, and for an answer without an end.
    """
    path = os.path.join(home, "run", "control.sock")
    deadline = time.monotonic() + seconds
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK) as link:
        try:
            with anchored(path) as place:  # a home may have a longer path than an address may be
                link.connect(place)
            peer = peer_of(link)
        except OSError:
            return None  # also a queue that is full: connections are not accepted
        daemon = _look_at(peer.pid, uid) if peer.uid == uid else None
        if daemon is None:
            raise RolloutError(
                f"the socket is not the supervisor's: process {peer.pid} of uid {peer.uid} listens there",
                where=path,
                next="look who made it, and remove it",
            )
        try:
            link.sendall(control.request(op))
            result = _read_result(link, path, deadline)
        except OSError:
            return None  # it ended meanwhile
    if result is None:
        return None
    return Reply(daemon, result if result.pop("ok", False) is True else {})


def _read_result(link: socket.socket, path: str, deadline: float) -> Optional[dict[str, Any]]:
    """The first line that says how it ended; what comes before counts against the same bounds."""
    connection = control.Connection(link)  # `received` bounds it here, all lines together
    while (left := deadline - time.monotonic()) > 0:
        if not select.select([link], [], [], left)[0]:
            break
        lines = connection.receive()
        if lines is None:
            return None
        if connection.received > LONGEST_LINE:
            raise RolloutError(f"the supervisor's answer is longer than {LONGEST_LINE} bytes", where=path)
        for line in lines:
            message = control.decode_or_none(line)
            if message is None or message.pop("event", "") == "result":
                return message
    raise RolloutError("the supervisor does not answer", where=path, next="percore doctor, on the host")


def _look_at(pid: int, uid: int) -> Optional[Daemon]:
    """None unless the process is a supervisor that has the rights of this user and no others."""
    if pid <= 1 or pid == os.getpid():
        return None
    words = command_line_of(pid)
    start_time = start_time_of(pid)
    if not start_time or uids_of(pid) != {uid} or not _is_supervisor(words):
        return None
    return Daemon(pid, uid, start_time, words)


def _is_supervisor(command_line: bytes) -> bool:
    """`.../percore daemon`, `python3 -I -S /opt/percore/ID daemon`, or one that was started out of another's code."""
    words = command_line.split(b"\0")
    is_command = b"percore" in command_line and any(word in (b"daemon", b"runtime") for word in words)
    return is_command or any(b"from percore.supervisor." in word for word in words)
