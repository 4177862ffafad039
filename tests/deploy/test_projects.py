"""Two projects, and two environments of one, that share a supervisor: none takes anything of the other."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from percore.deploy import operations
from percore.deploy.report import Report
from percore.deploy.rollout.scope import Scope
from percore.deploy.rollout.verbs import known_release, rollout
from percore.errors import PreflightError, RolloutError
from tests.deploy.project import Project
from tests.waiting import free_port


class Second:
    """Another environment of the project, with variables of its own."""

    def __init__(self, project: Project) -> None:
        self._project = project.folder
        self.folder = project.folder / ".staging"
        self._path = project.folder / "inventories" / "staging.yml"
        shutil.copy(project.folder / "inventories" / "local.yml", self._path)
        self.set(port=free_port())

    @property
    def scope(self) -> Scope:
        """That of a run of its own, which reads the inventory anew."""
        return Scope("staging", self._project)

    def set(self, **variables: Any) -> None:
        content = yaml.safe_load(self._path.read_text())
        content["all"]["vars"].update(variables)
        self._path.write_text(yaml.safe_dump(content))

    def deploy(self) -> None:
        rollout.deploy(self.scope, Report(quiet=True))

    def refused(self) -> str:
        with pytest.raises(PreflightError) as caught:
            self.deploy()
        return str(caught.value)


def write_app(folder: Path, *names: str) -> None:
    folder.mkdir()
    apps = [{"name": name, "script": "./app.js"} for name in names]
    (folder / "ecosystem.json").write_text(json.dumps({"apps": apps}))
    (folder / "package.json").write_text('{"name": "blog"}')
    (folder / "app.js").write_text("setInterval(() => {}, 1000);")


@pytest.fixture
def second(serving: Project) -> Iterator[Second]:
    yield Second(serving)
    serving.percore("kill")  # a stop leaves the supervisor to the other project


def test_two_environments_share_a_supervisor_and_nothing_else(serving: Project, second: Second) -> None:
    before, release, place = serving.pids(), serving.current, serving.folder / ".percore"
    assert (
        f"{place} belongs to 'web' in environment 'local', and this is 'web' in environment 'staging'"
        in second.refused()
    )
    with pytest.raises(PreflightError, match="belongs to 'web' in environment 'local'"):
        operations.stop(second.scope, Report(quiet=True))
    second.set(deploy_to=str(second.folder))
    assert f"there is an app 'web' of 'web' in environment 'local' ({place}) here, and this project has one, too" in (
        second.refused()
    )
    write_app(serving.folder / "blog", "blog", "cron")
    second.set(app_path="blog", app_name="blog", port=serving.port, health_path="")
    assert f"port {serving.port} is in use by app 'web' of 'web' in environment 'local'" in second.refused()
    second.set(port="")
    second.deploy()
    (serving.folder / "blog" / "app.js").write_text("setInterval(() => {}, 2000);")
    second.deploy()
    known_release.rollback(second.scope, Report(quiet=True))
    (serving.folder / "blog" / "app.js").write_text("process.exit(1);")
    with pytest.raises(RolloutError):
        second.deploy()
    operations.stop(second.scope, Report(quiet=True))
    assert (serving.pids(), serving.current) == (before, release), "nothing of all that touched the first project"

    second.set(app_name="journal", deploy_to=str(second.folder))
    assert "if it was renamed, set renamed_from: blog/staging" in second.refused()
    (serving.folder / "blog" / "app.js").write_text("setInterval(() => {}, 3000);")
    second.set(renamed_from="blog")
    second.deploy()
    assert {app["name"] for app in json.loads(serving.percore("status", "--json"))["apps"]} == {
        "web",
        "tick",
        "blog",
        "cron",
    }
    operations.stop(second.scope, Report(quiet=True))
    assert serving.ask()["text"] == "one"
    assert serving.pids() == before
