"""`pip install` of this repository, without the deploy side, in an environment of its own and an empty home."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

from percore import __version__
from tests.installed import install
from tests.waiting import free_port, wait_for


@pytest.fixture(scope="module")
def percore(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The installed command."""
    return install(tmp_path_factory.mktemp("alone")) / "percore"


def test_it_works_alone_in_an_empty_home(percore: Path, tmp_path: Path) -> None:
    (tmp_path / "server.js").write_text(
        "require('http').createServer((q, s) => s.end()).listen(process.env.PORT, () => console.log('up'))"
    )
    env = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "PORT": str(free_port())}

    def run(*arguments: str) -> str:
        done = subprocess.run([percore, *arguments], env=env, cwd=tmp_path, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr
        return done.stdout

    installed = subprocess.run([percore.parent / "python", "-m", "percore", "--version"], env=env, cwd=tmp_path, check=True,
                               capture_output=True, text=True)  # fmt: skip
    assert installed.stdout == run("--version") == f"{__version__}\n"
    share = percore.parents[1] / "share"
    assert {path.name for path in share.rglob("*") if path.is_file()} == {
        "percore.1",
        "percore",
        "_percore",
        "percore.fish",
    }
    try:
        run("start", "server.js", "-i", "2")
        assert [entry["pm2_env"]["status"] for entry in json.loads(run("jlist"))] == ["online"] * 2
        assert "cluster" in run("list")
        log = tmp_path / ".percore" / "logs" / "server-out-0.log"
        assert wait_for(log.read_text, "its output") == "up\n"
        run("reload", "server")
        run("stop", "server")
        assert [entry["pm2_env"]["status"] for entry in json.loads(run("jlist"))] == ["stopped"] * 2
        assert "[Service]" in next((percore.parents[1] / "lib").rglob("percore.service.j2")).read_text()
    finally:
        run("kill")


def test_it_brings_nothing_of_the_deploy_side(percore: Path) -> None:
    python = percore.parent / "python"
    missing = (
        "import importlib.util as u; print([name for name in ('paramiko', 'jinja2', 'invoke') if u.find_spec(name)])"
    )
    assert subprocess.run([python, "-c", missing], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_the_command_that_begins_a_project_says_what_is_missing(percore: Path) -> None:
    done = subprocess.run([percore, "init", "--env", "local"], capture_output=True, text=True, check=False)
    assert done.returncode == 3
    assert done.stderr.endswith("-> pip install 'percore[deploy]'\n")
    assert done.stderr.count("\n") == 1
