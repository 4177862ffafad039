"""Roles: read once, checked at the door; every error names file, key path and the nearest key."""

from __future__ import annotations

from pathlib import Path

import pytest

from percore.deploy.plan.roles import ITEM_KEYS, load_role, load_roles
from percore.errors import UsageError


def write_role(folder: Path, name: str, text: str) -> None:
    (folder / name).mkdir(parents=True, exist_ok=True)
    (folder / name / "role.yml").write_text(text)


def fault(folder: Path, text: str) -> str:
    write_role(folder, "web", text)
    with pytest.raises(UsageError) as caught:
        load_role("web", folder)
    assert "role.yml" in caught.value.where
    return str(caught.value)


def test_a_role_is_read_with_all_its_kinds(tmp_path: Path) -> None:
    write_role(
        tmp_path, "web", "packages: [nginx]\nfiles:\n  - {path: /etc/motd, content: hello}\ndefaults: {port: 80}\n"
    )
    role = load_role("web", tmp_path)
    assert role["packages"] == ({"name": "nginx"},)
    assert role["files"][0]["path"] == "/etc/motd"
    assert role.defaults == {"port": 80}
    assert role["links"] == ()


def test_required_roles_come_first_and_once(tmp_path: Path) -> None:
    write_role(tmp_path, "base", "")
    write_role(tmp_path, "web", "requires: [base]")
    write_role(tmp_path, "app", "requires: [base, web]")
    assert [role.name for role in load_roles(["app", "web"], tmp_path)] == ["base", "web", "app"]


def test_roles_in_a_circle_are_refused_with_the_circle(tmp_path: Path) -> None:
    write_role(tmp_path, "a", "requires: [b]")
    write_role(tmp_path, "b", "requires: [a]")
    with pytest.raises(UsageError, match="circle: a > b > a"):
        load_roles(["a"], tmp_path)


def test_a_missing_role_names_the_nearest(tmp_path: Path) -> None:
    write_role(tmp_path, "nginx", "")
    with pytest.raises(UsageError, match="role 'ngnix' does not exist -> did you mean 'nginx'"):
        load_role("ngnix", tmp_path)


def test_an_unknown_key_is_told_with_its_path_and_the_nearest(tmp_path: Path) -> None:
    assert "'directorys' is not known -> did you mean 'directories'?" in fault(tmp_path, "directorys: []")
    text = fault(tmp_path, "files:\n  - {path: /a, content: x}\n  - {path: /b, contents: y}\n")
    assert "'files[1].contents' is not known -> did you mean 'content'?" in text


def test_invalid_yaml_is_told_with_line_and_column(tmp_path: Path) -> None:
    write_role(tmp_path, "web", "files:\n  - path: {a: 1\nusers: []\n")
    with pytest.raises(UsageError, match=r"role\.yml:3:\d+: not valid YAML"):
        load_role("web", tmp_path)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("[a, b]", "role should be a mapping and is a list"),
        ("packages: nginx", "packages should be a list and is 'nginx'"),
        ("files: [{content: x}]", "files[0] needs the key 'path'"),
        ("files: [{path: /a}]", "exactly one of 'template', 'copy' and 'content'"),
        ("files: [{path: /a, content: x, template: y}]", "exactly one of"),
        ("links: [{path: /a}]", "either 'to' or 'state: absent'"),
        ("directories: [[]]", "directories[0] should be a mapping and is a list"),
        ("handlers: [{name: x}]", "exactly one of 'restart', 'reload' and 'run'"),
        ("handlers: [{restart: x.service}]", "handlers[0] needs the key 'name'"),
        ("units: [{name: x.service, on_change: bounce}]", "units[0].on_change should be one of restart"),
        ("files: [{path: /a, content: x, notify: {a: b}}]", "files[0].notify should be a text or a list of texts"),
        ("files: [{path: /a, content: x, tags: [always]}]", "the tag 'always' has no meaning here"),
        ("defaults: [1]", "defaults should be a mapping"),
    ],
)
def test_a_wrong_shape_is_told_in_words(tmp_path: Path, text: str, told: str) -> None:
    assert told in fault(tmp_path, text)


def test_every_kind_of_item_has_declared_keys() -> None:
    for kind, keys in ITEM_KEYS.items():
        assert keys.required, kind
        assert len(set(keys.all())) == len(keys.all()), kind


def test_a_role_is_of_a_release_unless_it_says_that_it_is_of_the_host(tmp_path: Path) -> None:
    write_role(tmp_path, "own", "packages: [nginx]")
    write_role(tmp_path, "base", "scope: host\npackages: [nginx]")
    assert [role.scope for role in load_roles(["own", "base"], tmp_path)] == ["release", "host"]
    assert "scope should be release or host and is 'machine'" in fault(tmp_path, "scope: machine")


def test_a_command_of_a_host_tells_when_it_is_needed(tmp_path: Path) -> None:
    text = fault(tmp_path, "scope: host\ncommands:\n  - {run: a, creates: /a}\n  - run: b\n")
    assert "commands[1] of a role with scope: host needs 'creates' or 'unless'" in text


def test_a_build_of_node_is_never_a_release_s(tmp_path: Path) -> None:
    assert "'nodes' belong to a host" in fault(tmp_path, "nodes: [{version: 22, path: /opt/node}]")


def test_what_a_role_gives_the_app_cannot_depend_on_when(tmp_path: Path) -> None:
    assert "a role with 'env' cannot have 'when'" in fault(tmp_path, "when: x\nenv: {A: b}")
