"""The section "Try it" of a page, followed to the letter; percore is that of this checkout."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping

from tests.hosts.reader import Reader, steps_of
from tests.supervisor.conftest import Supervisor


def try_it(supervisor: Supervisor, page: str, instead: Mapping[str, str]) -> None:
    """`instead`: what is typed in place of some lines. The page's port is one of this test."""
    work, programs = supervisor.folder / "project", supervisor.folder / "programs"
    for directory in (work, programs):
        directory.mkdir()
    (programs / "percore").write_text(f'#!/bin/sh\nexec {sys.executable} -m percore.supervisor.cli "$@"\n')
    (programs / "percore").chmod(0o755)
    env = {**os.environ, "PATH": f"{programs}:{os.environ['PATH']}", "PERCORE_HOME": str(supervisor.home)}
    env["PYTHONPATH"] = os.pathsep.join(sys.path)
    with Reader(work, env, instead) as reader:
        reader.follow(steps_of(page.replace("3456", str(supervisor.port)), "Try it"))
