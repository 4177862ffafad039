"""Our inventories beside ansible-core's: the same hosts, groups, variables and patterns."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings, strategies

from percore.deploy.inventory import Inventory, load_inventory
from percore.deploy.inventory.export import draw_graph, list_inventory, show_host
from percore.deploy.inventory.patterns import select
from percore.errors import UsageError
from tests.oracle import inventories
from tests.oracle.asking import Ansible

ORACLE = settings(max_examples=25, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))


def shown(inventory: Inventory) -> Any:
    return json.loads(json.dumps(list_inventory(inventory, inventory.hosts)))


def compare(ansible: Ansible, path: Path) -> Inventory:
    inventory = load_inventory(path)
    theirs = ansible.ask("ansible-inventory", "-i", str(path), "--list").json()
    del theirs["_meta"]["profile"]
    assert shown(inventory) == theirs
    return inventory


@pytest.mark.parametrize("name", inventories.HARD)
def test_a_hard_inventory_is_what_ansible_makes_of_it(name: str, ansible: Ansible, tmp_path: Path) -> None:
    path = inventories.write(tmp_path, inventories.HARD[name])
    inventory = compare(ansible, path)
    graph = ansible.ask("ansible-inventory", "-i", str(path), "--graph").output.strip()
    assert "\n".join(draw_graph(inventory, inventory.hosts)) == graph
    host = inventory.hosts[0]
    theirs = ansible.ask("ansible-inventory", "-i", str(path), "--host", host).json()
    assert json.loads(json.dumps(show_host(inventory, host))) == theirs


@ORACLE
@given(written=inventories.groups(), files=inventories.variable_files())
def test_any_inventory_has_ansibles_groups_and_variables(ansible: Ansible, written: Any, files: Any) -> None:
    with tempfile.TemporaryDirectory() as folder:
        compare(
            ansible, inventories.write(Path(folder), {"hosts.yml": yaml.safe_dump(written, sort_keys=False), **files})
        )


@ORACLE
@given(values=strategies.lists(strategies.text("ab01 '\"[]{}(),:=#\\._-xTrueNo", max_size=8), min_size=30, max_size=30))
def test_any_ini_value_has_ansibles_type(ansible: Ansible, values: list[str]) -> None:
    lines = [f"v{number}={value.strip()}" for number, value in enumerate(values)]
    with tempfile.TemporaryDirectory() as folder:
        path = inventories.write(Path(folder), {"hosts": "\n".join(["[g]", "h", "[g:vars]", *lines])})
        inventory = load_inventory(path)
        theirs = ansible.ask("ansible-inventory", "-i", str(path), "--host", "h").json()
        assert json.loads(json.dumps(show_host(inventory, "h"))) == theirs


@pytest.fixture(scope="module")
def flat(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Groups without groups in them: the order in which ansible-core numbers the hosts of others is that of a hash."""
    text = (
        "[g0]\nh2\nh0\nh4\n[g1]\nh1\nh0\n[g2]\nh3\n[g3]\nh5\nh4\nh3\nh2\n[g4]\nh0\n[k]\n2001:db8::1\nweb1.example.com\n"
    )
    return inventories.write(tmp_path_factory.mktemp("flat"), {"hosts": text})


@settings(ORACLE, max_examples=6)
@given(patterns=strategies.lists(inventories.patterns(slices=True), min_size=50, max_size=50))
def test_any_pattern_chooses_ansibles_hosts(ansible: Ansible, flat: Path, patterns: list[str]) -> None:
    check_limits(ansible, flat, patterns)


def test_hard_patterns_choose_ansibles_hosts(ansible: Ansible, flat: Path) -> None:
    hosts = ["2001:db8::1", "k,!2001:db8::1", "a*,k", "web1.example.com", "*.example.com:&k", "~web\\d", "~(h1|h2)$"]
    check_limits(
        ansible, flat, [*hosts, "h1:", ":h1", "h1 h2", "k[1:]", "all[1:3]", "g0[1-2]", "g0[-1]", "g0[0:0]", "!g0[0]"]
    )


def test_a_pattern_tells_a_host_from_a_group_of_its_name_as_ansible_does(ansible: Ansible, tmp_path: Path) -> None:
    path = inventories.write(tmp_path, {"hosts": "[web]\nweb\ndb\n[other]\nx\n[empty]\n"})
    patterns = ["web", "all:!web", "all:&web", "!web", "web[0]", "w*", "other:web", "~web", "other:!web", "all:!web[1]"]
    check_limits(ansible, path, [*patterns, "all:!empty[0]", "web:empty[3:]"])


def check_limits(ansible: Ansible, path: Path, patterns: list[str]) -> None:
    inventory = load_inventory(path)
    theirs = ansible.ask("limits", str(path), *patterns).json()
    assert {pattern: chosen(inventory, pattern) for pattern in patterns} == {
        pattern: hosts or None for pattern, hosts in zip(patterns, theirs, strict=True)
    }


def chosen(inventory: Inventory, pattern: str) -> list[str] | None:
    """None where we refuse, in one of the two ways that are meant."""
    try:
        return select(inventory, pattern)
    except UsageError as error:
        if "no host matches" in str(error) or "beyond its" in str(error):
            return None
        raise


@settings(ORACLE, max_examples=10)
@given(written=inventories.groups(), patterns=strategies.lists(inventories.patterns(), min_size=20, max_size=20))
def test_nested_groups_match_ansibles_hosts(ansible: Ansible, written: Any, patterns: list[str]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = inventories.write(Path(folder), {"hosts.yml": yaml.safe_dump(written, sort_keys=False)})
        check_limits(ansible, path, patterns)


def test_a_limit_file_holds_one_term_per_line(ansible: Ansible, flat: Path, tmp_path: Path) -> None:
    file = tmp_path / "limit"
    file.write_text("h1\n\n g3 \n!h2\n")
    check_limits(ansible, flat, [f"@{file}", f"g1:@{file}:!h0"])
