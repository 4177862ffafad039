"""A project of one's own: percore's roles and templates below its own, its environments, and what its hints say."""

from __future__ import annotations

import ast
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

import tasks
from percore import __version__
from percore.deploy.build.app import build
from percore.deploy.command_line import to_type
from percore.deploy.inventory import find_inventory
from percore.deploy.plan.host_plan import make_plan
from percore.deploy.plan.version import any_like
from percore.deploy.rollout.hosts import load_hosts
from percore.deploy.rollout.scope import Scope
from percore.deploy.shipped import UsedFile, shipped_directory, used_files
from percore.errors import PreflightError, UsageError
from percore.tasks.decorators import local_scope
from percore.tasks.environments import choose_environment
from tests.unit.deploy.apps import PROCESS_FILE, git, names, write
from tests.unit.deploy.planned import render_state, settings_of

ROOT = Path(__file__).resolve().parents[3]
KNOWN = {"facts": {}, "python_path": "/usr/bin/python3", "package_id": "abc123"}
APP = {"app_name": "shop", "app_path": "."}


def texts(project: Path, **variables: object) -> dict[str, str]:
    """The rendered files by path."""
    state = render_state(make_plan("web1", {**APP, **variables}, env="test", project=project), known=KNOWN)
    return {str(spec["path"]): state.files[spec["sha256"]].decode() for spec in state.resources() if "sha256" in spec}


def test_a_project_without_roles_has_those_that_percore_ships(tmp_path: Path) -> None:
    assert "proxy_pass" in texts(tmp_path)["/etc/nginx/sites-available/shop"]


def test_a_file_of_the_project_replaces_the_shipped_one_of_its_path_and_no_other(tmp_path: Path) -> None:
    write(tmp_path, {"templates/nginx-site.conf.j2": "# mine, port {{ port }}\n"})
    made = texts(tmp_path, port=3000)
    assert made["/etc/nginx/sites-available/shop"] == "# mine, port 3000\n"
    assert "ExecStart" in made["/etc/systemd/system/percore.service"]
    role = "defaults: {nginx: true, nginx_port: 80, server_name: _}\nfiles: [{path: /etc/own.conf, content: own}]\n"
    write(tmp_path, {"roles/nginx/role.yml": role})
    made = texts(tmp_path)
    assert made["/etc/own.conf"] == "own"
    assert "/etc/nginx/sites-available/shop" not in made


def test_a_role_of_the_project_uses_shipped_templates_and_may_require_shipped_roles(tmp_path: Path) -> None:
    role = "requires: [percore]\nfiles: [{path: /etc/launcher, template: percore.sh.j2}]\n"
    write(tmp_path, {"roles/own/role.yml": role})
    assert "python3" in texts(tmp_path, roles=["app", "own"])["/etc/launcher"]


def test_a_template_or_copied_file_of_the_role_in_the_project_comes_first(tmp_path: Path) -> None:
    write(tmp_path, {"roles/percore/templates/percore.sh.j2": "# mine\n"})
    assert texts(tmp_path)["/usr/local/bin/percore"] == "# mine\n"


def test_the_files_that_count_are_listed_with_where_they_come_from(tmp_path: Path) -> None:
    write(
        tmp_path,
        {
            "templates/nginx-site.conf.j2": "",
            "roles/own/role.yml": "",
            "roles/admin.ts": "an app may have a directory of this name",
            "templates/index.html": "and of this",
        },
    )
    found = {file.path: file for file in used_files(tmp_path)}
    assert found["templates/nginx-site.conf.j2"] == UsedFile("templates/nginx-site.conf.j2", False, True)
    assert found["roles/own/role.yml"] == UsedFile("roles/own/role.yml", False, False)
    assert found["roles/app/role.yml"].is_shipped
    assert not {"roles/admin.ts", "templates/index.html"} & set(found)


# -- which environment -----------------------------------------------------------------------------------------------


def inventories(project: Path, *names: str) -> Path:
    return write(project, {f"inventories/{name}.yml": "all: {hosts: {web1: }}\n" for name in names})


def test_without_env_a_task_is_about_this_machine_and_startup_about_the_only_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = inventories(tmp_path, "local", "production")
    monkeypatch.delenv("PERCORE_ENV", raising=False)
    assert choose_environment("", project, remote=False) == "local"
    assert choose_environment("", project, remote=True) == "production"
    assert choose_environment("staging", project, remote=True) == "staging"
    monkeypatch.setenv("PERCORE_ENV", "canary")
    assert choose_environment("", project, remote=True) == choose_environment("", project, remote=False) == "canary"


@pytest.mark.parametrize(
    ("names", "remote", "told"),
    [
        (["local", "production", "staging"], True, "could be meant -> --env production or --env staging, or set PERCORE_"),
        (["local"], True, "there is no environment but this machine -> invoke init --env production"),
        (["production", "staging"], False, "no environment 'local' -> --env production or --env staging"),
        ([], False, "there is no environment 'local' -> invoke init --env production"),
    ],
)  # fmt: skip
def test_where_no_environment_is_the_obvious_one_the_choices_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, names: list[str], remote: bool, told: str
) -> None:
    monkeypatch.delenv("PERCORE_ENV", raising=False)
    with pytest.raises(UsageError) as caught:
        choose_environment("", inventories(tmp_path, *names), remote=remote)
    assert told in str(caught.value)


def test_an_environment_that_is_missing_is_told_with_what_makes_it(tmp_path: Path) -> None:
    inventories(tmp_path, "local")
    with pytest.raises(UsageError, match="known: local; make it: invoke init --env production"):
        find_inventory("production", tmp_path / "inventories")


@pytest.mark.parametrize(
    ("path", "name"),
    [("deploy/staging.yml", "staging"), ("deploy/canary/hosts.yml", "canary"), ("deploy/eu", "eu")],
)
def test_an_environment_may_be_the_path_of_its_inventory(tmp_path: Path, path: str, name: str) -> None:
    write(tmp_path, {"deploy/staging.yml": "", "deploy/canary/hosts.yml": "", "deploy/eu/hosts.ini": ""})
    scope = local_scope(tmp_path, f"{tmp_path}/{path}")
    assert (scope.env, scope.inventory_path) == (name, tmp_path / path)
    assert scope.command("converge", "--limit a") == f"invoke converge --env {tmp_path}/{path} --limit a"


def test_a_path_without_an_inventory_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="there is no such file or directory"):
        local_scope(tmp_path, "./missing.yml")


# -- hints --------------------------------------------------------------------------------------------------------------


def test_hints_name_the_command_that_works_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PERCORE_RUN", "./run")
    assert Scope("eu", tmp_path).command("status") == "./run status --env eu"
    monkeypatch.setenv("PERCORE_RUN", "../my checkout/run")
    assert to_type("lab.up") == "'../my checkout/run' lab.up"
    monkeypatch.setattr(sys, "argv", ["invoke", "-c", "percore_tasks", "status"])
    assert Scope("eu", tmp_path).command("plan").endswith("run' -c percore_tasks plan --env eu")
    monkeypatch.setattr(sys, "argv", ["invoke", "status"])
    monkeypatch.delenv("PERCORE_RUN")
    write(tmp_path, {"invoke": ""})
    (tmp_path / "invoke").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert to_type("status") == "invoke status"
    monkeypatch.setenv("PATH", "/nowhere")
    assert to_type("status").endswith("python -m invoke status")


# -- the version that a project asks for ----------------------------------------------------------------------------------


def asked(project: Path, version: str) -> None:
    write(project, {"inventories/eu.yml": f"all:\n  hosts: {{web1: }}\n  vars:\n    percore_version: {version}\n"})
    load_hosts(Scope("eu", write(project, {"inventories/group_vars/all.yml": "app_name: shop\napp_path: .\n"})))


@pytest.mark.parametrize("version", ['""', '"0.1.0"', '"~=0.1"', '">=0.1,<0.3"'])
def test_a_project_may_ask_for_this_version(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, version: str) -> None:
    monkeypatch.setattr("percore.deploy.plan.version.__version__", "0.1.0")
    asked(tmp_path, version)


def test_another_version_refuses_before_anything_and_names_the_one_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("percore.deploy.plan.version.__version__", "0.1.0")
    told = r"eu.yml:4, host web1: this project asks for percore ~=0.2, and this is 0.1.0 -> pip install 'percore\[deploy\]~=0.2'"
    with pytest.raises(PreflightError, match=told):
        asked(tmp_path, '"~=0.2"')
    with pytest.raises(PreflightError, match=r"percore\[deploy\]==0.1.1', or see"):
        asked(tmp_path, "0.1.1")
    with pytest.raises(UsageError, match="percore_version 'newest' is no version"):
        asked(tmp_path, "newest")


@pytest.mark.parametrize("version", ["~=0.1.0", "0.1.0", ">=0.1,<0.3", "==0.1.*"])
def test_a_project_of_an_earlier_version_is_told_how_its_hosts_are_upgraded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, version: str
) -> None:
    monkeypatch.setattr("percore.deploy.plan.version.__version__", "1.3.2")
    with pytest.raises(PreflightError, match=r'or write "~=1.3" there to upgrade the hosts, or see docs/upgrading.md'):
        asked(tmp_path, f'"{version}"')


def test_what_init_writes_takes_this_version_and_later_ones_of_the_same_major(tmp_path: Path) -> None:
    assert [any_like(version) for version in ("1.0.0", "1.3.2", "2.0.1")] == ["~=1.0", "~=1.3", "~=2.0"]
    asked(tmp_path, f'"{any_like(__version__)}"')


# -- what of a project is no part of the app --------------------------------------------------------------------------------


def test_inventories_are_not_deployed_with_an_app_that_is_the_project(tmp_path: Path) -> None:
    write(
        tmp_path,
        {
            "ecosystem.json": PROCESS_FILE,
            "web.js": "",
            "inventories/eu.yml": "all: {vars: {token: plain}}",
            "build/nginx/eu/shop.conf": "upstream",
            "build/image/eu/shop.tar": "an image",
            "build/kubernetes/eu/shop.yaml": "a manifest",
            "build/page.html": "",
            "src/inventories/mine.json": "{}",
        },
    )
    plan = make_plan("here", {**APP, "app_name": "shop"}, env="eu", project=tmp_path)
    artifact = build(settings_of(plan), tmp_path, print)
    assert names(artifact) >= {"web.js", "build/page.html", "src/inventories/mine.json"}
    written = ("inventories", "build/nginx", "build/image", "build/kubernetes", ".percore")
    assert not [name for name in names(artifact) if name.startswith(written)]


def test_git_does_not_see_what_percore_writes_for_itself(tmp_path: Path) -> None:
    write(tmp_path, {"ecosystem.json": PROCESS_FILE, "web.js": ""})
    git(tmp_path, "init", "-q")
    build(settings_of(make_plan("here", APP, env="eu", project=tmp_path)), tmp_path, print)
    assert git(tmp_path, "status", "--porcelain").splitlines() == ["?? ecosystem.json", "?? web.js"]


# -- paths with any characters -----------------------------------------------------------------------------------------------


def test_the_command_on_a_host_works_in_a_directory_of_any_name(tmp_path: Path) -> None:
    odd = tmp_path / 'a shop\'s "$HOME" `in` München'
    (odd / "package" / "current").mkdir(parents=True)
    (odd / "package" / "current" / "__main__.py").write_text(
        "import os, sys; print(os.environ['PERCORE_HOME'], *sys.argv[1:])"
    )
    paths = {"percore_home": f"{odd}/home", "package_path": f"{odd}/package", "launcher_path": f"{odd}/percore"}
    plan = make_plan("here", {**APP, **paths, "service_manager": "process"}, env="local", project=tmp_path)
    state = render_state(plan, known={**KNOWN, "python_path": sys.executable})
    spec = next(spec for spec in state.resources() if spec.get("path") == f"{odd}/percore")
    script = tmp_path / "percore"
    script.write_bytes(state.files[spec["sha256"]])
    for home, told in (("", f"{odd}/home"), ("/else", "/else")):
        words = ["sh", str(script), "list", "a b"]
        done = subprocess.run(
            words, env={**os.environ, "PERCORE_HOME": home}, capture_output=True, text=True, check=True
        )
        assert done.stdout == f"{told} list a b\n"


def test_a_home_that_is_no_path_is_named_where_it_was_written_and_not_where_it_is_used(tmp_path: Path) -> None:
    text = "all:\n  hosts: {web1: }\n  vars:\n    app_name: a\n    app_path: .\n    percore_home: /srv/../home\n"
    with pytest.raises(UsageError) as raised:
        load_hosts(Scope("eu", write(tmp_path, {"inventories/eu.yml": text})))
    assert "inventories/eu.yml:6" in str(raised.value)
    assert "variable 'percore_home' should be an absolute path" in str(raised.value)


# -- what the README shows -----------------------------------------------------------------------------------------------


def test_the_inventory_of_the_readme_means_the_readers_app_in_a_clone(tmp_path: Path) -> None:
    root = shipped_directory()
    block = re.search(r"```yaml\n# inventories/production\.yml.*?\n(.*?)```", (root / "README.md").read_text(), re.S)
    assert block
    clone = tmp_path / "percore"
    shutil.copytree(root / "inventories", clone / "inventories", ignore=shutil.ignore_patterns("lab.yml"))
    write(clone, {"inventories/production.yml": block[1]})
    write(tmp_path / "shop", {"package.json": {}})
    hosts = load_hosts(Scope("production", clone))
    assert [host.name for host in hosts] == ["web1.example.com", "web2.example.com", "web3.example.com"]
    settings = hosts[0].settings
    assert (settings.name, settings.port, settings.health_path) == ("shop", 5000, "/health")
    assert settings.path.resolve() == tmp_path / "shop"
    assert [host.settings.name for host in load_hosts(Scope("local", clone))] == ["boltlink"]


def test_no_message_of_the_control_side_names_a_command_by_hand() -> None:
    """`to_type` and `Scope.command` know what works here: ./run in a clone, invoke elsewhere."""
    package = shipped_directory() / "percore"
    written = []
    for path in [*package.glob("deploy/**/*.py"), *package.glob("tasks/*.py")]:
        tree = ast.parse(path.read_text())
        bodies = [node.body for node in ast.walk(tree) if hasattr(node, "body") and isinstance(node.body, list)]
        loose = {id(body.value) for block in bodies for body in block if isinstance(body, ast.Expr)}  # docstrings
        texts = [node for node in ast.walk(tree) if isinstance(node, ast.Constant) and id(node) not in loose]
        written += [
            f"{path.relative_to(package)}:{node.lineno}"
            for node in texts
            if isinstance(node.value, str) and re.search(r"(\binvoke|\./run) [a-z-]", node.value)
        ]
    # What is written into files that a team shares, and what a host says, which does not know how we were started.
    assert [place for place in written if not place.startswith(("deploy/scaffold/", "deploy/rollout/host.py"))] == []


def test_the_page_on_several_projects_sets_what_there_is_and_types_what_can_be_typed() -> None:
    page = (ROOT / "docs" / "how-to" / "several-projects.md").read_text()
    known = {"app_name", *(name for path in ROOT.glob("roles/*/role.yml") for name in _defaults_of(path))}
    blocks = re.findall(r"```yaml\n(.*?)```", page, re.S)
    assert len(blocks) == 3
    for block in blocks:
        assert set(yaml.safe_load(block)) <= known
    verbs = re.findall(r"^invoke (\S+) --env production$", page, re.M)
    assert verbs == ["deploy", "remove"]
    assert set(verbs) <= set(tasks.namespace.task_names)


def _defaults_of(path: Path) -> dict[str, object]:
    defaults: dict[str, object] = yaml.safe_load(path.read_text()).get("defaults") or {}
    return defaults
