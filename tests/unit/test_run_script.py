"""`./run` itself: what it installs, and when. Python and pip are a script here that writes down what it is told."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PYTHON = """\
#!/bin/sh
case "$*" in
"-m venv "*) mkdir -p "$3/bin" && cp "$0" "$3/bin/python" ;;
"-m pip"*"[deploy,dev]"*) [ ! -e offline ] || exit 1 ;;
"-m invoke hints") echo "hints name $PERCORE_RUN" >>told ;;
esac
case "$*" in "-m "*) echo "$*" >>told ;; esac
"""
INSTALL = "-m pip --disable-pip-version-check -q install --no-build-isolation -e"
BASE, MORE = f"{INSTALL} .[deploy]", f"{INSTALL} .[deploy,dev]"


@pytest.fixture
def project(tmp_path: Path) -> Path:
    for name in ("run", "pyproject.toml", "setup.py", "percore/supervisor/sockets/bindshim.c"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    (tmp_path / "bin").mkdir()
    for name in ("python3", "cc"):
        (tmp_path / "bin" / name).write_text(PYTHON)
        (tmp_path / "bin" / name).chmod(0o755)
    return tmp_path


def run(project: Path, *words: str, extras: str = "", code: int = 0) -> list[str]:
    """What Python was told, without how the environment is made."""
    (project / "told").unlink(missing_ok=True)
    env = {"PATH": f"{project}/bin:{os.environ['PATH']}"} | ({"PERCORE_EXTRAS": extras} if extras else {})
    done = subprocess.run([project / "run", *words], env=env, capture_output=True, text=True, check=False)
    assert done.returncode == code, done.stderr
    told = (project / "told").read_text().splitlines()
    return [line for line in told if "-m venv" not in line and "setuptools" not in line]


def test_a_deploy_installs_what_deploying_needs_and_only_once(project: Path) -> None:
    deploy = ["deploy", "--env", "test"]  # not the task of that name
    assert run(project, *deploy) == [BASE, "-m invoke deploy --env test"]
    assert run(project, *deploy) == ["-m invoke deploy --env test"]


def test_the_developers_tools_come_when_they_are_asked_for_and_stay(project: Path) -> None:
    run(project, "deploy")
    assert run(project, "--version", extras="deploy,dev") == [MORE, "-m invoke --version"]
    assert run(project, "--version", extras="deploy,dev") == ["-m invoke --version"]
    assert run(project, "deploy") == ["-m invoke deploy"]


def test_developers_tools_that_cannot_be_installed_keep_nobody_from_deploying(project: Path) -> None:
    run(project, "deploy")
    (project / "offline").touch()
    assert run(project, "--version", extras="deploy,dev", code=1) == []
    assert run(project, "deploy") == ["-m invoke deploy"]


def test_other_requirements_make_the_environment_anew(project: Path) -> None:
    run(project, "--version", extras="deploy,dev")
    with (project / "pyproject.toml").open("a") as file:
        file.write("# another requirement\n")
    assert run(project, "deploy") == [BASE, "-m invoke deploy"]
    assert run(project, "--version", extras="deploy,dev") == [MORE, "-m invoke --version"]


def test_an_environment_made_before_the_extras_were_told_apart_is_made_anew(project: Path) -> None:
    run(project, "deploy")
    stamp = project / ".venv" / "percore-ready"
    stamp.write_text(stamp.read_text().splitlines()[0] + "\n")
    assert run(project, "deploy") == [BASE, "-m invoke deploy"]


def test_a_shell_that_completes_installs_nothing(project: Path) -> None:
    env = {"PATH": f"{project}/bin:{os.environ['PATH']}"}
    done = subprocess.run([project / "run", "--complete", "--", "run", "dep"], env=env, capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert not (project / ".venv").exists()
    run(project, "deploy")
    assert run(project, "--complete", "--", "run", "dep") == ["-m invoke --complete -- run dep"]


def test_hints_name_the_script_as_it_was_typed(project: Path) -> None:
    assert run(project, "hints")[1] == f"hints name {project}/run"


def test_a_checkout_whose_path_setuptools_does_not_take_has_its_environment_elsewhere(project: Path) -> None:
    odd = project / 'a $b "c" ü'
    shutil.copytree(project, odd, ignore=shutil.ignore_patterns(odd.name))
    env = {"PATH": f"{project}/bin:{os.environ['PATH']}", "XDG_CACHE_HOME": str(project / "cache")}
    for _ in range(2):
        subprocess.run([odd / "run", "deploy"], env=env, check=True, capture_output=True)
    [kept] = (project / "cache" / "percore").iterdir()
    assert (odd / ".venv").resolve() == kept
    told = (odd / "told").read_text().splitlines()
    assert told.count(BASE) == 1
    assert told[-2:] == ["-m invoke deploy"] * 2
