"""An app's own repository, deployed to a host of the lab with percore installed from its wheel."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from percore.lab import Lab
from tests.installed import Repository, install, make_shop


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    lab = Lab.up(1, name=f"own{os.getpid()}", project=tmp_path_factory.mktemp("lab"))
    yield lab
    lab.down()


def reach(repository: Repository, lab: Lab) -> None:
    """The lab's way to its host, beside what `init` wrote."""
    variables = yaml.safe_load(lab.inventory.read_text())["all"]["vars"]
    own = {name: value for name, value in variables.items() if name.startswith("ansible_")}
    own["ansible_host"] = lab.hosts[0].address
    path = repository.directory / "inventories" / "production" / "group_vars" / "app.yml"
    path.write_text(yaml.safe_dump(own, width=1000))


def test_three_commands_make_an_app_serve_on_a_host(lab: Lab, tmp_path: Path) -> None:
    make_shop(tmp_path / "shop", 3100)
    shop = Repository(tmp_path / "shop", install(tmp_path / "installed", "[deploy]"))
    shop.type(f"percore init --env production --hosts root@{lab.hosts[0].name}")
    reach(shop, lab)
    example = (shop.directory / ".env.production.example").read_text()
    (shop.directory / ".env.production").write_text(example.replace("LOG_LEVEL=info", "LOG_LEVEL=warn"))
    assert "done: 1 host" in shop.type("invoke deploy --env production")
    answer = lab.inside(["curl", "-sf", "-m", "5", f"http://{lab.hosts[0].address}/"])
    assert json.loads(answer.stdout)["level"] == "warn"
    shop.type("invoke startup")  # the only environment that is not this machine
    assert "nothing to change" in shop.type("invoke deploy --env production")
