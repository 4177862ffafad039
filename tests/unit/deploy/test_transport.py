"""Connections: addresses out of Ansible's variables, errors in words, and a real agent at the other end."""

from __future__ import annotations

import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from percore.deploy.connection.address import HostAddress, read_address
from percore.deploy.connection.agent import Remote, connect
from percore.deploy.connection.agent_faults import explain_loss, remote_error
from percore.errors import LockedError, PartialError, PercoreError, PreflightError, UnreachableError, UsageError

LOCAL = {"ansible_connection": "local", "ansible_python_interpreter": sys.executable}


def target(folder: Path) -> dict[str, Any]:
    return {
        "deploy_to": str(folder / "app"),
        "command": [str(folder / "percore")],
        "home": str(folder / "home"),
        "package": str(folder / "package"),
        "user": None,
    }


@pytest.fixture
def remote(tmp_path: Path) -> Iterator[Remote]:
    remote = connect(read_address("here", LOCAL), project=tmp_path)
    yield remote
    remote.close(wait=True)


def test_ansible_variables_become_an_address() -> None:
    address = read_address(
        "web1",
        {
            "ansible_host": "10.0.0.1",
            "ansible_port": "2222",
            "ansible_user": "ann",
            "ansible_become": "yes",
            "ansible_become_password": "geheim",
            "ansible_ssh_common_args": "-o UserKnownHostsFile=/k/known",
            "ansible_ssh_extra_args": "-o 'ProxyCommand=nc -X 5 %h %p'",
        },
    )
    assert (address.address, address.ssh.port, address.ssh.user, address.become) == ("10.0.0.1", 2222, "ann", True)
    assert address.ssh.arguments == ("-o", "UserKnownHostsFile=/k/known", "-o", "ProxyCommand=nc -X 5 %h %p")
    assert address.become_password == "geheim"
    assert "geheim" not in repr(address)


@pytest.mark.parametrize("name", ["ansible_become_password", "ansible_become_pass", "ansible_sudo_pass"])
def test_the_password_and_user_of_sudo_have_all_their_names(name: str) -> None:
    address = read_address("web1", {"ansible_become": True, name: "geheim", "ansible_sudo_user": "ops"})
    assert (address.become_password, address.become_user) == ("geheim", "ops")


@pytest.mark.parametrize(
    ("complaint", "sentence"),
    [
        (
            "Sorry, user ann is not allowed to execute '/usr/bin/python3 -I -c is too old, not found' as root on web1.",
            "web1: sudo does not let ann run python3 as 'root' -> add to sudoers: ann ALL=(root) ALL",
        ),
        ("[percore] sudo password: ann is not in the sudoers file.", "web1: sudo does not let ann run python3"),
        ("Sorry, user ann may not run sudo on web1.", "web1: sudo does not let ann run python3"),
        (
            "sudo: sorry, you must have a tty to run sudo",
            "web1: sudo wants a terminal there (requiretty) -> add to sudoers: Defaults:ann !requiretty",
        ),
        ("sudo: a password is required", "web1: sudo asks for a password -> set ansible_become_password"),
    ],
)
def test_what_sudo_refuses_is_told_with_the_line_that_allows_it(complaint: str, sentence: str) -> None:
    address = read_address("web1", {"ansible_user": "ann", "ansible_become": True})
    assert str(explain_loss(address, complaint)).startswith(sentence)


@pytest.mark.parametrize("written", ["auto", "auto_silent", "auto_legacy", "auto_legacy_silent"])
def test_an_interpreter_that_is_to_be_found_is_looked_for_on_the_host(written: str) -> None:
    words = read_address("web1", {"ansible_python_interpreter": written}).python
    assert words[:2] == ("/bin/sh", "-c")
    assert read_address("here", {**LOCAL, "ansible_python_interpreter": written}).python[0].startswith("/")
    assert read_address("web1", {}).python == ("python3",)


def test_an_interpreter_is_a_program_with_arguments() -> None:
    text = "/usr/bin/env 'my python3' -X utf8"
    assert read_address("web1", {"ansible_python_interpreter": text}).python == (
        "/usr/bin/env", "my python3", "-X", "utf8",
    )  # fmt: skip


def test_full_names_and_all_arguments_of_ansible_count() -> None:
    variables = {"ansible_connection": "ansible.builtin.ssh", "ansible_ssh_args": "-C", "ansible_ssh_extra_args": "-4"}
    assert read_address("web1", variables).ssh.arguments == ("-C", "-4")


def test_a_host_without_variables_is_reached_by_its_name() -> None:
    address = read_address("web1", {})
    assert address.address == "web1"
    assert address.ssh.port is None
    assert not address.local


@pytest.mark.parametrize(
    ("variables", "sentence"),
    [
        ({"ansible_connection": "winrm"}, "host web1: ansible_connection 'winrm' is not known -> use ssh or local"),
        (
            {"ansible_become": 1, "ansible_become_method": "su"},
            "host web1: ansible_become_method 'su' is not supported",
        ),
        ({"ansible_python_interpreter": "'/opt"}, "ansible_python_interpreter cannot be split into words"),
        ({"ansible_ssh_args": "-oStrictHostKeyChecking=no"}, "host web1: host keys are always checked"),
        ({"ansible_port": "ssh"}, "host web1: ansible_port should be a number and is 'ssh'"),
        ({"ansible_ssh_common_args": "-o 'a"}, "host web1: ansible_ssh_common_args cannot be split into words"),
        ({"ansible_ssh_common_args": "-o StrictHostKeyChecking=no"}, "host web1: host keys are always checked"),
        ({"ansible_ssh_extra_args": "'-oStrictHostKeyChecking off'"}, "host web1: host keys are always checked"),
    ],
)
def test_what_cannot_be_honoured_is_refused(variables: dict[str, Any], sentence: str) -> None:
    with pytest.raises(UsageError, match=sentence):
        read_address("web1", variables)


def test_the_hosts_errors_keep_their_class_and_get_the_hosts_name() -> None:
    reported = {"what": "x", "where": "/srv", "next": "y", "detail": "log", "exit_code": 6}
    error = remote_error("web1", reported)
    assert isinstance(error, LockedError)
    assert str(error) == "web1: /srv: x -> y"
    assert error.detail == "log"
    assert isinstance(remote_error("web1", {**reported, "exit_code": 5}), PartialError)
    assert type(remote_error("web1", {**reported, "exit_code": 1})) is PercoreError


def test_an_agent_tells_its_facts_and_answers(remote: Remote, tmp_path: Path) -> None:
    assert remote.facts["python"] == ".".join(map(str, sys.version_info[:3]))
    reply = remote.ask("inspect", target=target(tmp_path))
    assert reply["current"] is None
    assert reply["status"]["apps"] == []


def test_an_error_on_the_host_is_an_error_here_and_the_agent_lives_on(remote: Remote, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="here: there is no earlier good release"):
        remote.ask("find", target=target(tmp_path))
    assert remote.ask("status", target=target(tmp_path))["current"] is None


def test_two_runs_at_once_are_refused_and_the_lock_ends_with_its_owner(tmp_path: Path) -> None:
    first = connect(read_address("here", LOCAL), project=tmp_path)
    first.ask("inspect", target=target(tmp_path), owner="ann@laptop")
    second = connect(read_address("here", LOCAL), project=tmp_path)
    with pytest.raises(LockedError, match="ann@laptop"):
        second.ask("inspect", target=target(tmp_path), owner="bob@desk")
    first.close(wait=True)
    second.ask("inspect", target=target(tmp_path), owner="bob@desk")
    second.close(wait=True)


def test_a_missing_interpreter_is_told_before_anything_else(tmp_path: Path) -> None:
    with pytest.raises(PreflightError, match="cannot start '/no/python': No such file"):
        connect(read_address("here", {**LOCAL, "ansible_python_interpreter": "/no/python"}), project=tmp_path)


def test_an_interpreter_that_is_none_is_told_with_its_own_words(tmp_path: Path) -> None:
    with pytest.raises(PercoreError) as caught:
        connect(read_address("here", {**LOCAL, "ansible_python_interpreter": "/bin/false"}), project=tmp_path)
    assert caught.value.where == "here"


def test_a_host_that_is_down_is_unreachable_in_one_line(tmp_path: Path) -> None:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        address: HostAddress = read_address(
            "web1", {"ansible_host": "127.0.0.1", "ansible_port": sock.getsockname()[1]}
        )
        with pytest.raises(
            UnreachableError, match=r"web1: 127\.0\.0\.1:\d+ does not answer: .* -> check that it is up"
        ):
            connect(address, project=tmp_path)


def test_a_known_hosts_file_that_does_not_exist_is_named(tmp_path: Path) -> None:
    options = {"ansible_host": "127.0.0.1", "ansible_ssh_common_args": "-o UserKnownHostsFile=/no/such/file"}
    with pytest.raises(PreflightError, match="/no/such/file: the known_hosts file does not exist"):
        connect(read_address("web1", options), project=tmp_path)
