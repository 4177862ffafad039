"""How many cores this process may really use: its CPU affinity, cut by the quota of every cgroup above it."""

from __future__ import annotations

import math
import os

from percore.common.typing import Optional


def usable_cores(root: str = "/") -> int:
    """At least 1. A quota of 1.5 cores counts as 2: one worker more than the quota fills it, one fewer wastes it.

    `root` stands in for the file system's root in tests.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = cgroup_quota(root)
    return max(1, min(cores, math.ceil(quota)) if quota else cores)


def cgroup_quota(root: str = "/") -> Optional[float]:
    """The smallest quota in cores from our cgroup up to the root, or None when nothing limits us (cgroups(7), v1 and v2)."""
    try:
        with open(os.path.join(root, "proc/self/cgroup")) as file:
            memberships = [line.rstrip("\n").split(":", 2) for line in file]
    except OSError:
        return None
    quotas = []
    for _, controllers, path in memberships:
        if controllers == "":
            directories, read = ("sys/fs/cgroup", "sys/fs/cgroup/unified"), _read_v2
        elif "cpu" in controllers.split(","):
            directories, read = (f"sys/fs/cgroup/{controllers}", "sys/fs/cgroup/cpu"), _read_v1
        else:
            continue
        for directory in directories:
            parts = [part for part in path.split("/") if part]
            for depth in range(len(parts) + 1):
                quota = read(os.path.join(root, directory, *parts[:depth]))
                if quota:
                    quotas.append(quota)
    return min(quotas) if quotas else None


def _read_v2(directory: str) -> Optional[float]:
    try:
        with open(os.path.join(directory, "cpu.max")) as file:
            quota, period = file.read().split()
    except (OSError, ValueError):
        return None
    return None if quota == "max" else int(quota) / int(period)


def _read_v1(directory: str) -> Optional[float]:
    try:
        with open(os.path.join(directory, "cpu.cfs_quota_us")) as file:
            quota = int(file.read())
        with open(os.path.join(directory, "cpu.cfs_period_us")) as file:
            period = int(file.read())
    except (OSError, ValueError):
        return None
    return None if quota <= 0 else quota / period
