"""How many TCP connections a worker holds, and how many wait to be accepted: what the kernel shows of its sockets.

The kernel keeps no count of what a socket ever accepted, so none is shown.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from percore.supervisor.procfs import tree_of

_ESTABLISHED, _LISTEN = "01", "0A"


class Connections(NamedTuple):
    """Of one worker: what its processes hold open, and what waits to be accepted."""

    open: int
    queue: int


def count_connections(workers: Iterable[Mapping[str, Any]]) -> dict[int, Connections]:
    """By worker id; those whose descriptors we may not look at are left out."""
    sockets = read_sockets()
    found = {}
    for worker in workers:
        if worker["pid"]:
            try:
                inodes = set().union(*map(inodes_of, tree_of(worker["pid"])))
            except OSError:
                continue
            held = [sockets[inode] for inode in inodes if inode in sockets]
            found[worker["id"]] = Connections(
                sum(state == _ESTABLISHED for state, _ in held), sum(queue for state, queue in held if state == _LISTEN)
            )
    return found


def inodes_of(pid: int) -> set[str]:
    """The sockets that a process holds. Raises OSError when it is gone or somebody else's."""
    inodes = set()
    folder = f"/proc/{pid}/fd"
    for name in os.listdir(folder):
        try:
            target = os.readlink(f"{folder}/{name}")
        except FileNotFoundError:
            continue
        if target.startswith("socket:["):
            inodes.add(target[8:-1])
    return inodes


def read_sockets() -> dict[str, tuple[str, int]]:
    """By inode: the state, and for a listening socket the length of its queue (proc(5), /proc/net/tcp)."""
    found = {}
    for name in ("tcp", "tcp6"):
        try:
            with open(f"/proc/net/{name}") as file:
                next(file)
                for line in file:
                    fields = line.split(maxsplit=10)
                    found[fields[9]] = (fields[3], int(fields[4].partition(":")[2], 16))
        except (OSError, StopIteration):
            continue
    return found
