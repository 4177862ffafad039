"""The commands around the daily ones: doctor, report, init, settings, completion, the alias pm2."""

from __future__ import annotations

import json
import os
import shutil
import socket
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from percore.supervisor.commands.registry import instead_of
from tests.supervisor.conftest import Supervisor
from tests.waiting import free_port, wait_for


def sleeper(name: str, **fields: object) -> dict[str, object]:
    return {"name": name, "script": "/bin/sleep", "args": "1000", "interpreter": "none", "min_uptime": 100, **fields}


def write(supervisor: Supervisor, *apps: dict[str, object]) -> str:
    (supervisor.folder / "apps.json").write_text(json.dumps({"apps": list(apps)}))
    return "apps.json"


# -- doctor and report ------------------------------------------------------------------------------------------------


def test_doctor_knows_the_host_and_says_of_each_trouble_what_to_type(supervisor: Supervisor) -> None:
    quiet = json.loads(supervisor.run("doctor", "--json", check=False).stdout)
    assert quiet["facts"]["cores"] >= 1
    assert quiet["facts"]["memory_bytes"] > 0
    assert 1 <= quiet["sizing"]["workers"] <= quiet["facts"]["cores"]
    assert quiet["sizing"]["heap_bytes"] < quiet["sizing"]["memory_bytes"]
    assert quiet["facts"]["has_bind_shim"] is True
    port = free_port()
    with socket.create_server(("127.0.0.1", port)):
        wants = sleeper("wants", port=port, listen_timeout=200)
        supervisor.run("start", write(supervisor, wants, sleeper("dies", args="0", max_restarts=1)), check=False)
        wait_for(lambda: supervisor.workers("dies")[0]["state"] == "fatal", "it to have given up")
        done = supervisor.run("doctor", check=False)
        assert done.returncode == 1
        assert "! dies 0 keeps failing" in done.stdout
        assert "-> percore logs 1 --err" in done.stdout
        holder = f"port {port} of wants 0 is in use by"
        wait_for(lambda: holder in supervisor.run("doctor", check=False).stdout, "the stranger to be named")
        deaf = {"script": "/bin/sh", "args": ["-c", "trap '' INT; while :; do sleep 0.1; done"], "kill_timeout": 200}
        supervisor.run("start", write(supervisor, sleeper("deaf", **deaf)))
        supervisor.run("restart", "deaf")
        told = json.loads(supervisor.run("doctor", "--json", check=False).stdout)["findings"]
        (cut,) = [finding for finding in told if "deaf" in finding["what"]]
        assert cut["what"] == "deaf was killed once, because it had not ended 0.2 s after it was told to"
        assert (cut["topic"], cut["severity"]) == ("reload", "warning")
    for row in ("percore", "host", "cores", "memory", "disk", "limits", "clock", "kernel", "sizing"):
        assert any(line.startswith(row) for line in done.stdout.splitlines()), row


def test_report_has_versions_workers_and_the_log_without_secrets(supervisor: Supervisor) -> None:
    supervisor.run("start", write(supervisor, sleeper("one", env={"TOKEN": "hidden-value"})))
    with (supervisor.home / "logs" / "percore.log").open("a") as log:
        log.write(
            'connecting to redis://me:hidden-value@db:6379 with API_KEY=hidden-value and "password": "hidden-value"\n'
        )
    report = supervisor.run("report").stdout
    assert "hidden-value" not in report
    assert "redis://me:[hidden]@db:6379" in report
    assert "supervisor of version" in report
    assert "one" in report


# -- init and settings ------------------------------------------------------------------------------------------------


def test_init_writes_a_file_that_starts_and_never_over_another(supervisor: Supervisor) -> None:
    for form, count in (((), os.cpu_count()), (("simple",), 1)):
        supervisor.run("init", *form)
        text = (supervisor.folder / "ecosystem.config.js").read_text()
        assert 'script: "server.js"' in text
        again = supervisor.run("init", check=False)
        assert again.returncode == 2
        assert "the file already exists -> percore start" in again.stderr
        check = supervisor.run("apply", "ecosystem.config.js", "--check", "--json", check=False)
        assert json.loads(check.stdout)["changes"][0]["change"] == "added"
        assert count
        (supervisor.folder / "ecosystem.config.js").unlink()


def test_settings_are_defaults_for_files_that_do_not_say_it(supervisor: Supervisor) -> None:
    supervisor.run("set", "kill_timeout", "7s")
    supervisor.run("set", "pm2-logrotate:max_size", "20M")
    assert supervisor.run("get", "log_max_size").stdout == "20M\n"
    assert supervisor.run("conf").stdout == "kill_timeout = 7s\nlog_max_size = 20M\n"
    path = supervisor.home / "settings.json"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    supervisor.run("start", write(supervisor, sleeper("one"), sleeper("two", kill_timeout=100)))
    state = json.loads((supervisor.home / "state.json").read_text())
    configs = {app["config"]["name"]: app["config"] for app in state["apps"]}
    assert configs["one"]["kill_timeout"] == 7
    assert configs["two"]["kill_timeout"] == 0.1
    assert configs["two"]["log_max_size"] == 20 << 20
    supervisor.run("unset", "kill_timeout")
    assert supervisor.run("get", "kill_timeout", check=False).returncode == 2
    for wrong, hint in (
        (("set", "kill_timeot", "1"), "did you mean 'kill_timeout'?"),
        (("set", "kill_timeout", "soon"), "must be milliseconds"),
        (("set", "pm2-logrotate:workerInterval", "1"), "a setting of PM2 that percore does not have -> logs rotate by"),
    ):
        refused = supervisor.run(*wrong, check=False)
        assert refused.returncode == 2
        assert hint in refused.stderr
    path.write_text('{"kill_timeout": [')
    broken = supervisor.run("start", "apps.json", check=False)
    assert broken.returncode == 2
    assert str(path) in broken.stderr


# -- help, completion, PM2's habits -----------------------------------------------------------------------------------


def test_help_of_a_command_and_commands_that_are_elsewhere(supervisor: Supervisor) -> None:
    assert "--max-memory-restart" in supervisor.run("help", "start").stdout
    assert supervisor.run("help", "jlist").stdout.startswith("usage: percore jlist")
    assert supervisor.run("help", "nothing", check=False).returncode == 2
    version = supervisor.run("--version").stdout
    assert supervisor.run("-v").stdout == version
    for name in ("deepUpdate", "pull", "deploy", "module:install", "plus"):
        done = supervisor.run(name, "x", check=False)
        assert done.returncode == 2
        assert (
            done.stderr == f"percore: '{name}' is a command of PM2 that percore does not have -> {instead_of(name)}\n"
        )


@pytest.fixture
def on_path(supervisor: Supervisor, tmp_path: Path) -> dict[str, str]:
    """An environment in which `percore` and `pm2` are commands."""
    folder = tmp_path / "bin"
    folder.mkdir()
    supervisor.run("pm2-alias", "--install", str(folder))
    shutil.copy(folder / "pm2", folder / "percore")
    return {
        **os.environ,
        "PATH": f"{folder}:{os.environ['PATH']}",
        "PERCORE_HOME": "",
        "PM2_HOME": str(supervisor.home),
    }


def test_completion_is_told_the_names_and_ids_of_what_runs(supervisor: Supervisor) -> None:
    assert supervisor.run("completion", "names").stdout == "all\n"
    supervisor.run("start", write(supervisor, sleeper("some-app")))
    assert supervisor.run("completion", "names").stdout == "all\ndefault\nsome-app\n"
    assert supervisor.run("completion", "ids").stdout == "0\n"


def test_everyday_scripts_for_pm2_run_through_the_alias(supervisor: Supervisor, on_path: dict[str, str]) -> None:
    (supervisor.folder / "apps.json").write_text(json.dumps({"apps": [sleeper("api"), sleeper("job")]}))
    once = {"name": "once", "script": "echo in the foreground", "autorestart": False}
    (supervisor.folder / "once.json").write_text(json.dumps({"apps": [once]}))
    script = r"""
        set -e
        pm2 start apps.json --only api
        pm2 start apps.json --only job > /dev/null
        pm2 restart api job
        pm2 jlist | "$PYTHON" -c "import json, sys; print('NAMES', *sorted(app['name'] for app in json.load(sys.stdin)))"
        echo PID $(pm2 pid api)
        if pm2 describe nothing > /dev/null 2>&1; then exit 9; fi
        pm2 save
        pm2 delete all
        pm2 resurrect
        pm2 stop api
        pm2 jlist | "$PYTHON" -c "import json, sys; print('STATES', *[app['pm2_env']['status'] for app in json.load(sys.stdin)])"
        PM2_SILENT=true pm2 restart job
        pm2 kill
        pm2-runtime start once.json --auto-exit
    """
    done = subprocess.run(
        ["sh", "-c", script], env={**on_path, "PYTHON": sys.executable}, capture_output=True, text=True, timeout=120,
        cwd=supervisor.folder,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "NAMES api job" in done.stdout
    assert "STATES stopped online" in done.stdout
    assert "in the foreground\n" in done.stdout
    assert (supervisor.home / "run").is_dir(), "PM2_HOME is the home"
    assert not (Path.home() / ".percore" / "run" / "control.sock").exists()


def test_the_alias_never_takes_the_place_of_another_pm2(supervisor: Supervisor, tmp_path: Path) -> None:
    (tmp_path / "pm2").write_text("#!/usr/bin/env node\n")
    done = supervisor.run("pm2-alias", "--install", str(tmp_path), check=False)
    assert done.returncode == 2
    assert "another pm2 exists there" in done.stderr
    assert "alias pm2=percore" in supervisor.run("pm2-alias").stdout
