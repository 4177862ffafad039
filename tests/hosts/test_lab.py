"""The lab itself: what the other tests stand on."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from percore.lab import Lab
from percore.lab.lab import lab_folder


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    made = Lab.up(1, name=f"labtest{os.getpid()}", project=tmp_path_factory.mktemp("labtest"))
    yield made
    made.down()


def test_a_host_answers_as_root_and_as_a_user_with_sudo(lab: Lab) -> None:
    assert lab.hosts[0].run("systemctl is-system-running").strip() == "running"
    assert lab.hosts[0].run("sudo id -un", user="deployer").strip() == "root"


def test_a_reboot_is_real(lab: Lab) -> None:
    host = lab.hosts[0]
    before = host.boot_id()
    host.reboot()
    assert host.boot_id() != before


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


def test_down_repairs_what_a_killed_lab_left_behind(tmp_path: Path) -> None:
    name = f"wreck{os.getpid()}"
    lab = Lab.up(1, name=name, project=tmp_path)
    os.kill(lab.hosts[0].keeper, signal.SIGKILL)
    Lab.down_any(name, tmp_path)
    assert not lab_folder(name).exists()
    assert not Path(f"/run/netns/percore-{name}").exists()
    assert str(lab_folder(name)) not in Path("/proc/mounts").read_text()
    assert not lab.inventory.exists()
