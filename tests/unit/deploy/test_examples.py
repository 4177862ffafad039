"""examples/: what `init` proposes for each app is what its files say, and its README names what they say beyond that."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from percore.deploy.build.package_manager import recognize
from percore.deploy.inventory import find_inventory, load_inventory
from percore.deploy.plan.host_plan import make_host_plan
from percore.deploy.plan.settings import read_settings
from percore.deploy.plan.variables import resolve_variables
from percore.deploy.report import Report
from percore.deploy.scaffold.init import InitWish, init
from percore.deploy.shipped import shipped_directory
from percore.supervisor.config.process_file import load_process_file

EXAMPLES = shipped_directory() / "examples"
NAMES = ["django", "fastapi-celery", "nestjs", "nextjs"]
OWN = ("ecosystem.*", "inventories", "tasks.py", ".env.*", "node_modules", ".next", "dist", ".percore")

# What an example says otherwise than `init`, with the reason that stands in its README.
OTHERWISE: dict[str, dict[str, Any]] = {
    "django": {"port": 8000},
    "fastapi-celery": {},
    "nestjs": {},
    "nextjs": {},
}


@pytest.fixture(params=NAMES)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def proposal(name: str, tmp_path: Path) -> Path:
    """The example's sources, with what `init` makes of them."""
    if shutil.which("node") is None:
        pytest.skip("the process file is evaluated by Node")
    app = tmp_path / apps_of(EXAMPLES / name)[0]["name"]
    shutil.copytree(EXAMPLES / name, app, ignore=shutil.ignore_patterns(*OWN))
    for env in ("production", "local"):
        init(InitWish(env, app, app, "deployer@web[1:2].example.com"), Report(quiet=True))
    return app


def process_file(app: Path) -> Path:
    return next(iter(app.glob("ecosystem.*")))


def apps_of(app: Path) -> list[dict[str, Any]]:
    found = load_process_file(str(process_file(app))).apps
    return [
        {
            "name": one.name, "script": one.script, "mode": one.mode, "instances": one.instances, "health": one.health,
            "port": one.env.get("PORT"), "kill_timeout": one.kill_timeout,
        }
        for one in found
    ]  # fmt: skip


def variables_of(path: Path) -> dict[str, Any]:
    content: dict[str, Any] = yaml.safe_load(path.read_text())
    variables: dict[str, Any] = content["all"]["vars"] if "all" in content else content
    return {name: value for name, value in variables.items() if name != "percore_version"}


def test_init_proposes_the_process_file_of_the_example(name: str, proposal: Path) -> None:
    assert process_file(proposal).name == process_file(EXAMPLES / name).name
    readme = (EXAMPLES / name / "README.md").read_text()
    for made, written in zip(apps_of(proposal), apps_of(EXAMPLES / name), strict=True):
        assert written["script"].split(" --concurrency")[0].endswith(made["script"].rpartition(proposal.name)[2])
        if written["kill_timeout"] != made["kill_timeout"]:
            assert f"kill_timeout: {written['kill_timeout'] * 1000:.0f}" in readme
        for key in ("name", "mode", "instances", "health"):
            assert written[key] == made[key], f"{name}: {key}"


@pytest.mark.parametrize("file", ["production/group_vars/all.yml", "local.yml"])
def test_init_proposes_the_variables_of_the_example(name: str, proposal: Path, file: str) -> None:
    made, written = (variables_of(top / "inventories" / file) for top in (proposal, EXAMPLES / name))
    differ = {key: value for key, value in made.items() if written.get(key) != value}
    expected = dict(OTHERWISE[name])
    if file == "production/group_vars/all.yml":
        expected |= {key: differ[key] for key in ("nginx_static",) if key in differ and key in written}
    assert differ == expected
    readme = (EXAMPLES / name / "README.md").read_text()
    inherent = {"server_name", "node_version", "ansible_user", "ansible_become", "nginx_gzip"}
    for key in written.keys() - made.keys() - inherent:
        assert f"`{key}" in readme, f"the README does not say why {key} is there"


def test_an_example_is_read_by_a_deploy_and_has_all_that_a_repository_needs(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("POSTGRESQL_PASSWORD", "some word")
    app = tmp_path / name
    shutil.copytree(EXAMPLES / name, app, ignore=shutil.ignore_patterns("node_modules", ".next", "dist"))
    example = (app / ".env.production.example").read_text()
    (app / ".env.production").write_text(example.replace("SECRET_KEY=", "SECRET_KEY=some-word"))
    inventory = load_inventory(find_inventory("production", app / "inventories"))
    assert list(inventory.hosts) == ["web1.example.com", "web2.example.com"]
    variables = resolve_variables(make_host_plan("web1.example.com", inventory, env="production", project=app))
    settings = read_settings(variables, app)
    assert settings.path == app / "."
    assert "make_namespace(__file__)" in (app / "tasks.py").read_text()
    assert len((app / "tasks.py").read_text().splitlines()) == 3
    assert ".env.production" in (app / ".gitignore").read_text().splitlines()


def test_a_lock_file_pins_every_dependency_and_names_no_registry(name: str) -> None:
    app = EXAMPLES / name
    if (app / "package.json").is_file():
        assert recognize(app, None).lock == "package-lock.json"
        packages = json.loads((app / "package-lock.json").read_text())["packages"]
        for path, package in packages.items():
            if path and not package.get("link"):
                assert package.get("integrity"), path
                assert "resolved" not in package, path
        return
    text = (app / "requirements.txt").read_text()
    assert "://" not in text
    assert "sha256:" in text
