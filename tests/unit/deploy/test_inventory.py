"""Inventories: what is refused, and where; where each value comes from. What is read is judged in tests/oracle."""

from __future__ import annotations

from pathlib import Path

import pytest

from percore.deploy.inventory import Inventory, differences, find_inventory, load_inventory
from percore.deploy.inventory.patterns import select
from percore.errors import UsageError


def write(folder: Path, **files: str) -> Path:
    """Files by name, `__` for a slash and `_` before the ending for a dot; returns the first."""
    paths = [folder / name.replace("__", "/") for name in files]
    for path, text in zip(paths, files.values(), strict=True):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return paths[0]


REFUSED_INI = [
    ("[g]\nh x\n", 2, "'x' should be NAME=VALUE -> a comment begins with #"),
    ("[g]\n\nh 'a=b\n", 3, "cannot be split into words"),
    ("[g:vars]\nx\n[g]\n", 2, "'x' should be NAME=VALUE"),
    ("[gg:vars]\nx=1\n[g]\nh\n", 1, "there is no group 'gg' -> did you mean 'g'?"),
    ("[p:children]\ng\nnope\n[g]\n", 3, "there is no group 'nope' ->"),
    ("[p:children]\ng x=1\n[g]\n", 2, "'g x=1' is not the name of a group"),
    ("[a:children]\nb\n[b:children]\na\n", 4, "group 'a' contains 'b', which cannot contain it"),
    ("[g:hots]\nh\n", 1, "section [g:hots] is not known"),
    ("[g h]\nh\n", 1, "'[g h]' is not a section"),
    ("[g]\n---\n", 2, "this looks like YAML"),
    ("[g]\nh[3:1]\n", 2, "the range in 'h[3:1]' is empty"),
    ("[g]\nh[08:100]\n", 2, "has ends of different lengths"),
    ("[g]\nh[1:c]\n", 2, "needs two numbers or two letters"),
    ("[g]\nh[1:9:0]\n", 2, "needs a step of 1 or more"),
    ("[g]\nh:22:33\n", 2, "'h:22:33' is not the name of a host"),
]
REFUSED_YAML = [
    ("all: {hosts: {1: }}\n", 1, "'1' is not a name -> put it in quotes"),
    ("all:\n  hosts:\n    h:\n    h:\n", 4, "key 'h' is written twice"),
    ("all:\n  vars:\n    d: {a: 1, b: 2, a: 3}\n", 3, "key 'a' is written twice"),
    ("all:\n  host: {}\n", 2, "key 'host' of group 'all' is not known -> did you mean 'hosts'?"),
    ("all:\n  hosts: [h]\n", 2, "a mapping of names is wanted here"),
    ("all:\n  hosts:\n    h: web\n", 3, "a mapping of variables is wanted here"),
    ("- a\n", 1, "a mapping of groups is wanted here"),
    ("all:\n  vars: {x: !ansible y}\n", 2, "could not determine a constructor for the tag '!ansible'"),
    ("all:\n  vars: {x: !!binary aGk=}\n", 2, "binary values cannot be variables"),
    ("all: {\n", 2, "not valid YAML"),
    ("# ours\n[web:children] # all\na\n", 1, "this is INI, and its ending says YAML -> call it"),
    ("plugin: amazon.aws.aws_ec2\n", 1, "this configures an inventory plugin of Ansible"),
    ("a: {children: {b: {children: {a: }}}}\n", 1, "group 'a' contains 'b', which cannot contain it"),
]


@pytest.mark.parametrize(("text", "line", "told"), REFUSED_INI)
def test_ini_that_cannot_be_read_is_refused_with_its_line(text: str, line: int, told: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError) as caught:
        load_inventory(write(tmp_path, hosts=text))
    assert f"{tmp_path}/hosts:{line}: " in str(caught.value)
    assert told in str(caught.value)


@pytest.mark.parametrize(("text", "line", "told"), REFUSED_YAML)
def test_yaml_that_cannot_be_read_is_refused_with_its_line(text: str, line: int, told: str, tmp_path: Path) -> None:
    (tmp_path / "hosts.yml").write_text(text)
    with pytest.raises(UsageError) as caught:
        load_inventory(tmp_path / "hosts.yml")
    assert f"{tmp_path}/hosts.yml:{line}" in str(caught.value)
    assert told in str(caught.value)


@pytest.mark.parametrize(
    ("script", "told"),
    [
        ("exit 3", "the inventory program ended with 3"),
        ("echo nonsense", "the inventory program's output is not JSON"),
        ("echo '[]'", "the output should be a mapping and is a list"),
        ('echo \'{"g": {"hosts": "h"}}\'', "g.hosts should be a list of names"),
    ],
)
def test_a_program_that_fails_is_named(script: str, told: str, tmp_path: Path) -> None:
    path = write(tmp_path, hosts=f"#!/bin/sh\necho why >&2\n{script}\n")
    with pytest.raises(UsageError, match="may not be run -> chmod"):
        load_inventory(path)
    path.chmod(0o755)
    with pytest.raises(UsageError) as caught:
        load_inventory(path)
    assert f"{path} --list: {told}" in str(caught.value)


def test_the_origin_of_every_value_is_known(tmp_path: Path) -> None:
    write(tmp_path, hosts="[g]\nh a=1\nk\n[g:vars]\n\nb=2\n")
    write(tmp_path, group_vars__g="# first\nc:\n  - 3\n", host_vars__h='{"a":\n  4}')
    inventory = load_inventory(tmp_path / "hosts")
    places = {name: origin.place.removeprefix(f"{tmp_path}/") for name, origin in inventory.origins("h").items()}
    assert places == {"a": "host_vars/h:2", "b": "hosts:6", "c": "group_vars/g:3"}
    assert inventory.variables("k") == {"b": 2, "c": [3]}


def test_files_that_ansible_leaves_out_are_warned_of(tmp_path: Path) -> None:
    path = write(tmp_path, hosts="h\n", group_vars__all__x="a: 1\n")
    (tmp_path / "group_vars" / "all.yml").write_text("a: 2\n")
    (tmp_path / "group_vars" / "all" / "notes.txt").write_text("")
    inventory = load_inventory(path)
    assert inventory.variables("h") == {"a": 1}
    assert [warning.split(" ")[0].rpartition("/")[2] for warning in inventory.files.warnings] == [
        "all.yml",
        "notes.txt",
    ]


@pytest.fixture
def fleet(tmp_path: Path) -> Inventory:
    return load_inventory(write(tmp_path, hosts="[web]\nweb[1:3]\n[db]\ndb1\n"))


@pytest.mark.parametrize(
    ("pattern", "told"),
    [
        ("wbe1", "no host or group is named 'wbe1' -> did you mean 'web1'?"),
        ("all:!wbe", "no host or group is named 'wbe' -> did you mean 'web'?"),
        ("web:db,web1", "no host or group is named 'web:db' -> separate all terms by commas, or all by colons"),
        ("web:&db", "no host matches 'web:&db' -> see them: invoke inventory"),
        ("nope*", "no host matches 'nope*'"),
        ("web[7]", "'web[7]' is beyond its 3 hosts"),
        ("~web(", "'~web(' is not a regular expression"),
        ("@missing", "the limit file cannot be read"),
    ],
)
def test_a_limit_that_means_nothing_is_refused(pattern: str, told: str, fleet: Inventory) -> None:
    with pytest.raises(UsageError) as caught:
        select(fleet, pattern)
    assert told in str(caught.value)
    assert caught.value.exit_code == 2


def test_an_environment_is_a_file_of_any_kind_or_a_folder(tmp_path: Path) -> None:
    write(tmp_path, **{"a.yml": "", "b.ini": "", "c": "", "d__hosts": "", "group_vars__all": "", "README.md": ""})
    assert [find_inventory(env, tmp_path).name for env in "abcd"] == ["a.yml", "b.ini", "c", "d"]
    with pytest.raises(UsageError, match="there is no environment 'x' -> known: a, b, c, d"):
        find_inventory("x", tmp_path)
    write(tmp_path, **{"a.ini": ""})
    with pytest.raises(UsageError, match=r"environment 'a' could be any of a\.ini, a\.yml -> rename all but one"):
        find_inventory("a", tmp_path)


def test_the_documented_inventories_are_read_and_say_the_same(tmp_path: Path) -> None:
    document = (Path(__file__).resolve().parents[3] / "docs" / "reference" / "inventory.md").read_text()
    for kind in ("yaml", "ini"):
        (tmp_path / f"doc.{kind}").write_text(document.split(f"```{kind}\n")[1].split("```")[0])
    first, second = (load_inventory(tmp_path / f"doc.{kind}") for kind in ("yaml", "ini"))
    assert len(first.hosts) == 15
    assert {name: first.hosts_of(name) for name in first.groups} == {
        name: second.hosts_of(name) for name in second.groups
    }
    assert first.groups_of("web01.example.com") == second.groups_of("web01.example.com")
    patterns = ["web:&fresh", "web:!fresh", "~web0[1-4]", "web[0]", "web[-1]", "web[0:2]", "web[3:]", "web*"]
    assert [select(first, pattern) for pattern in patterns] == [select(second, pattern) for pattern in patterns]


def test_what_ansible_cfg_says_is_told_where_it_makes_a_difference(tmp_path: Path) -> None:
    write(tmp_path, inventories__a="h\n", hosts="h\n")
    (tmp_path / "ansible.cfg").write_text(
        "[defaults]\ninventory = ./hosts ; ours\nremote_user=ann\nhash_behaviour = merge\nforks = %d\n[ssh_connection]\n"
    )
    with pytest.raises(UsageError, match=r"no environment 'b' -> ansible.cfg names an inventory: .*--env ./hosts"):
        find_inventory("b", tmp_path / "inventories")
    assert [warning.partition(": ")[2] for warning in differences(tmp_path)] == [
        "hash_behaviour is not respected: mappings are replaced, never merged",
        "remote_user is not respected -> set ansible_user in the inventory",
    ]
    (tmp_path / "ansible.cfg").write_text("no section\n")
    assert list(differences(tmp_path)) == []
