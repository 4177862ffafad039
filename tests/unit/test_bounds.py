"""What people and programs hand us has bounds: files, YAML aliases, regular expressions, ranges, names."""

from __future__ import annotations

import contextlib
import os
import re
import time
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from percore.common import names
from percore.common.bounds import YamlFault, compose_yaml, read_file, regex_limit
from percore.deploy.connection.openssh.config import Wish, find_route
from percore.deploy.connection.openssh.known_hosts import find_known, names_match
from percore.deploy.inventory import load_inventory
from percore.deploy.inventory.patterns import select
from percore.deploy.vault import edit
from percore.deploy.vault.passwords import keyring_from
from percore.deploy.vault.values import find_values
from percore.errors import PercoreError, UsageError
from percore.supervisor.config import env_file, globs
from percore.supervisor.config.formats import read_content

GROWING = "a: &a [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{new}: &{new} [{', '.join([f'*{old}'] * 10)}]\n" for old, new in zip("abcdefghi", "bcdefghij", strict=True)
)


def test_a_pipe_a_device_a_directory_and_a_huge_file_are_no_files(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with (tmp_path / "huge").open("wb") as huge:
        huge.truncate(17 << 20)
    for place in (tmp_path / "pipe", Path("/dev/zero"), tmp_path, tmp_path / "huge"):
        with pytest.raises(OSError):  # noqa: PT011 - each has a number of its own
            read_file(str(place))


@pytest.mark.parametrize("text", [GROWING, "a: &a {x: *a}", "- &a [*a]", "a: &a {x: {y: [*a]}}"])
def test_aliases_that_grow_or_contain_themselves_are_refused_with_their_line(tmp_path: Path, text: str) -> None:
    with pytest.raises(YamlFault):
        compose_yaml(text, yaml.SafeLoader)
    process_file = tmp_path / "ecosystem.yml"
    process_file.write_text(text)
    with pytest.raises(UsageError, match=r"ecosystem\.yml:\d+:"):
        read_content(str(process_file))
    inventory = tmp_path / "hosts.yml"
    inventory.write_text("all:\n  vars:\n" + "".join(f"    {line}\n" for line in text.splitlines()))
    with pytest.raises(UsageError, match=r"hosts\.yml:\d+:"):
        load_inventory(inventory)
    with pytest.raises(UsageError, match=r"x\.yml:\d+:"):
        find_values(text, Path("x.yml"))


def test_ordinary_aliases_are_read(tmp_path: Path) -> None:
    (tmp_path / "apps.yml").write_text(
        "base: &base {script: a.js}\napps: [{<<: *base, name: a}, {<<: *base, name: b}]\n"
    )
    assert [app["name"] for app in read_content(str(tmp_path / "apps.yml"))["apps"]] == ["a", "b"]


def test_a_regular_expression_without_end_is_ended() -> None:
    began = time.monotonic()
    with pytest.raises(UsageError, match="takes longer than"), regex_limit("(x+x+)+y"):
        re.search(r"(x+x+)+y", "x" * 200)
    assert time.monotonic() - began < 30
    is_ignored = globs.make_filter(["/(x+x+)+y/"], "/base")
    with pytest.raises(UsageError, match="takes longer than"):
        is_ignored("/base/" + "x" * 200, "/base")


def inventory_of(folder: Path, text: str, name: str = "hosts.yml") -> Path:
    (folder / name).write_text(text)
    return folder / name


@pytest.mark.parametrize(
    "host",
    ["a3f5c6d7e8f90123456789abcdefab0123456789.internal", "0" * 60 + ".x", "deadbeef" * 20 + "-1"],
)
def test_a_host_named_by_a_hash_is_read_at_once(tmp_path: Path, host: str) -> None:
    assert load_inventory(inventory_of(tmp_path, f"all: {{hosts: {{{host}: {{}}}}}}")).hosts == [host]
    assert load_inventory(inventory_of(tmp_path, f"[web]\n{host}\n", "hosts")).hosts == [host]


@pytest.mark.parametrize(
    "host",
    [
        "web[01:99][01:99][01:99][01:99]", "web[1:99999999]", f"web[1:{'9' * 5000}]", f"web[1:9:{'9' * 5000}]", "x" * 300,
        f"web:{'9' * 5000}", "web:70000", "..",
    ],
)  # fmt: skip
def test_a_range_a_port_and_a_name_have_bounds(tmp_path: Path, host: str) -> None:
    with pytest.raises(UsageError, match="hosts"):
        load_inventory(inventory_of(tmp_path, f"all: {{hosts: {{'{host}': {{}}}}}}"))
    with pytest.raises(UsageError, match="hosts"):
        load_inventory(inventory_of(tmp_path, f"[web]\n{host}\n", "hosts"))


@pytest.mark.parametrize("group", ["g" * 251, "a\x07b", "ü" * 150])
def test_a_group_whose_name_can_be_no_file_is_refused(tmp_path: Path, group: str) -> None:
    with pytest.raises(UsageError, match="cannot be the name of a group"):
        load_inventory(inventory_of(tmp_path, f"[{group}]\nweb1\n", "hosts"))


@pytest.mark.parametrize("limit", ["~(.*.*.*)*x", f"web[{'9' * 5000}]", "@fi\0le", "@/dev/zero", "~(", "~(?P<a"])
def test_a_limit_that_makes_no_sense_is_refused(tmp_path: Path, limit: str) -> None:
    inventory = load_inventory(inventory_of(tmp_path, f"[web]\n{'w' * 200}\n", "hosts"))
    with pytest.raises(PercoreError):
        select(inventory, limit)


@given(st.binary(max_size=200))
@settings(max_examples=150, deadline=None)
def test_no_file_of_secrets_ends_in_a_traceback(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "secret.yml"
    ring = keyring_from({"PERCORE_VAULT_PASSWORD": "word"})
    for begin in (b"", b"$ANSIBLE_VAULT;1.1;AES256\n", b"x: !vault |\n  $ANSIBLE_VAULT;1.1;AES256\n  "):
        path.write_bytes(begin + content)
        with contextlib.suppress(PercoreError):
            edit.view(path, ring)


@pytest.mark.parametrize(
    "content", [b"6\x18", b"$ANSIBLE_VAULT;1.1;AES256\n~\xc9", b"x: &x {y: [*x]}", b"[" * 3000, b"a: !!int x"]
)
def test_odd_files_of_secrets_are_refused(tmp_path: Path, content: bytes) -> None:
    ring = keyring_from({"PERCORE_VAULT_PASSWORD": "word"})
    (tmp_path / "f.yml").write_bytes(content)
    for verb in (edit.view, edit.decrypt):
        with pytest.raises(PercoreError):
            verb(tmp_path / "f.yml", ring)
    assert (tmp_path / "f.yml").read_bytes() == content


_WORDS = st.text(alphabet="ab19[]:.,!&~*?@%{}'\" \t\n-_/=#\\\x00\x07é", max_size=40)


@given(_WORDS)
@settings(max_examples=300, deadline=None)
def test_no_inventory_and_no_limit_ends_in_a_traceback(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    folder = tmp_path_factory.getbasetemp()
    for name, content in (("hosts", f"[web]\n{text}\n"), ("hosts.yml", f"all:\n  hosts:\n    {text}"), ("plain", text)):
        (folder / name).write_text(content, encoding="utf-8", errors="surrogatepass")
        with contextlib.suppress(PercoreError):
            inventory = load_inventory(folder / name)
            select(inventory, text)
            [inventory.variables(host) for host in inventory.hosts]


@pytest.mark.parametrize("name", ["A=B", "", "a\0b", "\ud800"])
def test_a_variable_that_no_program_can_be_given_is_told(name: str) -> None:
    assert names.variable_fault(name)
    assert names.variable_fault("A", "x\0y")
    assert not names.variable_fault("A_b.c", "anything = 1\n")


@pytest.mark.parametrize(
    "name", ["../../../evil", "/var/tmp/evil", "..", ".", "a;b", "a\nb", "", "-x", "a/b", "a b", "a" * 101]
)
def test_a_name_that_would_leave_its_directory_is_none(name: str) -> None:
    assert not names.is_path_word(name)


@pytest.mark.parametrize("path", ["/srv/../etc", "/a;b", "/a\nb", "srv", "/a b", "/a$x", '/a"b', "/a%b"])
def test_a_path_that_means_something_in_a_unit_or_a_shell_is_none(path: str) -> None:
    assert not names.is_safe_path(path)
    assert names.is_safe_path("/srv/my-app_1.0/ü")


@pytest.mark.parametrize(
    "host", ["x$(/usr/bin/touch /tmp/owned)", "-oProxyCommand=x", "a b", "a;b", "a`b`", "a'b", "a\nb", "a|b"]
)
def test_a_host_or_a_user_that_a_shell_would_run_is_refused(host: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")  # no OpenSSH client, which would refuse by itself
    with pytest.raises(UsageError, match="is not a host"):
        find_route(Wish(host))
    if " " not in host:  # a user's name may hold one, as OpenSSH takes it
        with pytest.raises(UsageError, match="is not a user"):
            find_route(Wish("web1", user=host))


KEY = "AAAAC3NzaC1lZDI1NTE5AAAAIKBjMHGJmjYb2tLOeGp3Qz7eUjEHuZbWqzCpKz0bgkLh"
OTHER = "AAAAC3NzaC1lZDI1NTE5AAAAIJjMHGJmjYb2tLOeGp3Qz7eUjEHuZbWqzCpKz0bgkLhX"


def test_known_hosts_are_read_as_sshd_describes_them(tmp_path: Path) -> None:
    path = tmp_path / "known_hosts"
    path.write_text(
        f"# a comment\n@cert-authority *.example.com ssh-ed25519 {OTHER}\nbroken\nweb1 ssh-ed25519 !!!\n"
        f"@odd web1 ssh-rsa {KEY}\n"
        f"*.example.com,!bad.example.com ssh-ed25519 {KEY}\n[web1]:2222 ssh-ed25519 {KEY}\n"
        f"@revoked gone ssh-ed25519 {KEY}\ngone ssh-ed25519 {KEY}\n"
    )
    known = find_known([str(path), str(tmp_path / "missing")], "a.example.com")
    assert list(known.keys) == ["ssh-ed25519"]
    assert [len(key) for key in known.authorities] == [51]
    assert f"{path}:3 cannot be read" in known.passed_over
    assert not find_known([str(path)], "bad.example.com").keys
    assert find_known([str(path)], "[web1]:2222").keys
    assert find_known([str(path)], "gone").revoked


def test_a_hashed_name_is_that_name_alone() -> None:
    from paramiko import HostKeys

    hashed = HostKeys.hash_host("web1")
    assert names_match(hashed, "web1")
    assert not names_match(hashed, "web2")
    assert not names_match("|1|broken", "web1")


def test_a_pipe_as_env_file_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / ".env")
    with pytest.raises(UsageError, match="not a regular file"):
        env_file.read(str(tmp_path / ".env"))
