"""Cores that may really be used."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from percore.common.cpus import cgroup_quota, usable_cores


def make(root: Path, files: dict[str, str]) -> str:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return str(root)


def test_without_a_quota_the_affinity_counts(tmp_path: Path) -> None:
    assert usable_cores(str(tmp_path)) == len(os.sched_getaffinity(0))


@pytest.mark.parametrize(
    "files",
    [
        {
            "proc/self/cgroup": "0::/a/b\n",
            "sys/fs/cgroup/a/cpu.max": "50000 100000",
            "sys/fs/cgroup/a/b/cpu.max": "max 100000",
        },
        {
            "proc/self/cgroup": "4:cpu,cpuacct:/a\n",
            "sys/fs/cgroup/cpu,cpuacct/a/cpu.cfs_quota_us": "50000",
            "sys/fs/cgroup/cpu,cpuacct/a/cpu.cfs_period_us": "100000",
        },
    ],
    ids=["v2, set by a parent", "v1"],
)
def test_the_smallest_quota_above_us_counts(tmp_path: Path, files: dict[str, str]) -> None:
    root = make(tmp_path, files)
    assert cgroup_quota(root) == 0.5
    assert usable_cores(root) == 1


def test_a_quota_of_more_than_there_is_changes_nothing(tmp_path: Path) -> None:
    root = make(tmp_path, {"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "6400000 100000"})
    assert usable_cores(root) == len(os.sched_getaffinity(0))
