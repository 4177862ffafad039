"""A host that an earlier version of percore deployed to is brought to this one, and back, while its clients go on asking.

The earlier version is whole, its control side included: tests/hosts/versions.
"""

from __future__ import annotations

import json
import os
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from percore import __version__
from percore.deploy.build.host_package import make_package
from percore.lab import Lab
from percore.lab.host import LabHost
from tests import archives
from tests.hosts.conftest import ROOT, wait_for
from tests.hosts.rehearsal import Rehearsal
from tests.hosts.versions import VERSIONS, unpack


class Upgrade(Rehearsal):
    """The project as this version deploys it; `older` deploys it with the earlier one."""

    def __init__(self, folder: Path, lab: Lab) -> None:
        super().__init__(folder, lab)
        self.checkout = folder / "older"

    @property
    def host(self) -> LabHost:
        return self.lab.hosts[0]

    def unpack(self, archive: Path) -> None:
        """The earlier checkout, its C library compiled, with this project's app and inventory in it."""
        unpack(archive, self.checkout)
        shutil.copytree(self.folder / "roles" / "rehearsal", self.checkout / "roles" / "rehearsal")
        for name in ("app", "inventories", ".lab"):
            (self.checkout / name).symlink_to(self.folder / name)

    def older(self, *words: str) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "invoke", *words, "--env", self.env], cwd=self.checkout, text=True, check=False,
            timeout=300, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL,
            env={**os.environ, "PYTHONPATH": str(self.checkout)},
        )  # fmt: skip
        assert done.returncode == 0, done.stdout
        return done.stdout

    def newer(self, *words: str) -> str:
        done = self.invoke(*words, "--env", self.env)
        assert done.returncode == 0, done.stdout
        return done.stdout

    def other_project(self, *words: str) -> str:
        """With an app of the same name. An older supervisor that says whose an app is refuses it before the switch."""
        path = self.folder / "inventories" / "other.yml"
        content = yaml.safe_load((path.parent / f"{self.env}.yml").read_text())
        content["all"]["vars"].update(app_name="other", roles=["app"], port="", health_path="", nginx=False)
        path.write_text(yaml.safe_dump(content))
        done = self.invoke(*words, "--env", "other")
        assert done.returncode in (3, 4), done.stdout
        return done.stdout

    def pids(self) -> list[int]:
        """Of the workers, none of which was ever started again."""
        apps = json.loads(self.host.run("runuser -u percore -- percore status --json"))["apps"]
        workers: list[dict[str, Any]] = [worker for app in apps for worker in app["workers"]]
        assert [worker["state"] for worker in workers] == ["running"] * 2
        assert sum(worker["restarts"] for worker in workers) == 0
        return sorted(worker["pid"] for worker in workers)

    def program(self) -> str:
        """The package out of which the supervisor runs; empty while none does."""
        pid = self.host.run("systemctl show --property=MainPID --value percore.service").strip()
        words = self.host.run(f"cat /proc/{pid}/cmdline") if pid != "0" else ""
        found = re.search(r"/opt/percore/(\w+)", words)
        return found[1] if found else ""

    def package(self) -> str:
        return os.readlink(self.host.root / "opt" / "percore" / "current")


@pytest.fixture(scope="module", params=VERSIONS, ids=lambda archive: archive.name.partition(".")[0])
def upgrade(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Upgrade]:
    folder = tmp_path_factory.mktemp("upgrade")
    lab = Lab.up(1, name=f"upgrade{os.getpid()}", project=folder)
    try:
        made = Upgrade.make(folder, lab)
        made.unpack(request.param)
        yield made
    finally:
        lab.down()


def lost_none(counts: dict[str, Any]) -> None:
    assert counts["failures"] == []
    assert counts["ok"] > 100


def test_a_deploy_brings_the_new_version_and_a_rollback_the_former_one_back(upgrade: Upgrade) -> None:
    upgrade.version("of the older")
    upgrade.older("deploy")
    package, release, first = upgrade.package(), upgrade.current(upgrade.host), upgrade.pids()
    differs = f"the supervisor runs version 0.1.0, this is version {__version__} -> "
    line = next(line for line in upgrade.newer("status").splitlines() if differs in line)
    assert f"deploy --env {upgrade.env}" in line
    told = upgrade.other_project("deploy")
    assert re.search(r"there is an app 'web' of .*/srv/web", told)
    assert (upgrade.package(), upgrade.pids()) == (package, first)
    with upgrade.load(nginx_only=True, nginx_reloads=True) as counts:
        upgrade.version("of the newer")
        upgrade.newer("deploy")
        assert upgrade.program() == upgrade.package() != package
        assert upgrade.settled("of the newer")
        owner = json.loads((upgrade.host.root / "srv/web/project.json").read_text())
        assert (owner["app"], owner["env"]) == ("web", upgrade.env)
        second = upgrade.pids()
        assert differs not in upgrade.newer("status")
        upgrade.newer("rollback")
        assert upgrade.program() == upgrade.package() == package
        assert upgrade.current(upgrade.host) == release
        assert upgrade.settled("of the older")
        third = upgrade.pids()
        assert upgrade.current(upgrade.host) in upgrade.older("status")
    lost_none(counts)
    assert not set(first) & set(second) & set(third)


def test_an_update_by_hand_touches_no_worker_and_the_next_deploy_goes_on_from_there(upgrade: Upgrade) -> None:
    upgrade.version("of the older")
    upgrade.older("deploy")
    older, workers = upgrade.package(), upgrade.pids()
    newer = make_package(ROOT, system="Linux", machine=platform.machine())
    place = upgrade.host.root / "opt" / "percore" / newer.id
    archives.unpack(newer.path, place)
    with upgrade.load(nginx_only=True, nginx_reloads=True) as counts:
        update = f"PERCORE_HOME=/var/lib/percore python3 -I -S /opt/percore/{newer.id} update"
        said = upgrade.host.run(f"runuser -u percore -- sh -c '{update}'")
        assert "took over" in said
        assert upgrade.program() == newer.id
        assert upgrade.pids() == workers
        upgrade.host.run("kill -9 $(systemctl show --property=MainPID --value percore.service)")
        wait_for(lambda: upgrade.program() == older, "the older supervisor, to which the link still leads")
        assert upgrade.pids() == workers
        upgrade.version("after the update")
        upgrade.newer("deploy")
        assert upgrade.program() == upgrade.package() == newer.id
        assert upgrade.settled("after the update")
    lost_none(counts)
