"""`percore heap` and `percore profile`, with real programs under load: a file is made, and no request is lost."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

from tests.supervisor.conftest import Load, Supervisor
from tests.waiting import wait_for

BUSY = """
import threading, time
def busy_loop():
    while True:
        sum(range(1000))
threading.Thread(target=busy_loop, daemon=True).start()
time.sleep(1000)
"""


def listening(pid: int) -> list[str]:
    done = subprocess.run(["ss", "-Hltnp"], capture_output=True, text=True, check=True).stdout
    return [line.split()[3] for line in done.splitlines() if f"pid={pid}," in line]


def test_heap_and_profile_of_each_worker_are_written_while_it_serves_and_the_inspector_is_closed(
    supervisor: Supervisor,
) -> None:
    supervisor.apply(supervisor.api())
    before = supervisor.pids("api")
    with Load(supervisor.port) as load:
        for words in (("heap", "api", "--all"), ("profile", "api", "--all", "--seconds", "0.3"), ("heap", "0")):
            supervisor.run(*words)
    assert load.failures == []
    assert supervisor.pids("api") == before
    heaps = sorted(supervisor.folder.glob("api-*.heapsnapshot"))
    profiles = sorted(supervisor.folder.glob("api-*.cpuprofile"))
    assert [path.name[:6] for path in heaps] == ["api-0-", "api-0-", "api-1-"]
    assert [path.name[:6] for path in profiles] == ["api-0-", "api-1-"]
    assert {path.stat().st_mode & 0o777 for path in (*heaps, *profiles)} == {0o600}
    assert all(json.loads(path.read_text())["snapshot"]["node_count"] > 1000 for path in heaps)
    assert all(json.loads(path.read_text())["samples"] for path in profiles)
    for pid in before:
        wait_for(lambda pid=pid: len(listening(pid)) == 1, "the inspector to be closed")
    told = "".join(path.read_text() for path in (supervisor.home / "logs").glob("api-error-*.log"))
    assert "Debugger listening on ws://127.0.0.1:" in told
    assert "127.0.0.1:9229/" not in told, "the port would be shared by the workers"
    status = json.loads(supervisor.run("status", "--json").stdout)
    assert len(status["apps"][0]["addresses"]) == 1


def test_a_python_program_is_profiled_and_what_cannot_be_done_is_one_line(supervisor: Supervisor) -> None:
    (supervisor.folder / "busy.py").write_text(BUSY)
    supervisor.prefix = ["env", f"PATH={Path(sys.executable).parent}:/usr/bin:/bin"]
    supervisor.run("start", "busy.py", "--interpreter", sys.executable)
    supervisor.run("start", "sleep 1000", "--name", "other")
    supervisor.run("profile", "busy", "--seconds", "1")
    (path,) = supervisor.folder.glob("busy-0-*.speedscope.json")
    assert "busy_loop" in path.read_text()
    for words, said in (
        (("heap", "busy"), "busy runs Python, whose heap cannot be read from outside"),
        (("heap", "other"), "other runs sleep: percore looks into Node and Python only"),
        (("profile", "busy", "--output", "none"), "none: there is no such directory"),
        (("profile", "busy", "--seconds", "0"), "--seconds must be between"),
    ):
        assert said in supervisor.run(*words, check=False).stderr


def test_the_heap_is_kept_before_a_worker_is_replaced_for_its_memory(supervisor: Supervisor) -> None:
    limited = supervisor.api(instances=1, max_memory=150 << 20, heap_snapshots=2)
    supervisor.apply(limited)
    for _ in range(3):
        leaking = supervisor.get("/leak")["pid"]
        wait_for(lambda leaking=leaking: leaking not in supervisor.pids("api"), "the leaking worker to be replaced")
        wait_for(lambda: supervisor.workers("api")[0]["state"] == "running", "the next one")
        time.sleep(1)  # names of files have seconds
    heaps = list((supervisor.home / "heap").glob("api-0-*.heapsnapshot"))
    assert len(heaps) == 2, supervisor.log()
    assert json.loads(heaps[0].read_text())["snapshot"]
    assert "api 0: a heap snapshot first, in" in supervisor.log()
