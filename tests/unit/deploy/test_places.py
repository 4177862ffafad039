"""Where the values of a release are set: a plan names the file and the line."""

from __future__ import annotations

from pathlib import Path

import pytest

from percore.common.records.diff import app_changes
from percore.deploy.inventory import load_inventory
from percore.deploy.plan.host_plan import make_host_plan
from percore.deploy.plan.places import find_places
from percore.deploy.plan.settings import read_settings
from percore.deploy.plan.variables import resolve_variables
from percore.host.messages import Plan
from percore.host.release.plan import plan_changes

PROJECT = Path(__file__).resolve().parents[3]
INVENTORY = """all:
  hosts: {web1: {}}
  vars:
    app_name: shop
    app_path: APP
    health_path: /healthz
    env:
      LOG_LEVEL: info
      "GREETING": hello
"""
ENV_FILE = "# of production\nDATABASE_URL=postgres://db\nexport REDIS_URL=redis://r\n"


@pytest.fixture
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    (tmp_path / "app").mkdir()
    (tmp_path / "app" / ".env.production").write_text(ENV_FILE)
    (tmp_path / "production.yml").write_text(INVENTORY.replace("APP", str(tmp_path / "app")))
    monkeypatch.chdir(tmp_path)
    inventory = load_inventory(tmp_path / "production.yml")
    plan = make_host_plan("web1", inventory, env="production", project=PROJECT)
    variables = resolve_variables(plan)
    return find_places(read_settings(variables, PROJECT), variables, "app/ecosystem.config.js")


def test_a_value_that_changed_is_told_with_its_variable_file_and_line(places: dict[str, str]) -> None:
    old = {"apps": [{"name": "web", "health": "/", "instances": 1,
                     "env": {"LOG_LEVEL": "x", "GREETING": "x", "DATABASE_URL": "x", "OTHER": "x"}}]}  # fmt: skip
    new = {"apps": [{"name": "web", "health": "/healthz", "instances": 2,
                     "env": {"LOG_LEVEL": "y", "GREETING": "y", "DATABASE_URL": "y", "REDIS_URL": "y",
                             "PORT": "1"}}]}  # fmt: skip
    assert app_changes(old, new, places) == [
        "app web: health / -> /healthz (health_path, production.yml:6)",
        "app web: instances 1 -> 2 (app/ecosystem.config.js)",
        "app web: variable DATABASE_URL changes (.env.production:2)",
        "app web: variable GREETING changes (env.GREETING, production.yml:9)",
        "app web: variable LOG_LEVEL changes (env.LOG_LEVEL, production.yml:8)",
        "app web: variable OTHER goes (app/ecosystem.config.js)",
        f"app web: variable PORT is new (port, {places['env.PORT'].partition(', ')[2]})",
        "app web: variable REDIS_URL is new (.env.production:3)",
    ]
    assert "roles/app/role.yml:" in places["env.PORT"]


def test_a_health_check_a_command_and_a_handler_that_changed_are_told(places: dict[str, str]) -> None:
    run = {"kind": "command", "run": ["make", "ready"]}
    reload = {"kind": "reload", "name": "reload x", "unit": "x.service"}
    old = Plan([run], [], [reload], {"path": "/", "seconds": 10})
    new = Plan([{"kind": "command", "run": ["make", "more"]}], [], [{**reload, "unit": "y.service"}],
               {"path": "/healthz", "seconds": 10, "site_port": 80})  # fmt: skip
    assert plan_changes(old, old, places) == []
    path, port, *rest = plan_changes(old, new, places)
    assert path == "the health check's path / -> /healthz (health_path, production.yml:6)"
    assert port.startswith("the health check's site_port none -> 80 (nginx_port, ")
    assert rest == ["command 'make more' is new", "command 'make ready' goes", "handler 'reload x' changes"]
