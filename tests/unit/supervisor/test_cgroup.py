"""What is written into the tree of control groups, and read from it: a folder stands in for the kernel's."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from percore.supervisor.process import cgroup
from percore.supervisor.process.cgroup import WorkerGroup, find_groups

MB = 1 << 20
make_folder, remove_folder = os.mkdir, os.rmdir


def kernel_mkdir(path: str) -> None:
    """A new group comes with its files."""
    make_folder(path)
    for name in ("cgroup.procs", "cgroup.kill", "memory.max", "memory.swap.max", "memory.oom.group", "memory.events"):
        (Path(path) / name).touch()


def kernel_rmdir(path: str) -> None:
    if (Path(path) / "cgroup.procs").read_text():
        raise OSError(16, "Device or resource busy")
    for file in Path(path).iterdir():
        file.unlink()
    remove_folder(path)


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(cgroup.os, "mkdir", kernel_mkdir)
    monkeypatch.setattr(cgroup.os, "rmdir", kernel_rmdir)
    monkeypatch.setenv("PERCORE_CGROUP", str(tmp_path))
    for name, text in {"controllers": "cpu memory pids", "subtree_control": "", "procs": ""}.items():
        (tmp_path / f"cgroup.{name}").write_text(text)
    return tmp_path


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    lines: list[str] = []
    monkeypatch.setattr(cgroup, "log", lines.append)
    return lines


def test_a_group_has_the_limit_and_no_swap_and_ends_as_a_whole(tree: Path, said: list[str]) -> None:
    group = find_groups().make("my app/2-0-abc", 300 * MB)
    assert group
    assert said == []
    assert group.path == str(tree / "my_app_2-0-abc")
    written = {
        name: Path(group.path, name).read_text() for name in ("memory.max", "memory.swap.max", "memory.oom.group")
    }
    assert written == {"memory.max": str(300 * MB), "memory.swap.max": "0", "memory.oom.group": "1"}
    assert (tree / "cgroup.subtree_control").read_text() == "+memory"


def test_who_sits_in_the_group_that_is_divided_moves_into_a_leaf_first(tree: Path) -> None:
    (tree / "cgroup.procs").write_text("4711\n")
    find_groups()
    assert (tree / "supervisor" / "cgroup.procs").read_text() == "4711"


def test_only_a_kill_of_the_kernel_counts_as_one(tree: Path) -> None:
    group = find_groups().make("a", MB)
    assert group
    events = Path(group.path, "memory.events")
    for text, told in (("", False), ("max 3\noom 1\noom_kill 0\n", False), ("max 9\noom 1\noom_kill 2\n", True)):
        events.write_text(text)
        assert group.was_over is told


def test_a_group_is_found_again_and_empty_ones_of_the_past_are_removed(tree: Path) -> None:
    groups = find_groups()
    for name in ("living", "dead"):
        assert groups.make(name, MB)
    (tree / "living" / "cgroup.procs").write_text("4711\n")
    again = find_groups()
    assert again.find("living", MB)
    assert again.find("dead", MB) is None
    assert WorkerGroup(str(tree / "living"), MB).remove() is False
    (tree / "living" / "cgroup.procs").write_text("")
    assert WorkerGroup(str(tree / "living"), MB).remove() is True
    assert WorkerGroup(str(tree / "living"), MB).remove() is True


def test_a_kernel_without_swap_limits_or_group_kill_does_what_it_can(tree: Path) -> None:
    group = find_groups().make("old", MB)
    assert group
    for name in ("memory.swap.max", "memory.oom.group", "cgroup.kill"):
        Path(group.path, name).unlink()
    group.size = 2 * MB
    group.limit()
    group.kill()
    assert Path(group.path, "memory.max").read_text() == str(2 * MB)
    assert not Path(group.path, "cgroup.kill").exists()


def test_what_is_missing_is_said_once(tree: Path, said: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    (tree / "cgroup.controllers").write_text("hugetlb")
    groups = find_groups()
    group = groups.make("a", MB)
    assert group
    assert Path(group.path, "memory.max").read_text() == ""
    monkeypatch.setenv("PERCORE_CGROUP", "/nonexistent")
    assert find_groups().make("a", MB) is None
    monkeypatch.delenv("PERCORE_CGROUP")
    monkeypatch.setenv("NOTIFY_SOCKET", "/run/systemd/notify")
    assert find_groups().make("a", MB) is None
    assert said == [
        "memory_max is not enforced: this host has no memory controller in cgroup v2",
        "memory_max is not enforced: /nonexistent (PERCORE_CGROUP) is no control group that can be written",
        said[-1],
    ]
    assert "memory_max is not enforced: " in said[-1]
