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
from pathlib import Path

import pytest

from tests.supervisor.conftest import Load, Supervisor
from tests.supervisor.faults.tools import becomes_sound, kill_now, lost_nothing, start_daemon
from tests.waiting import wait_for


def stopped(pid: int) -> bool:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"


def test_a_supervisor_that_is_stopped_for_a_while_is_not_missed_and_punishes_nobody_for_it(
    supervisor: Supervisor,
) -> None:
    """A worker that became ready meanwhile is not told that its time is over."""
    (supervisor.folder / "slow.js").write_text(
        "require('fs').writeFileSync('begun', '');\n"
        + f"setTimeout(() => {{ {(supervisor.folder / 'server.js').read_text()} }}, 700);"
    )
    supervisor.apply(supervisor.api())
    daemon = supervisor.daemon_pid()
    slow = supervisor.api(name="slow", script="slow.js", instances=1, listen_timeout=2.0, port=None)
    slow["env"] = {"PORT": str(supervisor.port + 1)}
    with (
        Load(supervisor.port) as load,
        subprocess.Popen([sys.executable, "-c", STOP_WHEN_BEGUN, str(supervisor.folder / "begun"), str(daemon)]),
    ):
        result = supervisor.apply(supervisor.api(), slow, check=False)
    lost_nothing(load)
    assert result["ok"], result
    assert supervisor.daemon_pid() == daemon


# For longer than the worker may take to be ready.
STOP_WHEN_BEGUN = """
import os, signal, sys, time
for _ in range(5000):
    if os.path.exists(sys.argv[1]):
        os.kill(int(sys.argv[2]), signal.SIGSTOP)
        time.sleep(2.6)
        os.kill(int(sys.argv[2]), signal.SIGCONT)
        break
    time.sleep(0.005)
"""


def test_systemd_hears_from_the_loop_that_it_turns_and_no_more_when_it_does_not(supervisor: Supervisor) -> None:
    path = str(supervisor.folder / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(path)
        systemd.settimeout(20)
        daemon = start_daemon(
            supervisor, 'os.environ["WATCHDOG_PID"] = str(os.getpid())',
            env={"NOTIFY_SOCKET": path, "WATCHDOG_USEC": "200000"},
        )  # fmt: skip
        heard = [systemd.recv(100) for _ in range(6)]
        assert b"READY=1" in heard
        assert heard.count(b"WATCHDOG=1") >= 3
        os.kill(daemon.pid, signal.SIGSTOP)
        wait_for(lambda: stopped(daemon.pid), "it to be stopped")
        systemd.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            while systemd.recv(100):
                pass  # what it had said before
        systemd.settimeout(0.6)
        with pytest.raises(TimeoutError):
            systemd.recv(100)
        os.kill(daemon.pid, signal.SIGCONT)
        systemd.settimeout(20)
        assert systemd.recv(100) == b"WATCHDOG=1"
        kill_now(daemon)


def test_a_fault_of_its_own_does_not_end_the_supervisor(supervisor: Supervisor) -> None:
    fault = """
from percore.supervisor import daemon
daemon._SOUND_SECONDS = 0.0
from percore.supervisor.manager import Manager
status = Manager.status
def faulty(self):
    if os.path.exists(os.path.join(self._home.path, "fault")): raise RuntimeError("a fault of ours")
    return status(self)
Manager.status = faulty
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
