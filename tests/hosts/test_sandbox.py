"""Debian 11, 12 and 13 as hosts: deploys, percore's unit, what it forbids, and that no request is lost for it."""

from __future__ import annotations

import contextlib
import json
import os
import platform
import re
import shutil
import signal
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from percore.deploy.build.host_package import make_package
from percore.lab import Lab
from percore.lab.host import LabHost
from tests.hosts.conftest import ROOT, Project, lab_project, set_variables, wait_for

MOST_EXPOSURE = 3.5
SUITES = ["bookworm", "bullseye", "trixie"]
OLDER = ROOT / "tests" / "hosts" / "older.service.j2"
"""The unit of percore before it forbade anything that matters."""

SERVER = (
    "require('http').createServer((ask, answer) => answer.end(String(process.getuid()))).listen(process.env.PORT);\n"
)
NAMESPACES = "unshare --user true"
CERTIFICATE = "openssl req -x509 -newkey rsa:2048 -nodes -subj /CN=a -keyout /root/key -out /root/edge.pem"


def exposure(host: LabHost, unit: str = "percore.service") -> float:
    """Of the unit that is loaded, which every systemd judges."""
    said = host.run(f"systemd-analyze security --no-pager {unit}")
    found = re.search(r"Overall exposure level for \S+: ([0-9.]+)", said)
    assert found, said
    return float(found[1])


def main_pid(host: LabHost) -> str:
    return host.run("systemctl show -p MainPID --value percore.service").strip()


def kill_supervisor(host: LabHost) -> None:
    before = main_pid(host)
    host.run(f"kill -9 {before}")
    wait_for(lambda: main_pid(host) not in (before, "0"), "another supervisor")


def fields(host: LabHost, pid: str) -> dict[str, str]:
    lines = host.run(f"cat /proc/{pid}/status").splitlines()
    return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}


@pytest.fixture(scope="module", params=SUITES)
def project(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    """A host that was deployed to while percore had its older unit."""
    for made in lab_project(tmp_path_factory, "sandbox", 1, request.param):
        place = made.folder / "roles" / "percore" / "templates"
        place.mkdir()
        shutil.copy(OLDER, place / "percore.service.j2")
        set_variables(made, edge_certificate="/root/edge.pem", edge_keepalive=4)
        made.deploy()
        shutil.rmtree(place)
        yield made


def test_a_deploy_forbids_what_no_app_needs_and_neither_that_nor_anything_after_loses_a_request(
    project: Project,
) -> None:
    [host] = project.lab.hosts
    old = main_pid(host)
    assert exposure(host) > MOST_EXPOSURE
    with project.load() as counts:
        project.deploy()
        assert main_pid(host) != old
        workers = project.workers()
        kill_supervisor(host)
        wait_for(lambda: project.workers() == workers, "the same workers")
        with project.touch_app("forbidden"):
            project.deploy()
        assert not set(project.workers().values()) & set(workers.values())
        kill_supervisor(host)
        host.run("runuser -u percore -- percore update && runuser -u percore -- percore reload all")
        worker = str(project.workers()[host.name, "boltlink-api", 0])
        host.run(f"kill -9 {main_pid(host)} && systemctl daemon-reexec")
        wait_for(lambda: main_pid(host) not in ("0", ""), "another supervisor")
    assert counts["failures"] == []
    assert counts["ok"] > 100
    assert exposure(host) <= MOST_EXPOSURE
    status = fields(host, worker)
    assert (status["CapBnd"], status["NoNewPrivs"], status["Seccomp"]) == ("0" * 16, "1", "2")
    assert re.search(r"Max core file size +0 ", host.run(f"cat /proc/{main_pid(host)}/limits"))


def test_the_nginx_of_this_debian_accepts_the_load_balancers_file(project: Project) -> None:
    host, directory = project.lab.hosts[0], project.folder / "build" / "nginx" / project.env
    text = (directory / "boltlink.conf").read_text().replace("default_server", "")
    (host.root / "root/edge.conf").write_text(text)
    (host.root / "root/nginx.conf").write_text("events {} http { include /root/edge.conf; }\n")
    host.run(f"{CERTIFICATE}; cat /root/key >>/root/edge.pem; nginx -t -c /root/nginx.conf")


def test_a_release_is_rolled_back(project: Project) -> None:
    releases = project.releases()
    assert project.invoke("rollback", "--env", project.env).returncode == 0
    assert project.releases().isdisjoint(releases)


def test_what_was_forbidden_serves_again_after_a_reboot(project: Project) -> None:
    [host] = project.lab.hosts
    releases = project.releases()
    host.reboot()
    wait_for(lambda: project.lab.inside(["curl", "-sf", f"http://{host.address}/health"]).returncode == 0, "the app")
    assert project.releases() == releases
    assert exposure(host) <= MOST_EXPOSURE


@pytest.fixture(scope="module", params=SUITES)
def alone(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """One host with the command `percore`, and a process file with an app of root and one of another user."""
    lab = Lab.up(1, request.param, name=f"alone{os.getpid()}", project=tmp_path_factory.mktemp("alone"))
    try:
        [made] = lab.hosts
        package = make_package(ROOT, system="Linux", machine=platform.machine())
        with tarfile.open(package.path) as archive:
            archive.extractall(made.root / "opt" / "percore")
        apps = [app("mine", 8123), {**app("theirs", 8124), "user": "nobody"}]
        (made.root / "srv" / "server.js").write_text(SERVER)
        (made.root / "srv" / "apps.json").write_text(json.dumps({"apps": apps}))
        launcher = made.root / "usr" / "local" / "bin" / "percore"
        launcher.write_text('#!/bin/sh\nexec /usr/bin/python3 -I -S /opt/percore "$@"\n')
        launcher.chmod(0o755)
        yield lab
    finally:
        lab.down()


def app(name: str, port: int) -> dict[str, Any]:
    """Logs where their user may write, and small enough to be rotated."""
    return {"name": name, "script": "server.js", "exec_mode": "cluster", "instances": 2, "env": {"PORT": str(port)}}


@contextlib.contextmanager
def load(lab: Lab) -> Iterator[dict[str, Any]]:
    urls = [f"http://{host.address}:{port}/" for host in lab.hosts for port in (8123, 8124)]
    words = [
        "nsenter",
        f"--net=/run/netns/{lab.namespace}",
        sys.executable,
        str(Path(ROOT, "tests/hosts/load.py")),
        *urls,
    ]
    client = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
    counts: dict[str, Any] = {}
    try:
        assert client.stdout
        assert client.stdout.readline() == "running\n"
        yield counts
    finally:
        client.send_signal(signal.SIGTERM)
        counts.update(json.loads(client.communicate(timeout=30)[0] or "{}"))


def pids(host: LabHost) -> dict[str, list[int]]:
    found: dict[str, list[int]] = {}
    for entry in json.loads(host.run("percore jlist") or "[]"):
        if entry["pm2_env"]["status"] == "online":
            found.setdefault(entry["name"], []).append(entry["pid"])
    return found


def owners(host: LabHost, name: str) -> set[str]:
    return {host.run(f"stat -c %U /proc/{pid}").strip() for pid in pids(host)[name]}


def test_a_supervisor_of_root_keeps_its_users_apps_with_six_capabilities_and_loses_no_request(alone: Lab) -> None:
    [host] = alone.hosts
    host.run("cd /srv && percore start apps.json")
    wait_for(lambda: sorted(map(len, pids(host).values())) == [2, 2], "four workers")
    before = pids(host)
    with load(alone) as counts:
        host.run("percore startup && percore save")
        assert pids(host) == before, "the unit takes over without touching a worker"
        kill_supervisor(host)
        wait_for(lambda: pids(host) == before, "the same workers")
        host.run("percore reload all")
        host.run("percore scale theirs 3 && percore scale theirs 2")
        forbidden = pids(host)
        kill_supervisor(host)
        wait_for(lambda: pids(host) == forbidden, "the same workers, which run under the unit's rules now")
        host.run("percore reload all && percore update")
        kill_supervisor(host)
        wait_for(lambda: sorted(map(len, pids(host).values())) == [2, 2], "four workers")
    assert counts["failures"] == []
    assert counts["ok"] > 100
    assert exposure(host) <= MOST_EXPOSURE
    assert (owners(host, "mine"), owners(host, "theirs")) == ({"root"}, {"nobody"})
    assert fields(host, str(pids(host)["theirs"][0]))["CapEff"] == "0" * 16
    host.run("percore restart all && percore stop theirs && percore start theirs && percore flush")
    assert owners(host, "theirs") == {"nobody"}


def test_the_apps_of_roots_supervisor_run_again_after_a_reboot(alone: Lab) -> None:
    [host] = alone.hosts
    host.reboot()
    wait_for(lambda: sorted(map(len, pids(host).values())) == [2, 2], "four workers")
    assert owners(host, "theirs") == {"nobody"}
    assert exposure(host) <= MOST_EXPOSURE


def test_what_an_app_needs_is_given_back_by_a_drop_in(alone: Lab) -> None:
    """As the page of roles says, with the user namespaces of a headless browser."""
    [host] = alone.hosts
    (host.root / "srv" / "browser.sh").write_text(f"{NAMESPACES} && touch /srv/made; exec sleep infinity\n")
    host.run("cd /srv && percore start browser.sh")
    assert not (host.root / "srv" / "made").exists()
    folder = "/etc/systemd/system/percore.service.d"
    host.run(f"mkdir -p {folder} && printf '[Service]\\nRestrictNamespaces=no\\n' > {folder}/override.conf")
    host.run("systemctl daemon-reload")
    kill_supervisor(host)
    wait_for(lambda: "browser" in pids(host), "the app")
    host.run("percore restart browser")
    wait_for(lambda: (host.root / "srv" / "made").exists(), "its namespace")


def test_a_home_with_odd_letters_in_its_name_is_the_units_home(alone: Lab) -> None:
    [host] = alone.hosts
    home = '/srv/a "b" 50%n \\x41 $HOME'
    quoted = home.replace("\\", "\\\\").replace('"', '\\"').replace("$", "\\$")
    host.run(f'mkdir "{quoted}" && PERCORE_HOME="{quoted}" percore startup --service-name odd')
    assert host.run(f'PERCORE_HOME="{quoted}" percore ping').strip()
    pid = host.run("systemctl show -p MainPID --value odd").strip()
    assert f"PERCORE_HOME={home}" in host.run(f"cat /proc/{pid}/environ").split("\0")
    host.run(f'PERCORE_HOME="{quoted}" percore unstartup --service-name odd && systemctl stop odd', check=False)


IMPOSTOR = """\
import os, socket
path = '/var/lib/percore/run/control.sock'
os.unlink(path)
server = socket.socket(socket.AF_UNIX)
server.bind(path)
server.listen()
while True:
    link = server.accept()[0]
    link.recv(65536)
    link.sendall(b'{"event":"result","ok":true,"pid":-1,"version":"9","daemon":true,"release":null,"apps":[]}\\n')
    link.close()
"""


def test_a_socket_of_an_apps_user_in_the_supervisors_place_ends_no_process(project: Project) -> None:
    """Root ended every process of the host, which the answer (-1) had asked for."""
    [host] = project.lab.hosts
    (host.root / "srv" / "impostor.py").write_text(IMPOSTOR)
    host.run("systemd-run -q --unit=bystander sleep 1000")
    host.run("systemd-run -q --unit=impostor -p User=percore python3 /srv/impostor.py")
    workers = host.run("pgrep -u percore node")
    wait_for(lambda: "impostor.py" in host.run("ss -xlpH | grep control.sock; pgrep -af impostor.py"), "the impostor")
    try:
        set_variables(project, unit_options="CPUWeight=90")
        done = project.invoke("deploy", "--env", project.env)
        # Unless the supervisor, which is of the same user, has taken its place back by then, nobody's word is taken for its own.
        assert done.returncode == 0 or "not the supervisor's" in done.stdout, done.stdout
        assert host.run("systemctl is-active bystander").strip() == "active"
        if done.returncode != 0:
            assert host.run("pgrep -u percore node") == workers
    finally:
        host.run(
            "systemctl stop impostor bystander; kill -HUP $(systemctl show -p MainPID --value percore)", check=False
        )
    wait_for(lambda: project.workers(), "the supervisor's own socket")
