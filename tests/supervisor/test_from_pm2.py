"""docs/how-to/from-pm2.md: its project is tried as the page says, and what it says to type exists."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path

from percore.supervisor.commands.registry import find, instead_of
from tests.hosts.reader import Reader, steps_of
from tests.supervisor.conftest import Supervisor

PAGE = (Path(__file__).parents[2] / "docs" / "how-to" / "from-pm2.md").read_text()


def test_a_project_of_pm2_runs_as_the_page_says(supervisor: Supervisor) -> None:
    work, programs = supervisor.folder / "project", supervisor.folder / "programs"
    for directory in (work, programs):
        directory.mkdir()
    (programs / "percore").write_text(f'#!/bin/sh\nexec {sys.executable} -m percore.supervisor.cli "$@"\n')
    (programs / "percore").chmod(0o755)
    env = {**os.environ, "PATH": f"{programs}:{os.environ['PATH']}", "PERCORE_HOME": str(supervisor.home)}
    env["PYTHONPATH"] = os.pathsep.join(sys.path)
    page = PAGE.replace("3456", str(supervisor.port))
    with Reader(work, env, {}) as reader:
        reader.follow(steps_of(page, "Try it"))


def test_every_command_of_the_page_exists_and_every_missing_one_of_pm2_is_told_what_to_type() -> None:
    here = re.findall(r"`(?:sudo )?percore ([\w:-]+)", PAGE)
    assert len(here) > 10
    assert [name for name in here if find(name) is None] == []
    missing = re.findall(r"\| (`pm2 .*?) \|", PAGE.split("## What is missing")[1])
    names = {word for row in missing for word in re.findall(r"`(?:pm2 )?([\w:]+)", row)} - {"reload", "io"}
    assert [name for name in names if find(name) is None and not instead_of(name)] == []
