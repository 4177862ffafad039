"""How a host is reached: what OpenSSH's client says of it, asked with configuration files of our own."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from percore.deploy.connection.openssh import config as openssh_config
from percore.deploy.connection.openssh.config import Route, Wish, find_route, jump_wish
from percore.errors import PreflightError, UsageError

needs_ssh = pytest.mark.skipif(shutil.which("ssh") is None, reason="no OpenSSH client is installed")


def route(config: Path, text: str, host: str = "web1", **wish: object) -> Route:
    config.write_text(text)
    return find_route(Wish(host, arguments=("-F", str(config), *wish.pop("arguments", ())), **wish))  # type: ignore[misc, arg-type]


@pytest.fixture
def config(tmp_path: Path) -> Path:
    return tmp_path / "config"


@needs_ssh
def test_match_and_include_count_as_in_a_shell(config: Path, tmp_path: Path) -> None:
    (tmp_path / "more").write_text("Host web*\n  HostName %h.example.com\n  Port 2200\n")
    found = route(config, f"Include {tmp_path}/more\nMatch originalhost web1\n  User ann\n  HostKeyAlias first\n")
    assert (found.host, found.port, found.user, found.known_as) == ("web1.example.com", 2200, "ann", "first")


@needs_ssh
def test_the_inventory_wins_over_the_configuration(config: Path) -> None:
    found = route(config, "Host *\n  Port 2200\n  User ann\n", port=22, user="bob")
    assert (found.port, found.user) == (22, "bob")


@needs_ssh
def test_none_takes_a_proxy_and_an_agent_away(config: Path) -> None:
    text = (
        "Host web1\n  ProxyJump none\n  IdentityAgent none\nHost *\n  ProxyJump bastion\n  IdentityAgent /run/agent\n"
    )
    assert (route(config, text).jumps, route(config, text).agent) == ((), None)
    other = route(config, text, host="web2")
    assert (other.jumps, other.agent) == (("bastion",), "/run/agent")


@needs_ssh
def test_a_proxy_that_hands_over_a_descriptor_is_refused(config: Path) -> None:
    with pytest.raises(UsageError, match="ProxyUseFdpass is not supported"):
        route(config, "Host *\n  ProxyCommand nc -F %h %p\n  ProxyUseFdpass yes\n")
    assert route(config, "Host *\n  ProxyUseFdpass yes\n").proxy_command is None


@needs_ssh
def test_key_files_may_be_public_ones_alone_and_certificates_are_named(config: Path, tmp_path: Path) -> None:
    (tmp_path / "web.pub").touch()
    text = f"Host *\n  IdentityFile {tmp_path}/web\n  IdentityFile ${{REACH}}/web.pub\n  CertificateFile {tmp_path}/%h.pub\n"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("REACH", str(tmp_path))
        found = route(config, text)
    assert found.key_files == (f"{tmp_path}/web", f"{tmp_path}/web.pub")
    assert found.certificates == (f"{tmp_path}/web1.pub",)


@needs_ssh
def test_a_chain_of_jumps_keeps_its_order(config: Path) -> None:
    found = route(config, "Host *\n  ProxyJump ann@one:2201,two,[::1]:2203\n")
    assert found.jumps == ("ann@one:2201", "two", "[::1]:2203")


@needs_ssh
def test_a_proxy_command_gets_its_percent_signs_filled_in(config: Path) -> None:
    found = route(config, "Host *\n  ProxyCommand nc -x %r@proxy %h %p\n", user="ann")
    assert found.proxy_command == "nc -x ann@proxy web1 22"


@needs_ssh
def test_key_files_are_those_that_exist_with_their_percent_signs_filled_in(config: Path, tmp_path: Path) -> None:
    (tmp_path / "id-web1-ann").touch()
    text = f"Host *\n  IdentityFile {tmp_path}/id-%h-%r\n  IdentityFile /no/such/key\n  IdentitiesOnly yes\n"
    found = route(config, text, user="ann")
    assert found.key_files == (f"{tmp_path}/id-web1-ann",)
    assert found.only_named_keys


@needs_ssh
def test_new_host_keys_are_accepted_only_where_that_is_asked_for(config: Path) -> None:
    assert not route(config, "").accept_new
    assert not route(config, "Host *\n  StrictHostKeyChecking no\n").accept_new
    assert route(config, "Host *\n  StrictHostKeyChecking accept-new\n").accept_new


@needs_ssh
def test_an_option_that_ssh_does_not_know_is_told_in_its_words(config: Path) -> None:
    with pytest.raises(
        UsageError, match=r"ssh does not understand how to reach it: .*[Bb]ad configuration option: prot"
    ):
        route(config, "Host *\n  Prot 22\n")


@needs_ssh
def test_a_key_or_a_known_hosts_file_that_the_inventory_names_must_exist(config: Path) -> None:
    with pytest.raises(PreflightError, match="the key /no/such/key does not exist"):
        route(config, "", key_file="/no/such/key")
    with pytest.raises(PreflightError, match="/no/such/file: the known_hosts file does not exist"):
        route(config, "", arguments=("-o", "UserKnownHostsFile=/no/such/file"))


@pytest.mark.parametrize(
    ("jump", "host", "port", "user"),
    [
        ("bastion", "bastion", None, None),
        ("ann@bastion:2222", "bastion", 2222, "ann"),
        ("ssh://ann@[fe80::1]:22", "fe80::1", 22, "ann"),
    ],
)
def test_a_jump_names_a_host_and_perhaps_more(jump: str, host: str, port: int | None, user: str | None) -> None:
    wish = jump_wish(jump, Wish("web1", user="me", arguments=("-F", "/conf", "-oStrictHostKeyChecking=accept-new")))
    assert (wish.host, wish.port, wish.user) == (host, port, user)
    assert wish.arguments == ("-F", "/conf", "-oStrictHostKeyChecking=accept-new")


def test_without_an_openssh_client_the_inventory_and_the_usual_files_still_count(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / ".ssh").mkdir()
    (tmp_path / ".ssh/config").write_text("Host web1\n  HostName 10.0.0.1\n  Port 2200\n")
    monkeypatch.setattr(openssh_config.shutil, "which", lambda _: None)
    found = find_route(
        Wish("web1", user="ann", arguments=("-o", "UserKnownHostsFile /k", "-oStrictHostKeyChecking=accept-new"))
    )
    assert (found.host, found.port, found.user) == ("10.0.0.1", 2200, "ann")
    assert (found.known_hosts, found.accept_new) == (("/k",), True)
