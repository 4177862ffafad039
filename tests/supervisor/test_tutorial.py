"""docs/tutorial/this-machine.md: followed to the letter, except that percore is the one of this checkout."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from tests.hosts.reader import Reader, steps_of
from tests.supervisor.conftest import Supervisor

PAGE = (Path(__file__).parents[2] / "docs" / "tutorial" / "this-machine.md").read_text()


def test_a_stranger_who_follows_the_tutorial_of_this_machine_sees_what_it_says(supervisor: Supervisor) -> None:
    work, programs = supervisor.folder / "project", supervisor.folder / "programs"
    for directory in (work, programs):
        directory.mkdir()
    (programs / "percore").write_text(f'#!/bin/sh\nexec {sys.executable} -m percore.supervisor.cli "$@"\n')
    (programs / "percore").chmod(0o755)
    env = {**os.environ, "PATH": f"{programs}:{os.environ['PATH']}", "PERCORE_HOME": str(supervisor.home)}
    env["PYTHONPATH"] = os.pathsep.join(sys.path)
    instead = {"python3 -m venv .venv && . .venv/bin/activate": "true", "pip install percore": "true"}
    with Reader(work, env, instead) as reader:
        reader.follow(steps_of(PAGE.replace("3456", str(supervisor.port)), "Try it"))
