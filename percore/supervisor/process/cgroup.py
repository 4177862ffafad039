"""Hard memory limits: a control group (v2) for each worker whose app sets `memory_max`, below one delegated to us.

A group with limits for its children may hold no process itself, so the supervisor sits in a leaf beside them. Systemd must put
it there at every start (DelegateSubgroup=, version 254): an older one could not start it again beside limited workers.
"""

from __future__ import annotations

import contextlib
import os

from percore.common.typing import Callable, Optional
from percore.supervisor.base import systemd
from percore.supervisor.base.logger import log

_LEAF = "supervisor"  # as in percore.service.j2
_GIVEN = "PERCORE_CGROUP"
_FIRST_REMOVAL_SECONDS, _LAST_REMOVAL_SECONDS = 0.05, 30.0


class WorkerGroup:
    """The control group of one worker."""

    def __init__(self, path: str, size: int) -> None:
        self.path = path
        self.size = size  # bytes that it may use
        self.entry = f"{path}/cgroup.procs"  # who writes 0 there is in it

    def limit(self) -> None:
        """Raises OSError where the kernel does not know the limit."""
        with contextlib.suppress(FileNotFoundError):  # a kernel that does not count swap
            _write(f"{self.path}/memory.swap.max", "0")
        with contextlib.suppress(FileNotFoundError):  # Linux before 4.19: one process of the tree ends first
            _write(f"{self.path}/memory.oom.group", "1")
        _write(f"{self.path}/memory.max", str(self.size))

    @property
    def was_over(self) -> bool:
        """True when the kernel killed in it for its limit."""
        try:
            events = dict(line.split() for line in _read(f"{self.path}/memory.events").splitlines())
        except (OSError, ValueError):
            return False
        return int(events.get("oom_kill", 0)) > 0

    def kill(self) -> None:
        """Everything in it, at once; before Linux 5.14 nothing, and what is found by its token ends one by one."""
        with contextlib.suppress(OSError):
            _write(f"{self.path}/cgroup.kill", "1")

    def explain(self, reason: str) -> str:
        """Why its worker ended, which the group may know better."""
        return f"killed by the kernel: over memory_max {self.size >> 20} MB" if self.was_over else reason

    def end(self, later: Callable[[float, Callable[[], None]], object], wait: float = _FIRST_REMOVAL_SECONDS) -> None:
        """Kills what is in it, and removes it: perhaps later, as the last of the killed may not be reaped yet."""
        self.kill()
        if not self.remove() and wait < _LAST_REMOVAL_SECONDS:
            later(wait, lambda: self.end(later, 2 * wait))

    def remove(self) -> bool:
        """False as long as a process of it is not gone for good."""
        try:
            os.rmdir(self.path)
        except FileNotFoundError:
            return True
        except OSError:
            return False
        return True


class Groups:
    """`problem` says why nothing is limited; empty when limits hold."""

    def __init__(self, base: str, problem: str) -> None:
        self.problem = problem
        self._base = base  # empty: none is delegated
        if problem:
            log(f"memory_max is not enforced: {problem}")

    def make(self, name: str, size: int) -> Optional[WorkerGroup]:
        """None where there can be none; the worker then runs without."""
        if not self._base:
            return None
        group = WorkerGroup(self._path(name), size)
        try:
            os.mkdir(group.path)
            if not self.problem:
                group.limit()
        except OSError as error:
            log(f"{group.path}: {error.strerror}; a worker starts without its memory_max")
            group.remove()
            return None
        return group

    def find(self, name: str, size: int) -> Optional[WorkerGroup]:
        """The one that an earlier supervisor made."""
        return WorkerGroup(self._path(name), size) if self._base and os.path.isdir(self._path(name)) else None

    def _path(self, name: str) -> str:
        return os.path.join(self._base, "".join(char if char.isalnum() or char in "-." else "_" for char in name))


def find_groups() -> Groups:
    base, problem = _find_base()
    if base:
        try:
            problem = _prepare(base)
        except OSError as error:
            base, problem = "", f"{base}: {error.strerror}"
    return Groups(base, problem)


def _find_base() -> tuple[str, str]:
    """The group that is ours to divide, or why there is none."""
    if given := os.environ.get(_GIVEN):
        writable = os.access(f"{given}/cgroup.procs", os.W_OK)
        return (given, "") if writable else ("", f"{given} ({_GIVEN}) is no control group that can be written")
    mount = _mount_point()
    if not mount:
        return "", "this host has no cgroup v2"
    base, leaf = os.path.split(mount + _own_path())
    if leaf == _LEAF and os.access(f"{base}/cgroup.procs", os.W_OK):
        return base, ""
    if systemd.is_there():
        return "", "systemd 254 or newer is needed, with percore's own unit -> percore startup"
    return "", f"no control group is delegated to the supervisor -> percore startup, or name one in {_GIVEN}"


def _mount_point() -> str:
    with contextlib.suppress(OSError):
        for line in _read("/proc/self/mountinfo").splitlines():
            fields, _, kind = line.partition(" - ")
            if kind.split()[0] == "cgroup2":
                return fields.split()[4]
    return ""


def _own_path() -> str:
    with contextlib.suppress(OSError):
        for line in _read("/proc/self/cgroup").splitlines():
            if line.startswith("0::"):
                return line[3:]
    return ""


def _prepare(base: str) -> str:
    """Returns why limits cannot be set below it; empty when they can. Raises OSError."""
    for name in os.listdir(base):
        if name != _LEAF and os.path.isdir(f"{base}/{name}"):
            WorkerGroup(
                f"{base}/{name}", 0
            ).remove()  # only what is empty goes: its worker ended while no supervisor ran
    if "memory" not in _read(f"{base}/cgroup.controllers").split():
        return "this host has no memory controller in cgroup v2"
    if "memory" in _read(f"{base}/cgroup.subtree_control").split():
        return ""
    if pids := _read(f"{base}/cgroup.procs").split():
        with contextlib.suppress(FileExistsError):
            os.mkdir(f"{base}/{_LEAF}")
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                _write(f"{base}/{_LEAF}/cgroup.procs", pid)
    _write(f"{base}/cgroup.subtree_control", "+memory")
    return ""


def _read(path: str) -> str:
    with open(path) as file:
        return file.read()


def _write(path: str, text: str) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC)  # never makes one
    try:
        os.write(descriptor, text.encode())
    finally:
        os.close(descriptor)
