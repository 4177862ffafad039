"""`percore import-pm2` with a real PM2: what runs there runs here afterwards, or there again."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.bench.supervisor.sides import Pm2, get, install_pm2
from tests.supervisor.conftest import Supervisor
from tests.waiting import free_port, wait_for

WEB = """
const { SECRET, PERCORE_APP } = process.env;
require('http').createServer((_, response) => response.end(`${PERCORE_APP || 'pm2'} ${SECRET}`)).listen(process.env.PORT);
"""
ONLY_IN_PM2 = "if (process.env.PERCORE_APP) throw new Error('not here');" + WEB


@pytest.fixture
def pm2() -> Iterator[Pm2]:
    install_pm2()
    side = Pm2()
    yield side
    side.close()


def test_apps_are_taken_over_one_by_one_and_one_that_fails_runs_in_pm2_again(supervisor: Supervisor, pm2: Pm2) -> None:
    for name, text in (("web.cjs", WEB), ("only.cjs", ONLY_IN_PM2)):
        (pm2.folder / name).write_text(text)
    other = free_port()
    only = {**pm2.web("only.cjs", env={"PORT": str(other)}), "name": "only"}
    pm2.start(pm2.web("web.cjs", env={"SECRET": "s3cret"}), only)
    program = pm2.folder / "pm2"
    program.write_text(f'#!/bin/sh\nexec {shlex.join(pm2.command)} "$@"\n')
    program.chmod(0o755)
    words = ("import-pm2", "--pm2", str(program), "--pm2-home", str(pm2.home))

    told = supervisor.run(*words, "--dry-run").stdout
    assert "web: 2 x cluster" in told
    assert "s3cret" not in told
    assert get(pm2.port) == b"pm2 s3cret"
    assert "there is no terminal to ask on" in supervisor.run(*words, check=False).stderr
    file = supervisor.folder / "pm2-import.json"
    assert not file.exists()

    done = supervisor.run(*words, "--yes", check=False)
    assert done.returncode == 1
    assert "web is taken over; it was down for" in done.stdout
    assert "only could not be started" in done.stderr
    assert get(pm2.port) == b"web s3cret"
    wait_for(lambda: get(other).startswith(b"pm2"), "PM2's app: PM2 does not wait until it listens")
    assert {worker["name"] for worker in pm2.listed()} == {"only"}
    assert {worker["name"] for worker in json.loads(supervisor.run("jlist").stdout)} == {"web"}
    assert file.stat().st_mode & 0o777 == 0o600
    variables = {app["name"]: app["env"] for app in json.loads(file.read_text())["apps"]}
    assert variables["web"].items() >= {"SECRET": "s3cret", "PORT": str(pm2.port)}.items()
    assert "PM2_HOME" not in variables["web"]


def test_pm2s_directory_is_not_used_by_both(supervisor: Supervisor, tmp_path: Path) -> None:
    supervisor.home.mkdir(exist_ok=True)
    done = supervisor.run("import-pm2", "--pm2-home", str(supervisor.home), check=False)
    assert done.returncode == 2
    assert "percore and PM2 would share this directory" in done.stderr
