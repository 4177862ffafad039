"""What somebody types who typed `pm2` yesterday: scripts, options, selectors, lists, and what is saved."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from typing import Any

import pytest

from tests.supervisor.conftest import Load, Supervisor
from tests.terminal import Terminal
from tests.waiting import free_port, wait_for

TICK = "trap 'exit 0' INT TERM\necho \"args:$* mode:$MODE\"\nwhile :; do sleep 0.05; done\n"


@pytest.fixture
def pm2(supervisor: Supervisor, monkeypatch: pytest.MonkeyPatch) -> Supervisor:
    """In the tests' own words; a supervisor whose folder holds a script that runs for ever, and another one."""
    for name in ("tick.sh", "tock.sh"):
        (supervisor.folder / name).write_text(TICK)
    monkeypatch.setenv("PORT", str(supervisor.port))
    return supervisor


def listed(supervisor: Supervisor) -> list[tuple[str, str]]:
    return [(entry["name"], entry["pm2_env"]["status"]) for entry in processes(supervisor)]


def processes(supervisor: Supervisor) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(supervisor.run("jlist").stdout)
    return found


def run_with(supervisor: Supervisor, env: dict[str, str], *arguments: str, given: str = "") -> str:
    """stdout of a command that finds no more than these variables and what Python and Node need."""
    return subprocess.run(
        [sys.executable, "-m", "percore.supervisor.cli", *arguments], input=given, text=True, check=True, capture_output=True,
        timeout=60, cwd=supervisor.folder, env={**env, "PATH": os.environ["PATH"], "PYTHONPATH": os.pathsep.join(sys.path)},
    ).stdout  # fmt: skip


def output(supervisor: Supervisor, app: str) -> str:
    path = supervisor.home / "logs" / f"{app}-out.log"
    return path.read_text() if path.exists() else ""


def test_a_script_starts_with_pm2s_options_and_its_own_arguments(pm2: Supervisor) -> None:
    pm2.run("start", "tick.sh", "-n", "clock", "--namespace", "time", "-k", "700", "--restart-delay", "2s",
            "--max-memory-restart", "300M", "--no-autorestart", "--stop-exit-codes", "3", "4", "--no-pmx",
            "--", "--loud", "1")  # fmt: skip
    [entry] = processes(pm2)
    env = entry["pm2_env"]
    assert (entry["name"], env["namespace"], env["args"], env["autorestart"]) == (
        "clock",
        "time",
        ["--loud", "1"],
        False,
    )
    assert (env["kill_timeout"], env["restart_delay"], env["max_memory_restart"]) == (700, 2000, 300 << 20)
    assert env["stop_exit_codes"] == [3, 4]
    wait_for(lambda: "args:--loud 1" in output(pm2, "clock"), "its output")


def test_programs_command_lines_and_several_scripts_start_too(pm2: Supervisor) -> None:
    pm2.run("start", "sleep", "--", "1000")
    pm2.run("start", "tick.sh", "tock.sh")
    pm2.run("start", "exec bash tick.sh in quotes", "--name", "line")
    assert listed(pm2) == [("sleep", "online"), ("tick", "online"), ("tock", "online"), ("line", "online")]
    wait_for(lambda: "args:in quotes" in output(pm2, "line"), "its output")


def test_a_script_that_runs_is_refused_unless_another_copy_is_wanted(pm2: Supervisor) -> None:
    pm2.run("start", "tick.sh")
    done = pm2.run("start", "tick.sh", check=False)
    assert (done.returncode, len(done.stderr.splitlines())) == (1, 1)
    assert "'tick' is already running" in done.stderr
    assert "is already running another program" in pm2.run("start", "tock.sh", "--name", "tick", check=False).stderr
    assert len(processes(pm2)) == 1
    pm2.run("start", "tick.sh", "--force")
    assert listed(pm2) == [("tick", "online")] * 2
    pm2.run("stop", "tick")
    pm2.run("start", "tick.sh", "--", "again")
    assert listed(pm2) == [("tick", "online")] * 2
    wait_for(lambda: "args:again" in output(pm2, "tick"), "its output")


@pytest.mark.parametrize(
    ("typed", "said"),
    [("start tick.sh --no-daemon -- loud", "args:loud"), ("serve . PORT --no-daemon --name tick", "serving")],
)
def test_without_a_daemon_the_command_shows_the_logs_and_ends_everything_with_itself(
    pm2: Supervisor, typed: str, said: str
) -> None:
    words = typed.replace("PORT", str(free_port())).split()
    command = [sys.executable, "-m", "percore.supervisor.cli", *words]
    env = {**os.environ, "PERCORE_HOME": str(pm2.home), "PYTHONUNBUFFERED": "1"}
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=pm2.folder, env=env
    ) as run:
        assert run.stdout is not None
        assert any(said in line for line in run.stdout)
        [pid] = pm2.pids("tick")
        assert "already running" in pm2.run("start", "tock.sh", "--no-daemon", check=False).stderr
        run.send_signal(signal.SIGTERM)
        assert "are stopped" in run.stdout.read()
    assert not os.path.exists(f"/proc/{pid}")


def test_what_is_down_starts_by_name_and_what_runs_restarts(pm2: Supervisor) -> None:
    pm2.run("start", "tick.sh", "-i", "2", "--namespace", "time")
    first, second = pm2.pids("tick")
    pm2.run("stop", "1")
    pm2.run("start", "time")
    assert pm2.pids("tick")[0] == first
    assert pm2.pids("tick")[1] not in (0, second)
    pm2.run("start", "tick")
    assert first not in pm2.pids("tick")
    assert [entry["pm2_env"]["restart_time"] for entry in processes(pm2)] == [1, 1]
    pm2.run("reset", "all")
    assert [entry["pm2_env"]["restart_time"] for entry in processes(pm2)] == [0, 0]


def test_what_a_killed_supervisor_left_is_known_to_the_next_command_that_starts_something(pm2: Supervisor) -> None:
    pm2.run("start", "tick.sh")
    before = pm2.pids("tick")
    pm2.kill_daemon()
    assert "tick" in pm2.run("list").stdout
    assert (pm2.home / "pm2.pid").read_text() == f"{pm2.daemon_pid()}\n"
    pm2.kill_daemon()
    assert "is already running" in pm2.run("start", "tick.sh", check=False).stderr
    assert pm2.pids("tick") == before
    pm2.kill_daemon()
    pm2.run("restart", "tick")
    assert pm2.pids("tick") != before
    pm2.run("kill")
    assert pm2.run("list").stderr == ""
    assert not (pm2.home / "pm2.pid").exists()


def test_several_selectors_and_process_files_choose_together(pm2: Supervisor) -> None:
    apps = [{"name": name, "script": "tick.sh"} for name in ("a", "b", "c")]
    (pm2.folder / "eco.json").write_text(json.dumps(apps))
    pm2.run("start", "eco.json", "--only", "a,b")
    assert [name for name, _ in listed(pm2)] == ["a", "b"]
    pm2.run("start", "eco.json")
    pm2.run("stop", "a", "/^[bc]$/")
    assert {status for _, status in listed(pm2)} == {"stopped"}
    pm2.run("restart", "0", "c")
    assert dict(listed(pm2)) == {"a": "online", "b": "stopped", "c": "online"}
    refused = pm2.run("stop", "a", "nosuch", check=False)
    assert refused.returncode == 2
    assert dict(listed(pm2))["a"] == "online"
    pm2.run("delete", "eco.json", "--only", "a")
    assert [name for name, _ in listed(pm2)] == ["b", "c"]
    assert "no file" in pm2.run("restart", "eco.json", "--only", "d", check=False).stderr


def test_a_process_file_is_also_read_from_stdin(pm2: Supervisor) -> None:
    def give(*arguments: str) -> None:
        run_with(pm2, {"PERCORE_HOME": str(pm2.home)}, *arguments, given="{apps: [{name: 'a', script: 'tick.sh'}]}")

    give("start", "-")
    assert listed(pm2) == [("a", "online")]
    give("stop", "-")
    assert listed(pm2) == [("a", "stopped")]
    give("restart", "-")
    assert listed(pm2) == [("a", "online")]
    give("delete", "-")
    assert listed(pm2) == []


def test_a_restart_changes_options_name_and_environment_only_when_asked(
    pm2: Supervisor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MODE", "old")
    pm2.run("start", "tick.sh", "--", "one")
    monkeypatch.setenv("MODE", "new")
    pm2.run("restart", "tick", "--kill-timeout", "900", "--", "two")
    wait_for(lambda: "args:two mode:old" in output(pm2, "tick"), "its output")
    assert processes(pm2)[0]["pm2_env"]["kill_timeout"] == 900
    pm2.run("restart", "tick", "--update-env", "--name", "tock")
    wait_for(lambda: "args:two mode:new" in output(pm2, "tock"), "its output")
    assert listed(pm2) == [("tock", "online")]
    assert "scale" in pm2.run("restart", "tock", "-i", "3", check=False).stderr


def test_a_file_with_changes_reloads_without_losing_a_request_and_a_bad_one_changes_nothing(pm2: Supervisor) -> None:
    def write(**env: str) -> None:
        app = {"name": "api", "script": "server.js", "instances": 2, "listen_timeout": "10s", "env": env}
        (pm2.folder / "ecosystem.json").write_text(json.dumps({"apps": [app]}))

    write(STEP="1")
    pm2.run("startOrReload", "ecosystem.json")
    before = pm2.pids("api")
    with Load(pm2.port) as load:
        write(STEP="2")
        pm2.run("startOrReload", "ecosystem.json")
        after = pm2.pids("api")
        assert not set(before) & set(after)
        write(FAIL="throw")
        done = pm2.run("reload", "ecosystem.json", check=False)
        assert done.returncode == 1
        assert "the release is broken" in done.stderr
        assert pm2.pids("api") == after
    assert load.failures == []
    assert [entry["pm2_env"]["env"]["STEP"] for entry in processes(pm2)] == ["2", "2"]
    pm2.run("startOrRestart", "ecosystem.json", check=False)
    assert not set(after) & set(pm2.pids("api"))


def test_a_reload_that_fails_in_a_new_environment_leaves_the_old_one_for_later_starts(
    pm2: Supervisor, monkeypatch: pytest.MonkeyPatch
) -> None:
    pm2.run("start", "server.js", "--name", "api", "-i", "2", "--listen-timeout", "10s")
    monkeypatch.setenv("FAIL", "throw")
    done = pm2.run("reload", "api", "--update-env", check=False)
    assert (done.returncode, "the release is broken" in done.stderr) == (1, True)
    first, second = pm2.pids("api")
    os.kill(first, signal.SIGKILL)
    wait_for(lambda: first not in pm2.pids("api") and 0 not in pm2.pids("api"), "the successor of a killed worker")
    wait_for(lambda: [worker["state"] for worker in pm2.workers("api")] == ["running"] * 2, "both workers")
    assert second in pm2.pids("api")
    pm2.run("reload", "api")
    assert {status for _, status in listed(pm2)} == {"online"}


def test_reloads_that_overlap_wait_for_each_other_and_outlive_their_clients(pm2: Supervisor) -> None:
    pm2.apply(pm2.api())
    before = pm2.pids("api")
    with Load(pm2.port) as load:
        clients = [
            subprocess.Popen(
                [sys.executable, "-m", "percore.supervisor.cli", "reload", "api"], stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE, text=True, cwd=pm2.folder, env={**os.environ, "PERCORE_HOME": str(pm2.home)},
            )
            for _ in range(2)
        ]  # fmt: skip
        for client in clients:
            assert client.stderr is not None
            assert "api 0: starting" in client.stderr.readline()
            client.kill()
            client.wait()
            client.stderr.close()
        wait_for(lambda: [worker["restarts"] for worker in pm2.workers("api")] == [2, 2], "both reloads")
    assert load.failures == []
    assert not set(before) & set(pm2.pids("api"))


def test_scale_takes_a_number_more_fewer_or_max(pm2: Supervisor) -> None:
    pm2.run("start", "tick.sh", "-i", "2")
    for wish, count in (("+2", 4), ("-1", 3), ("1", 1)):
        pm2.run("scale", "tick", wish)
        assert len(pm2.pids("tick")) == count
    pm2.run("scale", "tick", "max")
    assert len(pm2.pids("tick")) >= 1
    for wish in ("0x", "-9"):
        assert pm2.run("scale", "tick", wish, check=False).returncode == 2
    done = pm2.run("delete", "0", check=len(pm2.pids("tick")) == 1)
    assert done.returncode == 0 or "is one of" in done.stderr


def test_a_signal_reaches_the_main_process(pm2: Supervisor) -> None:
    (pm2.folder / "signal.sh").write_text(
        "trap 'echo got it' USR2; trap 'exit' INT; echo ready; while :; do sleep 0.05; done"
    )
    pm2.run("start", "signal.sh")
    wait_for(lambda: "ready" in output(pm2, "signal"), "the script")
    assert "1 process" in pm2.run("sendSignal", "SIGUSR2", "signal").stdout
    wait_for(lambda: "got it" in output(pm2, "signal"), "the signal")
    pm2.run("stop", "signal")
    assert pm2.run("sendSignal", "USR2", "signal", check=False).returncode == 1
    assert pm2.run("sendSignal", "SIGNOSUCH", "signal", check=False).returncode == 2


def test_the_jlist_holds_what_scripts_read_in_pm2s_types(pm2: Supervisor) -> None:
    (pm2.folder / "package.json").write_text('{"version": "4.5.6"}')
    app = {"name": "api", "script": "server.js", "instances": 2, "watch": False, "env": {"PORT": pm2.port, "N": 7},
           "increment_var": "N", "node_args": "--trace-warnings", "pid_file": "run/api.pid"}  # fmt: skip
    (pm2.folder / "eco.json").write_text(json.dumps(app))
    pm2.run("start", "eco.json")
    entry = wait_for(lambda: next((one for one in processes(pm2) if one["pm_id"] == 1), None), "the second worker")
    env = entry["pm2_env"]
    wanted = {
        "status": str, "restart_time": int, "pm_id": int, "name": str, "namespace": str, "exec_mode": str,
        "exec_interpreter": str, "node_args": list, "watch": bool,
        "ignore_watch": list, "vizion": bool, "pm_exec_path": str, "pm_out_log_path": str,
        "pm_err_log_path": str, "pm_pid_path": str, "NODE_APP_INSTANCE": int, "N": int, "env": dict, "pm_cwd": str, "args": list,
        "pm_uptime": int, "created_at": int, "unstable_restarts": int, "instances": int, "version": str, "node_version": str,
        "username": str, "unique_id": str, "autorestart": bool, "merge_logs": bool, "kill_timeout": int, "listen_timeout": int,
        "wait_ready": bool, "exit_code": int, "prev_restart_delay": int, "axm_monitor": dict, "axm_actions": list,
        "axm_options": dict,
    }  # fmt: skip
    assert {key: type(env.get(key)) for key in wanted} == wanted
    assert (entry["monit"]["memory"] > 0, type(entry["monit"]["cpu"]), entry["pid"] > 0) == (True, float, True)
    assert (env["status"], env["exec_mode"], env["version"], env["N"], env["NODE_APP_INSTANCE"]) == (
        "online", "cluster_mode", "4.5.6", 8, 1)  # fmt: skip
    assert env["env"] == {"PORT": str(pm2.port), "N": "8", "NODE_APP_INSTANCE": "1"}
    node = subprocess.run(["node", "--version"], capture_output=True, text=True, check=True).stdout.strip()
    assert f"v{env['node_version']}" == node
    assert env["pm_exec_path"] == str(pm2.folder / "server.js")
    pretty = pm2.run("prettylist").stdout
    assert pretty.count("name: 'api',") == 4
    assert [one["pm2_env"]["pm_exec_path"] for one in json.loads(node_value(pretty))] == [env["pm_exec_path"]] * 2


def node_value(text: str) -> str:
    """What Node reads in a printed value, as JSON."""
    script = "process.stdout.write(JSON.stringify(eval('(' + require('fs').readFileSync(0, 'utf8') + ')')))"
    return subprocess.run(["node", "-e", script], input=text, capture_output=True, text=True, check=True).stdout


def test_the_environment_of_the_callers_shell_is_only_told_by_env(
    pm2: Supervisor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECRET_OF_THE_SHELL", "x1y2z3")
    pm2.run("start", "tick.sh")
    for command in (("jlist",), ("prettylist",), ("describe", "tick"), ("status", "--json"), ("list",)):
        assert "x1y2z3" not in pm2.run(*command).stdout
    assert "SECRET_OF_THE_SHELL: x1y2z3" in pm2.run("env", "0").stdout


def test_ids_pids_and_whether_there_is_such_an_app(pm2: Supervisor) -> None:
    pm2.run("start", "tick.sh", "-i", "2")
    assert pm2.run("pid", "tick").stdout.split() == [str(pid) for pid in pm2.pids("tick")]
    assert pm2.run("id", "tick").stdout == "[ 0, 1 ]\n"
    assert pm2.run("id", "nosuch").stdout == "[]\n"
    assert pm2.run("describe", "tick").returncode == 0
    assert pm2.run("describe", "nosuch", check=False).returncode == 1


def test_the_list_sorts_narrows_and_leaves_out_colours_without_a_terminal(pm2: Supervisor) -> None:
    pm2.run("start", "tick.sh", "tock.sh")
    wide = pm2.run("list").stdout
    assert all(head in wide for head in ("namespace", "version", "watching", "↺"))
    assert "\033[" not in wide
    first = pm2.run("list", "--sort", "name:desc").stdout.splitlines()[3]
    assert "tock" in first
    assert "pm2 id : 1" in pm2.run("list", "-m").stdout
    assert "did you mean 'status'?" in pm2.run("list", "--sort", "statsu", check=False).stderr
    assert json.loads(pm2.run("slist").stdout)["memory"]["total"] > 0


def test_the_list_is_as_wide_as_the_terminal_and_coloured_unless_it_must_not_be(
    pm2: Supervisor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    monkeypatch.delenv("NO_COLOR", raising=False)
    pm2.run("start", "tick.sh")

    def shown(columns: int, *arguments: str) -> tuple[str, bytes]:
        command = [sys.executable, "-m", "percore.supervisor.cli", *arguments]
        with Terminal(
            command, env={**os.environ, "PERCORE_HOME": str(pm2.home)}, cwd=str(pm2.folder), columns=columns
        ) as terminal:
            text = terminal.wait_for("tick")
            if "--watch" not in arguments:
                text = terminal.wait_for("host: ") if columns > 30 else text
            return text, terminal.raw

    full, raw = shown(150, "list")
    assert "namespace" in full
    assert b"\x1b[32m" in raw
    condensed, _ = shown(80, "list")
    assert "namespace" not in condensed
    assert "status" in condensed
    assert "+--- tick" in shown(30, "list")[0]
    assert b"\x1b[3" not in shown(150, "list", "--no-color")[1]
    assert "tick" in shown(150, "list", "--watch")[0]


def test_control_characters_of_an_app_are_shown_and_not_sent_to_the_terminal(pm2: Supervisor) -> None:
    (pm2.folder / "package.json").write_text(json.dumps({"version": "1\x1b]0;owned\x07\x1b[2J\u202e"}))
    script = pm2.folder / "loud.sh"
    script.write_text("printf 'a\\033[31mred\\033[2Jall well\\n\\302\\233x'; echo ready; exec sleep 1000\n")
    pm2.run("start", "loud.sh")
    wait_for(lambda: "ready" in pm2.run("logs", "--nostream").stdout, "its output")

    def sent(*arguments: str) -> bytes:
        command = [sys.executable, "-m", "percore.supervisor.cli", *arguments]
        env = {**os.environ, "PERCORE_HOME": str(pm2.home)}
        with Terminal(command, env=env, cwd=str(pm2.folder), columns=250) as terminal:
            terminal.wait_for(
                "host: " if arguments[0] == "list" else "ready" if arguments[0] == "logs" else "environment"
            )
            return terminal.raw

    for arguments in (("list",), ("describe", "loud"), ("logs", "--nostream"), ("logs", "--nostream", "--json")):
        raw = sent(*arguments)
        assert b"\\x1b[2J" in raw or b"\\u001b[2J" in raw, arguments
        for harmful in (b"\x1b[2J", b"\x1b]", b"\x07", "\u202e".encode(), "\x9b".encode()):
            assert harmful not in raw, arguments
    assert b"\x1b[31mred" in sent("logs", "--nostream")
    assert "\x1b[2Jall well" in pm2.run("logs", "--nostream").stdout


def test_a_misspelt_option_names_the_nearest_and_changes_nothing(pm2: Supervisor) -> None:
    for arguments, told in (
        (("start", "tick.sh", "--max-memory-restrat", "1G"), "did you mean --max-memory-restart?"),
        (("start", "tick.sh", "--kill-timeout", "soon"), "--kill-timeout must be milliseconds"),
        (("start", "tick.sh", "tock.sh", "--name", "x"), "several scripts"),
        (("start", "tick.sh", "missing.sh"), "there is no script, program or app called 'missing.sh'"),
        (("start", "missing.json"), "there is no such file"),
        (("save", "now"), "an unexpected argument"),
        (("startOrReload", "tick"), "a process file is required"),
    ):
        done = pm2.run(*arguments, check=False)
        assert (done.returncode, len(done.stderr.splitlines())) == (2, 1), arguments
        assert told in done.stderr
    assert listed(pm2) == []


def test_what_was_saved_is_resurrected_as_it_was(pm2: Supervisor, monkeypatch: pytest.MonkeyPatch) -> None:
    assert pm2.run("resurrect", check=False).returncode == 1
    assert pm2.run("save", check=False).returncode == 1
    monkeypatch.setenv("MODE", "saved")
    pm2.run("start", "tick.sh", "-i", "2", "--merge-logs")
    pm2.run("start", "tock.sh")
    pm2.run("stop", "tock")
    pm2.run("save")
    assert (pm2.home / "dump.json").stat().st_mode & 0o777 == 0o600
    pm2.run("delete", "all")
    assert pm2.run("save", check=False).returncode == 1
    monkeypatch.setenv("MODE", "other")
    pm2.run("kill")
    pm2.run("resurrect")
    assert listed(pm2) == [("tick", "online"), ("tick", "online"), ("tock", "stopped")]
    wait_for(lambda: output(pm2, "tick").count("mode:saved") == 2 * 2, "the saved environment")
    before = pm2.pids("tick")
    pm2.run("resurrect")
    assert pm2.pids("tick") == before
    pm2.run("cleardump")
    assert not list(pm2.home.glob("dump*"))


def test_pm2s_variables_are_defaults_for_apps_that_do_not_say_otherwise(
    pm2: Supervisor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PM2_KILL_TIMEOUT", "4321")
    monkeypatch.setenv("PM2_KILL_SIGNAL", "SIGTERM")
    monkeypatch.setenv("PM2_SILENT", "true")
    assert pm2.run("start", "tick.sh").stdout == ""
    apps = [{"name": "own", "script": "tick.sh", "killTimeout": 99}]
    (pm2.folder / "eco.json").write_text(json.dumps(apps))
    pm2.run("start", "eco.json")
    told = {one["name"]: (one["pm2_env"]["kill_timeout"], one["pm2_env"]["kill_signal"]) for one in processes(pm2)}
    assert told == {"tick": (4321, "SIGTERM"), "own": (99, "SIGTERM")}
    monkeypatch.setenv("PM2_KILL_SIGNAL", "SIGNOSUCH")
    done = pm2.run("start", "tock.sh", check=False)
    assert (done.returncode, "PM2_KILL_SIGNAL" in done.stderr) == (2, True)


def test_pm2_home_is_the_home_where_no_other_is_set(pm2: Supervisor) -> None:
    def run(*arguments: str) -> str:
        return run_with(pm2, {"PM2_HOME": str(pm2.home)}, *arguments)

    run("start", "tick.sh")
    assert listed(pm2) == [("tick", "online")]
    assert json.loads(run("jlist"))[0]["pm2_env"]["pm_out_log_path"] == str(pm2.home / "logs" / "tick-out.log")


ECHO = "trap 'exit 0' INT TERM\necho ready\nwhile read -r line; do echo \"got $line\"; done\necho over\n"


def test_lines_reach_the_input_of_a_fork_worker_also_without_and_after_another_supervisor(pm2: Supervisor) -> None:
    (pm2.folder / "echo.sh").write_text(ECHO)
    pm2.run("start", "echo.sh")
    wait_for(lambda: "ready" in output(pm2, "echo"), "the script")
    pm2.run("send", "0", "first", "line")
    wait_for(lambda: "got first line" in output(pm2, "echo"), "its answer")
    pm2.kill_daemon()
    run = run_with(pm2, {"PERCORE_HOME": str(pm2.home)}, "ping")
    assert run
    pm2.run("send", "echo", "second")
    wait_for(lambda: "got second" in output(pm2, "echo"), "its answer")
    attached = subprocess.run(
        [sys.executable, "-m", "percore.supervisor.cli", "attach", "0"], input="third\n", text=True, timeout=60, check=True,
        capture_output=True, cwd=pm2.folder, env={**os.environ, "PERCORE_HOME": str(pm2.home)},
    )  # fmt: skip
    assert attached.returncode == 0
    wait_for(lambda: "got third" in output(pm2, "echo"), "its answer")
    assert "over" not in output(pm2, "echo")
    pm2.run("stop", "echo")
    assert "is not running" in pm2.run("send", "0", "x", check=False).stderr
    pm2.apply(pm2.api(instances=1))
    assert "only fork apps" in pm2.run("send", "api", "x", check=False).stderr
