"""Several projects with one supervisor: what docs/how-to/several-projects.md says, and what it does not say."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

from tests.hosts.reader import Reader, steps_of
from tests.supervisor.conftest import Supervisor

ROOT = Path(__file__).parents[2]
GUIDE = ROOT / "docs" / "how-to" / "several-projects.md"


def command(folder: Path) -> Path:
    """A directory with `percore` in it."""
    folder.mkdir()
    program = folder / "percore"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m percore.supervisor.cli "$@"\n')
    program.chmod(0o755)
    return folder


def test_the_page_on_several_projects_says_what_happens(supervisor: Supervisor) -> None:
    env = {**os.environ, "PERCORE_HOME": str(supervisor.home), "PYTHONPATH": str(ROOT)}
    env["PATH"] = f"{command(supervisor.folder / 'bin')}:{env['PATH']}"
    with Reader(supervisor.folder, env, {}) as reader:
        reader.follow(steps_of(GUIDE.read_text(), "By hand"))
    [web] = json.loads(supervisor.run("jlist").stdout)
    assert web["pm2_env"]["pm_cwd"] == str(supervisor.folder / "store")


def write(supervisor: Supervisor, place: str, **keys: str) -> str:
    directory = supervisor.folder / place
    directory.mkdir(exist_ok=True)
    (directory / "web.js").write_text("setInterval(() => {}, 1000);")
    (directory / "apps.json").write_text(json.dumps({"apps": [{"name": "web", "script": "web.js", **keys}]}))
    return f"{place}/apps.json"


def test_a_file_of_another_project_changes_nothing_and_two_namespaces_survive_the_supervisor(
    supervisor: Supervisor,
) -> None:
    first = write(supervisor, "one", namespace="a")
    supervisor.run("start", first)
    before = supervisor.pids("web")
    for words in (["start"], ["restart"], ["reload"], ["startOrReload"], ["apply"], ["apply", "--check"], ["delete"]):
        done = supervisor.run(words[0], write(supervisor, "two", namespace="a"), *words[1:], check=False)
        assert done.returncode == 2, (words, done.stdout, done.stderr)
        assert all(f"{supervisor.folder}/{place}/apps.json" in done.stderr for place in ("one", "two"))
    other = supervisor.run("start", "two/web.js", "--name", "web", "--namespace", "a", check=False)
    assert "is already running another program" in other.stderr
    assert supervisor.pids("web") == before

    second = write(supervisor, "two", namespace="b")
    supervisor.run("start", second)
    supervisor.run("apply", second)
    theirs = supervisor.pids("b:web")
    supervisor.kill_daemon()
    supervisor.run("ping")
    assert (supervisor.pids("web"), supervisor.pids("b:web")) == (before, theirs)
    found = json.loads(supervisor.run("jlist").stdout)
    assert [(each["name"], each["pm2_env"]["namespace"]) for each in found] == [("web", "a"), ("web", "b")]
    refused = supervisor.run("scale", "web", "2", check=False)
    assert "2 apps are called 'web' -> name one of them: a:web or b:web" in refused.stderr
    supervisor.run("scale", "b:web", "2")
    supervisor.run("delete", second)
    assert supervisor.pids("web") == before
    assert supervisor.workers("b:web") == []
