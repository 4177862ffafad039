"""Templates in inventories: what Ansible's users expect of them, and what is refused, in one line.

That values are those of ansible-core is a matter of tests/oracle.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from percore.deploy.inventory import load_inventory
from percore.deploy.plan.host_plan import make_host_plan
from percore.deploy.plan.variables import Variables, resolve_variables
from percore.errors import UsageError


def variables(folder: Path, all_vars: dict[str, Any], host: str = "web1", **hosts: dict[str, Any]) -> Variables:
    path = folder / "hosts.yml"
    path.write_text(json.dumps({"all": {"hosts": {"web1": {}, "web2": {}, **hosts}, "vars": all_vars}}))
    return resolve_variables(make_host_plan(host, load_inventory(path), env="test", project=folder))


def test_an_omitted_variable_is_as_if_nobody_had_set_it(tmp_path: Path) -> None:
    found = variables(
        tmp_path,
        {
            "port": "{{ nothing | default(omit) }}",
            "ansible_port": "{{ nothing | default(omit) }}",
            "env": {"A": "{{ nothing | default(omit) }}", "B": "b"},
            "listed": ["{{ nothing | default(omit) }}", 1],
            "after": "{{ ansible_port | default(22) }}",
        },
    )
    assert found["port"] == 5000  # the role's default
    assert found.get("ansible_port") is None
    assert (found["env"], found["listed"], found["after"]) == ({"B": "b"}, [1], 22)
    with pytest.raises(UsageError, match="omit stands for a whole value"):
        _ = variables(tmp_path, {"x": "port {{ nothing | default(omit) }}"})["x"]


def test_hostvars_know_the_variables_of_all_hosts_with_their_templates(tmp_path: Path) -> None:
    found = variables(
        tmp_path,
        {
            "url": "http://{{ inventory_hostname }}:{{ port }}",
            "others": "{{ groups.all | map('extract', hostvars, 'url') }}",
        },
        web2={"port": 81},
    )
    assert found["others"] == ["http://web1:5000", "http://web2:81"]


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("{{ hostvars.web9.port }}", "hostvars has no host 'web9' -> see"),
        ("{{ hostvars.web2.prot }}", "that host of hostvars has no variable 'prot'"),
        ("{{ hostvars.web2.x }}", "circle: x > x"),
        ("{{ hostvars.web2.get.__globals__ }}", "access to attribute '__globals__'"),
        (
            "{{ ansible_default_ipv4.address }}",
            "'ansible_default_ipv4' is not defined -> facts of Ansible are not gathered",
        ),
        ("{{ '10.0.0.0/8' | ipaddr }}", "filter 'ipaddr' is not supported -> see docs/reference/inventory.md"),
        ("{{ 1 | ternery(2, 3) }}", "filter 'ternery' is not supported -> did you mean 'ternary'?"),
        ("{{ 1 is odder }}", "test 'odder' is not supported"),
        ("{{ lookup('pipe', 'date') }}", r"lookup\('pipe'\) is not supported, only env, file, vars"),
        ("{{ lookup('file', 'gone') }}", "file gone does not exist in"),
        ("{{ lookup('env', 'REACH_UNSET') }}", "environment variable REACH_UNSET is not set here"),
        ("a{{ lookup('env', 'REACH_UNSET') }}", "environment variable REACH_UNSET is not set here"),
        ("{{ 'a' | regex_search('(a') }}", "template fails: missing \\)"),
        ("{{ 'a' | regex_search('a', 'b') }}", "'b' should name a group"),
        ("{{ {} | combine('a') }}", "combine takes mappings"),
        ("{{ '1' is version('2', '~') }}", "'~' does not compare versions"),
        ("{{ nothing | mandatory('say nothing') }}", "template fails: say nothing"),
    ],
)
def test_what_cannot_be_had_is_told_in_one_line_with_its_place(text: str, sentence: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=rf"hosts.yml:1, host web[12].*{sentence}"):
        _ = variables(tmp_path, {"x": text})["x"]


def test_a_backslash_in_a_variable_stands_for_itself_but_before_a_quote(tmp_path: Path) -> None:
    values = {
        r"{{ 'a1' | regex_replace('([a-z])', '\1\1') }}": "aa1",
        r"{{ 'it\'s' }}": "it's",
        r"{{ 'C:\temp' }} \n": r"C:\temp \n",
        r"{% raw %}{{ '\1' }}{% endraw %}": r"{{ '\1' }}",
        r"{{ '}}\t' }}": r"}}\t",
    }
    found = variables(tmp_path, {f"v{number}": text for number, text in enumerate(values)})
    assert [found[f"v{number}"] for number in range(len(values))] == list(values.values())


def test_files_are_looked_up_in_the_project(tmp_path: Path) -> None:
    (tmp_path / "files").mkdir()
    (tmp_path / "files/a").write_text("first\n")
    (tmp_path / "b").write_text("second\n")
    found = variables(
        tmp_path, {"x": "{{ lookup('file', 'a', 'b') }}", "y": f"{{{{ lookup('file', '{tmp_path}/b') }}}}"}
    )
    assert (found["x"], found["y"]) == ("first,second", "second")


def test_the_interpreter_that_runs_percore_can_be_that_of_a_local_host(tmp_path: Path) -> None:
    found = variables(
        tmp_path, {"ansible_python_interpreter": "{{ ansible_playbook_python }}", "d": "{{ playbook_dir }}"}
    )
    assert Path(found["ansible_python_interpreter"]).is_file()
    assert found["d"] == str(tmp_path)


def test_an_inventory_of_several_files_knows_which_one_names_a_host(tmp_path: Path) -> None:
    for name in ("a.ini", "b.ini"):
        (tmp_path / name).write_text(f"web-{name[0]} where={{{{inventory_file}}}}:{{{{inventory_dir}}}}\nshared\n")
    inventory = load_inventory(tmp_path)
    plans = {host: make_host_plan(host, inventory, env="test", project=tmp_path) for host in inventory.hosts}
    assert resolve_variables(plans["web-b"])["where"] == f"{tmp_path}/b.ini:{tmp_path}"
    assert resolve_variables(plans["shared"])["inventory_file"] == f"{tmp_path}/a.ini"
