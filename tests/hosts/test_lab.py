"""The lab itself: what the other tests stand on."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from percore.errors import PercoreError, PreflightError
from percore.lab import Lab
from percore.lab.host import LabHost
from percore.lab.lab import lab_directory
from tests.hosts.conftest import wait_for


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    made = Lab.up(2, name=f"labtest{os.getpid()}", project=tmp_path_factory.mktemp("labtest"))
    yield made
    made.down()


def traces(lab: Lab) -> list[str]:
    """What is left on this machine of a lab that is down."""
    folder = str(lab_directory(lab.name))
    found = [
        str(path)
        for path in (lab_directory(lab.name), Path(f"/run/netns/{lab.namespace}"), lab.inventory)
        if path.exists()
    ]
    found += [line for line in Path("/proc/mounts").read_text().splitlines() if folder in line]
    found += [str(path) for path in Path("/sys/fs/cgroup").rglob(f"{lab.namespace}-*")]
    for entry in (Path("/proc", pid, "cmdline") for pid in os.listdir("/proc") if pid.isdigit()):
        with contextlib.suppress(OSError):  # ended while we look
            found += [str(entry)] if folder.encode() in entry.read_bytes() else []
    return found


def boot_of(host: LabHost) -> str:
    return host.run(
        "cat /proc/sys/kernel/random/boot_id; systemctl show -P UserspaceTimestampMonotonic; stat -c %Y /proc/1"
    )


def test_a_host_answers_as_root_and_as_a_user_with_sudo(lab: Lab) -> None:
    assert lab.hosts[0].run("systemctl is-system-running").strip() == "running"
    assert lab.hosts[0].run("sudo id -un", user="deployer").strip() == "root"


def test_a_reboot_is_real(lab: Lab) -> None:
    host = lab.hosts[0]
    before = boot_of(host)
    host.reboot()
    assert boot_of(host) != before


def test_a_host_that_is_cut_off_does_not_answer_until_it_joins_again(lab: Lab) -> None:
    host = lab.hosts[0]
    host.cut()
    assert lab.inside(["ping", "-c", "1", "-W", "1", host.address]).returncode != 0
    host.join()
    assert host.run("echo here").strip() == "here"


def test_a_host_without_power_starts_again(lab: Lab) -> None:
    host = lab.hosts[0]
    host.run("echo kept > /root/note; sync")
    host.power_off()
    assert not host.is_on
    host.start()
    assert host.run("cat /root/note").strip() == "kept"


def test_a_host_cannot_reach_the_processes_of_another(lab: Lab) -> None:
    one, other = lab.hosts
    one.run("systemd-run -q --unit=probe sleep 1000")
    assert other.run("ls -d /sys/fs/cgroup/system.slice/probe.service", check=False) == ""
    other.run("kill -9 -1", check=False)
    other.wait_until_answers()
    assert one.run("systemctl is-active probe").strip() == "active"


def test_hosts_reach_each_other_and_nothing_else(lab: Lab) -> None:
    one, other = lab.hosts
    assert one.run(f"timeout 5 bash -c '</dev/tcp/{other.address}/22' && echo open").strip() == "open"
    assert "default" not in one.run("ip route")


def test_a_host_with_another_key_than_the_lab_gave_it_is_not_spoken_to(lab: Lab) -> None:
    host = lab.hosts[0]
    known = host.known_hosts.read_text()
    own, others = host.host_key(), lab.hosts[1].host_key()
    host.known_hosts.write_text(known.replace(f"{host.address} {own}", f"{host.address} {others}"))
    try:
        with pytest.raises(PercoreError) as refused:
            host.run("true")
    finally:
        host.known_hosts.write_text(known)
    assert "Host key verification failed" in refused.value.detail


def test_a_lab_that_is_up_is_kept_and_its_dead_hosts_are_started(lab: Lab) -> None:
    running, dead = lab.hosts
    before = boot_of(running)
    dead.power_off()
    again = Lab.up(len(lab.hosts), name=lab.name, project=lab.project)
    assert boot_of(again.hosts[0]) == before
    assert again.hosts[1].run("echo here").strip() == "here"


def test_another_project_cannot_end_or_replace_a_lab_that_is_up(lab: Lab, tmp_path: Path) -> None:
    with pytest.raises(PreflightError, match=r"is up -> cd .* && \./run lab\.down"):
        Lab.up(1, name=lab.name, project=tmp_path)
    with pytest.raises(PreflightError):
        Lab.down_any(lab.name, tmp_path)
    assert lab.hosts[0].run("echo here").strip() == "here"


@pytest.mark.parametrize("killed", ["nothing", "the keepers", "keepers and hosts"])
def test_down_leaves_nothing_behind(tmp_path: Path, killed: str) -> None:
    name = f"wreck{os.getpid()}"
    lab = Lab.up(2, name=name, project=tmp_path)
    for host in lab.hosts:
        if killed != "nothing":
            os.kill(host.container.keeper, signal.SIGKILL)
        if killed == "keepers and hosts":
            for pid in host.container.group.processes():
                os.kill(pid, signal.SIGKILL)
                break
    assert traces(lab)
    Lab.down_any(name, tmp_path)
    assert traces(lab) == []


def test_up_that_was_killed_in_between_is_cleared_away(tmp_path: Path) -> None:
    lab = Lab.describe(f"wreck{os.getpid()}", 1, tmp_path)
    child = os.fork()
    if not child:  # until the host has its root, and then no further
        os.setsid()
        os.close(1)
        os.close(2)
        Lab.up(1, name=lab.name, project=tmp_path)
        os._exit(0)
    wait_for(lambda: os.path.ismount(lab.hosts[0].root), "a mounted root")
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    lab = Lab.up(1, name=lab.name, project=tmp_path)
    assert lab.hosts[0].run("echo here").strip() == "here"
    lab.down()
    assert traces(lab) == []
