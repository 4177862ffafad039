"""What else goes wrong on hosts: full disks, two deployers, wrong clocks. And every kind of resource, every kind of user."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator

import pytest
import yaml

from percore.lab.host import LabHost
from tests.hosts.conftest import set_variables, wait_for
from tests.hosts.rehearsal import Rehearsal

APP = "/srv/web"


@pytest.fixture
def before(rehearsal: Rehearsal) -> Iterator[str]:
    """The version that every host is on; afterwards the next deploy must work, whatever happened."""
    inventory = rehearsal.folder / "inventories" / f"{rehearsal.env}.yml"
    rehearsal.free()
    version = rehearsal.deployed()
    text = inventory.read_text()
    rehearsal.version(f"after {version}")
    yield version
    wanted = rehearsal.wanted
    inventory.write_text(text)
    set_variables(rehearsal, version=wanted)
    assert rehearsal.deployed() == wanted


# -- full disks --------------------------------------------------------------------------------------------------------


@pytest.fixture
def small(rehearsal: Rehearsal, before: str) -> Iterator[LabHost]:
    """node2 with the app's folder on a disk that is soon full."""
    host = rehearsal.lab.host("node2")
    host.run(f"cp -a {APP} /root/kept; mount -t tmpfs -o size=150M,mode=755 small {APP}; cp -a /root/kept/. {APP}/")
    yield host
    host.run(f"rm -f {APP}/ballast; rm -rf /root/kept; cp -a {APP} /root/kept; umount --lazy {APP}")
    host.run(f"rm -rf {APP}/* {APP}/.[!.]*; cp -a /root/kept/. {APP}/; rm -rf /root/kept")


def fill(host: LabHost) -> None:
    """To the last byte, such as another program would."""
    host.run(
        f"dd if=/dev/zero of={APP}/ballast bs=1M 2>/dev/null; dd if=/dev/zero bs=1 of={APP}/rest 2>/dev/null; true"
    )


def empty(host: LabHost) -> None:
    host.run(f"rm -f {APP}/ballast {APP}/rest")


def served(rehearsal: Rehearsal) -> set[str]:
    """The releases whose workers answer."""
    return {json.loads(get(rehearsal, host))["release"] for host in rehearsal.lab.hosts}


def get(rehearsal: Rehearsal, host: LabHost, port: int = 80) -> str:
    return rehearsal.lab.inside(["curl", "-sf", "-m", "5", f"http://{host.address}:{port}/"]).stdout


def current(host: LabHost) -> str:
    return host.run(f"basename $(readlink {APP}/current)").strip()


def test_a_disk_that_fills_while_a_release_is_staged_keeps_every_host_as_it_is(
    rehearsal: Rehearsal, small: LabHost
) -> None:
    former = current(small)
    with rehearsal.load() as counts, rehearsal.stopped("stage", "node2") as deploy:
        fill(small)
        rehearsal.free()
        code = rehearsal.ended(deploy)
    assert code == 3, rehearsal.output()
    assert "node2: No space left on device" in rehearsal.output()
    assert "nothing was switched: what ran before still runs" in rehearsal.output()
    assert {current(host) for host in rehearsal.lab.hosts} == served(rehearsal) == {former}
    assert (counts["bad"], counts["lost"]) == (0, 0), counts
    empty(small)


def test_a_disk_that_fills_before_a_host_switches_takes_the_others_back(rehearsal: Rehearsal, small: LabHost) -> None:
    former = current(small)
    with rehearsal.load() as counts, rehearsal.stopped("before_activate") as deploy:
        fill(small)
        rehearsal.free()
        assert rehearsal.ended(deploy) == 4, rehearsal.output()
    assert "node2: No space left on device" in rehearsal.output()
    assert "every host is back on its former release" in rehearsal.output()
    assert {current(host) for host in rehearsal.lab.hosts} == served(rehearsal) == {former}
    assert (counts["bad"], counts["lost"]) == (0, 0), counts
    empty(small)


@pytest.mark.parametrize(("place", "host"), [("activate", "node2"), ("before_confirm", "node1")])
def test_a_switch_that_has_begun_has_the_room_it_needs(
    rehearsal: Rehearsal, small: LabHost, place: str, host: str
) -> None:
    former = current(small)
    with rehearsal.stopped(place, host) as deploy:
        fill(small)
        rehearsal.free()
        assert rehearsal.ended(deploy) == 0, rehearsal.output()
    assert former not in served(rehearsal)
    empty(small)


# -- two deployers, clocks ---------------------------------------------------------------------------------------------


def test_of_two_deployers_the_second_is_told_who_is_at_work_and_changes_nothing(
    rehearsal: Rehearsal, before: str
) -> None:
    with rehearsal.stopped("before_activate") as first:
        second = rehearsal.invoke("deploy", "--env", rehearsal.env)
        assert second.returncode == 6, second.stdout
        assert "@" in second.stdout
        assert f"(pid {first.pid})" in second.stdout
        assert rehearsal.settled(before)
        rehearsal.free()
        assert rehearsal.ended(first) == 0
    assert rehearsal.settled(rehearsal.wanted)


LATE = """#!/bin/sh
exec python3 "$1" "$2" "$3" "import time; now = time.time; time.time = lambda: now() - 3600; $4" "$5" "$6"
"""


def test_a_host_whose_clock_is_wrong_is_refused(rehearsal: Rehearsal, before: str) -> None:
    late = rehearsal.lab.host("node2").root / "usr/local/bin/late-python"
    late.write_text(LATE)
    late.chmod(0o755)
    set_variables(rehearsal, "node2", ansible_python_interpreter="/usr/local/bin/late-python")
    output = rehearsal.deploy(expected=3)
    assert "node2: its clock is 3600 s behind ours (more than 60 s)" in output
    assert rehearsal.settled(before)


# -- every kind of resource ----------------------------------------------------------------------------------------------

EVERYTHING = {
    "packages": ["coreutils", {"name": "no-such-package", "program": "nginx"}],
    "users": [{"name": "metrics", "home": "/var/lib/metrics"}],
    "directories": [{"path": "/var/lib/metrics", "mode": "0750", "owner": "metrics", "group": "metrics"}],
    "files": [
        {"path": "/etc/all.conf", "template": "all.conf.j2", "mode": "0640", "group": "metrics"},
        {"path": "/etc/all.copy", "copy": "all.copy"},
        {"path": "/etc/all.text", "content": "a text\n", "validate": "grep -q text %s"},
    ],
    "links": [{"path": "/etc/all.link", "to": "/etc/all.conf"}, {"path": "/etc/all.old", "state": "absent"}],
    "units": [{"name": "all.service", "template": "all.service.j2", "active": True, "enabled": True}],
    "commands": [
        {"run": "touch /var/lib/metrics/made", "creates": "/var/lib/metrics/made"},
        {"run": "touch /var/lib/metrics/asked", "unless": "test -e /var/lib/metrics/asked"},
    ],
    "sites": [{"name": "all", "template": "all-site.j2"}],
}
UNIT = "[Service]\nExecStart=/bin/sleep infinity\n[Install]\nWantedBy=multi-user.target\n"
SITE = "server { listen 8090; return 200 'all'; }\n"
# What somebody does by hand, and what the check then says.
DRIFTS = {
    "chmod 700 /var/lib/metrics": "change mode of /var/lib/metrics to 0750",
    "chown root /var/lib/metrics": "change owner of /var/lib/metrics to metrics",
    "echo other >/etc/all.conf": "change /etc/all.conf",
    "chmod 600 /etc/all.conf": "change mode of /etc/all.conf to 0640",
    "rm /etc/all.copy": "create /etc/all.copy",
    "ln -sf /dev/null /etc/all.text": "replace /etc/all.text",
    "ln -sfn /etc/all.copy /etc/all.link": "link /etc/all.link -> /etc/all.conf",
    "touch /etc/all.old": "remove /etc/all.old",
    "systemctl stop all.service": "start all.service",
    "systemctl disable all.service": "start and enable all.service",
    "echo '# mine' >>/etc/systemd/system/all.service": "change /etc/systemd/system/all.service",
    "rm /var/lib/metrics/made": "run touch /var/lib/metrics/made",
    "rm /var/lib/metrics/asked": "run touch /var/lib/metrics/asked",
    "rm /etc/nginx/sites-enabled/all": "link /etc/nginx/sites-enabled/all -> /etc/nginx/sites-available/all",
}


def test_every_resource_is_made_once_and_what_drifted_is_named_and_set_right(rehearsal: Rehearsal, before: str) -> None:
    role = rehearsal.folder / "roles" / "everything"
    (role / "templates").mkdir(parents=True)
    (role / "files").mkdir()
    (role / "role.yml").write_text(yaml.safe_dump(EVERYTHING))
    (role / "files" / "all.copy").write_text("copied\n")
    for name, text in (
        ("all.conf.j2", "of {{ inventory_hostname }}\n"),
        ("all.service.j2", UNIT),
        ("all-site.j2", SITE),
    ):
        (role / "templates" / name).write_text(text)
    set_variables(rehearsal, roles=["rehearsal", "everything"])
    rehearsal.deploy()
    host = rehearsal.lab.host("node1")
    assert host.run("cat /etc/all.conf; systemctl is-active all") == "of node1\nactive\n"
    assert get(rehearsal, host, 8090) == "all"
    assert "nothing to change" in rehearsal.deploy()

    for by_hand, told in DRIFTS.items():
        host.run(by_hand)
        done = subprocess.run(
            [*rehearsal.words("deploy"), "--check", "--json", "--limit", "node1"], cwd=rehearsal.folder, text=True,
            capture_output=True, check=False, timeout=60,
        )  # fmt: skip
        assert done.returncode == 8, done.stdout + done.stderr
        (plan,) = json.loads(done.stdout)
        assert told in [text for change in plan["changes"] for text in change["text"].split("; ")], (by_hand, plan)
    output = rehearsal.deploy()
    assert "node2" not in output.partition("activate")[2].partition("host ")[0]  # nothing was to be done there
    assert "nothing to change" in rehearsal.deploy()
    assert rehearsal.invoke("drift", "--env", rehearsal.env).returncode == 0


# -- an ordinary user ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("password", ["", "geheim, aber echt"], ids=["without a password", "with a password"])
def test_a_user_with_sudo_deploys_and_rolls_back(
    rehearsal: Rehearsal, before: str, password: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    hosts = rehearsal.lab.hosts
    set_variables(rehearsal, ansible_user="deployer", ansible_become=True)
    if password:
        monkeypatch.setenv("PERCORE_BECOME_PASSWORD", password)
        for host in hosts:
            host.run(f"echo 'deployer:{password}' | chpasswd; echo 'deployer ALL=(ALL) ALL' >/etc/sudoers.d/deployer")
    try:
        output = rehearsal.deploy()
        assert rehearsal.settled(rehearsal.wanted)
        for words in (["status"], ["drift"], ["history"], ["rollback"]):
            done = rehearsal.invoke(*words, "--env", rehearsal.env)
            assert done.returncode == 0, done.stdout
            output += done.stdout
        wait_for(lambda: rehearsal.settled(before), "the former release")
        if password:
            logs = "".join(host.run("journalctl -o cat; cat /var/log/auth.log 2>/dev/null || true") for host in hosts)
            assert password not in output + logs
    finally:
        for host in hosts:
            host.run("echo 'deployer ALL=(ALL) NOPASSWD: ALL' >/etc/sudoers.d/deployer")


def test_a_login_with_a_closed_umask_deploys_and_opens_what_an_older_version_left(
    rehearsal: Rehearsal, before: str
) -> None:
    host = rehearsal.lab.host("node2")
    places = f"{APP} {APP}/releases {APP}/releases/* /opt/percore /opt/percore/*"
    host.run(f"chmod 0700 {places}; touch .bashrc; mv .bashrc .kept")
    host.run("echo 'umask 077; printf \"loading nvm... \"' >.bashrc")  # and no end of line
    try:
        assert f"open {APP}, which an earlier deploy left closed to other users" in rehearsal.deploy()
        assert rehearsal.settled(rehearsal.wanted)
        assert "700" not in host.run(f"stat -Lc %a {places}").split()
        host.run("systemctl restart percore.service")  # its user enters the package and the release
        wait_for(lambda: rehearsal.settled(rehearsal.wanted), "the supervisor")
    finally:
        host.run("mv .kept .bashrc")


def test_a_port_that_a_stranger_has_is_refused_with_his_name(rehearsal: Rehearsal, before: str) -> None:
    host = rehearsal.lab.host("node2")
    host.run("systemd-run --unit=stranger python3 -m http.server 5055")
    try:
        wait_for(lambda: "5055" in host.run("ss -tln"), "the stranger")
        set_variables(rehearsal, port=5055)
        assert "node2: port 5055 is in use by python3 (pid " in rehearsal.deploy(expected=3)
    finally:
        host.run("systemctl stop stranger")
    assert rehearsal.settled(before)
