"""Who listens on a port of this host: a release must not meet a stranger there."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Collection, Iterator
from typing import Optional

from percore.common.process_facts import read, uids_of

_LISTENING = "0A"


def find_strangers(ports: Collection[int], *, user: Optional[int] = None) -> dict[str, str]:
    """By port, who listens there and is none of percore's: `nginx (pid 12)`; `another program` where that is hidden from us.

    `user` is the supervisor's; a process of yet another one is none of percore's, whatever it says of itself.
    """
    believed = {0, os.geteuid(), *(() if user is None else (user,))}
    found: dict[str, str] = {}
    sockets = {inode: port for port, inode in _listening_sockets() if port in ports}
    holders: dict[int, list[int]] = {port: [] for port in sockets.values()}
    for pid, inode in _holders(sockets) if sockets else ():
        holders[sockets[inode]].append(pid)
    for port, pids in holders.items():
        if not any(_is_ours(pid, believed, anybody=user == 0) for pid in pids):
            found[str(port)] = f"{_name(pids[0])} (pid {pids[0]})" if pids else "another program"
    return found


def _listening_sockets() -> Iterator[tuple[int, str]]:
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        try:
            with open(table, encoding="ascii") as lines:
                rows = [line.split() for line in lines][1:]
        except OSError:
            continue
        for row in rows:
            if row[3] == _LISTENING:
                yield int(row[1].rpartition(":")[2], 16), row[9]


def _holders(inodes: Collection[str]) -> Iterator[tuple[int, str]]:
    for pid in sorted(map(int, filter(str.isdigit, os.listdir("/proc")))):
        opened = set(_opened(pid))
        for inode in inodes:
            if f"socket:[{inode}]" in opened:
                yield pid, inode


def _opened(pid: int) -> Iterator[str]:
    with contextlib.suppress(OSError):
        for number in os.listdir(f"/proc/{pid}/fd"):
            with contextlib.suppress(OSError):  # closed meanwhile
                yield os.readlink(f"/proc/{pid}/fd/{number}")


def _is_ours(pid: int, believed: set[int], *, anybody: bool) -> bool:
    """A worker, or a supervisor, which keeps its workers' sockets. `anybody`: root's supervisor has workers of others."""
    is_believed = anybody or uids_of(pid) <= believed
    return is_believed and b"PERCORE_HOME=" in read(pid, "environ")


def _name(pid: int) -> str:
    return read(pid, "comm").decode(errors="replace").strip()
