"""`invoke top` in a real terminal, with the real supervisor."""

from __future__ import annotations

import os
import signal
import sys

from tests.deploy.project import SOURCE, Project
from tests.terminal import Terminal
from tests.waiting import wait_for

TOP = (
    "from pathlib import Path; from percore.deploy.rollout.scope import Scope; from percore.deploy.fleet.top import top;"
    "top(Scope('local', Path.cwd()), interval=0.3)"
)


def test_workers_are_watched_reloaded_and_scaled_and_their_logs_followed(serving: Project) -> None:
    env = {**os.environ, "PYTHONPATH": str(SOURCE), "NO_COLOR": "1"}
    before = serving.pids()
    with Terminal([sys.executable, "-c", TOP], env=env, cwd=str(serving.folder), columns=80, lines=24) as terminal:
        terminal.wait_for("local: 1 of 1 hosts; 3 workers")
        for pid in before:
            terminal.wait_for(str(pid))
        terminal.type("/web 1\r")
        wait_for(lambda: "tick 0" not in terminal.read(), "the filter to work")
        terminal.type("\r")
        terminal.wait_for("log of web 1 on localhost")
        terminal.wait_for("listening in")
        terminal.type("q")
        terminal.wait_for("l reload")
        terminal.type("l")
        terminal.wait_for("reload web on localhost? y/n")
        terminal.type("n")
        wait_for(lambda: "y/n" not in terminal.read(), "the answer to be taken")
        assert serving.pids() == before
        terminal.type("ly")
        terminal.wait_for("reload web on localhost: done")
        assert len(serving.pids() & before) == 1, "all but the singleton are new"
        terminal.type("\x1b+y")
        terminal.wait_for("one worker more of web on localhost: done")
        terminal.wait_for("web 2")
        terminal.resize(100, 10)
        wait_for(lambda: terminal.read().splitlines()[9].startswith("one worker more"), "it to fit the smaller window")
        terminal.type("-y")
        terminal.wait_for("one worker fewer of web on localhost: done")
        terminal.type("\x03")
        assert terminal.wait_for_end() == 0
    assert len(serving.pids()) == 3
    with Terminal([sys.executable, "-c", TOP], env=env, cwd=str(serving.folder), columns=80, lines=24) as terminal:
        terminal.wait_for("3 workers")
        os.kill(terminal.pid, signal.SIGHUP)
        terminal.wait_for_end()
