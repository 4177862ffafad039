"""How many TCP connections a worker holds, took so far, and has waiting.

The kernel shows what is open and what waits. It keeps no count of what was accepted; the bind shim does, in each process.
"""

from __future__ import annotations

import itertools
import os
import stat
import sys
from collections.abc import Collection, Iterable, Mapping

from percore.common.procfs import ESTABLISHED, LISTEN, net_sockets, open_sockets_of, tree_of
from percore.common.typing import Any, NamedTuple, Optional

_COUNTER = b"percore-accepted"  # bindshim.c
_MOST_BYTES = 64 * 1024  # it is in the first pages of what the library may write
_MOST_MAPPINGS = 100_000


class Connections(NamedTuple):
    """Of one worker."""

    open: int
    queue: int  # made, and not yet accepted
    accepted: Optional[int]  # by the processes that are running now; None where they are not counted


def count_connections(workers: Iterable[Mapping[str, Any]], owners: Collection[int] = ()) -> dict[int, Connections]:
    """By worker id; those whose descriptors we may not look at are left out. `owners` of the library, beside root and us."""
    sockets = {sock.inode: sock for sock in net_sockets("tcp")}
    found = {}
    for worker in workers:
        if worker["pid"]:
            tree = tree_of(worker["pid"])
            try:
                inodes = set().union(*map(open_sockets_of, tree))
            except OSError:
                continue
            held = [sockets[inode] for inode in inodes if inode in sockets]
            is_open = sum(sock.state == ESTABLISHED for sock in held)
            counts = [count for pid in tree if (count := accepted_by(pid, owners)) is not None]
            # A program that accepts without the C library (Go, io_uring) is not counted: no number is better than a wrong one.
            is_counted = counts and (sum(counts) or not is_open)
            found[worker["id"]] = Connections(
                is_open, sum(sock.queue for sock in held if sock.state == LISTEN), sum(counts) if is_counted else None
            )
    return found


def accepted_by(pid: int, owners: Collection[int] = ()) -> Optional[int]:
    """What the bind shim counted in this process; None without it, or where we may not look."""
    try:
        with open(f"/proc/{pid}/maps", errors="replace") as maps, open(f"/proc/{pid}/mem", "rb", buffering=0) as memory:
            for line in itertools.islice(maps, _MOST_MAPPINGS):
                if "/bindshim-" in line and " rw-p " in line and _is_placed(line, owners):
                    memory.seek(int(line.partition("-")[0], 16))
                    part = memory.read(_MOST_BYTES)
                    place = part.find(_COUNTER)
                    if place >= 0:
                        return int.from_bytes(part[place + len(_COUNTER) : place + len(_COUNTER) + 8], sys.byteorder)
    except (OSError, ValueError):
        pass
    return None


def _is_placed(line: str, owners: Collection[int]) -> bool:
    """True for a mapping of the library that a supervisor put there; a worker may map anything under that name."""
    *_, inode, path = line.rstrip("\n").split(maxsplit=5)
    found = os.lstat(path)
    is_ours = found.st_uid in (0, os.geteuid(), *owners) and not found.st_mode & 0o022
    return is_ours and stat.S_ISREG(found.st_mode) and found.st_ino == int(inode)
