"""Who listens on a port of this host: a release must not find another program there."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable
from typing import Optional

from percore.common.procfs import LISTEN, environment_of, holders_of, name_of, net_sockets, sockets_of, tree_of, uids_of


def find_owners(ports: Collection[int], *, user: Optional[int] = None, home: Optional[str] = None) -> dict[str, str]:
    """By port, the owner that is none of percore's: `nginx (pid 12)`; `another program` where that is hidden from us.

    `user` is the supervisor's; a process of yet another one is none of percore's, whatever it says of itself. So is one of a
    supervisor with another home.
    """
    believed = {0, os.geteuid(), *(() if user is None else (user,))}
    found: dict[str, str] = {}
    sockets = {sock.inode: sock.port for sock in net_sockets("tcp") if sock.state == LISTEN and sock.port in ports}
    holders: dict[int, list[int]] = {port: [] for port in sockets.values()}
    for pid, inode in holders_of(sockets):
        holders[sockets[inode]].append(pid)
    for port, pids in holders.items():
        if not any(_is_ours(pid, believed, home, any_user=user == 0) for pid in pids):
            found[str(port)] = f"{name_of(pids[0])} (pid {pids[0]})" if pids else "another program"
    return found


def _is_ours(pid: int, believed: set[int], home: Optional[str], *, any_user: bool) -> bool:
    """A worker, or a supervisor, which keeps its workers' sockets. `any_user`: root's supervisor has workers of others."""
    is_believed = any_user or uids_of(pid) <= believed
    homes = [each.partition(b"=")[2] for each in environment_of(pid) if each.startswith(b"PERCORE_HOME=")]
    return is_believed and any(
        home is None or os.path.realpath(os.fsdecode(each)) == os.path.realpath(home) for each in homes
    )


def ports_of(pids: Iterable[int]) -> set[int]:
    """The TCP ports on which these processes, or their children, listen."""
    listening = {sock.inode: sock.port for sock in net_sockets("tcp") if sock.state == LISTEN}
    held = (inode for pid in pids for member in tree_of(pid) for inode in sockets_of(member))
    return {listening[inode] for inode in held if inode in listening}
