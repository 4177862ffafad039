"""Who is at the other end: of a Unix socket, by the kernel's word; of a shared port, by the address that one asks from.
Shared by all parts.
"""

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


# The loopback address from which a connection to a shared port reaches exactly one worker.
CURRENT_NET = 127 << 24 | 77 << 16
INCOMING_NET = 127 << 24 | 76 << 16


def source_number(slot: int, *, incoming: bool = False) -> int:
    """The IPv4 address as a number; `incoming`: of the slot's replacement during a reload."""
    return (INCOMING_NET if incoming else CURRENT_NET) + slot + 1


def source_host(slot: int, *, incoming: bool = False) -> str:
    return socket.inet_ntoa(source_number(slot, incoming=incoming).to_bytes(4, "big"))
