"""What `percore runtime` makes of a process file in an image of `invoke image`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from percore.supervisor.commands.runtime import make_runtime_parser, read_apps
from percore.supervisor.config.app import AppConfig

APPS = [
    {"name": "api", "script": "a.js", "exec_mode": "cluster", "env": {"PORT": 3000, "MODE": "file"}},
    {"name": "own", "script": "a.js", "exec_mode": "cluster", "health": "/own"},
    {"name": "worker", "script": "a.js"},
]


def apps_with(folder: Path, monkeypatch: pytest.MonkeyPatch, **env: str) -> dict[str, AppConfig]:
    (folder / "a.js").touch()
    (folder / "apps.json").write_text(json.dumps({"apps": APPS}))
    for name, value in env.items():
        monkeypatch.setenv(name, value)
    return {app.name: app for app in read_apps(make_runtime_parser().parse_args([str(folder / "apps.json")]))}


def test_variables_that_the_inventory_names_win_over_the_process_file_and_others_do_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    env = {"PORT": "5000", "MODE": "container", "TOKEN": "x"}
    assert apps_with(tmp_path, monkeypatch, **env)["api"].env == {"PORT": "3000", "MODE": "file"}
    found = apps_with(tmp_path, monkeypatch, PERCORE_OVERRIDES="PORT,TOKEN,MISSING")
    assert found["api"].env == {"PORT": "5000", "MODE": "file", "TOKEN": "x"}
    assert found["worker"].env == {"PORT": "5000", "TOKEN": "x"}


def test_clustered_apps_are_asked_at_the_path_of_the_inventory_unless_they_have_their_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = apps_with(tmp_path, monkeypatch, PERCORE_HEALTH="/health")
    assert {name: app.health for name, app in found.items()} == {"api": "/health", "own": "/own", "worker": None}


@pytest.mark.parametrize(("written", "shown"), [("20260102030405-1a2b3c4d", "20260102030405-1a2b3c4d"), ("../x", "")])
def test_workers_know_the_release_of_their_image(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, written: str, shown: str
) -> None:
    assert {app.release for app in apps_with(tmp_path, monkeypatch, PERCORE_RELEASE=written).values()} == {shown}
