"""Whether there is room for what will be written: looked at before anything is asked of a worker."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping
from typing import Any

from percore.errors import PreflightError
from percore.supervisor.commands.output import short_size
from percore.supervisor.config.records import recorded_as

_MB = 1 << 20
LEAST_FREE = 256 * _MB  # on the disk, afterwards
_FILE_FACTOR = 2  # of the memory of the process: a snapshot has names and numbers as text


def check_heap_room(worker: Mapping[str, Any], directory: str, pid: int, used: int, *, is_forced: bool) -> None:
    """Raises PreflightError. V8 builds the snapshot beside the heap, which takes about as much memory again."""
    check_disk(directory, _FILE_FACTOR * used)
    free = min(available_bytes(), free_in_groups(pid))
    if free < used + LEAST_FREE:
        raise PreflightError(
            f"a heap snapshot needs about {short_size(used)} of memory beside the heap, and {short_size(free)} are available",
            next="stop something, or take it on a host with more memory",
        )
    for key in ("memory_max",) if is_forced else ("memory_max", "max_memory_restart"):
        most = worker["config"].get(recorded_as(key))
        if most and 2 * used > most:
            raise PreflightError(
                f"{worker['name']} {worker['slot']} uses {short_size(used)}, and a snapshot needs about as much again: "
                f"more than its {key} of {short_size(most)}, so the worker would be ended meanwhile",
                next=f"percore reload {worker['name']} --{key.replace('_', '-')} {4 * used >> 20}M"
                + (", or --force" if key == "max_memory_restart" else ""),
            )


def resident_bytes(pid: int) -> int:
    """Raises OSError."""
    with open(f"/proc/{pid}/statm", "rb") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def available_bytes() -> int:
    with open("/proc/meminfo") as file:
        fields = dict(line.split(":", 1) for line in file)
    return int(fields["MemAvailable"].split()[0]) << 10


def free_in_groups(pid: int) -> int:
    """What the control groups (v2) of the process leave to it; endless where they have no limit."""
    free: list[int] = []
    with contextlib.suppress(OSError), open(f"/proc/{pid}/cgroup") as file:
        path = next((line.rstrip("\n")[3:] for line in file if line.startswith("0::")), "/")
        while path != "/":
            with contextlib.suppress(OSError, ValueError):  # "max" is no number
                free.append(
                    number_in(f"/sys/fs/cgroup{path}/memory.max") - number_in(f"/sys/fs/cgroup{path}/memory.current")
                )
            path = os.path.dirname(path)
    return min(free, default=1 << 62)


def number_in(path: str) -> int:
    with open(path) as file:
        return int(file.read())


def check_disk(directory: str, wanted: int) -> None:
    found = os.statvfs(directory)
    free = found.f_bavail * found.f_frsize
    if free < wanted + LEAST_FREE:
        raise PreflightError(
            f"only {short_size(free)} is free there; {short_size(wanted + LEAST_FREE)} are needed",
            where=directory,
            next="--output DIRECTORY on another disk",
        )
