"""Variables that are called almost like a known one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from percore.deploy.connection.address import read_address
from percore.deploy.plan.host_plan import HostPlan, make_plan
from percore.deploy.plan.settings import read_settings
from percore.deploy.plan.typos import find_typos, is_alike
from percore.deploy.plan.variables import resolve_variables
from tests.unit.deploy.test_render import own_role

PROJECT = Path(__file__).resolve().parents[3]
APP = {"app_name": "shop", "app_path": "examples/boltlink"}


def typos(plan: HostPlan) -> list[str]:
    """As a run finds them: what was read is known."""
    variables = resolve_variables(plan)
    read_address("web1", variables)
    read_settings(variables, plan.project)
    return list(find_typos(plan, variables.asked))


def typos_of(**variables: Any) -> list[str]:
    places = {name: f"inventories/x.yml:{number}" for number, name in enumerate(variables, 7)}
    return typos(make_plan("web1", {**APP, **variables}, env="test", project=PROJECT, places=places))


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("helth_path", "health_path"), ("canarry", "canary"), ("health-path", "health_path"), ("Canary", "canary"),
        ("prot", "port"), ("role", "roles"), ("hook", "hooks"), ("keep_relaeses", "keep_releases"),
        ("app_nmae", "app_name"), ("ansible_usr", "ansible_user"), ("ansible_becom", "ansible_become"),
        ("startupp", "startup"), ("shard", "shared"), ("secret", "secrets"), ("probe_max_slow_down", "probe_max_slowdown"),
    ],
)  # fmt: skip
def test_a_name_that_is_almost_a_known_one_is_told_with_its_place(written: str, meant: str) -> None:
    assert typos_of(**{written: 1}) == [
        f"inventories/x.yml:7: variable '{written}' is not used -> did you mean '{meant}'?"
    ]


@pytest.mark.parametrize(
    "name",
    ["health_path", "ansible_become_exe", "ansible_ssh_host", "ansible_shell_type", "health_port", "postgres_port", "db",
     "nginx_conf_dir", "ansible_ssh_pipelining", "region"],
)  # fmt: skip
def test_a_name_that_is_known_or_another_word_is_none(name: str) -> None:
    assert typos_of(**{name: "/x"}) == []


def test_a_variable_that_a_value_a_role_or_a_template_uses_is_none(tmp_path: Path) -> None:
    assert typos_of(ports=5000, port="{{ ports }}") == []
    role = "files: [{path: /etc/x, template: x.j2}, {path: '/etc/{{ hook }}', content: a}]\n"
    plan = own_role(tmp_path, role, **{"x.j2": "{{ canarry }}"})
    more = {**plan.variables, "hook": 1, "canarry": 1, "prot": 1}
    plan = make_plan("web1", more, env="test", project=tmp_path)
    assert typos(plan) == ["host web1: variable 'prot' is not used -> did you mean 'port'?"]


def test_short_words_are_alike_only_when_they_have_a_few_letters() -> None:
    assert not is_alike("a", "b")
    assert not is_alike("env", "environment")
