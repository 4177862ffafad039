"""`memory_max` with real control groups; the limit itself only where cgroup v2 has the memory controller."""

from __future__ import annotations

import os
import secrets
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.supervisor.conftest import Supervisor
from tests.supervisor.faults.tools import is_running
from tests.waiting import wait_for

MB = 1 << 20
# It leaves the session, and its environment is empty: only the group knows whose it is.
HIDING = "setsid env -i sh -c 'echo $$ > hidden; exec sleep 1000' & echo up; while :; do sleep 0.05; done"
GREEDY = "import time\ntime.sleep(0.5)\nkept = []\nwhile True:\n    kept.append(bytearray(b'x' * 1_000_000))\n"


@pytest.fixture
def group(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A control group that is ours to divide, as systemd would delegate one."""
    mounts = [line.split() for line in Path("/proc/mounts").read_text().splitlines()]
    mount = next((Path(fields[1]) for fields in mounts if fields[2] == "cgroup2"), None)
    if mount is None or os.geteuid() != 0:
        pytest.skip("needs cgroup v2, and root")
    made = mount / f"percore-test-{secrets.token_hex(4)}"
    if "memory" in (mount / "cgroup.controllers").read_text().split():
        (mount / "cgroup.subtree_control").write_text("+memory")
    made.mkdir()  # before the supervisor of a test, and so removed after it
    monkeypatch.setenv("PERCORE_CGROUP", str(made))
    yield made
    (made / "cgroup.kill").write_text("1")
    wait_for(lambda: not [folder for folder in made.iterdir() if folder.is_dir() and not removed(folder)], "its end")
    made.rmdir()


def removed(folder: Path) -> bool:
    try:
        folder.rmdir()
    except OSError:
        return False
    return True


def groups_in(group: Path) -> list[Path]:
    return [folder for folder in group.iterdir() if folder.is_dir() and folder.name != "supervisor"]


def hidden(supervisor: Supervisor) -> int:
    path = supervisor.folder / "hidden"
    return int(wait_for(lambda: path.exists() and path.read_text(), "the hidden process"))


def capped(supervisor: Supervisor, **fields: Any) -> dict[str, Any]:
    return supervisor.singleton(**{"args": [HIDING], "memory_max": 64 * MB, **fields})


def test_a_worker_has_a_group_that_ends_with_it_and_with_all_that_hides(group: Path, supervisor: Supervisor) -> None:
    supervisor.apply(capped(supervisor))
    escaped = hidden(supervisor)
    [own] = groups_in(group)
    members = (own / "cgroup.procs").read_text().split()
    assert {str(supervisor.pids("tick")[0]), str(escaped)} <= set(members)
    assert str(supervisor.daemon_pid()) not in members
    supervisor.run("stop", "tick")
    wait_for(lambda: not is_running(escaped), "the hidden process to end")
    wait_for(lambda: groups_in(group) == [], "the group to be removed")


def test_an_adopted_worker_still_has_its_group(group: Path, supervisor: Supervisor) -> None:
    supervisor.apply(capped(supervisor))
    escaped, before = hidden(supervisor), groups_in(group)
    supervisor.kill_daemon()
    supervisor.run("ping")
    assert groups_in(group) == before
    supervisor.run("restart", "tick")
    wait_for(lambda: not is_running(escaped), "the hidden process to end")
    wait_for(lambda: len(groups_in(group)) == 1, "the old group to be removed")
    assert groups_in(group) != before


def test_over_the_limit_the_kernel_kills_it_and_that_is_said(group: Path, supervisor: Supervisor) -> None:
    if "memory" not in (group / "cgroup.controllers").read_text().split():
        pytest.skip("this machine has no memory controller in cgroup v2")
    (supervisor.folder / "greedy.py").write_text(GREEDY)
    supervisor.apply(
        capped(supervisor, script="greedy.py", args=[], interpreter=sys.executable, min_uptime=0, autorestart=False)
    )
    wait_for(lambda: supervisor.workers("tick")[0]["state"] == "exited", "its end")
    assert supervisor.workers("tick")[0]["failure"] == "killed by the kernel: over memory_max 64 MB"


def test_where_no_limit_can_be_set_it_is_said_and_the_app_runs(supervisor: Supervisor) -> None:
    own = subprocess.run(["grep", "^0::", "/proc/self/cgroup"], capture_output=True, text=True, check=False).stdout
    assert not own.rstrip().endswith("/supervisor")
    supervisor.apply(capped(supervisor, instances=1))
    assert supervisor.workers("tick")[0]["state"] == "running"
    assert supervisor.log().count("memory_max is not enforced: ") == 1
    assert "64.0mb, not enforced: " in supervisor.run("describe", "tick").stdout
