"""Sockets that no store kept, out of the workers that hold them: workers of other users are given no store.

Needs the right to trace the worker: the same user, or root.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping, Sequence, Set

from percore.hints import Optional
from percore.supervisor import sockdiag
from percore.supervisor.address import Address
from percore.supervisor.procfs import start_time_of, tree_of
from percore.supervisor.requests import socket_inodes
from percore.supervisor.spawning import STORE_FDS

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
            taken = _take_one(pid, start_time, waiting)
            if taken:
                found.setdefault(place, taken)
    return found


def _waiting_at(address: Address) -> Set[int]:
    """The inodes of the sockets that listen there."""
    return {entry.inode for entry in sockdiag.waiting_on(address.port) if entry.address.host == address.host}


def _take_one(pid: int, start_time: int, waiting: Set[int]) -> Optional[socket.socket]:
    """A copy of the first of the `waiting` sockets that this process, or one below it, holds."""
    for member in tree_of(pid) if start_time_of(pid) == start_time else ():
        held = socket_inodes(member)
        taken = next((take(member, held[inode]) for inode in waiting & held.keys()), None)
        if taken:
            return taken
    return None


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


def rescue_channel(saved: Mapping[str, int]) -> Optional[socket.socket]:
    """The supervisor's end of a Node worker's channel, of which the worker holds a copy where it is given no store."""
    if start_time_of(saved["pid"]) != saved["start_time"]:
        return None
    taken = take(saved["pid"], STORE_FDS[0])
    if taken and (taken.family != socket.AF_UNIX or taken.type != socket.SOCK_STREAM):
        taken.close()
        return None
    if taken:
        taken.setblocking(False)
    return taken
