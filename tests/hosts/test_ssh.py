"""Ways to a host: bastions, host keys, agents and passwords, with real sshd and sudo at the other end."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from percore.deploy.connection.address import read_address
from percore.deploy.connection.agent import Remote, connect
from percore.deploy.rollout.host import Host as FleetHost
from percore.deploy.rollout.hosts import close_all
from percore.deploy.rollout.parallel import on_all
from percore.deploy.rollout.scope import Scope
from percore.errors import PreflightError, UnreachableError
from percore.lab.host import LabHost
from tests.hosts.conftest import Project


class Way:
    """An SSH configuration of the test's own: node1 is reached as the lab reaches it, the others in the way under test."""

    def __init__(self, folder: Path, project: Project) -> None:
        self.hosts = project.lab.hosts
        self.folder = folder
        self.config = folder / "config"
        self.known_hosts = folder / "known_hosts"
        self.known_hosts.write_text(self.hosts[0].known_hosts.read_text())
        self.write("")

    def write(self, text: str, *, key: str = "") -> None:
        first = self.hosts[0]
        self.config.write_text(
            f"{text}\nHost node1\n  HostName {first.address}\n  ProxyCommand {first.proxy}\n"
            + "".join(f"Host {host.name}\n  HostName {host.address}\n" for host in self.hosts[1:])
            + f"Host *\n  User root\n  IdentityFile {key or first.key}\n  IdentitiesOnly yes\n"
            f"  UserKnownHostsFile {self.known_hosts}\n"
        )

    def connect(self, name: str, **variables: Any) -> Remote:
        words = {"ansible_ssh_common_args": f"-F {self.config}", **variables}
        return connect(read_address(name, words), project=self.folder)


@pytest.fixture
def way(project: Project, tmp_path: Path) -> Way:
    return Way(tmp_path, project)


def remote_facts(remote: Remote) -> dict[str, Any]:
    try:
        return remote.facts
    finally:
        remote.close(wait=True)


def links_to_sshd(host: LabHost) -> int:
    """Connections to the host's sshd, as the host itself sees them, without the one that asks."""
    return len(host.run("ss -Htn state established '( sport = :22 )'").splitlines()) - 1


def test_all_hosts_behind_a_bastion_share_one_connection_to_it(way: Way) -> None:
    way.write("Host node2 node3\n  ProxyJump node1")
    bastion = way.hosts[0]
    before = links_to_sshd(bastion)
    remotes = [way.connect(name) for name in ("node2", "node3", "node2")]
    try:
        assert [remote.facts["hostname"] for remote in remotes] == ["node2", "node3", "node2"]
        assert links_to_sshd(bastion) == before + 1
    finally:
        for remote in remotes:
            remote.close(wait=True)
    assert remote_facts(way.connect("node2"))["hostname"] == "node2"


def test_a_chain_of_bastions_leads_to_the_last_host(way: Way) -> None:
    way.write("Host node3\n  ProxyJump node1,node2")
    assert remote_facts(way.connect("node3"))["hostname"] == "node3"
    way.write("Host node2\n  ProxyJump node1\nHost node3\n  ProxyJump node2")
    assert remote_facts(way.connect("node3"))["hostname"] == "node3"


def test_a_bastion_that_cannot_reach_the_host_is_told_with_the_hosts_name(way: Way) -> None:
    way.write("Host gone\n  HostName 10.77.0.250\n  ConnectTimeout 2\n  ProxyJump node1")
    with pytest.raises(UnreachableError, match=r"gone: 10\.77\.0\.250:22 does not answer"):
        way.connect("gone")


def test_an_unknown_host_key_is_refused_and_accepted_only_on_request(way: Way) -> None:
    way.known_hosts.write_text("")
    with pytest.raises(
        PreflightError, match=r"node1: the host key of .* is not known -> compare and add it: ssh-keyscan"
    ):
        way.connect("node1")
    assert way.known_hosts.read_text() == ""
    new = f"-F {way.config} -oStrictHostKeyChecking=accept-new"
    assert remote_facts(way.connect("node1", ansible_ssh_common_args=new))["hostname"] == "node1"
    assert way.hosts[0].host_key() in way.known_hosts.read_text()
    remote_facts(way.connect("node1"))  # known from now on


def test_a_changed_host_key_is_refused_also_where_new_ones_are_accepted(way: Way) -> None:
    other = way.hosts[1].host_key()
    way.known_hosts.write_text(f"{way.hosts[0].address} {other}\n")
    new = f"-F {way.config} -oStrictHostKeyChecking=accept-new"
    with pytest.raises(PreflightError, match="is not the known one"):
        way.connect("node1", ansible_ssh_common_args=new)
    assert way.known_hosts.read_text() == f"{way.hosts[0].address} {other}\n"


def test_a_host_key_alias_names_the_key_that_counts(way: Way) -> None:
    way.write("Host node1\n  HostKeyAlias first")
    with pytest.raises(PreflightError, match="is not known"):
        way.connect("node1")
    way.known_hosts.write_text(f"first {way.hosts[0].host_key()}\n")
    assert remote_facts(way.connect("node1"))["hostname"] == "node1"


def test_a_key_with_a_passphrase_comes_from_the_agent(way: Way) -> None:
    with agent(way.folder) as socket:
        locked = way.folder / "locked"
        locked.write_bytes(way.hosts[0].key.read_bytes())
        locked.chmod(0o600)
        public = subprocess.run(["ssh-keygen", "-y", "-f", locked], capture_output=True, text=True, check=True).stdout
        Path(f"{locked}.pub").write_text(public)
        subprocess.run(["ssh-add", "-q", locked], env={**os.environ, "SSH_AUTH_SOCK": socket}, check=True)
        subprocess.run(["ssh-keygen", "-q", "-p", "-P", "", "-N", "geheim", "-f", locked], check=True)
        way.write("Host *\n  IdentityAgent none", key=str(locked))
        with pytest.raises(UnreachableError, match=rf"the key {locked} has a passphrase -> ssh-add {locked}"):
            way.connect("node1")
        way.write(f"Host *\n  IdentityAgent {socket}", key=str(locked))
        assert remote_facts(way.connect("node1"))["hostname"] == "node1"


@contextlib.contextmanager
def agent(folder: Path) -> Iterator[str]:
    socket = str(folder / "agent.sock")
    started = subprocess.run(["ssh-agent", "-s", "-a", socket], capture_output=True, text=True, check=True).stdout
    pid = int(started.split("SSH_AGENT_PID=")[1].split(";")[0])
    try:
        yield socket
    finally:
        os.kill(pid, signal.SIGTERM)


@pytest.fixture(scope="module")
def asker(project: Project) -> str:
    """A user whose sudo asks for a password."""
    host = project.lab.hosts[0]
    host.run(
        "useradd --create-home --shell /bin/bash asker; echo asker:geheim | chpasswd; cp -r /root/.ssh /home/asker/; "
        "chown -R asker: /home/asker/.ssh; echo 'asker ALL=(ALL) ALL' >/etc/sudoers.d/asker"
    )
    return "asker"


def test_sudo_gets_the_password_it_asks_for(way: Way, asker: str) -> None:
    become = {"ansible_user": asker, "ansible_become": True}
    assert remote_facts(way.connect("node1", **become, ansible_become_password="geheim"))["uid"] == 0
    with pytest.raises(UnreachableError, match="sudo does not take the password for user 'root'"):
        way.connect("node1", **become, ansible_become_password="falsch")
    with pytest.raises(UnreachableError, match="sudo asks for a password -> set ansible_become_password"):
        way.connect("node1", **become)


def test_a_password_that_sudo_does_not_ask_for_does_no_harm(way: Way) -> None:
    remote = way.connect("node1", ansible_user="deployer", ansible_become=True, ansible_become_password="geheim")
    assert remote_facts(remote)["uid"] == 0


def test_the_password_is_in_no_command_line(way: Way, asker: str) -> None:
    remote = way.connect("node1", ansible_user=asker, ansible_become=True, ansible_become_password="geheim")
    try:
        assert "geheim" not in way.hosts[0].run("cat /proc/[0-9]*/cmdline | tr '\\0' ' '")
    finally:
        remote.close(wait=True)


def test_connections_at_once_through_one_bastion_do_not_meet(way: Way) -> None:
    way.write("Host node2\n  ProxyJump node1")
    address = read_address("node2", {"ansible_ssh_common_args": f"-F {way.config}"})
    remotes: list[Remote] = []
    nothing: Any = None
    scope = Scope("lab", way.folder)
    plans: list[Any] = [_Plan(f"node2-{number}") for number in range(8)]
    hosts = [FleetHost(scope, plan, nothing, nothing, nothing, address, frozenset()) for plan in plans]

    def open_one(host: FleetHost) -> None:
        host.remote = connect(address, project=way.folder)
        remotes.append(host.remote)

    try:
        assert on_all(hosts, open_one).faults == {}
        assert {remote.facts["hostname"] for remote in remotes} == {"node2"}
    finally:
        close_all(hosts, wait=True)


class _Plan:
    def __init__(self, host: str) -> None:
        self.host = host
