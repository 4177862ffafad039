"""Python apps: dependencies by their lock file, as wheels for the hosts, and the commands that they bring."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from percore.deploy.build import python
from percore.deploy.build.python import BuildTarget
from percore.deploy.build.source_tree import BuildError
from percore.deploy.report import Report
from percore.deploy.rollout import wanted
from tests.unit.deploy.apps import make, names, settings, wheel, write

HERE = BuildTarget("Linux", "x86_64", f"{sys.version_info[0]}.{sys.version_info[1]}", "2.36")
BOOKWORM = BuildTarget("Linux", "x86_64", "3.11", "2.36")
TRIXIE = BuildTarget("Linux", "x86_64", "3.13", "2.41")


@pytest.fixture
def wheels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The only packages that there are: nothing is fetched."""
    directory = tmp_path / "wheels"
    wheel(directory, "server", script="serve")
    wheel(directory, "tool", script="check")
    for tag in ("cp311-cp311-manylinux_2_17_x86_64", "cp313-cp313-manylinux_2_17_x86_64"):
        wheel(directory, "native", tag=tag)
    wheel(directory, "newest", tag="py3-none-manylinux_2_38_x86_64")
    for name, value in {
        "UV_NO_INDEX": "1",
        "UV_FIND_LINKS": str(directory),
        "UV_CACHE_DIR": str(tmp_path / "uv"),
    }.items():
        monkeypatch.setenv(name, value)
    return directory


@pytest.fixture
def app(tmp_path: Path, wheels: Path) -> Path:
    process_file = {
        "apps": [{"name": "web", "script": "serve", "args": "--all"}, {"name": "job", "script": "check -v | cat"}]
    }
    return write(tmp_path / "web", {"app.py": "", "ecosystem.json": process_file})


def tag_of(tree: Path) -> str:
    found = {}
    exec((tree / "python_packages" / "native" / "__init__.py").read_text(), found)
    return str(found["TAG"])


@pytest.mark.parametrize(("target", "tag"), [(BOOKWORM, "cp311"), (TRIXIE, "cp313")])
def test_wheels_are_those_for_the_python_of_the_hosts(app: Path, target: BuildTarget, tag: str) -> None:
    write(app, {"requirements.txt": "native\n"})
    artifact = make(app, target=target)
    assert tag_of(artifact.tree).startswith(tag)
    assert artifact.python == target.title


@pytest.mark.parametrize(
    ("name", "target"),
    [
        ("native", BuildTarget("Linux", "x86_64", "3.12", "2.36")),
        ("native", BuildTarget("Linux", "aarch64", "3.11", "2.36")),
        ("native", BuildTarget("Linux", "x86_64", "3.11", "musl")),
        ("newest", BOOKWORM),
    ],
)
def test_a_package_without_a_wheel_for_the_hosts_ends_the_build(app: Path, name: str, target: BuildTarget) -> None:
    write(app, {"requirements.txt": f"{name}\n"})
    with pytest.raises(BuildError, match=f"if it has no wheel for Python {target.python} on {target.machine}"):
        make(app, target=target)


def test_a_newer_host_takes_newer_wheels(app: Path) -> None:
    write(app, {"requirements.txt": "newest\n"})
    assert "python_packages/newest/__init__.py" in names(make(app, target=TRIXIE))


def test_the_same_source_for_other_hosts_is_another_artifact(app: Path) -> None:
    write(app, {"requirements.txt": "native\n"})
    first = make(app, target=BOOKWORM)
    assert make(app, target=TRIXIE).sha256 != first.sha256
    assert not make(app, target=BOOKWORM).was_built


PROJECT: dict[str, Any] = {"name": "web", "version": "1.0"}


def test_dependencies_of_a_plain_pyproject_are_installed(app: Path) -> None:
    write(app, {"pyproject.toml": '[project]\nname = "web"\nversion = "1"\ndependencies = ["server"]\n'})
    assert "python_packages/server/__init__.py" in names(make(app, target=HERE))


def test_a_pyproject_that_only_configures_tools_is_no_manifest(app: Path) -> None:
    write(app, {"pyproject.toml": "[tool.ruff]\n", "requirements.txt": "server\n"})
    assert "python_packages/server/__init__.py" in names(make(app, target=HERE))


def test_a_lock_file_of_uv_counts_and_leaves_groups_for_development_out(app: Path, wheels: Path) -> None:
    write(
        app,
        {
            "pyproject.toml": '[project]\nname = "web"\nversion = "1"\nrequires-python = ">=3.9"\ndependencies = ["server"]\n'
            '[dependency-groups]\ndev = ["tool"]\n',
            "requirements.txt": "a-package-that-does-not-exist\n",
        },
    )
    uv = python._uv()
    subprocess.run([*uv, "lock", "--quiet"], cwd=app, check=True, env={**os.environ, "UV_PYTHON": sys.executable})
    found = names(make(app, target=HERE))
    assert "python_packages/server/__init__.py" in found
    assert "python_packages/tool/__init__.py" not in found
    assert not any("requirements.txt" in name and "percore" in name for name in found)


EXPORT = """#!/bin/sh
echo "poetry $*" >> "$NOTED"
case "$*" in *--help*) exit 0;; esac
while [ $# -gt 0 ]; do [ "$1" = --output ] && echo server > "$2"; shift; done
"""


def test_a_lock_file_of_poetry_is_exported_by_poetry(app: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    programs = write(app.parent / "programs", {"poetry": EXPORT})
    (programs / "poetry").chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    monkeypatch.setenv("NOTED", str(app.parent / "noted"))
    write(app, {"pyproject.toml": '[tool.poetry]\nname = "web"\n', "poetry.lock": ""})
    assert "python_packages/server/__init__.py" in names(make(app, target=HERE))
    assert "poetry export --only main" in (app.parent / "noted").read_text()


# -- commands that packages bring -------------------------------------------------------------------------------------------


def test_console_scripts_run_as_scripts_of_the_process_file(app: Path, tmp_path: Path) -> None:
    write(app, {"requirements.txt": "server\ntool\n"})
    artifact = make(app, target=HERE)
    assert (artifact.tree / "python_packages/bin/serve").read_text().startswith("#!/usr/bin/env python3\n")
    record = wanted._make_record(settings(app, deploy_to="/srv/web"), artifact, Report(quiet=True))
    web, job = record["apps"]
    place = "/srv/web/releases/@release@/python_packages"
    assert web["script"] == f"{place}/bin/serve"
    assert web["env"]["PYTHONPATH"] == place
    line = job["args"][0].replace("/srv/web/releases/@release@", str(artifact.tree))
    env = {**os.environ, "PYTHONPATH": str(artifact.tree / "python_packages")}
    for words in (["/bin/sh", "-c", line], [str(artifact.tree / "python_packages/bin/check")]):
        done = subprocess.run(words, env=env, capture_output=True, text=True, check=True)
        assert done.stdout == "tool py3-none-any\n"


def test_the_build_command_sees_the_packages_and_leaves_no_caches_in_them(app: Path) -> None:
    write(app, {"requirements.txt": "server\ntool\n"})
    artifact = make(app, target=HERE, build_command="check > found && python3 -c 'import server' && echo done >> found")
    assert (artifact.tree / "found").read_text() == "tool py3-none-any\ndone\n"
    assert not list((artifact.tree / "python_packages").rglob("__pycache__"))


def test_a_command_that_no_package_brings_is_looked_for_on_the_host(app: Path) -> None:
    write(app, {"requirements.txt": "tool\n", "ecosystem.json": {"apps": [{"name": "web", "script": "java"}]}})
    record = wanted._make_record(settings(app), make(app, target=HERE), Report(quiet=True))
    assert record["apps"][0]["script"] == "java"


# -- settings -------------------------------------------------------------------------------------------------------------------


def test_the_index_that_pip_is_set_to_use_is_that_of_uv(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from percore.deploy.build.commands import Commands, build_environment

    for name, value in {
        "PIP_INDEX_URL": "https://a.example/simple",
        "PIP_EXTRA_INDEX_URL": "https://b.example/simple",
    }.items():
        monkeypatch.setenv(name, value)
    found = python._index_of_pip(Commands(tmp_path, build_environment({}, tmp_path), lambda _: None))
    assert (found["UV_DEFAULT_INDEX"], found["UV_INDEX"]) == ("https://a.example/simple", "https://b.example/simple")
    monkeypatch.setenv("UV_DEFAULT_INDEX", "https://c.example/simple")
    assert python._index_of_pip(Commands(tmp_path, build_environment({}, tmp_path), lambda _: None)) == {}


def host(name: str, app: Path, python_version: str, libc: str) -> Any:
    """As much of one as a build looks at."""
    facts = {"system": "Linux", "machine": "x86_64", "python": python_version, "libc": libc}
    scope = SimpleNamespace(brings_the_app=True, project=app.parent / "project")
    return SimpleNamespace(name=name, settings=settings(app), agent=SimpleNamespace(facts=facts), scope=scope)


def test_each_kind_of_host_gets_its_artifact_and_all_can_have_one_release(app: Path) -> None:
    write(app, {"requirements.txt": "native\n"})
    hosts = [host("a", app, "3.11.2", "2.36"), host("b", app, "3.11.9", "2.31"), host("c", app, "3.13.1", "2.41")]
    found = wanted.build_apps(hosts, Report(quiet=True))
    assert found["a"].sha256 == found["b"].sha256 != found["c"].sha256
    assert [tag_of(found[name].tree)[:5] for name in "abc"] == ["cp311", "cp311", "cp313"]
    assert found["a"].digest == found["c"].digest, "the id of a release is the same on all hosts"


def test_of_hosts_that_differ_in_their_glibc_the_oldest_counts(app: Path) -> None:
    write(app, {"requirements.txt": "native\n"})
    hosts = [host("a", app, "3.11.2", "2.36"), host("b", app, "3.11.9", "2.9"), host("c", app, "3.11.1", "")]
    targets = wanted._common_targets(hosts)
    assert {target.libc for target in targets.values()} == {""}
    assert wanted._common_targets(hosts[:2])["a"].libc == "2.9"


def test_the_digest_of_another_source_is_another_one(app: Path) -> None:
    write(app, {"requirements.txt": "native\n"})
    first = make(app, target=BOOKWORM)
    assert make(app, target=TRIXIE).digest == first.digest
    write(app, {"app.py": "# changed"})
    assert make(app, target=BOOKWORM).digest != first.digest
