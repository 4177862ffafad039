"""Sockets that no store kept, out of the workers that hold them: workers of other users are given no store.

Needs the right to trace the worker: the same user, or root.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Sequence, Set

from percore.common.procfs import sockets_of, start_time_of, tree_of, uids_of
from percore.common.socket_peers import peer_of
from percore.common.typing import Optional
from percore.supervisor.config.address import Address
from percore.supervisor.process.spawn import STORE_FDS
from percore.supervisor.sockets import sock_diag
from percore.supervisor.state.fd_store import Ends, ends_among

_SYS_PIDFD_GETFD = 438
# The kernel tells its sockets in parts. One that closes between two of them, as those of the dead supervisor do, hides another.
_LOOKS = 5


def rescue_listening(address: Address, workers: Sequence[tuple[int, int, int]]) -> dict[int, socket.socket]:
    """By place: what is left of an address. `workers`: for each living one its pid, start time, and its socket's place."""
    found: dict[int, socket.socket] = {}
    for _ in range(_LOOKS if address.can_steer else 0):
        missing = [worker for worker in workers if worker[2] not in found]
        if not missing:
            break
        try:
            waiting = _waiting_at(address)
        except OSError:
            break
        for pid, start_time, place in missing:
            taken = _take_one(address, pid, start_time, waiting)
            if taken:
                found.setdefault(place, taken)
    return found


def _waiting_at(address: Address) -> Set[int]:
    """The inodes of the sockets that listen there."""
    return {entry.inode for entry in sock_diag.waiting_on(address.port) if entry.address.host == address.host}


def _take_one(address: Address, pid: int, start_time: int, waiting: Set[int]) -> Optional[socket.socket]:
    """A copy of the first of the `waiting` sockets that this process, or one below it, holds."""
    for member in tree_of(pid) if start_time_of(pid) == start_time else ():
        held = sockets_of(member)
        taken = next((take(member, held[inode]) for inode in waiting & held.keys()), None)
        if taken and is_listener_of(address, taken):
            return taken
        if taken:  # it was another one's by then, or the worker listens there by itself
            taken.close()
    return None


def is_listener_of(address: Address, sock: socket.socket) -> bool:
    """True for a socket that a supervisor of ours could have opened for this address."""
    try:
        name = sock.getsockname()
        # A worker's own socket lets no other of ours into its group.
        is_ours = not address.can_steer or os.fstat(sock.fileno()).st_uid == os.geteuid()
    except OSError:
        return False
    if (sock.family, sock.type) != (address.family, address.type) or not is_ours or _is_connected(sock):
        return False
    if sock.family == socket.AF_UNIX:
        return isinstance(name, str) and os.path.basename(name) == os.path.basename(address.host)
    return bool(name[:2] == (address.host, address.port))


def _is_connected(sock: socket.socket) -> bool:
    try:
        sock.getpeername()
    except OSError:
        return False
    return True


def is_channel(sock: socket.socket) -> bool:
    """True for an end of a pair that a supervisor of our own user made for a Node worker."""
    try:
        names = sock.getsockname(), sock.getpeername()
        uid = peer_of(sock).uid
    except OSError:
        return False
    return (sock.family, sock.type) == (socket.AF_UNIX, socket.SOCK_STREAM) and not any(names) and uid == os.geteuid()


def ends_held_by(pid: int, start_time: int) -> Optional[Ends]:
    """The ends of the store, of which every worker of our own user has copies; of another user's there is none to believe."""
    if start_time_of(pid) != start_time or uids_of(pid) != {os.geteuid()}:
        return None
    taken = [sock.detach() for number in STORE_FDS if (sock := take(pid, number))]
    return ends_among(taken)


def take(pid: int, descriptor: int) -> Optional[socket.socket]:
    """A copy of another process's socket; None where we may not, or there is none."""
    import ctypes

    try:
        pidfd = os.pidfd_open(pid)
    except OSError:
        return None
    number = ctypes.CDLL(None).syscall(_SYS_PIDFD_GETFD, pidfd, descriptor, 0)
    os.close(pidfd)
    if number < 0:
        return None
    os.set_inheritable(number, False)
    try:
        return socket.socket(fileno=number)
    except OSError:
        os.close(number)
        return None


def rescue_channel(pid: int, start_time: int) -> Optional[socket.socket]:
    """The supervisor's end of a Node worker's channel, of which the worker holds a copy where it is given no store."""
    if start_time_of(pid) != start_time:
        return None
    taken = take(pid, STORE_FDS[0])
    if taken and not is_channel(taken):
        taken.close()
        return None
    if taken:
        taken.setblocking(False)
    return taken
