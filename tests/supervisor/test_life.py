"""Singletons, stopping, the supervisor's own death, and the command line."""

from __future__ import annotations

import json
import os
import pwd
import signal
from pathlib import Path

import pytest

from tests.supervisor.conftest import Load, Supervisor
from tests.waiting import wait_for


def test_a_singleton_never_runs_twice_during_a_new_release(supervisor: Supervisor) -> None:
    supervisor.apply(supervisor.singleton(), release="r1")
    supervisor.apply(supervisor.singleton(), release="r2")
    lines = (supervisor.home / "logs" / "tick-out.log").read_text().split("\n")
    words = [line.split()[0] for line in lines if line]
    assert words == ["start", "end", "start"]
    assert [worker["release"] for worker in supervisor.workers("tick")] == ["r2"]


def test_apps_that_a_new_release_no_longer_names_are_stopped(supervisor: Supervisor) -> None:
    supervisor.apply(supervisor.api(), supervisor.singleton(), release="r1")
    result = supervisor.apply(supervisor.api(), release="r2")
    assert {"app": "tick", "change": "removed"} in result["changes"]
    assert supervisor.workers("tick") == []


def test_the_supervisor_is_killed_under_load_and_nobody_notices(supervisor: Supervisor) -> None:
    supervisor.apply(supervisor.api(), supervisor.singleton())
    supervisor.run("reload", "api")  # the workers now accept on the other one of their slot's sockets
    before = supervisor.pids("api") + supervisor.pids("tick")
    with Load(supervisor.port) as load:
        for _ in range(6):
            supervisor.kill_daemon()
            supervisor.run("ping")
        assert supervisor.pids("api") + supervisor.pids("tick") == before
        supervisor.run("reload", "api")
    assert load.failures == []
    assert not set(before) & set(supervisor.pids("api"))


def test_a_worker_that_dies_while_there_is_no_supervisor_is_started_by_the_next(supervisor: Supervisor) -> None:
    supervisor.apply(supervisor.api(), supervisor.singleton())
    victim, *others = supervisor.pids("api")
    supervisor.kill_daemon()
    os.kill(victim, signal.SIGKILL)
    supervisor.run("ping")
    wait_for(lambda: all(worker["state"] == "running" for worker in supervisor.workers("api")), "both workers")
    assert set(others) < set(supervisor.pids("api"))
    assert victim not in supervisor.pids("api")


def test_an_unreadable_state_file_is_set_aside_and_said(supervisor: Supervisor) -> None:
    supervisor.home.mkdir()
    (supervisor.home / "state.json").write_text('{"version": 1, "apps": [')
    supervisor.run("ping")
    assert "was set aside as" in supervisor.log()
    assert list(supervisor.home.glob("state.json.unreadable-*"))


def test_stop_ends_the_whole_tree_even_what_left_its_session(supervisor: Supervisor) -> None:
    script = "setsid sleep 1000 & setsid sh -c 'sleep 1001 & exit' ; sleep 1002"
    supervisor.apply(supervisor.singleton(args=[script]))
    marker = f"PERCORE_HOME={supervisor.home}".encode()

    def tree() -> list[int]:
        found = []
        for pid in filter(str.isdigit, os.listdir("/proc")):
            try:
                with open(f"/proc/{pid}/environ", "rb") as file:
                    if marker in file.read().split(b"\0") and int(pid) != daemon:
                        found.append(int(pid))
            except OSError:
                continue
        return found

    daemon = supervisor.daemon_pid()
    wait_for(lambda: len(tree()) >= 4, "the tree to grow")
    supervisor.run("stop", "tick")
    wait_for(lambda: tree() == [], "the tree to be gone")
    assert [worker["state"] for worker in supervisor.workers("tick")] == ["stopped"]


def test_a_program_that_does_not_exist_is_said_in_one_line(supervisor: Supervisor) -> None:
    result = supervisor.apply(supervisor.singleton(interpreter="no-such-program"), check=False)
    assert result["exit_code"] == 4
    assert "the interpreter 'no-such-program' is not in PATH" in result["error"]


def test_a_user_that_does_not_exist_fails_the_app_and_not_the_supervisor(supervisor: Supervisor) -> None:
    before = supervisor.daemon_pid()
    result = supervisor.apply(supervisor.singleton(user="nosuchuser"), check=False)
    assert result["exit_code"] == 4
    assert "there is no user 'nosuchuser' here" in result["error"]
    assert supervisor.daemon_pid() == before


def test_the_state_file_and_sockets_are_private(supervisor: Supervisor) -> None:
    supervisor.apply(supervisor.singleton(env={"SECRET": "x"}))
    assert (supervisor.home / "state.json").stat().st_mode & 0o777 == 0o600
    assert (supervisor.home / "run").stat().st_mode & 0o777 == 0o700
    assert (supervisor.home / "run" / "control.sock").stat().st_mode & 0o777 == 0o600
    assert "x" not in json.dumps(supervisor.run("jlist").stdout).split('"SECRET"')[-1:][0][:3]


def test_pm2_commands_work_on_a_process_file(supervisor: Supervisor) -> None:
    (supervisor.folder / "ecosystem.config.js").write_text(
        "module.exports = { apps: [{ name: 'api', script: './server.js', instances: 2, exec_mode: 'cluster', "
        f"env: {{ PORT: {supervisor.port} }} }}] }};"
    )
    supervisor.run("start")
    listed = json.loads(supervisor.run("jlist").stdout)
    assert [(entry["name"], entry["pm_id"], entry["pm2_env"]["status"]) for entry in listed] == [
        ("api", 0, "online"),
        ("api", 1, "online"),
    ]
    supervisor.run("stop", "api")
    assert "stopped" in supervisor.run("list").stdout
    supervisor.run("restart", "0")
    assert [worker["state"] for worker in supervisor.workers("api")] == ["running", "stopped"]
    supervisor.run("start", "api")
    assert supervisor.run("describe", "api").stdout.count("listens on") == 2
    assert "listening" in supervisor.run("logs", "api", "--lines", "5", "--nostream").stdout
    supervisor.run("delete", "api")
    assert json.loads(supervisor.run("jlist").stdout) == []


def test_unknown_names_and_files_get_one_line_and_an_exit_code(supervisor: Supervisor) -> None:
    supervisor.apply(supervisor.singleton(name="aggregator"))
    for arguments, told in (
        (("stop", "agregator"), "did you mean 'aggregator'?"),
        (("start", "missing.yml"), "there is no such file"),
        (("reload", "/(/"), "not a regular expression"),
        (("logs", "/(/", "--nostream"), "not a regular expression"),
        (("describe", "agregator"), "did you mean 'aggregator'?"),
    ):
        done = supervisor.run(*arguments, check=False)
        assert done.returncode == (1 if arguments[0] == "describe" else 2)
        assert told in done.stderr
        assert len(done.stderr.splitlines()) == 1


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may choose who a worker runs as")
def test_a_worker_runs_as_its_user_and_group_with_that_users_home(supervisor: Supervisor) -> None:
    script = "echo $(id -un) $(id -gn) $HOME; exec sleep 1000"
    supervisor.apply(supervisor.singleton(cwd="/", args=[script], user="nobody", group="daemon"))
    log = supervisor.home / "logs" / "tick-out.log"
    assert wait_for(log.read_text, "its output").split() == ["nobody", "daemon", pwd.getpwnam("nobody").pw_dir]


def test_each_worker_has_a_pid_file_that_jlist_names(supervisor: Supervisor) -> None:
    supervisor.apply(supervisor.api())
    for worker in json.loads(supervisor.run("jlist").stdout):
        assert worker["pm2_env"]["pm_pid_path"] == str(supervisor.home / "pids" / f"api-{worker['pm_id']}.pid")
        assert int(Path(worker["pm2_env"]["pm_pid_path"]).read_text()) == worker["pid"]
    supervisor.run("delete", "api")
    assert list((supervisor.home / "pids").iterdir()) == []


def test_a_pid_file_names_the_living_worker_also_after_a_reload_and_goes_with_it(supervisor: Supervisor) -> None:
    supervisor.apply(supervisor.api(instances=1, pid_file="run/api.pid"))
    path = supervisor.folder / "run" / "api-0.pid"
    for _ in range(2):
        assert [int(path.read_text())] == supervisor.pids("api")
        supervisor.run("reload", "api")
    supervisor.run("stop", "api")
    assert not path.exists()


# As npm does: the shell dies of the signal at once, the program below it has something to finish.
BELOW_A_SHELL = """
(trap 'echo finishing; sleep 0.4; echo finished; exit 0' INT; echo ready; while :; do sleep 0.05; done) &
trap - INT; wait
"""


def test_a_stop_waits_for_the_program_below_a_launcher_that_died_of_the_signal(supervisor: Supervisor) -> None:
    supervisor.apply(supervisor.singleton(args=[BELOW_A_SHELL], interpreter="bash", kill_timeout=20.0))
    log = supervisor.home / "logs" / "tick-out.log"
    wait_for(lambda: "ready" in log.read_text(), "the program below the shell")
    supervisor.run("stop", "tick")
    assert log.read_text().split() == ["ready", "finishing", "finished"]


def test_what_does_not_end_below_a_dead_launcher_is_killed_after_the_kill_timeout(supervisor: Supervisor) -> None:
    script = "(trap 'echo no' INT; echo ready $BASHPID; while :; do sleep 0.05; done) & trap - INT; wait"
    supervisor.apply(supervisor.singleton(args=[script], interpreter="bash", kill_timeout=0.5))
    log = supervisor.home / "logs" / "tick-out.log"
    wait_for(lambda: "ready" in log.read_text(), "the program below the shell")
    stubborn = log.read_text().split()[1]
    supervisor.run("stop", "tick")
    assert log.read_text().split()[2:] == ["no"]
    assert not os.path.exists(f"/proc/{stubborn}")
    assert [worker["state"] for worker in supervisor.workers("tick")] == ["stopped"]


def test_asking_for_help_or_mistyping_does_nothing_else(supervisor: Supervisor) -> None:
    supervisor.apply(supervisor.singleton())
    before = supervisor.pids("tick")
    for arguments, code in (
        (("kill", "--help"), 0),
        (("kill", "tick"), 2),
        (("daemon", "--help"), 0),
        (("ping", "x"), 2),
    ):
        assert supervisor.run(*arguments, check=False).returncode == code, arguments
    assert supervisor.pids("tick") == before


def test_silent_keeps_back_the_table_and_not_the_answer(supervisor: Supervisor) -> None:
    supervisor.apply(supervisor.singleton())
    assert "tick" in supervisor.run("restart", "tick").stdout
    assert supervisor.run("restart", "tick", "-s").stdout == ""
    assert json.loads(supervisor.run("--silent", "jlist").stdout)[0]["name"] == "tick"
