"""The supervisor is stopped for a while, the clock jumps, systemd looks whether it is alive, or it has a fault of its own."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.supervisor.conftest import Load, Supervisor
from tests.supervisor.faults.tools import becomes_sound, kill_now, lost_nothing, start_daemon
from tests.waiting import free_port, wait_for

# For longer than what is going on may last, from the moment that a file is there.
STOP_FOR_A_WHILE = """
import os, signal, sys, time
for _ in range(5000):
    if os.path.exists(sys.argv[1]):
        os.kill(int(sys.argv[2]), signal.SIGSTOP)
        time.sleep(2.6)
        os.kill(int(sys.argv[2]), signal.SIGCONT)
        break
    time.sleep(0.005)
"""


@contextlib.contextmanager
def is_stopped_when_begun(supervisor: Supervisor) -> Iterator[Path]:
    """The file that tells that it has begun; the supervisor is stopped then, and goes on after a while."""
    begun, daemon = supervisor.folder / "begun", supervisor.daemon_pid()
    with subprocess.Popen([sys.executable, "-c", STOP_FOR_A_WHILE, str(begun), str(daemon)]) as stopping:
        yield begun
        assert stopping.wait(60) == 0
    assert supervisor.daemon_pid() == daemon


def test_a_supervisor_that_is_stopped_for_a_while_is_not_missed_and_punishes_nobody_for_it(
    supervisor: Supervisor,
) -> None:
    """A worker that asks for its port meanwhile is not told that its time is over."""
    supervisor.apply(supervisor.api())
    port = free_port()
    slow = supervisor.api(
        name="slow", script="slow.js", instances=1, listen_timeout=2.0, port=port, env={"PORT": str(port)}
    )
    with Load(supervisor.port) as load, is_stopped_when_begun(supervisor) as begun:
        (supervisor.folder / "slow.js").write_text(
            f"require('fs').writeFileSync('{begun}', '');\n"
            f"setTimeout(() => {{ {(supervisor.folder / 'server.js').read_text()} }}, 700);"
        )
        result = supervisor.apply(supervisor.api(), slow, check=False)
    lost_nothing(load)
    assert result["ok"], result
    assert supervisor.workers("slow")[0]["restarts"] == 0


def test_a_worker_has_its_whole_time_to_end_although_the_supervisor_is_stopped_meanwhile(
    supervisor: Supervisor,
) -> None:
    with is_stopped_when_begun(supervisor) as begun:
        script = f"trap 'touch {begun}; sleep 3; echo ended by itself; exit 0' INT; while :; do sleep 0.05; done"
        supervisor.apply(supervisor.singleton(args=[script], kill_timeout=2.0))
        supervisor.run("stop", "tick")
    assert "ended by itself" in (supervisor.home / "logs" / "tick-out.log").read_text(), supervisor.log()


def test_a_request_has_its_whole_time_to_be_answered_although_the_supervisor_is_stopped_meanwhile(
    supervisor: Supervisor,
) -> None:
    start_daemon(supervisor, "from percore.supervisor.core.worker import drain; drain._LIMIT_SECONDS = 2.0")
    (supervisor.folder / "slow.js").write_text(
        "require('http').createServer((request, response) => {\n"
        "  if (request.url === '/slow') console.log('asked');\n"
        "  setTimeout(() => response.end(JSON.stringify({ pid: process.pid })), request.url === '/slow' ? 4000 : 0);\n"
        "}).listen(process.env.PORT);"
    )
    supervisor.apply(supervisor.api(script="slow.js", instances=1))
    [old] = supervisor.pids("api")
    log = supervisor.home / "logs" / "api-out-0.log"
    with ThreadPoolExecutor() as background, is_stopped_when_begun(supervisor) as begun:
        answer = background.submit(supervisor.get, "/slow")
        wait_for(lambda: "asked" in log.read_text(), "the request to arrive")
        reload = background.submit(supervisor.run, "reload", "api")
        wait_for(lambda: supervisor.get()["pid"] != old, "the new worker to serve")
        begun.touch()
        assert answer.result()["pid"] == old
        reload.result()
    supervisor.run("kill")


# The loop does not turn any more, and everything else of the process does.
HANGS = """
from percore.supervisor.core import status as module
status = module.status
def hangs(apps):
    while os.path.exists(os.path.join(os.environ["PERCORE_HOME"], "hang")): time.sleep(0.01)
    return status(apps)
module.status = hangs
os.environ["WATCHDOG_PID"] = str(os.getpid())
"""


def test_systemd_hears_from_the_loop_that_it_turns_and_no_more_when_it_does_not(supervisor: Supervisor) -> None:
    path = str(supervisor.folder / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd, ThreadPoolExecutor() as background:
        systemd.bind(path)
        systemd.settimeout(20)
        daemon = start_daemon(supervisor, HANGS, env={"NOTIFY_SOCKET": path, "WATCHDOG_USEC": "200000"})
        heard = [systemd.recv(100) for _ in range(6)]
        assert b"READY=1" in heard
        assert heard.count(b"WATCHDOG=1") >= 3
        hang = supervisor.home / "hang"
        hang.touch()
        asking = background.submit(supervisor.run, "status", "--json")
        try:
            wait_for(lambda: is_silent(systemd), "it to be silent, five times as long as it is between two words")
        finally:
            hang.unlink()
        asking.result()
        systemd.settimeout(20)
        assert systemd.recv(100) == b"WATCHDOG=1"
        kill_now(daemon)


def is_silent(systemd: socket.socket) -> bool:
    systemd.settimeout(0.5)
    try:
        systemd.recv(100)
    except TimeoutError:
        return True
    return False


def test_a_fault_of_its_own_does_not_end_the_supervisor(supervisor: Supervisor) -> None:
    fault = """
from percore.supervisor import service
service._SOUND_SECONDS = 0.0
from percore.supervisor.base.loop import Loop
turn = Loop.turn
def faulty(self):
    if os.path.exists(os.path.join(os.environ["PERCORE_HOME"], "fault")): raise RuntimeError("a fault of ours")
    return turn(self)
Loop.turn = faulty
"""
    app = supervisor.api()
    daemon = start_daemon(supervisor, fault)
    supervisor.apply(app, supervisor.singleton(args=["exec sleep 1000"]))
    before = supervisor.pids("api") + supervisor.pids("tick")
    with Load(supervisor.port) as load:
        (supervisor.home / "fault").touch()
        supervisor.run("status", "--json", check=False)
        wait_for(lambda: "internal error, the supervisor begins again" in supervisor.log(), "it to begin again")
        becomes_sound(supervisor, app)
    lost_nothing(load)
    assert "a fault of ours" in supervisor.log()
    assert supervisor.pids("api") + supervisor.pids("tick") == before
    assert supervisor.daemon_pid() == daemon.pid
    supervisor.run("kill")
    daemon.wait(60)


YEAR = 365 * 24 * 3600


@pytest.mark.skipif(shutil.which("faketime") is None, reason="faketime is not installed")
@pytest.mark.parametrize("jump", [f"+{YEAR}", f"-{YEAR}"], ids=["a year ahead", "a year back"])
def test_a_jump_of_the_clock_moves_nothing(supervisor: Supervisor, jump: str) -> None:
    """The clock of this machine is not ours to set, so the supervisor is shown another one."""
    clock = supervisor.folder / "clock"
    clock.write_text("+0\n")
    library = next(Path("/usr/lib").glob("*/faketime/libfaketime.so.1"))
    daemon = start_daemon(supervisor, env={
        "LD_PRELOAD": str(library), "FAKETIME_TIMESTAMP_FILE": str(clock), "FAKETIME_NO_CACHE": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
    })  # fmt: skip
    supervisor.apply(supervisor.api(), supervisor.singleton(args=["exec sleep 1000"]))
    before = supervisor.pids("api") + supervisor.pids("tick")
    with Load(supervisor.port) as load:
        clock.write_text(f"{jump}\n")
        supervisor.run("reload", "api")
        os.kill(before[-1], signal.SIGKILL)
        wait_for(lambda: supervisor.workers("tick")[0]["restarts"] == 1, "the next one, at once")
    lost_nothing(load)
    year = time.gmtime(time.time() + int(jump)).tm_year
    assert f"{year}-" in supervisor.log(), "the supervisor saw the other clock"
    assert all(worker["uptime_seconds"] < 600 for worker in supervisor.workers("api"))
    kill_now(daemon)
    supervisor.run("ping")
    assert all(0 <= worker["uptime_seconds"] < 600 for worker in supervisor.workers("api"))
