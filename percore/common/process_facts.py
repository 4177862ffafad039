"""What the kernel says of a process."""

from __future__ import annotations

_MOST_BYTES = 1 << 22


def read(pid: int, what: str) -> bytes:
    """Empty for a process that is gone, or hidden from us."""
    try:
        with open(f"/proc/{pid}/{what}", "rb") as source:
            return source.read(_MOST_BYTES)
    except OSError:
        return b""


def start_time_of(pid: int) -> int:
    """Clock ticks after boot, which tell a process from a later one with its pid; 0 when there is no such process."""
    try:
        return int(read(pid, "stat").rpartition(b")")[2].split()[19])
    except (IndexError, ValueError):
        return 0


def uids_of(pid: int) -> set[int]:
    """Real, effective, saved and of the file system; empty when there is no such process."""
    for line in read(pid, "status").splitlines():
        if line.startswith(b"Uid:"):
            return set(map(int, line.split()[1:]))
    return set()
