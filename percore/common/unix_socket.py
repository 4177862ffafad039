"""Who is at the other end of a Unix socket, by the kernel's word. Shared by all parts."""

from __future__ import annotations

import socket
import struct

from percore.common.typing import NamedTuple

_CREDENTIALS = struct.Struct("iII")


class Peer(NamedTuple):
    """The process that connected, or that listens: as it was then, so its pid may be another process's by now."""

    pid: int
    uid: int
    gid: int


def peer_of(connection: socket.socket) -> Peer:
    """Raises OSError."""
    return Peer(*_CREDENTIALS.unpack(connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)))
