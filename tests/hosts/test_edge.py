"""A load balancer that percore runs in front of three hosts: nothing is lost, whatever ends a deploy, and people drain hosts."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from percore.deploy.report import Report
from percore.deploy.rollout.scope import Scope
from percore.deploy.rollout.verbs import patch
from percore.errors import PartialError
from percore.lab.host import LabHost
from tests.hosts.conftest import Project, set_variables, wait_for
from tests.hosts.test_rollout import BROKEN

PORT = 8080
SITE = "/etc/nginx/sites-enabled/loadbalancer"
LISTEN = "server.listen(port, () => {"
# Echoes short messages, and says goodbye when the worker is to end.
LIVE = """const live = new Set<any>();
  server.on('upgrade', (request: any, socket: any) => {
    const text = request.headers['sec-websocket-key'] + '258EAFA5-E914-47DA-95CA-C5AB0DC85B11';
    const key = require('node:crypto').createHash('sha1').update(text).digest('base64');
    socket.write('HTTP/1.1 101 Switching Protocols\\r\\nUpgrade: websocket\\r\\nConnection: Upgrade\\r\\n');
    socket.write(`Sec-WebSocket-Accept: ${key}\\r\\n\\r\\n`);
    live.add(socket);
    socket.on('error', () => socket.destroy());
    socket.on('close', () => live.delete(socket));
    socket.on('data', (frame: any) => {
      const text = Buffer.from(frame.subarray(6).map((byte: number, at: number) => byte ^ frame[2 + (at % 4)]));
      socket.write(Buffer.concat([Buffer.from([0x81, text.length]), text]));
    });
  });
  for (const signal of ['SIGINT', 'SIGTERM']) {
    process.on(signal as any, () => live.forEach((socket) => socket.end(Buffer.from([0x88, 2, 3, 233]))));
  }
  """


@pytest.fixture
def edge(serving: Project) -> Iterator[LabHost]:
    """node1 has the app as well, and NGINX in front of all three on a port of its own."""
    change_inventory(serving, lambda content: content["all"]["children"].update(edge={"hosts": {"node1": None}}))
    set_variables(serving, serial=1, canary=0)
    set_variables(
        serving, "node1", roles=["app", "loadbalancer"], loadbalancer="nginx", loadbalancer_port=PORT,
        loadbalancer_drain_seconds=0.5,
    )  # fmt: skip
    host = serving.lab.host("node1")
    try:
        yield host
    finally:
        host.run(f"rm -f {SITE} /etc/percore/drained.json; systemctl reload nginx")


def change_inventory(project: Project, change: Any) -> None:
    path = project.folder / "inventories" / f"{project.env}.yml"
    content = yaml.safe_load(path.read_text())
    change(content)
    path.write_text(yaml.safe_dump(content, width=1000, sort_keys=False))


def down_at(edge: LabHost) -> list[str]:
    """The hosts that it leaves out."""
    lines = edge.run(f"grep ' down;' {SITE} || true").splitlines()
    return [line.rpartition("# ")[2] for line in lines]


def invoke(project: Project, verb: str, *words: str, expected: int = 0) -> str:
    done = project.invoke(verb, "--env", project.env, *words)
    assert done.returncode == expected, done.stdout
    return done.stdout


def test_hosts_are_drained_while_they_are_deployed_and_nothing_is_lost(serving: Project, edge: LabHost) -> None:
    with serving.changed_app(LISTEN, LIVE + LISTEN):
        serving.deploy()
        url = f"http://{edge.address}:{PORT}/"
        with (
            serving.client("tests.hosts.load", "--reconnect", url, url) as counts,
            serving.client("tests.hosts.live", edge.address, str(PORT)) as live,
            serving.touch_app("behind a load balancer"),
        ):
            output = serving.deploy()
    for name in ("node1", "node2", "node3"):
        assert output.index(f"drain {name} at node1") < output.index(f"undrain {name} at node1")
    assert (counts["bad"], counts["lost"]) == (0, 0), counts
    assert counts["ok"] > 100
    assert live["cut"] == []
    assert live["echoed"] > 100
    assert live["goodbyes"] > 0
    assert down_at(edge) == []

    with serving.changed_app(*BROKEN):
        assert "every host is back on its former release" in serving.deploy(expected=4)
    assert down_at(edge) == []

    set_variables(serving, "node1", loadbalancer_drain_seconds=60)
    with serving.touch_app("whose control machine dies"), killed_deploy(serving, edge):
        assert down_at(edge) == ["node1"]
    told = invoke(serving, "status")
    assert "node1  drained at node1 since " in told
    assert f"or did not end ({'root@'}" in told
    assert "undrain --env" in told
    invoke(serving, "undrain", "--host", "node1")
    assert down_at(edge) == []
    assert "drained" not in invoke(serving, "status")


@contextlib.contextmanager
def killed_deploy(project: Project, edge: LabHost) -> Iterator[None]:
    """Control machine and agents are gone at once, with a host drained."""
    words = [sys.executable, "-m", "invoke", "deploy", "--env", project.env]
    deploy = subprocess.Popen(words, cwd=project.folder, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    try:
        wait_for(lambda: down_at(edge), "a drained host", seconds=120)
        edge.run("pkill -9 -f 'percore agent'")
    finally:
        deploy.kill()
        deploy.wait()
    yield


def test_a_person_drains_a_host_and_it_stays_so_until_it_is_undrained(serving: Project, edge: LabHost) -> None:
    serving.deploy()
    assert "node3: drained at node1 -> invoke undrain" in invoke(
        serving, "drain", "--host", "node3", "--why", "a new disk"
    )
    assert down_at(edge) == ["node3"]
    assert "node3  drained at node1 since " in (told := invoke(serving, "status"))
    assert ": a new disk" in told
    assert "nothing to set up" in invoke(serving, "setup")
    refused = invoke(serving, "drain", "--host", "node1,node2", expected=2)
    assert "no host of the app would be left" in refused
    assert down_at(edge) == ["node3"]
    assert "not drained at node1" in invoke(serving, "undrain", "--host", "node3")
    assert down_at(edge) == []

    away = serving.lab.host("node3")
    away.cut()
    try:
        one = f"curl -s -m 20 -o /dev/null -w '%{{http_code}} %{{time_total}}\\n' http://{edge.address}:{PORT}/"
        told = serving.lab.inside(["sh", "-c", f"for turn in $(seq 30); do {one}; done"]).stdout
    finally:
        away.join()
    took = [line.split() for line in told.splitlines()]
    assert [status for status, _ in took] == ["200"] * 30, took
    assert max(float(seconds) for _, seconds in took) < 3

    def add_one_that_is_gone(content: Any) -> None:
        gone = {"ansible_host": "10.77.0.99", "roles": ["loadbalancer"], "ansible_ssh_extra_args": "-oConnectTimeout=2"}
        content["all"]["children"]["edge"]["hosts"]["gone"] = gone

    change_inventory(serving, add_one_that_is_gone)
    before = serving.releases()
    with serving.touch_app("without one of the load balancers"):
        refused = serving.deploy(expected=7)
    assert "gone: " in refused
    assert "nothing was changed -> bring it back, or take it out of the group 'edge'" in refused
    assert serving.releases() == before


NEW_PACKAGE = r"""
set -e
make() { # VERSION
    mkdir -p /root/patched/DEBIAN
    printf 'Package: patched\nVersion: %s\nArchitecture: all\nMaintainer: none\nDescription: test\n' $1 \
        >/root/patched/DEBIAN/control
    dpkg-deb -b /root/patched /srv/repository/patched_$1.deb >/dev/null
}
mkdir -p /srv/repository && cd /srv/repository
make 1 && dpkg -i patched_1.deb >/dev/null
make 2
(cat /root/patched/DEBIAN/control; echo Filename: ./patched_2.deb; echo Size: $(stat -c %s patched_2.deb)
 echo SHA256: $(sha256sum patched_2.deb | cut -d' ' -f1)) >Packages
mkdir -p /root/sources && mv /etc/apt/sources.list* /root/sources/ 2>/dev/null || true
mkdir -p /etc/apt/sources.list.d
echo 'deb [trusted=yes] file:/srv/repository ./' >/etc/apt/sources.list.d/repository.list
"""
OLD_PACKAGE = """
rm -rf /etc/apt/sources.list.d /srv/repository /root/patched
mv /root/sources/* /etc/apt/ && rmdir /root/sources
dpkg -P patched >/dev/null; rm -f /run/reboot-required
"""


@contextlib.contextmanager
def package_to_upgrade(hosts: list[LabHost]) -> Iterator[None]:
    """Another version of an installed package, in a repository on the host."""
    try:
        for host in hosts:
            host.run(NEW_PACKAGE)
        yield
    finally:
        for host in hosts:
            host.run(OLD_PACKAGE, check=False)


def boot_of(host: LabHost) -> str:
    return host.run("cat /proc/sys/kernel/random/boot_id")


def test_hosts_are_patched_and_rebooted_one_after_the_other_and_nothing_is_lost(
    serving: Project, edge: LabHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    serving.deploy()
    hosts = [serving.lab.host(name) for name in ("node2", "node3")]
    limit = ("--limit", "node2,node3")
    url = f"http://{edge.address}:{PORT}/"
    with package_to_upgrade(hosts):
        hosts[0].run("apt-get update -q; touch /run/reboot-required")
        told = invoke(serving, "patch", "--check", *limit, expected=8)
        assert "patched 2" in told
        assert "to patch: node2" in told
        assert "no terminal to ask at; nothing was changed -> add --yes" in invoke(serving, "patch", *limit, expected=2)
        before = [boot_of(host) for host in hosts]
        with serving.client("tests.hosts.load", "--reconnect", url, url) as counts:
            said = invoke(serving, "patch", "--reboot", "--yes", *limit)
        assert [host.run("dpkg-query -W -f '${Version}' patched") for host in hosts] == ["2", "2"]
        assert [boot_of(host) != former for host, former in zip(hosts, before, strict=True)] == [True, False]
    steps = ("drain node2", "node2  reboot: an upgrade asks for it", "node2  healthy", "undrain node2", "drain node3")
    places = [said.index(step) for step in steps]
    assert places == sorted(places), said
    assert "patched: 2 hosts, 1 rebooted" in said
    assert (counts["bad"], counts["lost"]) == (0, 0), counts
    assert counts["ok"] > 100
    assert down_at(edge) == []
    assert serving.releases()
    assert "1 packages upgraded" in invoke(serving, "history")

    invoke(serving, "stop", "--limit", "node2", "--app", "boltlink-api")
    monkeypatch.chdir(serving.folder)
    monkeypatch.setattr(patch, "HEALTHY_SECONDS", 0.0)
    scope = Scope(serving.env, serving.folder, limit="node2,node3", yes=True)
    with pytest.raises(PartialError, match=r"patched: none; failed: node2 \(drained\); not touched: 1 -> "):
        patch.patch(scope, Report(), reboot=True, security=False, check=False)
    assert down_at(edge) == ["node2"], "the load balancer leaves it out until a person says otherwise"
    assert "it did not come back from patch" in invoke(serving, "status", expected=9)
    invoke(serving, "start", "--limit", "node2")
    invoke(serving, "undrain", "--host", "node2")
    assert down_at(edge) == []
