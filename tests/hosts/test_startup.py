"""`percore startup` on a host that no deploy ever touched: the unit, the hand-over to it, a real reboot."""

from __future__ import annotations

import json
import os
import platform
import tarfile
from collections.abc import Iterator
from typing import Any

import pytest

from percore.deploy.build.host_package import make_package
from percore.lab import Lab
from percore.lab.host import LabHost
from tests.hosts.conftest import ROOT, wait_for

TICK = "trap 'exit 0' INT TERM\nwhile :; do sleep 0.2; done\n"
SERVER = (
    "import http.server, os\nhttp.server.HTTPServer(('', 8123), http.server.SimpleHTTPRequestHandler).serve_forever()\n"
)


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LabHost]:
    """A host with the command `percore` and two scripts."""
    lab = Lab.up(1, name=f"boot{os.getpid()}", project=tmp_path_factory.mktemp("boot"))
    try:
        [made] = lab.hosts
        package = make_package(ROOT, system="Linux", machine=platform.machine())
        with tarfile.open(package.path) as archive:
            archive.extractall(made.root / "opt" / "percore")
        place = made.root / "srv"
        (place / "tick.sh").write_text(TICK)
        (place / "web.py").write_text(SERVER)
        launcher = made.root / "usr" / "local" / "bin" / "percore"
        launcher.write_text('#!/bin/sh\nexec /usr/bin/python3 -I -S /opt/percore "$@"\n')
        launcher.chmod(0o755)
        yield made
    finally:
        lab.down()


def workers(host: LabHost, user: str = "root") -> dict[str, tuple[int, str]]:
    listed: list[dict[str, Any]] = json.loads(host.run("percore jlist", user=user) or "[]")
    return {entry["name"]: (entry["pid"], entry["pm2_env"]["status"]) for entry in listed}


def answer(host: LabHost) -> str:
    asked = "import urllib.request as r; print(r.urlopen('http://127.0.0.1:8123/', timeout=8).status)"
    return host.run(f'python3 -c "{asked}"').strip()


def supervisor_pid(host: LabHost, unit: str) -> int:
    return int(host.run(f"systemctl show -p MainPID --value {unit}"))


def test_the_unit_takes_over_without_touching_a_worker_and_starts_all_at_boot(host: LabHost) -> None:
    host.run("cd /srv && percore start web.py --exec-mode cluster -i 2 --name web")
    host.run("cd /srv && percore start tick.sh")
    host.run("cd /srv && percore start tick.sh --name quiet && percore stop quiet")
    before = workers(host)
    host.run("percore startup && percore save")
    assert workers(host) == before
    assert answer(host) == "200"
    assert host.run("systemctl is-active percore; systemctl is-enabled percore").split() == ["active", "enabled"]
    first = supervisor_pid(host, "percore")
    host.run(f"kill -9 {first}")
    wait_for(lambda: supervisor_pid(host, "percore") not in (0, first), "the next supervisor")
    wait_for(lambda: workers(host) == before, "the workers to be adopted")
    host.reboot()
    wait_for(lambda: {name: state for name, (_, state) in workers(host).items()} == {
        "web": "online", "tick": "online", "quiet": "stopped"}, "the apps after the reboot")  # fmt: skip
    assert answer(host) == "200"
    # What was killed is what was saved, after the next boot, as PM2's users expect.
    host.run("percore kill")
    wait_for(lambda: supervisor_pid(host, "percore") != 0, "a supervisor without apps")
    assert workers(host) == {}
    host.reboot()
    wait_for(lambda: "web" in workers(host), "what was saved")
    host.run("percore delete all && percore unstartup")
    assert host.run("systemctl is-enabled percore", check=False).strip() != "enabled"
    assert "percore.service" not in host.run("ls /etc/systemd/system")
    host.run("percore kill", check=False)


def test_a_user_is_told_what_root_must_type_and_gets_a_unit_of_ones_own(host: LabHost) -> None:
    host.run("cd /srv && percore start tick.sh", user="deployer")
    said = host.run("percore startup; echo code $?", user="deployer").splitlines()
    assert said[-1] == "code 1"
    [command] = [line for line in said if line.startswith("sudo ")]
    before = workers(host, "deployer")
    host.run(command, user="deployer")
    assert workers(host, "deployer") == before
    host.reboot()
    wait_for(lambda: workers(host, "deployer").get("tick", (0, ""))[1] == "online", "the app after the reboot")
    pid = workers(host, "deployer")["tick"][0]
    assert host.run(f"stat -c %U /proc/{pid}").strip() == "deployer"
    assert host.run("systemctl is-active percore-deployer").strip() == "active"
