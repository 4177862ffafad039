"""Builds: once for the same source, into the same bytes, and with one clear line when they fail."""

from __future__ import annotations

import dataclasses
import json
import shutil
import tarfile
from pathlib import Path
from typing import Any

import pytest

from percore.deploy.build import app as build_module
from percore.deploy.build import commands
from percore.deploy.build.app import build
from percore.deploy.build.app import hash_source as hash_of
from percore.deploy.build.artifact import Artifact
from percore.deploy.build.host_package import make_package
from percore.deploy.build.source_tree import BuildError
from percore.deploy.plan.host_plan import make_plan
from percore.deploy.plan.settings import AppSettings
from percore.errors import PreflightError, UsageError
from tests.archives import unpack
from tests.unit.deploy.planned import settings_of

PROJECT = Path(__file__).resolve().parents[3]
PROCESS_FILE = {"apps": [{"name": "web", "script": "./dist/web.js"}]}
BUILD = 'mkdir -p dist && cp web.js dist/web.js && echo built >> "$COUNT"'


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An app without dependencies: its build copies a file and counts how often it ran."""
    app = tmp_path / "web"
    app.mkdir()
    (app / "web.js").write_text("require('http').createServer().listen(process.env.PORT)")
    (app / "ecosystem.json").write_text(json.dumps(PROCESS_FILE))
    (app / "package.json").write_text(json.dumps({"name": "web", "version": "1.0.0"}))
    (app / "build.sh").write_text(BUILD)
    (app / ".env").write_text("SECRET=1")
    monkeypatch.setenv("COUNT", str(tmp_path / "count"))
    return tmp_path


def settings(project: Path, **variables: Any) -> AppSettings:
    given = {"app_name": "web", "app_path": "web", "build_command": "sh build.sh", **variables}
    plan = make_plan("here", given, env="test", project=PROJECT)
    return dataclasses.replace(settings_of(plan), path=project / "web")


def make(project: Path, **variables: Any) -> Artifact:
    return build(settings(project, **variables), project, lambda _: None)


def hash_source(wanted: AppSettings) -> str:
    return hash_of(wanted, wanted.path.parent)


def builds(project: Path) -> int:
    return len((project / "count").read_text().splitlines())


def names(artifact: Artifact) -> list[str]:
    with tarfile.open(artifact.path) as tar:
        return tar.getnames()


def test_the_same_source_is_built_once(project: Path) -> None:
    first = make(project)
    second = make(project)
    assert first.was_built
    assert not second.was_built
    assert second.sha256 == first.sha256
    assert builds(project) == 1
    assert "dist/web.js" in names(first)


def test_without_a_build_command_npm_runs_the_script_of_that_name(project: Path) -> None:
    (project / "web" / "package.json").write_text(json.dumps({"name": "web", "scripts": {"build": "sh build.sh"}}))
    assert "dist/web.js" in names(make(project, build_command=""))


def test_a_changed_source_is_built_again_and_changed_back_comes_from_the_cache(project: Path) -> None:
    first = make(project)
    source = (project / "web" / "web.js").read_text()
    (project / "web" / "web.js").write_text(source + "// changed")
    assert make(project).sha256 != first.sha256
    (project / "web" / "web.js").write_text(source)
    assert make(project).sha256 == first.sha256
    assert builds(project) == 2


def test_two_builds_of_one_source_give_the_same_bytes(project: Path) -> None:
    first = make(project)
    shutil.rmtree(project / ".percore")
    assert make(project).sha256 == first.sha256


def test_the_apps_own_folder_is_not_touched_and_secrets_stay_out(project: Path) -> None:
    before = sorted(path.name for path in (project / "web").iterdir())
    artifact = make(project)
    assert sorted(path.name for path in (project / "web").iterdir()) == before
    assert ".env" not in names(artifact)


def test_leftover_results_and_dependencies_do_not_count_as_source(project: Path) -> None:
    before = hash_source(settings(project))
    for name in ("dist", "node_modules"):
        (project / "web" / name).mkdir()
        (project / "web" / name / "old.js").write_text("old")
    assert hash_source(settings(project)) == before


def test_excluded_patterns_are_not_deployed(project: Path) -> None:
    (project / "web" / "notes.md").write_text("notes")
    assert "notes.md" in names(make(project))
    assert "notes.md" not in names(make(project, artifact_exclude=["*.md"]))


def test_a_damaged_cache_is_built_anew(project: Path) -> None:
    first = make(project)
    first.path.write_bytes(b"damaged")
    second = make(project)
    assert second.was_built
    assert second.sha256 == first.sha256


def test_a_failing_build_ends_with_its_own_last_lines(project: Path) -> None:
    (project / "web" / "fail.sh").write_text("echo the compiler is unhappy; exit 3")
    with pytest.raises(BuildError, match="exit code 3; nothing was deployed") as caught:
        make(project, build_command="sh fail.sh")
    assert caught.value.detail == "the compiler is unhappy"
    assert caught.value.exit_code == 3


def test_a_failing_build_shows_the_cause_that_a_page_of_advice_follows(project: Path) -> None:
    """As `npm ci` does where the lock file does not fit: the cause, then all its options."""
    options = "".join(f"echo npm error --option-{number}; " for number in range(60))
    cause = "echo 'npm error code EUSAGE'; echo npm error; echo 'npm error Missing: left-pad@1.3.0 from lock file'; "
    (project / "web" / "fail.sh").write_text(f"echo added; {cause}{options}exit 1")
    with pytest.raises(BuildError) as caught:
        make(project, build_command="sh fail.sh")
    lines = caught.value.detail.splitlines()
    assert "npm error Missing: left-pad@1.3.0 from lock file" in lines
    assert lines[-1] == "npm error --option-59"
    assert len(lines) <= commands.CAUSE_LINES + 1 + commands.OUTPUT_LINES


def test_a_build_that_leaves_no_script_is_told_with_the_app(project: Path) -> None:
    with pytest.raises(BuildError, match=r"ecosystem\.json: the build left no 'dist/web\.js', which app 'web' runs"):
        make(project, build_command="true")


def test_a_build_command_that_does_not_exist_is_named(project: Path) -> None:
    with pytest.raises(BuildError, match=r"ended with exit code 127.*install what it calls") as caught:
        make(project, build_command="no-such-builder --all")
    assert "no-such-builder: not found" in caught.value.detail


def test_a_build_that_is_killed_is_no_fault_of_the_app(project: Path) -> None:
    with pytest.raises(BuildError, match=r"was killed by signal 9; nothing was deployed -> see whether memory ran out"):
        make(project, build_command="kill -9 $$")


def test_a_build_that_does_not_end_is_ended_with_all_that_it_started(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(commands, "BUILD_SECONDS", 1)
    with pytest.raises(BuildError, match="did not end within 1 s"):
        make(project, build_command="sleep 1000 & sleep 1000; true")


def test_a_missing_app_or_process_file_is_a_usage_error(project: Path) -> None:
    (project / "web" / "ecosystem.json").unlink()
    with pytest.raises(UsageError, match="there is no process file"):
        make(project)
    shutil.rmtree(project / "web")
    with pytest.raises(UsageError, match="does not exist -> set app_path"):
        make(project)


def test_missing_tools_are_named_with_the_command_that_installs_them(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(build_module.os, "geteuid", lambda: 1000)
    found = {"apt-get": "/usr/bin/apt-get"}
    monkeypatch.setattr(commands.shutil, "which", lambda name, path=None: found.get(name))
    with pytest.raises(PreflightError, match="node and npm are missing here -> sudo apt-get install -y nodejs npm"):
        make(project)


def test_the_on_host_package_is_made_once_and_runs_alone(tmp_path: Path) -> None:
    import platform
    import subprocess
    import sys

    kind = {"system": platform.system(), "machine": platform.machine()}
    package = make_package(tmp_path, **kind)
    assert make_package(tmp_path, **kind) == package
    unpack(package.path, tmp_path / package.id)
    done = subprocess.run(
        [sys.executable, "-I", "-S", str(tmp_path / package.id), "status", "--json"],
        capture_output=True,
        text=True,
        env={"PERCORE_HOME": str(tmp_path / "home")},
        check=True,
    )
    assert json.loads(done.stdout)["apps"] == []
