"""CPU and memory of a worker and everything below it, read from /proc.

The daemon reads by hand: psutil would cost it two megabytes for these two numbers.
"""

from __future__ import annotations

import math
import os
import time

from percore.common.procfs import tree_of
from percore.common.typing import NamedTuple, Optional

SHORTEST_SPAN = 0.2
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
_TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")


class Usage(NamedTuple):
    memory_bytes: int
    cpu_seconds: float


def usage_of_tree(pid: int) -> Usage:
    """Resident memory and CPU time so far of `pid` and its descendants, also of those that ended; zero where it is gone."""
    memory = 0
    ticks = 0
    for member in tree_of(pid):
        try:
            with open(f"/proc/{member}/statm", "rb") as file:
                memory += int(file.read().split()[1]) * _PAGE_BYTES
            with open(f"/proc/{member}/stat", "rb") as file:
                fields = file.read().rpartition(b")")[2].split()
                ticks += sum(map(int, fields[11:15]))  # its own, and of children that it has waited for
        except (OSError, IndexError):
            continue
    return Usage(memory, ticks / _TICKS_PER_SECOND)


class Sampler:
    """Remembers the last reading of one worker, to turn CPU time into percent of one core, and memory into its growth."""

    __slots__ = ("_at", "_cpu_seconds", "_growth", "_memory_bytes", "_pid", "cpu_percent", "memory_bytes")

    def __init__(self) -> None:
        self._pid = 0
        self._at = 0.0
        self._cpu_seconds = 0.0
        self._memory_bytes = 0
        self.memory_bytes = 0
        self.cpu_percent = 0.0
        self._growth: Optional[float] = None  # bytes a second; None after the first reading of a process

    def sample(self, pid: int) -> None:
        """Reads again. Twice within SHORTEST_SPAN would give no percentage worth showing: then only the memory counts."""
        now = time.monotonic()
        usage = usage_of_tree(pid)
        self.memory_bytes = usage.memory_bytes
        if pid == self._pid and now - self._at < SHORTEST_SPAN:
            return
        span = now - self._at
        is_same = pid == self._pid and span > 0
        self.cpu_percent = round(max(0.0, usage.cpu_seconds - self._cpu_seconds) / span * 100, 1) if is_same else 0.0
        self._growth = (usage.memory_bytes - self._memory_bytes) / span if is_same else None
        self._memory_bytes = usage.memory_bytes
        self._pid, self._at, self._cpu_seconds = pid, now, usage.cpu_seconds

    def seconds_until(self, memory_bytes: int) -> float:
        """When its memory will reach that, should it go on growing as it did; 0 when one reading does not tell yet."""
        if self._growth is None:
            return 0.0
        return (memory_bytes - self.memory_bytes) / self._growth if self._growth > 0 else math.inf
