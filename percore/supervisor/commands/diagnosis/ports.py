"""Ports that others have."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Optional

from percore.common.finding import ERROR, Finding
from percore.common.procfs import LISTEN, holders_of, name_of, net_sockets, sockets_of, tree_of
from percore.supervisor.commands.diagnosis.apps import AppFacts, Worker


def about_ports(apps: Sequence[AppFacts]) -> Iterator[Finding]:
    for app in apps:
        yield from _taken_ports(app)
        for conflict in dict.fromkeys(text for worker in app.workers for text in worker.get("thieves", ())):
            yield Finding(
                f"{app.name}: {conflict}", "stop that process, or give one of them another port", "ports", ERROR
            )


def _taken_ports(app: AppFacts) -> Iterator[Finding]:
    """Of workers that listen by themselves; a shared port is the supervisor's, who reports what takes it."""
    for worker in app.workers if app.is_fork and app.setting("port") else ():
        port = worker["port"]
        if port and worker["wanted"] and (holder := find_port_owner(port, worker)):
            what = f"port {port} of {app.name} {worker['slot']} is in use by {holder}"
            yield Finding(what, f"stop that process, or give '{app.name}' another port", "ports", ERROR)


def find_port_owner(port: int, worker: Worker) -> Optional[str]:
    """The process that listens on the port instead of the worker; None without one, or where we may not see it."""
    inodes = {sock.inode for sock in net_sockets("tcp") if sock.state == LISTEN and sock.port == port}
    own = {*tree_of(worker["pid"])} if worker["pid"] else set()
    holders = sorted({pid for pid, _ in holders_of(inodes)})
    if not holders or own & {*holders}:
        return None
    return f"{name_of(holders[0])} (pid {holders[0]})"


def listening_ports(pids: Iterable[int]) -> set[int]:
    """The TCP ports on which these processes, or their children, listen, as far as we may look."""
    held = {inode for pid in pids for member in tree_of(pid) for inode in sockets_of(member)}
    return {sock.port for sock in net_sockets("tcp") if sock.state == LISTEN and sock.inode in held} if held else set()
