"""An app's own repository, from nothing to serving, with percore installed from its wheel and this checkout out of sight."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.installed import Repository, install, make_shop
from tests.waiting import free_port


@pytest.fixture(scope="module")
def commands(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return install(tmp_path_factory.mktemp("installed"), "[deploy]")


@pytest.fixture
def shop(tmp_path: Path, commands: Path) -> Iterator[Repository]:
    directory = tmp_path / 'a shop\'s "$HOME" in München'
    make_shop(directory, free_port())
    repository = Repository(directory, commands)
    yield repository
    if (directory / "inventories" / "local.yml").exists():
        repository.type("invoke stop --env local")


def test_two_commands_make_an_app_serve_on_this_machine(shop: Repository) -> None:
    assert "next: invoke deploy --env local" in shop.type("percore init --env local")
    told = shop.type("invoke deploy --env local")
    url = next(word for word in told.split() if word.startswith("http://"))
    with urllib.request.urlopen(f"{url}anything", timeout=5) as answer:
        assert json.load(answer)["pid"] > 0
    assert "shop" in shop.type("invoke status", inside="src")  # from anywhere in it
    assert "nothing to change" in shop.type("invoke plan --env ../inventories/local.yml", inside="src")
    assert "roles/app/role.yml" in shop.type("invoke roles")
    seen = shop.type("git status --porcelain").split()[1::2]
    assert not [name for name in seen if name.startswith(".percore")]


def test_an_environment_of_hosts_is_begun_built_and_explained_without_reaching_one(shop: Repository) -> None:
    told = shop.type("percore init --env production --hosts 'deployer@web[1:3].example.com'")
    assert "next: invoke deploy --env production" in told
    assert "does not ignore" not in told
    shop.type("cp .env.production.example .env.production")
    assert "web2.example.com" in shop.type("invoke inventory --env production")
    explained = shop.type("invoke explain --env production --host web1.example.com --var health_path")
    assert "inventories/production/group_vars/all.yml:" in explained
    shop.type("invoke build --env production")
    balancer = shop.directory / "build" / "nginx" / "production" / "shop.conf"
    assert "web3.example.com" in balancer.read_text()
    assert "init --env staging" in shop.type("invoke deploy --env staging", code=2)
    told = shop.type("invoke init --env staging --hosts 10.0.0.9")
    assert "kept   tasks.py" in told
    assert "10.0.0.9" in shop.type("invoke inventory --env staging")
    assert "--env production or --env staging" in shop.type("invoke startup", code=2)


def test_a_template_of_the_repository_wins_over_the_shipped_one(shop: Repository) -> None:
    shop.type("percore init --env production --hosts web1.example.com")
    (shop.directory / "templates").mkdir()
    (shop.directory / "templates" / "nginx-edge.conf.j2").write_text("# mine for {{ app_name }}\n")
    shop.type("invoke build --env production")
    balancer = shop.directory / "build" / "nginx" / "production" / "shop.conf"
    assert balancer.read_text() == "# mine for shop\n"
    listed = shop.type("invoke roles").splitlines()
    assert next(line for line in listed if "nginx-edge.conf" in line).endswith("project, instead of percore's")
