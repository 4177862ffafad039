"""What would go from a host with an app, and what stays."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from percore.errors import PreflightError
from percore.host.messages import TargetPaths
from percore.host.release.removal import data_left, plan_removal
from percore.host.release.target import Target

RELEASE, OTHER = "20260101120000-aaaaaaaa", "20260102120000-bbbbbbbb"


class Host:
    """An app with a file elsewhere and shared data, and a supervisor that says what the test wants."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder = folder
        self.deploy_to, self.home, self.package = folder / "srv/shop", folder / "home", folder / "opt"
        self.launcher, self.config = folder / "bin/percore", folder / "etc/shop.conf"
        self.asked: list[tuple[str, ...]] = []
        paths = TargetPaths(str(self.deploy_to), [str(self.launcher)], str(self.home), str(self.package))
        self.put(
            self.launcher, self.config, self.home / "logs/web.log", self.home / "state.json", self.package / "0a1b/x.py"
        )
        release = self.deploy_to / "releases" / RELEASE
        self.put(self.deploy_to / "releases.json", self.deploy_to / "shared/uploads/a.jpg", release / "web.js")
        (release / ".percore.json").write_text(json.dumps({"apps": [{"name": "web"}, {"name": "job"}]}))
        before = [{"kind": "file", "path": str(path), "sha256": "0" * 64} for path in (self.launcher, self.config)]
        before.append({"kind": "link", "path": str(self.package / "current"), "to": "0a1b"})
        (release / ".percore").mkdir()
        (release / ".percore/activation.json").write_text(json.dumps({"before": before, "after": []}))
        (self.deploy_to / "current").symlink_to(f"releases/{RELEASE}")
        (self.package / "current").symlink_to("0a1b")
        self.target = Target(paths)
        monkeypatch.setattr(type(self.target.supervisor), "ask", lambda _, *words: self.asked.append(words))
        self.runs(web=RELEASE, job=RELEASE)

    @staticmethod
    def put(*paths: Path) -> None:
        for path in paths:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("x")

    def runs(self, *, daemon: bool = True, **apps: str) -> None:
        found = [{"name": name, "workers": [{"release": release}]} for name, release in apps.items()]
        status: dict[str, Any] = {"apps": found, "daemon": daemon}
        self.target.whole_status = lambda: status  # type: ignore[method-assign]

    def remove(self, *, data: bool = False) -> list[str]:
        steps = plan_removal(self.target, with_data=data)
        for step in steps:
            step.work()
        return [step.text for step in steps]

    def files(self) -> set[str]:
        return {str(path.relative_to(self.folder)) for path in self.folder.rglob("*") if not path.is_dir()}


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Host:
    return Host(tmp_path, monkeypatch)


def test_the_last_app_goes_with_percore_and_its_data_stays(host: Host) -> None:
    before = host.files()
    listed = [step.text for step in plan_removal(host.target, with_data=False)]
    assert host.files() == before, "a list touches nothing"
    assert host.remove() == listed == [
        "end app web", "end app job", f"remove {host.config}", "end the supervisor", f"remove {host.launcher}",
        f"remove percore's state and the logs in {host.home}", f"remove percore's code in {host.package}",
        f"remove 1 release in {host.deploy_to}",
    ]  # fmt: skip
    assert host.asked == [("delete", "web"), ("delete", "job"), ("kill",)]
    assert host.files() == {"srv/shop/shared/uploads/a.jpg"}
    assert data_left(host.target) == str(host.deploy_to / "shared")
    host.runs(daemon=False)
    assert host.remove() == []
    assert f"remove {host.deploy_to}/shared, with the app's data" in host.remove(data=True)
    assert not host.deploy_to.exists()
    assert data_left(host.target) == ""


def test_percore_stays_while_another_project_has_an_app(host: Host) -> None:
    host.runs(web=RELEASE, job=OTHER, blog=OTHER)
    assert host.remove() == ["end app web", f"remove {host.config}", f"remove 1 release in {host.deploy_to}"]
    assert {"bin/percore", "home/state.json", "opt/0a1b/x.py"} <= host.files()


def test_apps_of_others_are_known_also_when_the_supervisor_is_down(host: Host) -> None:
    state = {"apps": [{"config": {"name": "web"}}, {"config": {"name": "blog"}}]}
    (host.home / "state.json").write_text(json.dumps(state))
    host.runs(daemon=False)
    before = host.files()
    with pytest.raises(PreflightError, match="the supervisor does not run, and has other apps too"):
        host.remove()
    assert host.files() == before
    (host.home / "state.json").write_text(json.dumps({"apps": state["apps"][:1]}))
    assert "end the supervisor" not in host.remove()
    assert not host.launcher.exists()


def test_everything_goes_that_percore_makes_beside_the_releases(host: Host) -> None:
    releases = host.target.releases
    parts = [*vars(releases).values(), releases.marks.path, releases.history.path]
    paths = {Path(part) for part in parts if isinstance(part, str)} - {host.deploy_to, host.deploy_to / "shared"}
    assert {"placement.json", "placed.json", "releases.json", "history.jsonl", ".lock"} <= {path.name for path in paths}
    host.put(*(path for path in paths if not path.exists()))
    host.remove()
    assert host.files() == {"srv/shop/shared/uploads/a.jpg"}


def test_what_is_not_percores_stays_in_its_directories(host: Host) -> None:
    host.put(host.deploy_to / "notes.txt", host.home / ".ssh/config", host.package / "other/x")
    host.remove(data=True)
    assert host.files() == {"srv/shop/notes.txt", "home/.ssh/config", "opt/other/x"}


def test_a_host_without_anything_has_nothing_to_remove(tmp_path: Path) -> None:
    paths = TargetPaths(*[str(tmp_path / "a"), [str(tmp_path / "b")], str(tmp_path / "c"), str(tmp_path / "d")])
    assert plan_removal(Target(paths), with_data=True) == []
    assert os.listdir(tmp_path) == []
