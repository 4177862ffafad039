"""Everything at once, at random, for as long as asked: each request is counted, and each start of a singleton is watched."""

from __future__ import annotations

import os
import random
import signal
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.supervisor.conftest import Load, Supervisor
from tests.supervisor.faults.tools import becomes_sound, plain, resident_kb
from tests.waiting import free_port, wait_for

KEEPING, CLOSING = 3, 3
MOST_WORKERS = 4
# What a supervisor may hold more than at its beginning: sockets of workers that were scaled away stay open.
MORE_DESCRIPTORS, MORE_KB = 60, 2500

# It says so where another one of its kind still runs: the lock ends with its process.
SINGLETON = """
import fcntl, os, time
lock = open("singleton.lock", "w")
try:
    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
except OSError:
    with open("twice", "a") as file:
        file.write(f"{os.getpid()}\\n")
while True:
    time.sleep(1)
"""


class Soak:
    """Apps under load, and what is done to them. `seed` makes the same choices again; `tell` gets a line for each."""

    def __init__(self, supervisor: Supervisor, seed: int, tell: Callable[[str], None] = lambda line: None) -> None:
        self.supervisor = supervisor
        self.counts: Counter[str] = Counter()
        self._random = random.Random(seed)
        self._tell = tell
        port = free_port()
        self.node = supervisor.api()
        self.python = plain(supervisor, name="plain", env={"PORT": str(port)})
        (supervisor.folder / "singleton.py").write_text(SINGLETON)
        fields = {"script": "singleton.py", "args": [], "interpreter": "python3", "interpreter_args": ["-I", "-S"]}
        self.singleton = supervisor.singleton(name="once", **fields)
        self.other = supervisor.singleton(name="other", args=["exec sleep 1000"])
        self._loads = {
            "api": Load(supervisor.port, KEEPING, CLOSING, retries=True),
            "plain": Load(port, 0, KEEPING + CLOSING),
        }
        self._actions = (
            self._kill_worker, self._kill_worker, self._kill_supervisor, self._kill_supervisor, self._reload, self._reload,
            self._scale, self._restart_singleton, self._update, self._stop_and_start_another,
        )  # fmt: skip

    @property
    def apps(self) -> list[dict[str, Any]]:
        return [self.node, self.python, self.singleton, self.other]

    def run(self, seconds: float) -> None:
        """Raises AssertionError with what went wrong."""
        self.supervisor.apply(*self.apps)
        becomes_sound(self.supervisor, *self.apps)
        descriptors, memory = self._held()
        deadline = time.monotonic() + seconds
        with self._loads["api"], self._loads["plain"]:
            while time.monotonic() < deadline:
                self._random.choice(self._actions)()
                self._judge()
                if self._random.random() < 0.6:  # else the next one comes into the middle of what this one began
                    becomes_sound(self.supervisor, *self.apps)
            becomes_sound(self.supervisor, *self.apps)
        self._judge()
        now = self._held()
        assert now[0] - descriptors <= MORE_DESCRIPTORS, f"{now[0]} descriptors, {descriptors} at the beginning"
        assert now[1] - memory <= MORE_KB, f"{now[1]} kB of memory, {memory} at the beginning"

    def summary(self) -> str:
        done = ", ".join(f"{count} {name}" for name, count in sorted(self.counts.items()))
        asked = ", ".join(f"{app}: {dict(load.counts)}" for app, load in self._loads.items())
        return f"{done}; requests: {asked}"

    # -- what is done -------------------------------------------------------------------------------------------------

    def _kill_worker(self) -> None:
        app = self._random.choice(self.apps)["name"]
        pids = [pid for pid in self.supervisor.pids(app) if pid]
        if not pids:
            return
        self._say("kills of a worker", app)
        self.counts[f"kills of {app}"] += 1
        os.kill(self._random.choice(pids), signal.SIGKILL)

    def _kill_supervisor(self) -> None:
        self._say("kills of the supervisor")
        self.supervisor.kill_daemon()
        self.supervisor.run("ping")

    def _reload(self) -> None:
        app = self._random.choice([self.node, self.python])["name"]
        self._say("reloads", app)
        self.supervisor.run("reload", app)

    def _scale(self) -> None:
        app = self._random.choice([self.node, self.python])
        app["instances"] = self._random.randint(2, MOST_WORKERS)
        self._say("scales", f"{app['name']} to {app['instances']}")
        self.supervisor.run("scale", app["name"], str(app["instances"]))

    def _restart_singleton(self) -> None:
        self._say("restarts of the singleton")
        self.supervisor.run("restart", "once")

    def _update(self) -> None:
        self._say("updates")
        self.supervisor.run("update")

    def _stop_and_start_another(self) -> None:
        self._say("stops and starts of another app")
        self.supervisor.run("stop", "other")
        self.supervisor.run("start", "other")

    def _say(self, what: str, which: str = "") -> None:
        self.counts[what] += 1
        self._tell(f"{what} {which}".rstrip())

    # -- what must hold -----------------------------------------------------------------------------------------------

    def _judge(self) -> None:
        for app, load in self._loads.items():
            cut_off = self.counts[f"kills of {app}"] * (KEEPING + CLOSING)
            assert load.counts["hung"] == load.counts["bad"] == 0, f"{app}: {load.failures}"
            assert not [failure for failure in load.failures if "Refused" in failure], f"{app}: {load.failures}"
            assert load.counts["lost"] <= cut_off, (
                f"{app}: more was lost than killed workers had begun: {load.failures}"
            )
        twice = Path(self.supervisor.folder, "twice")
        assert not twice.exists(), f"the singleton ran twice: {twice.read_text()}"

    def _held(self) -> tuple[int, int]:
        """The supervisor's descriptors and kilobytes, when it has let go of what is over."""
        pid = self.supervisor.daemon_pid()
        wait_for(lambda: self.supervisor.daemon_pid() == pid, "the supervisor to answer")
        return len(os.listdir(f"/proc/{pid}/fd")), resident_kb(pid)
