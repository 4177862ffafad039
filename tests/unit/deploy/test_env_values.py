"""Environment variables of an inventory arrive as they are written, whatever YAML, JSON or INI make of the text."""

from __future__ import annotations

from pathlib import Path

import pytest

from percore.deploy.inventory import load_inventory
from percore.deploy.plan.host_plan import make_host_plan
from percore.errors import UsageError
from tests.unit.deploy.planned import settings_of

PROJECT = Path(__file__).resolve().parents[3]


def environment(path: Path) -> dict[str, str]:
    plan = make_host_plan("web", load_inventory(path), env="test", project=PROJECT)
    return dict(settings_of(plan).env)


def yaml_of(value: str) -> str:
    return f"all:\n  hosts:\n    web:\n  vars:\n    app_name: web\n    app_path: .\n    env:\n      VALUE: {value}\n"


AS_WRITTEN = [
    "1.10",
    "12:30",
    "yes",
    "no",
    "0755",
    "1_000",
    "2026-01-31",
    "1e3",
    ".5",
    "0x1F",
    "true",
    "Off",
    "007",
    "+1",
]


@pytest.mark.parametrize("value", AS_WRITTEN)
@pytest.mark.parametrize("quote", ["", "'", '"'])
def test_a_value_is_the_text_that_is_written(tmp_path: Path, value: str, quote: str) -> None:
    (tmp_path / "hosts.yml").write_text(yaml_of(f"{quote}{value}{quote}"))
    assert environment(tmp_path / "hosts.yml")["VALUE"] == value


def test_it_is_so_in_variable_files_and_in_build_env(tmp_path: Path) -> None:
    (tmp_path / "group_vars").mkdir()
    (tmp_path / "hosts.yml").write_text("all:\n  hosts:\n    web:\n")
    text = "app_name: web\napp_path: .\nenv: {A: 1.10}\nbuild_env:\n  <<: {B: yes}\n  C: 12:30\n"
    (tmp_path / "group_vars" / "all.yml").write_text(text)
    plan = make_host_plan("web", load_inventory(tmp_path / "hosts.yml"), env="test", project=PROJECT)
    settings = settings_of(plan)
    assert (settings.env["A"], settings.build_env) == ("1.10", {"B": "yes", "C": "12:30"})


def test_a_number_of_json_is_the_text_that_is_written(tmp_path: Path) -> None:
    (tmp_path / "hosts.json").write_text(
        '{"all": {"hosts": {"web": null}, "vars": {"app_name": "web", "app_path": ".", "env": {"A": 1.10, "B": true}}}}'
    )
    found = environment(tmp_path / "hosts.json")
    assert (found["A"], found["B"]) == ("1.10", "true")


def test_templates_keep_what_they_make(tmp_path: Path) -> None:
    (tmp_path / "hosts.yml").write_text(yaml_of('"{{ 5000 + 1 }}"'))
    assert environment(tmp_path / "hosts.yml")["VALUE"] == "5001"


@pytest.mark.parametrize("value", ["null", "~", "", "[a]", "{a: b}"])
def test_what_is_no_text_is_refused_with_file_and_line(tmp_path: Path, value: str) -> None:
    (tmp_path / "hosts.yml").write_text(yaml_of(value))
    with pytest.raises(UsageError, match=r"hosts\.yml:[78], host web: variable 'env\.VALUE' should be a text"):
        environment(tmp_path / "hosts.yml")


def test_a_number_whose_text_is_lost_is_refused(tmp_path: Path) -> None:
    (tmp_path / "hosts.ini").write_text("web app_name=web app_path=. env='{\"A\": 1.10}'\n")
    with pytest.raises(UsageError, match=r"variable 'env\.A' should be a text \(in quotes\)"):
        environment(tmp_path / "hosts.ini")
