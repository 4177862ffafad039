"""Workers that end without being asked: started again, slowed down, said, and given up only where a process file says so."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import time

from tests.supervisor.conftest import Load, Supervisor
from tests.supervisor.faults.tools import pidfd_of
from tests.waiting import wait_for

FRAGILE = """
require('http').createServer(() => process.exit(3)).listen(process.env.PORT);
"""


def state(supervisor: Supervisor, app: str = "tick") -> str:
    return str(supervisor.workers(app)[0]["state"])


def test_a_crash_loop_is_shown_in_list_describe_and_log_and_goes_on(supervisor: Supervisor) -> None:
    app = supervisor.singleton(restart_delay=0.01)
    program = "until test -e begun; do sleep 0.02; done; test -e fixed || exit 3; sleep 1000"
    supervisor.apply({**app, "args": [program], "min_uptime": 0})
    (supervisor.folder / "begun").touch()
    wait_for(lambda: supervisor.workers("tick")[0]["crash_looping"], "ten ends")
    wait_for(lambda: "crash-looping" in supervisor.run("list").stdout, "the table to say it")
    wait_for(lambda: "crash-looping" in supervisor.run("describe", "tick").stdout, "describe to say it")
    assert "tick 0: crash-looping: exited with code 3" in supervisor.log()
    (supervisor.folder / "fixed").touch()
    wait_for(lambda: state(supervisor) == "running", "the repaired app")


def test_clients_in_the_queue_of_a_killed_worker_do_not_wait_for_its_whole_back_off(supervisor: Supervisor) -> None:
    supervisor.apply(supervisor.api())
    for _ in range(12):  # after the tenth, the back-off alone would be five seconds or more
        worker = wait_for(lambda: running(supervisor), "the worker to be back")
        os.kill(worker, signal.SIGSTOP)
        with socket.create_connection(("127.0.0.1", supervisor.port), source_address=("127.77.0.1", 0)) as client:
            client.settimeout(8)
            client.sendall(b"GET / HTTP/1.0\r\n\r\n")
            os.kill(worker, signal.SIGKILL)
            assert client.recv(1000).startswith(b"HTTP/1.1 200")


def running(supervisor: Supervisor) -> int:
    """The pid of slot 0's worker, when it runs."""
    first = supervisor.workers("api")[0]
    return int(first["pid"]) if first["state"] == "running" else 0


def test_workers_that_are_killed_again_and_again_leave_no_client_without_an_answer(supervisor: Supervisor) -> None:
    supervisor.apply(supervisor.api())
    with Load(supervisor.port) as load:
        pid = 0
        for _ in range(6):
            pid = wait_for(
                lambda: (found := running(supervisor)) != pid and found,  # noqa: B023 called before the loop goes on
                "the worker to be back",
            )
            os.kill(pid, signal.SIGKILL)
    assert load.counts["hung"] == 0


def test_a_program_that_dies_of_its_clients_is_not_started_in_a_rush(supervisor: Supervisor) -> None:
    (supervisor.folder / "fragile.js").write_text(FRAGILE)
    supervisor.apply(supervisor.api(script="fragile.js", listen_timeout=10.0))

    def ask_and_count() -> int:
        with socket.create_connection(("127.0.0.1", supervisor.port), source_address=("127.77.0.1", 0)) as client:
            client.settimeout(20)
            client.sendall(b"GET / HTTP/1.0\r\n\r\n")
            with contextlib.suppress(ConnectionError):
                assert client.recv(1000) == b""
        return int(supervisor.workers("api")[0]["restarts"])

    wait_for(lambda: ask_and_count() >= 10, "ten crashes", seconds=60)
    began = time.monotonic()
    wait_for(lambda: ask_and_count() >= 13, "three more", seconds=60)
    assert time.monotonic() - began > 2, "one start a second at most, once it is a crash loop"


def test_a_worker_that_had_been_ready_is_back_at_once_however_often_it_is_killed(supervisor: Supervisor) -> None:
    supervisor.run("start", write_file(supervisor, supervisor.api(instances=1, mode="fork")))
    for _ in range(8):
        pid = wait_for(lambda: running(supervisor), "the worker to be back")
        os.kill(pid, signal.SIGKILL)
        wait_for(lambda: running(supervisor) not in (0, pid), "another one")  # noqa: B023 called before the loop goes on
        assert supervisor.ask("describe", selectors=["api"])["workers"][0]["last_delay"] == 0


def test_max_restarts_is_final_and_loud_and_a_start_tries_again(supervisor: Supervisor) -> None:
    app = supervisor.singleton(args=["test -e ok || exit 3; sleep 1000"], max_restarts=2, restart_delay=0.01)
    supervisor.run("start", write_file(supervisor, {**app, "exec_mode": "fork"}), check=False)
    wait_for(lambda: state(supervisor) == "fatal", "it to be given up")
    assert "given up, because it ended 3 times in a row" in supervisor.log()
    [listed] = json.loads(supervisor.run("jlist").stdout)
    assert listed["pm2_env"]["status"] == "errored"
    assert listed["pm2_env"]["unstable_restarts"] == 3
    (supervisor.folder / "ok").touch()
    supervisor.run("start", "tick")
    assert state(supervisor) == "running"


def write_file(supervisor: Supervisor, app: dict[str, object]) -> str:
    path = supervisor.folder / "one.json"
    times = {key: f"{value}s" for key, value in app.items() if isinstance(value, float)}
    path.write_text(json.dumps({"apps": [{**app, **times}]}))
    return str(path)


def test_listed_exit_codes_and_autorestart_false_leave_it_ended(supervisor: Supervisor) -> None:
    for number, settings in enumerate(({"stop_exit_codes": [3]}, {"autorestart": False, "restart_delay": 0.01})):
        app = supervisor.singleton(name=f"job{number}", args=["sleep 1.2; exit 3"], **settings)
        supervisor.apply(app, release=f"r{number}")
        wait_for(lambda app=app: state(supervisor, app["name"]) == "exited", "its end")
        [listed] = json.loads(supervisor.run("jlist").stdout)
        assert (listed["pm2_env"]["status"], listed["pid"]) == ("stopped", 0)


def test_a_job_that_fails_at_once_fails_its_start_and_one_that_succeeds_does_not(supervisor: Supervisor) -> None:
    failing = supervisor.apply(supervisor.singleton(args=["exit 3"], autorestart=False), check=False)
    assert failing["exit_code"] == 4
    assert "exited with code 3" in failing["error"]
    assert supervisor.apply(supervisor.singleton(args=["exit 0"], autorestart=False), release="r2")["ok"]


def test_an_adopted_job_is_not_started_again_when_it_ends(supervisor: Supervisor) -> None:
    supervisor.apply(supervisor.singleton(autorestart=False))
    [pid] = supervisor.pids("tick")
    supervisor.kill_daemon()
    supervisor.run("ping")
    os.kill(pid, signal.SIGKILL)
    wait_for(lambda: state(supervisor) == "exited", "its end")


def test_exp_backoff_waits_grow_by_half_each_time(supervisor: Supervisor) -> None:
    runs = supervisor.folder / "runs"
    app = supervisor.singleton(args=[f"date +%s.%N >> {runs}; exit 3"], exp_backoff_restart_delay=0.1)
    supervisor.run("start", write_file(supervisor, {**app, "exec_mode": "fork"}), check=False)
    times = wait_for(lambda: (found := runs.read_text().split()) and len(found) >= 6 and found, "six runs")
    waits = [float(later) - float(earlier) for earlier, later in zip(times, times[1:])]
    assert all(wait >= 0.1 * 1.5**number * 0.95 for number, wait in enumerate(waits)), waits


def test_a_job_that_is_done_does_not_run_again_whatever_becomes_of_the_supervisor(supervisor: Supervisor) -> None:
    runs = supervisor.folder / "runs"
    supervisor.apply(supervisor.singleton(args=[f"echo x >> {runs}"], autorestart=False))
    wait_for(lambda: state(supervisor) == "exited", "its end")
    supervisor.kill_daemon()
    supervisor.run("ping")
    assert state(supervisor) == "exited"
    supervisor.run("update")
    assert state(supervisor) == "exited"
    assert runs.read_text() == "x\n"
    supervisor.run("start", "tick")
    wait_for(lambda: runs.read_text() == "x\nx\n", "the run that was asked for")


def test_a_job_that_ends_while_no_supervisor_runs_does_not_run_again(supervisor: Supervisor) -> None:
    runs = supervisor.folder / "runs"
    supervisor.apply(supervisor.singleton(args=[f"echo x >> {runs}; sleep 1000"], autorestart=False))
    [pid] = supervisor.pids("tick")
    supervisor.kill_daemon()
    with pidfd_of(pid) as has_ended:
        os.kill(pid, signal.SIGKILL)
        wait_for(has_ended, "its end")
    supervisor.run("ping")
    [worker] = supervisor.workers("tick")
    assert (worker["state"], worker["failure"]) == ("exited", "ended while no supervisor ran")
    assert runs.read_text() == "x\n"


def test_what_was_given_up_is_still_given_up_after_the_supervisor_was_killed(supervisor: Supervisor) -> None:
    runs = supervisor.folder / "runs"
    app = supervisor.singleton(args=[f"echo x >> {runs}; exit 3"], max_restarts=1, restart_delay=0.01)
    supervisor.apply(app, check=False)
    supervisor.run("start", write_file(supervisor, {**app, "exec_mode": "fork"}), check=False)
    wait_for(lambda: state(supervisor) == "fatal", "it to be given up")
    before = runs.read_text(), supervisor.log().count("tick 0: starting")
    supervisor.kill_daemon()
    supervisor.run("ping")
    [worker] = supervisor.workers("tick")
    assert worker["state"] == "fatal"
    assert "given up" in worker["failure"]
    assert (runs.read_text(), supervisor.log().count("tick 0: starting")) == before, "it did not run again"


def test_a_folder_that_vanished_is_an_end_like_any_other(supervisor: Supervisor) -> None:
    folder = supervisor.folder / "gone"
    folder.mkdir()
    supervisor.apply(supervisor.singleton(cwd=str(folder)))
    folder.rmdir()
    os.kill(supervisor.pids("tick")[0], signal.SIGKILL)
    told = wait_for(lambda: supervisor.workers("tick")[0]["failure"], "the failure")
    assert f"cannot change to directory {folder}: No such file or directory" in told
    folder.mkdir()
    wait_for(lambda: state(supervisor) == "running", "the next try")
