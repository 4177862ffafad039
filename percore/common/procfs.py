"""What the kernel tells in /proc of processes and of their sockets. Shared by all parts."""

from __future__ import annotations

import os
import time
from collections.abc import Collection, Iterator

from percore.common.typing import NamedTuple

LISTEN, ESTABLISHED, UNCONNECTED = "0A", "01", "07"
"""States of a socket in /proc/net; the last one is that of a UDP socket."""

_PART = 1 << 16
_LONGEST_ENVIRONMENT = 6 << 20  # what execve(2) takes, at most


def start_time_of(pid: int) -> int:
    """Clock ticks after boot at which `pid` started; 0 when there is no such process.

    Pid and start time together name one process for ever; a pid alone does not.
    """
    return int(_stat_field(pid, 22) or 0)


def boot_time() -> float:
    """Seconds since the epoch; start times are counted from it."""
    with open("/proc/uptime") as file:
        return time.time() - float(file.read().split()[0])


def parent_of(pid: int) -> int:
    """0 when there is no such process."""
    return int(_stat_field(pid, 4) or 0)


def state_of(pid: int) -> str:
    """One letter, as in proc(5): R, S, D, Z...; empty when there is no such process."""
    return _stat_field(pid, 3).decode()


def _stat_field(pid: int, number: int) -> bytes:
    """A field of /proc/PID/stat, counted as in proc(5), from 3 on; empty when there is no such process."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            # The name, field 2, may hold blanks and brackets.
            return file.read().rpartition(b")")[2].split()[number - 3]
    except (OSError, IndexError):
        return b""


def children_of(pid: int) -> list[int]:
    """Direct children of `pid`."""
    try:
        with open(f"/proc/{pid}/task/{pid}/children", "rb") as file:
            return [int(child) for child in file.read().split()]
    except OSError:
        return []


def descriptors_of(pid: int) -> Iterator[tuple[int, str]]:
    """What a process has open: descriptor and target. Raises OSError when it is gone, or another user's.

    A busy program closes some while we look, which says nothing about the rest.
    """
    directory = f"/proc/{pid}/fd"
    for number in os.listdir(directory):
        try:
            target = os.readlink(f"{directory}/{number}")
        except FileNotFoundError:
            continue
        yield int(number), target


def tree_of(pid: int) -> list[int]:
    """`pid` and all its descendants, parents first."""
    found = [pid]
    for member in found:
        found.extend(children_of(member))
    return found


def uids_of(pid: int) -> set[int]:
    """All that it is, or may become again, as its Uid line says; empty when there is no such process.

    Whom /proc/PID itself belongs to tells less: what a process hides (PR_SET_DUMPABLE) is shown as root's.
    """
    try:
        with open(f"/proc/{pid}/status", "rb") as file:
            return next((set(map(int, line.split()[1:5])) for line in file if line.startswith(b"Uid:")), set())
    except (OSError, ValueError):
        return set()


def environment_of(pid: int) -> list[bytes]:
    """The variables that a process was started with, as `NAME=value`; empty where we may not look."""
    return _read(pid, "environ").split(b"\0")


def command_line_of(pid: int) -> bytes:
    """Its words, each with a zero byte behind it; empty where there is no such process."""
    return _read(pid, "cmdline")


def name_of(pid: int) -> str:
    """What the process calls itself: any bytes, of which only what can be printed is shown. Empty when it is gone."""
    name = _read(pid, "comm").decode(errors="replace").strip()
    return "".join(letter if letter.isprintable() else "?" for letter in name)


def _read(pid: int, what: str) -> bytes:
    """As much of it as a program can be given: the process itself may say that it begins and ends elsewhere in its memory."""
    try:
        with open(f"/proc/{pid}/{what}", "rb", buffering=0) as file:
            found = b""
            # Not at once: the room for the longest one would be asked for each time, and there may be none.
            while len(found) < _LONGEST_ENVIRONMENT and (part := file.read(_PART)):
                found += part
            return found
    except OSError:
        return b""


class NetSocket(NamedTuple):
    """A line of /proc/net/tcp, or of another of these tables (proc(5))."""

    state: str
    port: int
    inode: int
    queue: int  # unread bytes; of a listening socket the connections not yet accepted


def net_sockets(*protocols: str) -> Iterator[NetSocket]:
    """The sockets of all processes, over IPv4 and IPv6; none of a table that is not there."""
    for name in (table for protocol in protocols for table in (protocol, f"{protocol}6")):
        try:
            with open(f"/proc/net/{name}") as table:
                next(table, "")
                for line in table:
                    fields = line.split(maxsplit=10)
                    port, queue = fields[1].rpartition(":")[2], fields[4].rpartition(":")[2]
                    yield NetSocket(fields[3], int(port, 16), int(fields[9]), int(queue, 16))
        except OSError:
            continue


def sockets_of(pid: int) -> dict[int, int]:
    """The sockets that a process has open: inode -> descriptor; empty for one that is gone, or is another user's."""
    try:
        return open_sockets_of(pid)
    except OSError:
        return {}


def open_sockets_of(pid: int) -> dict[int, int]:
    """As `sockets_of`, but raises OSError where it knows of none."""
    return {int(target[8:-1]): number for number, target in descriptors_of(pid) if target.startswith("socket:[")}


def all_pids() -> list[int]:
    return sorted(int(name) for name in os.listdir("/proc") if name.isdigit())


def holders_of(inodes: Collection[int]) -> Iterator[tuple[int, int]]:
    """(pid, inode) of each process that has one of these sockets open, as far as we may look."""
    for pid in all_pids() if inodes else ():
        held = sockets_of(pid)
        yield from ((pid, inode) for inode in inodes if inode in held)
