"""Port conflicts: another process that listens where an app does is refused at the start, named, and noticed later."""

from __future__ import annotations

import errno
import socket
from collections.abc import Collection, Iterator

from percore.common.procfs import LISTEN, UNCONNECTED, environment_of, holders_of, name_of, net_sockets, open_sockets_of
from percore.supervisor.config.address import Address, AddressInUse
from percore.supervisor.sockets import sock_diag


def refuse(address: Address) -> None:
    """A plain bind fails exactly when another process listens; our own group would let a foreign REUSEPORT socket in."""
    if address.port == 0:
        return
    with socket.socket(address.family, address.type) as trial:
        if address.type == socket.SOCK_STREAM:
            trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if address.family == socket.AF_INET6:
            trial.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, address.v6only)
        try:
            trial.bind((address.host, address.port))
            if address.type == socket.SOCK_STREAM:
                trial.listen(1)
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise
            holder = find_holder(address)
            raise AddressInUse(
                f"port {address.port} is already in use" + (f" by {holder}" if holder else ""),
                next="stop that program, or give the app another port",
            ) from None


def find_conflict(address: Address, inodes: Collection[int]) -> str:
    """'127.0.0.1:80 of node (pid 123)' where a process listens on a part of our address and so gets that part's connections.

    `inodes` are those of all our own sockets.
    """
    if not address.can_steer or address.host not in ("0.0.0.0", "::"):
        return ""
    try:
        for waiting in sock_diag.waiting_on(address.port):
            is_part = waiting.address.host != address.host and address.overlaps(waiting.address)
            if is_part and waiting.inode not in inodes:
                owner = name_owner({waiting.inode})
                return f"{waiting.address}" + (f" of {owner}" if owner else "")
    except OSError:
        return ""
    return ""


def find_holder(address: Address) -> str:
    """'node (pid 123)' for the process that listens on the port, or empty: other users' processes hide theirs."""
    return name_owner(set(_waiting_inodes(address)))


def find_other_owner(port: int, token: str, tree: Collection[int]) -> str:
    """'node (pid 123)' for the port owner where that is not the worker; empty when it is, or is not known.

    The worker's are the processes of `tree`, and those that left it with the worker's token in their environment.
    """
    try:
        inodes = {waiting.inode for waiting in sock_diag.waiting_on(port)}
        if not inodes or any(inodes & inodes_of(pid) for pid in tree):
            return ""
    except OSError:
        return ""  # of a program with more rights than we have, nothing is shown
    holder = name_owner(inodes)
    pid = holder.rpartition(" ")[2].rstrip(")")
    is_ours = pid.isdigit() and f"PERCORE_TOKEN={token}".encode() in environment_of(int(pid))
    return "" if is_ours else holder


def inodes_of(pid: int) -> set[int]:
    """Of its sockets. Raises PermissionError where they are hidden from us."""
    try:
        return set(open_sockets_of(pid))
    except (FileNotFoundError, ProcessLookupError):
        return set()  # it has just ended


def name_owner(inodes: Collection[int]) -> str:
    """'node (pid 123)' for the first process that holds one of the sockets, or empty."""
    named = (f"{name} (pid {pid})" for pid, _ in holders_of(inodes) if (name := name_of(pid)))
    return next(named, "")


def _waiting_inodes(address: Address) -> Iterator[int]:
    """Of the sockets that wait for clients where the address would be."""
    protocol, state = ("udp", UNCONNECTED) if address.type == socket.SOCK_DGRAM else ("tcp", LISTEN)
    for sock in net_sockets(protocol):
        if sock.state == state and sock.port == address.port:
            yield sock.inode
