"""How the workers of an app can share a port on this machine: the best way that proves to work here.

Steering needs a kernel program for a group of sockets. Some sandboxes (gVisor, old WSL) lack it, or take it and ignore it, so
it is tried on loopback; the next best ways are tried in turn.
"""

from __future__ import annotations

import contextlib
import os
import select
import socket
from enum import Enum

from percore.common.typing import NamedTuple, Optional
from percore.supervisor.sockets import reuseport_bpf

_TRIES = 64


class Mode(Enum):
    """The value is the word that operators read."""

    STEERED = "steered"  # two sockets per slot; the kernel program sends new connections to the ready ones
    HASHED = "hashed"  # a socket per slot; the kernel spreads connections over all of them
    SINGLE = "one socket"  # one socket that all workers accept from


class Sharing(NamedTuple):
    mode: Mode
    reason: str = ""  # why it is no better one

    def __str__(self) -> str:
        return f"{self.mode.value} ({self.reason})" if self.reason else self.mode.value


def find_sharing() -> Sharing:
    """Tries each way with connections to itself."""
    reasons: list[str] = []
    for mode, refusal in ((Mode.STEERED, _refuses_steering), (Mode.HASHED, _refuses_hashing)):
        if not (reason := refusal()):
            return Sharing(mode, "; ".join(reasons))
        reasons.append(reason)
    return Sharing(Mode.SINGLE, "; ".join(reasons))


def _refuses_steering() -> str:
    """Why the kernel program cannot be used here; empty when it can."""
    with contextlib.ExitStack() as opened:
        try:
            group = _open_group(opened, 2)
            program = reuseport_bpf.steering_program([0], {reuseport_bpf.ProbeSource(1, incoming=True): 1})
            reuseport_bpf.attach(group[0], program)
        except OSError as error:
            return f"the kernel takes no program that steers: {error.strerror}"
        try:
            for source, wanted in ((None, 0), (reuseport_bpf.ProbeSource(1, incoming=True), 1)) * (_TRIES // 8):
                if _accepting(opened, group, source) != wanted:
                    return "the kernel ignores the program that steers"
        except OSError as error:
            return f"steering was tried in vain: {error.strerror or error}"
    return ""


def _refuses_hashing() -> str:
    with contextlib.ExitStack() as opened:
        try:
            group = _open_group(opened, 2)
            if len({_accepting(opened, group, None) for _ in range(_TRIES)}) == 2:
                return ""
            return "the kernel gives all connections to one of two sockets"
        except OSError as error:
            return f"two sockets cannot share a port: {error.strerror or error}"


def _open_group(opened: contextlib.ExitStack, count: int) -> list[socket.socket]:
    group: list[socket.socket] = []
    for _ in range(count):
        sock = opened.enter_context(socket.socket(socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_NONBLOCK))
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        sock.bind(("127.0.0.1", group[0].getsockname()[1] if group else 0))
        sock.listen(_TRIES)
        group.append(sock)
    return group


def _accepting(
    opened: contextlib.ExitStack, group: list[socket.socket], source: Optional[reuseport_bpf.ProbeSource]
) -> int:
    """Connects, and returns which of the sockets has the connection. Raises OSError when none has it within a second."""
    client = opened.enter_context(reuseport_bpf.open_from(source, "127.0.0.1"))
    client.connect_ex(("127.0.0.1", group[0].getsockname()[1]))
    ready = select.select(group, [], [], 1)[0]
    if not ready:
        raise TimeoutError(None, os.strerror(110))
    ready[0].accept()[0].close()
    return group.index(ready[0])
