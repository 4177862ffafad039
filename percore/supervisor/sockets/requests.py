"""Whether a worker is in the middle of a request, seen from outside: no program has to help."""

from __future__ import annotations

from collections.abc import Collection

from percore.common.procfs import descriptors_of, tree_of
from percore.supervisor.sockets import sock_diag


def is_answering(pid: int, ports: Collection[int]) -> bool:
    """True while a client of the process, or of one below it, has said something and not been answered.

    False also where the kernel tells nothing.
    """
    try:
        busy = {
            connection.inode for port in ports for connection in sock_diag.connections_to(port) if connection.is_busy
        }
    except OSError:
        return False
    return bool(busy) and any(busy & socket_inodes(member).keys() for member in tree_of(pid))


def socket_inodes(pid: int) -> dict[int, int]:
    """The sockets that a process has open: inode -> descriptor; empty for one that is gone, or is another user's."""
    try:
        return {int(to[8:-1]): number for number, to in descriptors_of(pid) if to.startswith("socket:[")}
    except OSError:
        return {}
