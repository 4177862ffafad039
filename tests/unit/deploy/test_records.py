"""What a release says of its apps: the process file, with the environment's own words in it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from percore.deploy.report import Report
from percore.deploy.rollout import wanted
from tests.unit.deploy.apps import make, settings, write


def record_of(app: Path, **variables: Any) -> dict[str, Any]:
    artifact = make(app)
    return dict(wanted._make_record(settings(app, **variables), artifact, Report(quiet=True)))


def test_the_block_of_the_environment_reaches_the_apps_and_process_env_names_another(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    web = {
        "name": "web", "script": "./web.js", "env": {"NODE_ENV": "development", "A": "1"},
        "env_test": {"NODE_ENV": "test"}, "env_other": {"NODE_ENV": "other"},
    }  # fmt: skip
    app = write(tmp_path / "app", {"web.js": "", "ecosystem.json": {"apps": [web]}})
    [found] = record_of(app)["apps"]
    assert (found["env"]["NODE_ENV"], found["env"]["A"]) == ("test", "1")
    [found] = record_of(app, process_env="other")["apps"]
    assert found["env"]["NODE_ENV"] == "other"
    [found] = record_of(app, env={"NODE_ENV": "mine"})["apps"]
    assert found["env"]["NODE_ENV"] == "mine", "the inventory wins"
    assert capsys.readouterr().err == ""
