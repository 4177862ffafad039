"""The home is deleted, moved or taken under its supervisor: one supervisor is there afterwards, and one of each singleton."""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
import subprocess
from typing import Any

from percore.supervisor.base.home import connect
from tests.supervisor.conftest import Supervisor
from tests.supervisor.faults.tools import is_running, plain, processes_of, start_daemon
from tests.waiting import wait_for


def tick(supervisor: Supervisor) -> dict[str, Any]:
    """A singleton that is one process."""
    return supervisor.singleton(interpreter="sleep", script="600", args=[])


def remove_home(supervisor: Supervisor) -> None:
    """The supervisor may be making it again meanwhile."""
    shutil.rmtree(supervisor.home, ignore_errors=True)


def answers(supervisor: Supervisor) -> bool:
    try:
        connect(str(supervisor.home / "run" / "control.sock")).close()
    except OSError:
        return False
    return True


def test_a_deleted_home_is_made_again_by_the_supervisor_that_lives_in_it(supervisor: Supervisor) -> None:
    supervisor.apply(tick(supervisor), plain(supervisor))
    daemon, workers = supervisor.daemon_pid(), [*supervisor.pids("tick"), *supervisor.pids("api")]
    remove_home(supervisor)
    wait_for(lambda: answers(supervisor), "its socket to be back without any command")
    assert supervisor.daemon_pid() == daemon
    assert [*supervisor.pids("tick"), *supervisor.pids("api")] == workers
    os.kill(workers[1], signal.SIGKILL)  # its successor needs what workers load, and their socket
    wait_for(lambda: [worker["state"] for worker in supervisor.workers("api")] == ["running"] * 2, "its successor")
    assert f"{supervisor.home} was deleted and is made again" in supervisor.log()
    supervisor.kill_daemon()
    supervisor.daemon_pid()  # the next one takes up what this one wrote anew
    assert supervisor.pids("tick") == workers[:1]


def test_a_command_just_after_the_home_was_deleted_reaches_the_supervisor_that_was_there(
    supervisor: Supervisor,
) -> None:
    supervisor.apply(tick(supervisor))
    daemon, before = supervisor.daemon_pid(), supervisor.pids("tick")
    for _ in range(3):
        remove_home(supervisor)
        supervisor.apply(tick(supervisor))
        assert supervisor.daemon_pid() == daemon
        assert supervisor.pids("tick") == before
        assert processes_of(supervisor, "tick") == before


def test_a_moved_home_does_not_get_a_second_supervisor(supervisor: Supervisor) -> None:
    supervisor.apply(tick(supervisor))
    daemon, before = supervisor.daemon_pid(), supervisor.pids("tick")
    os.rename(supervisor.home, f"{supervisor.home}.moved")
    assert supervisor.daemon_pid() == daemon
    assert supervisor.pids("tick") == processes_of(supervisor, "tick") == before


def test_where_another_supervisor_has_the_home_by_then_the_first_one_leaves_with_its_workers(
    supervisor: Supervisor,
) -> None:
    """As one of an older version would have it, which does not look for another."""
    supervisor.apply(tick(supervisor))
    daemon, before = supervisor.daemon_pid(), supervisor.pids("tick")
    remove_home(supervisor)
    (supervisor.home / "run").mkdir(parents=True)
    state = supervisor.home / "state.json"
    state.write_text("the other's")
    with (supervisor.home / "run" / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        os.kill(daemon, signal.SIGHUP)
        wait_for(lambda: not is_running(daemon), "the first supervisor to leave")
        assert not is_running(before[0])
        assert state.read_text() == "the other's"
    remove_home(supervisor)


def test_a_supervisor_that_lost_its_home_and_does_not_answer_is_named_and_no_second_one_starts(
    supervisor: Supervisor,
) -> None:
    daemon = start_daemon(supervisor)
    supervisor.apply(tick(supervisor))
    before = supervisor.pids("tick")
    os.kill(daemon.pid, signal.SIGSTOP)
    try:
        remove_home(supervisor)
        done = supervisor.run("daemon", check=False)
        assert done.returncode == 1
        assert f"another supervisor (pid {daemon.pid})" in done.stderr
        assert processes_of(supervisor, "tick") == before
    finally:
        os.kill(daemon.pid, signal.SIGCONT)
    assert supervisor.daemon_pid() == daemon.pid


def test_a_supervisor_that_ended_is_not_looked_for(supervisor: Supervisor) -> None:
    supervisor.apply(tick(supervisor))
    supervisor.kill_daemon()
    remove_home(supervisor)
    assert supervisor.run("ping").returncode == 0
    done: subprocess.CompletedProcess[str] = supervisor.run("list")
    assert "tick" not in done.stdout
    supervisor.apply(tick(supervisor))  # what the first one left ends
    assert supervisor.pids("tick") == processes_of(supervisor, "tick")
