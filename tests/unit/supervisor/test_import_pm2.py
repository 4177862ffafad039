"""From PM2's list to a process file: what is taken over, and what is said. The list has the form of PM2 7's `jlist`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from percore.errors import PercoreError, UsageError
from percore.supervisor.commands.from_pm2.apps import Ported, port_apps
from percore.supervisor.commands.from_pm2.boot import deploy_notes, startup_notes
from percore.supervisor.commands.from_pm2.program import find_pm2
from percore.supervisor.config.process_file import load_process_file

SHELL = {"PATH": "/bin", "HOME": "/root", "LANG": "C.UTF-8", "SHARED": "same"}


def listed(pm_id: int = 0, **fields: Any) -> dict[str, Any]:
    """A process as `jlist` prints it: PM2 spreads the variables among its own fields."""
    env = {**SHELL, "_": "/usr/bin/node", "SHLVL": "2", "SSH_TTY": "x", "PM2_HOME": "/x", "unique_id": "u", "api": "{}"}
    env.update(fields.pop("env", {}))
    usual = {
        "name": "api", "namespace": "default", "pm_exec_path": "/srv/app/server.js", "pm_cwd": "/srv/app", "args": [],
        "exec_interpreter": "node", "exec_mode": "cluster_mode", "node_args": [], "watch": False, "autorestart": True,
        "autostart": True, "treekill": True, "vizion": True, "pmx": True, "username": "root", "status": "online",
        "instance_var": "NODE_APP_INSTANCE", "NODE_APP_INSTANCE": pm_id,
        "pm_out_log_path": f"/root/.pm2/logs/api-out-{pm_id}.log",
        "pm_err_log_path": f"/root/.pm2/logs/api-error-{pm_id}.log", "pm_pid_path": f"/root/.pm2/pids/api-{pm_id}.pid",
    }  # fmt: skip
    return {"pid": 100 + pm_id, "name": "api", "pm_id": pm_id, "pm2_env": {**env, **usual, **fields, "env": env}}


def ported(*entries: dict[str, Any], cores: int = 4) -> Ported:
    return port_apps(list(entries), SHELL, cores)


def only(*entries: dict[str, Any], cores: int = 4) -> dict[str, Any]:
    (app,) = ported(*entries, cores=cores).apps
    return app.written


def test_the_processes_of_one_app_become_one_app_with_what_its_file_said() -> None:
    fields = {"max_memory_restart": 314572800, "kill_timeout": 4000, "wait_ready": True, "args": ["--x", "a b"]}
    env = {"PORT": 3000, "OBJ": '{"a":1}', "FLAG": True, "watch": "of the app"}
    app = only(listed(0, **fields, env=env), listed(2, **fields, env=env))
    assert app == {
        "name": "api", "script": "/srv/app/server.js", "cwd": "/srv/app", "interpreter": "node", "exec_mode": "cluster",
        "instances": 2, **fields, "env": {"PORT": "3000", "OBJ": '{"a":1}', "FLAG": "true", "watch": "of the app"},
    }  # fmt: skip


def test_the_list_and_the_dump_say_the_same() -> None:
    dump = [listed(number)["pm2_env"] for number in (0, 1)]
    assert port_apps(dump, SHELL, 4) == ported(listed(0), listed(1))


def test_variables_of_the_shell_a_session_and_pm2_stay_out_and_nothing_else_is_lost() -> None:
    env = {
        "npm_lifecycle_event": "start",
        "XDG_RUNTIME_DIR": "/run",
        "PERCORE_HOME": "/x",
        "SHARED": "other",
        "TERM": "x",
    }
    assert only(listed(env={**env, "MAILGUN_KEY": "k", "EMPTY": ""}))["env"] == {
        "SHARED": "other", "MAILGUN_KEY": "k", "EMPTY": "",
    }  # fmt: skip


@pytest.mark.parametrize(("written", "count"), [("max", "max"), (0, 0), (-1, 4), (3, 4), (None, 4), ("junk", 4)])
def test_max_stays_max_unless_the_app_was_scaled(written: Any, count: Any) -> None:
    assert only(*(listed(number, instances=written) for number in range(4)))["instances"] == count


def test_own_log_files_stay_without_the_number_that_pm2_puts_in() -> None:
    app = only(listed(3, pm_out_log_path="/srv/app/out-3.log", pm_err_log_path="/srv/app/err-3"))
    assert (app["out_file"], app["error_file"]) == ("/srv/app/out.log", "/srv/app/err")
    app = only(listed(3, pm_out_log_path="/srv/app/out-3.log", merge_logs=True))
    assert (app["out_file"], app["merge_logs"]) == ("/srv/app/out-3.log", True)
    assert "error_file" not in app


def test_what_cannot_be_taken_over_is_said() -> None:
    found = ported(
        listed(0), listed(1, name="pm2-logrotate", pmx_module=True), listed(2, name="old", status="stopped"),
        listed(3, pm_exec_path="/srv/other/server.js"),
    )  # fmt: skip
    assert [(app.name, app.is_online, app.ids) for app in found.apps] == [
        ("api", True, (0,)), ("old", False, (2,)), ("api-1", True, (3,)),
    ]  # fmt: skip
    notes = "\n".join(found.notes)
    assert "'pm2-logrotate' is a module of PM2 and is not taken over: percore rotates logs by itself" in notes
    assert "'old' is stopped in PM2: it is in the file, and not started" in notes
    assert "several apps called 'api': one of them is called 'api-1'" in notes


@pytest.mark.parametrize("content", [{}, [1], [{"name": "x"}], [{"pm2_env": {"name": 1}}], "text"])
def test_another_form_is_one_line(content: Any) -> None:
    with pytest.raises(PercoreError, match="a form that percore does not know"):
        port_apps(content, {}, 1)


def test_the_file_is_read_by_percore_as_pm2_meant_it(tmp_path: Path) -> None:
    import json

    (tmp_path / "server.js").touch()
    fields = {"pm_cwd": str(tmp_path), "pm_exec_path": str(tmp_path / "server.js"), "restart_delay": 100}
    app = only(listed(**fields, cron_restart="30 4 * * *", stop_exit_codes=[3], uid=0, node_args=["--trace-gc"]))
    path = tmp_path / "x.json"
    path.write_text(json.dumps({"apps": [app]}))
    loaded = load_process_file(str(path))
    (config,) = loaded.apps
    assert loaded.warnings == ()
    assert (config.mode, config.restart_delay, config.cron_restart) == ("cluster", 0.1, "30 4 * * *")
    assert (config.stop_exit_codes, config.user, config.interpreter_args) == ((3,), "0", ("--trace-gc",))


def test_a_unit_of_this_home_and_a_deploy_section_are_told_with_what_to_type(tmp_path: Path) -> None:
    (tmp_path / "pm2-app.service").write_text("[Service]\nEnvironment=PM2_HOME=/home/app/.pm2\n")
    (tmp_path / "pm2-other.service").write_text("[Service]\nEnvironment=PM2_HOME=/home/other/.pm2\n")
    (note,) = startup_notes("/home/app/.pm2", str(tmp_path / "pm2*.service"))
    assert "-> sudo systemctl disable --now pm2-app.service && sudo percore startup" in note
    (tmp_path / "ecosystem.config.js").write_text("module.exports={apps:[],deploy:{production:{}}}")
    (note,) = deploy_notes([str(tmp_path)])
    assert "-> percore init --env production" in note


def test_a_home_that_is_missing_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="PM2's directory cannot be read"):
        find_pm2(str(tmp_path / "none"), "")
