"""What is wrong with this host for any app: the limits of what runs, memory, disk, clock and kernel."""

from __future__ import annotations

from collections.abc import Iterator

from percore.common.finding import ERROR, Finding
from percore.supervisor.commands.host_facts import Facts
from percore.supervisor.commands.output import short_size

_BACKLOG = 4096  # what the supervisor asks for
_FEW_OPEN_FILES = 8192
_LITTLE_DISK = 512 << 20
_FEW_INODES = 10_000
_MUCH = 0.8  # of what a limit allows


def about_host(facts: Facts) -> Iterator[Finding]:
    for check in (_about_limits, _about_memory, _about_disk, _about_clock, _about_kernel):
        yield from check(facts)


def _about_limits(facts: Facts) -> Iterator[Finding]:
    """Of the processes that run, and of their unit; not of the shell, which has others."""
    if facts.somaxconn < _BACKLOG:
        yield Finding(
            f"somaxconn is {facts.somaxconn}: further simultaneous connections are refused",
            f"sysctl -w net.core.somaxconn={_BACKLOG}, and the same in /etc/sysctl.d/",
            "limits",
        )
    if facts.open_files < _FEW_OPEN_FILES:
        told = "ulimit -n 65536 before percore starts"
        if facts.has_fd_store:
            told = (
                "LimitNOFILE=65536 in its unit (systemctl edit), systemctl daemon-reload, and restart it and its apps"
            )
        yield Finding(f"only {facts.open_files} files and connections can be open per process", told, "limits")
    if facts.tasks_most and facts.tasks > facts.tasks_most * _MUCH:
        yield Finding(
            f"{facts.tasks} of {facts.tasks_most} processes and threads that its unit may have are there",
            "TasksMax=infinity in its unit (systemctl edit)",
            "limits",
        )


def _about_memory(facts: Facts) -> Iterator[Finding]:
    if facts.available_bytes < facts.memory_bytes // 10:
        what = f"only {short_size(facts.available_bytes)} of memory is available"
        yield Finding(what, "percore list --sort memory:desc", "memory")
    if facts.swap_bytes and facts.swap_used_bytes > facts.swap_bytes // 2:
        what = "more than half of the swap is used: swapped workers are slow"
        yield Finding(what, "fewer workers, or more memory", "memory")
    if facts.oom_kills:
        ended = "a process" if facts.oom_kills == 1 else f"{facts.oom_kills} processes"
        what = f"the kernel killed {ended} of the unit for lack of memory"
        yield Finding(what, "journalctl -k --grep oom; lower max_memory_restart or instances", "memory")


def _about_disk(facts: Facts) -> Iterator[Finding]:
    if facts.disk_free_bytes < min(_LITTLE_DISK, facts.disk_bytes // 20):
        yield Finding(
            f"only {short_size(facts.disk_free_bytes)} is free for logs and state", "percore flush", "disk", ERROR
        )
    if facts.inodes_free is not None and facts.inodes_free < min(_FEW_INODES, facts.inodes // 20):
        what = f"only {facts.inodes_free} inodes are free for logs and state"
        yield Finding(what, "remove files there: du --inodes -x / | sort -n | tail", "disk", ERROR)


def _about_clock(facts: Facts) -> Iterator[Finding]:
    """That of a container is the machine's around it."""
    if facts.clock_is_synchronized is False and not facts.is_container:
        yield Finding("the clock is not synchronized", "timedatectl set-ntp true", "clock")


def _about_kernel(facts: Facts) -> Iterator[Finding]:
    if not facts.has_steering:
        yield Finding(
            "this kernel cannot steer connections to ready workers: all workers of an app share one queue",
            "Linux 4.6 or newer, without a sandbox that lacks SO_ATTACH_REUSEPORT_CBPF",
            "kernel",
        )
    if not facts.has_pidfd_getfd and not facts.has_fd_store:
        what = "after kill -9 of the supervisor its sockets are lost"
        yield Finding(what, "Linux 5.6 or newer, or run it under systemd", "kernel")
    if not facts.has_bind_shim:
        what = "there is no bind shim for this machine, so workers cannot share a port"
        yield Finding(what, "install gcc, then reinstall percore", "kernel", ERROR)
