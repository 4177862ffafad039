"""What the kernel tells of a process in /proc."""

from __future__ import annotations

import os
from collections.abc import Iterator

_LONGEST_ENVIRONMENT = 6 << 20  # what execve(2) takes, at most


def start_time_of(pid: int) -> int:
    """Clock ticks after boot at which `pid` started; 0 when there is no such process.

    Pid and start time together name one process for ever; a pid alone does not.
    """
    return int(_stat_field(pid, 22) or 0)


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
    """The variables that a process was started with, as `NAME=value`; empty where we may not look.

    As much of it as a program can be given: the process itself may say that it begins and ends elsewhere in its memory.
    """
    try:
        with open(f"/proc/{pid}/environ", "rb", buffering=0) as file:
            return file.read(_LONGEST_ENVIRONMENT).split(b"\0")
    except OSError:
        return []


def sockets_of(pid: int) -> dict[int, int]:
    """The sockets that a process has open: inode -> descriptor; empty for one that is gone, or is another user's."""
    try:
        return {int(to[8:-1]): number for number, to in descriptors_of(pid) if to.startswith("socket:[")}
    except OSError:
        return {}


def all_pids() -> list[int]:
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]


def name_of(pid: int) -> str:
    """What the process calls itself: any bytes, of which only what can be printed is shown. Raises OSError."""
    with open(f"/proc/{pid}/comm", "rb") as file:
        text = file.read().decode(errors="replace").strip()
    return "".join(letter if letter.isprintable() else "?" for letter in text)
