"""A supervisor that has nothing to do does nothing, and what it has done leaves nothing behind.

PERCORE_TEST_ROUNDS=100000 makes the long form of it.
"""

from __future__ import annotations

import json
import os

import pytest

from percore.supervisor.home import connect
from tests.supervisor.conftest import Supervisor
from tests.supervisor.faults.tools import resident_kb
from tests.waiting import wait_for

ROUNDS = int(os.environ.get("PERCORE_TEST_ROUNDS", "60"))
# What the allocator and a growing log's rotation may move; a leak of one kilobyte in each round is five times as much.
SLACK_KB = 300


def descriptors(pid: int) -> int:
    return len(os.listdir(f"/proc/{pid}/fd"))


def ask(supervisor: Supervisor, times: int, **request: object) -> None:
    with connect(str(supervisor.home / "run" / "control.sock")) as sock, sock.makefile("rwb") as stream:
        for _ in range(times):
            stream.write(json.dumps({"version": 1, **request}).encode() + b"\n")
            stream.flush()
            while (reply := json.loads(stream.readline()))["event"] != "result":
                pass
            assert reply["ok"], reply


@pytest.mark.parametrize("what", ["restarts", "reloads"])
def test_memory_and_descriptors_are_the_same_after_many(supervisor: Supervisor, what: str) -> None:
    (supervisor.folder / "quick.py").write_text(
        "import os, socket\nsock = socket.socket()\nsock.bind(('0.0.0.0', int(os.environ['PORT'])))\nsock.listen()\n"
        "while True: sock.accept()[0].close()\n"
    )
    app = supervisor.api(
        script="quick.py", interpreter="python3", interpreter_args=["-I", "-S"], instances=1, min_uptime=0.0
    )
    supervisor.apply(app if what == "reloads" else supervisor.singleton(args=["exec sleep 1000"], min_uptime=0.0))
    daemon = supervisor.daemon_pid()
    ask(supervisor, 10, op=what[:-1], selector="all")
    memory, opened = resident_kb(daemon), descriptors(daemon)
    ask(supervisor, ROUNDS if what == "restarts" else ROUNDS // 3, op=what[:-1], selector="all")
    assert resident_kb(daemon) - memory < SLACK_KB
    wait_for(lambda: descriptors(daemon) <= opened, "no more descriptors than before")


def test_memory_and_descriptors_are_the_same_after_ten_thousand_requests(supervisor: Supervisor) -> None:
    supervisor.apply(supervisor.singleton(args=["exec sleep 1000"]))
    daemon = supervisor.daemon_pid()
    ask(supervisor, 1000, op="describe", selector="all")
    memory, opened = resident_kb(daemon), descriptors(daemon)
    for _ in range(20):
        ask(supervisor, 5 * ROUNDS, op="describe", selector="all")
        ask(supervisor, 3 * ROUNDS, op="ping")
    assert resident_kb(daemon) - memory < SLACK_KB
    wait_for(lambda: descriptors(daemon) <= opened + 1, "no more descriptors than before")


def test_memory_and_descriptors_are_the_same_after_many_crashes(supervisor: Supervisor) -> None:
    app = supervisor.singleton(args=["exit 3"], restart_delay=0.01, min_uptime=0.0)
    supervisor.apply(app, check=False)
    path = supervisor.folder / "one.json"
    path.write_text(json.dumps({"apps": [{"name": "tick", "script": "-c", "args": ["exit 3"], "interpreter": "sh",
                                          "restart_delay": 10, "min_uptime": 0}]}))  # fmt: skip
    supervisor.run("start", str(path), check=False)
    daemon = supervisor.daemon_pid()

    def ends() -> int:
        return int(supervisor.workers("tick")[0]["restarts"])

    wait_for(lambda: ends() >= ROUNDS // 2, "the first ends")
    memory, opened = resident_kb(daemon), descriptors(daemon)
    first = ends()
    wait_for(lambda: ends() >= first + 2 * ROUNDS, "many more ends", seconds=60.0 * max(1, ROUNDS / 60))
    assert resident_kb(daemon) - memory < SLACK_KB
    # A crash that is just being dealt with has some of its own.
    wait_for(lambda: descriptors(daemon) <= opened + 6, "no more descriptors than before")
