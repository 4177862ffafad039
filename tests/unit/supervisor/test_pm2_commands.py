"""Commands as PM2's users type them, and what of their surroundings reaches an app: without a supervisor."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from percore.errors import UsageError
from percore.supervisor.base.home import Home
from percore.supervisor.base.user import find_user, identity_of
from percore.supervisor.cli import command_first
from percore.supervisor.client import apps_of_script
from percore.supervisor.commands.app_options import changed_fields, written_keys
from percore.supervisor.commands.runtime import make_runtime_parser, read_apps
from percore.supervisor.commands.settings import known_name
from percore.supervisor.commands.start import make_start_parser
from percore.supervisor.commands.targets import has_script, is_file, refuse_missing_scripts, shell_environment
from percore.supervisor.config.app import AppConfig, Place
from percore.supervisor.logs.files import log_paths
from percore.supervisor.logs.follow import Follower
from percore.supervisor.process.command import WorkerEnvironment, make_command, make_variables
from percore.supervisor.sockets.preload import Preload

COMMAND = "from percore.command import main; main()"


class NoEndpoints:
    def find_preload(self) -> Preload:
        return Preload("/shim.so", "/preload.cjs")

    def find_user_endpoints(self, uid: int) -> Any:
        raise NotImplementedError


def variables_of(config: AppConfig, **base_env: str) -> dict[str, str]:
    environment = WorkerEnvironment(Home("/home/x/.percore"), NoEndpoints(), ())
    return make_variables(environment, Place(1, 7, base_env), config, "token", None)


def app(**fields: Any) -> AppConfig:
    return AppConfig(**{"name": "a", "script": "a.js", "cwd": "/srv/app", "interpreter": "node", **fields})


# -- what is typed -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("typed", "read"),
    [
        ("start app.js -n x", "start app.js -n x"),
        ("--update-env restart all", "restart --update-env all"),
        ("-n api --time start app.js -- --name y", "start -n api --time app.js -- --name y"),
        ("--name start start app.js", "start --name start app.js"),
        ("--name web start app.js", "start --name web app.js"),
        ("--update-env -n list restart web", "restart --update-env -n list web"),
        ("--name web", "--name web"),
        ("-m --no-color list", "list --mini-list --no-color"),
        ("--version start", "--version start"),
        ("--nosuch -- start", "--nosuch -- start"),
        ("nosuch list", "nosuch list"),
        ("", ""),
    ],
)
def test_options_may_stand_before_the_command(typed: str, read: str) -> None:
    assert command_first(typed.split()) == read.split()


@pytest.mark.parametrize(
    ("typed", "instead"),
    [
        ("start a.js --ext js,ts", "--watch 'src/**/*.js'"),
        ("start a.js --container", "invoke image"),
        ("start a.js -u www", "percore startup"),
        ("start a.js -m", "--mini-list"),
        ("runtime a.js --web 9615", "percore web"),
        ("runtime a.js --delay=5", "percore ready --wait-for"),
    ],
)
def test_an_option_that_pm2_alone_has_is_refused_with_what_does_the_same(typed: str, instead: str) -> None:
    name, *words = typed.split()
    parser = make_start_parser() if name == "start" else make_runtime_parser()
    with pytest.raises(UsageError, match=re.escape(instead)):
        parser.parse_args(words)


@pytest.mark.parametrize(
    ("words", "script", "args"),
    [
        (["npm", "--", "run", "start"], "npm", ("run", "start")),
        (["npm run start"], "-c", ("npm run start",)),
        (["node a.js --x"], "-c", ("node a.js --x",)),
        (["a.js", "--", "-x"], "a.js", ("-x",)),
        (["--secret", "k", "--public=p", "a.js"], "a.js", ()),
    ],
)
def test_a_container_runs_what_start_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: list[str], script: str, args: tuple[str, ...]
) -> None:
    (tmp_path / "a.js").touch()
    monkeypatch.chdir(tmp_path)
    [found] = read_apps(make_runtime_parser().parse_args(words))
    assert (found.script, found.args) == (script, args)
    with pytest.raises(UsageError, match="there is no script or program called 'nosuch'"):
        read_apps(make_runtime_parser().parse_args(["nosuch"]))


@pytest.mark.parametrize(
    ("name", "instead"),
    [("pm2:autodump", "by itself"), ("pm2-logrotate:rotateInterval", "log_max_age"), ("x:y", "one of")],
)
def test_a_setting_that_pm2_alone_has_is_refused_with_what_does_the_same(name: str, instead: str) -> None:
    assert known_name("pm2-logrotate:retain") == "log_keep"
    with pytest.raises(UsageError, match=instead):
        known_name(name)


# -- what a worker is told ---------------------------------------------------------------------------------------------


def test_a_worker_is_told_what_pm2_tells_it() -> None:
    env = variables_of(app(mode="cluster"), PWD="/elsewhere", name="of the shell")
    told = {name: env[name] for name in ("name", "namespace", "pm_id", "exec_mode", "pm_cwd", "pm_exec_path", "PWD")}
    assert told == {
        "name": "a", "namespace": "default", "pm_id": "7", "exec_mode": "cluster_mode", "pm_cwd": "/srv/app",
        "pm_exec_path": "/srv/app/a.js", "PWD": "/srv/app",
    }  # fmt: skip
    assert env["NODE_APP_INSTANCE"] == "1"
    assert variables_of(app(env={"name": "own"}))["name"] == "own"


def test_a_program_that_may_not_read_the_preload_does_not_load_it() -> None:
    assert "NODE_OPTIONS" not in variables_of(app(mode="cluster", interpreter="deno"))
    assert variables_of(app(mode="cluster"))["NODE_OPTIONS"] == '--require "/preload.cjs"'
    limited = variables_of(app(mode="cluster", interpreter_args=("--permission", "--allow-fs-read=/srv")))
    assert limited["NODE_OPTIONS"] == '--allow-fs-read="/preload.cjs" --require "/preload.cjs"'
    given = variables_of(app(mode="cluster"), NODE_OPTIONS="--experimental-permission")
    assert given["NODE_OPTIONS"].startswith('--experimental-permission --allow-fs-read="/preload.cjs"')


@pytest.mark.parametrize(
    ("text", "fields", "has_channel"),
    [
        ("#!/usr/bin/env node\n", {"script": "www", "interpreter": "none"}, True),
        ("#!/bin/sh\nexec node app.js\n", {"script": "www", "interpreter": "none"}, True),
        ("#!/bin/sh\nexec node app.js\n", {"script": "www", "interpreter": "sh"}, True),
        ('#!/bin/sh\nexec node "$@"\n', {"script": "app.js", "interpreter": "./www"}, True),
        ("", {"script": "-c", "args": ("npm start",), "interpreter": "/bin/sh"}, True),
        ("", {"script": "-c", "args": ("sleep 5",), "interpreter": "/bin/sh"}, False),
        ("#!/bin/sh\nsleep 5\n", {"script": "www", "interpreter": "none"}, False),
        ("", {"script": "app.py", "interpreter": sys.executable}, False),
    ],
)
def test_what_runs_node_has_a_channel_to_the_supervisor(
    tmp_path: Path, text: str, fields: dict[str, Any], has_channel: bool
) -> None:
    (tmp_path / "www").write_text(text)
    (tmp_path / "www").chmod(0o755)
    config = app(cwd=str(tmp_path), **fields)
    environment = WorkerEnvironment(Home(str(tmp_path)), NoEndpoints(), ())
    command = make_command(environment, Place(0, 0, {"PATH": os.defpath}), config, "token", None, (1, 2))
    assert command.channel is has_channel


def test_variables_of_the_shell_arrive_but_those_of_the_command_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    kept = {
        "LISTEN_PORT": "4000", "LISTEN_HOST": "::", "DISPLAY": ":99", "VIRTUAL_ENV": "/v", "LINES": "3", "TERM": "xterm",
        "SSH_AUTH_SOCK": "/s", "HISTSIZE": "9", "XDG_SESSION_ID": "4", "NODE_CHANNEL_NAME": "news", "PS1": "$",
        "LD_PRELOAD": "libjemalloc.so", "NODE_OPTIONS": "--max-old-space-size=64",
    }  # fmt: skip
    names = (
        "_ SHLVL OLDPWD PERCORE_TOKEN LISTEN_FDS LISTEN_PID LISTEN_FDNAMES NOTIFY_SOCKET NODE_CHANNEL_FD NODE_UNIQUE_ID"
    )
    dropped = dict.fromkeys(names.split(), "1")
    monkeypatch.setattr(os, "environ", {**kept, **dropped})
    assert shell_environment() == kept


def test_nothing_of_ours_comes_back_through_a_worker_that_calls_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    place = "/home/x/.percore/run/preload-0123abcd"
    ours = f'--require "{place}/preload.cjs"'
    monkeypatch.setattr(
        os,
        "environ",
        {"LD_PRELOAD": f"{place}/bindshim-x86_64.so libjemalloc.so", "NODE_OPTIONS": f"--a {ours} --b {ours}"},
    )
    assert shell_environment() == {"LD_PRELOAD": "libjemalloc.so", "NODE_OPTIONS": "--a --b"}
    monkeypatch.setattr(os, "environ", {"LD_PRELOAD": f"{place}/bindshim-x86_64.so", "NODE_OPTIONS": ours})
    assert shell_environment() == {}


def test_a_number_that_no_user_has_is_a_user_without_rights_of_a_group() -> None:
    entry = find_user("1234567")
    assert (entry.pw_uid, entry.pw_gid, entry.pw_dir) == (1234567, 65534, "/")
    if os.geteuid() == 0:
        identity = identity_of("1234567", None)
        assert identity
        assert (identity.uid, identity.gid, identity.groups) == (1234567, 65534, (65534,))


# -- what there is to run ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "is_there"),
    [
        ({"script": "nosuch.js"}, False),
        ({"script": "dist/main"}, True),  # as node finds it: dist/main.js
        ({"script": "dist"}, True),
        ({"script": "dist/other"}, False),
        ({"script": "nosuch.py", "interpreter": "python3"}, False),
        ({"script": "-m", "interpreter": "python3", "args": ("http.server",)}, True),
        ({"script": "-c", "interpreter": "/bin/sh", "args": ("true",)}, True),
        ({"script": "https://x.example/a.ts", "interpreter": "deno"}, True),
        ({"script": "serve", "interpreter": "none"}, True),
        ({"script": "sh", "interpreter": "none"}, True),
        ({"script": "nosuchprogram", "interpreter": "none"}, False),
        ({"script": "./nosuch", "interpreter": "none"}, False),
    ],
)
def test_a_script_that_does_not_exist_is_refused(tmp_path: Path, fields: dict[str, Any], is_there: bool) -> None:
    (tmp_path / "dist").mkdir()
    (tmp_path / "dist" / "main.js").touch()
    config = app(cwd=str(tmp_path), source="x.json", **fields)
    assert has_script(config) is is_there
    if not is_there:
        with pytest.raises(UsageError, match=r"x\.json: the script of app 'a' does not exist"):
            refuse_missing_scripts([config])


def test_a_script_that_only_exports_apps_is_a_process_file(tmp_path: Path) -> None:
    (tmp_path / "pm2.js").write_text("module.exports = { apps: [] }")
    (tmp_path / "app.js").write_text("const apps = 1; module.exports = { run() {} }")
    assert is_file(str(tmp_path / "pm2.js"))
    assert not is_file(str(tmp_path / "app.js"))
    assert not is_file(str(tmp_path / "none.js"))


def test_a_script_means_every_app_that_runs_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "idle.js").touch()
    workers = [
        {"name": name, "cwd": str(tmp_path), "config": {"script": script}}
        for name, script in (("a", "idle.js"), ("b", f"{tmp_path}/idle.js"), ("c", "other.js"))
    ]
    monkeypatch.chdir(tmp_path)
    for target in ("idle.js", "./idle.js", f"{tmp_path}/idle.js"):
        assert apps_of_script(target, workers) == ["a", "b"]
    assert apps_of_script("nosuch.js", workers) == []


def test_null_takes_a_value_back() -> None:
    options = make_start_parser().parse_args(["x", "--node-args=null", "--max-memory-restart", "null", "-n", "null"])
    written = written_keys(options, "restart")
    assert written == {"node_args": None, "max_memory_restart": None, "name": "null"}
    worker = {"name": "a", "cwd": "/", "config": {}}
    assert changed_fields(written, worker, "restart") == {
        "interpreter_args": (),
        "max_memory": None,
        "name": "null",
    }


# -- logs --------------------------------------------------------------------------------------------------------------


def test_a_device_or_a_pipe_is_one_for_all_workers(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    config = app(cwd=str(tmp_path), mode="cluster", instances=2, out_file="/dev/stdout", error_file="./pipe")
    assert log_paths(config, 1, "/logs")[:2] == ("/dev/stdout", f"{tmp_path}/pipe")
    config = config._replace(out_file="all.log", error_file="./x/../all.log")
    assert log_paths(config, 1, "/logs")[:2] == (f"{tmp_path}/all-1.log", f"{tmp_path}/all-1.log")


# -- whatever the caller's terminal, disk and variables are ------------------------------------------------------------


def percore(home: Path, *words: str, stdout: Any = subprocess.PIPE, **env: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [sys.executable, "-c", COMMAND, *words], stdout=stdout, stderr=subprocess.PIPE, cwd=home, timeout=30,
        env={**os.environ, "PERCORE_HOME": str(home / "home"), **env},
    )  # fmt: skip


@pytest.mark.parametrize("encoding", ["latin-1", "ascii"])
def test_a_table_is_printed_in_the_characters_that_there_are(tmp_path: Path, encoding: str) -> None:
    done = percore(tmp_path, "list", PYTHONIOENCODING=encoding)
    assert done.returncode == 0
    assert done.stdout.splitlines()[0].startswith(b"+----+------+")
    assert b"| id | name |" in done.stdout
    assert b"| # |" in done.stdout


@pytest.mark.parametrize("words", [["list"], ["jlist"], ["--help"], ["--version"]])
def test_a_full_disk_behind_the_output_is_one_line(tmp_path: Path, words: list[str]) -> None:
    with open("/dev/full", "wb") as full:
        done = percore(tmp_path, *words, stdout=full)
    assert (done.returncode, done.stderr) == (1, b"percore: the output cannot be written: No space left on device\n")


def test_a_closed_output_is_no_error(tmp_path: Path) -> None:
    command = f"{sys.executable} -c '{COMMAND}' list >&-"
    done = subprocess.run(
        ["sh", "-c", command], stderr=subprocess.PIPE, env={**os.environ, "PERCORE_HOME": str(tmp_path)}
    )
    assert (done.returncode, done.stderr) == (0, b"")


def test_modules_of_the_callers_program_are_not_loaded(tmp_path: Path) -> None:
    (tmp_path / "lib").mkdir()
    for name in ("argparse", "yaml", "select", "resource", "textwrap"):
        (tmp_path / "lib" / f"{name}.py").write_text("raise SystemExit('foreign')")
    (tmp_path / "x.yml").write_text("apps: [{script: nosuch.js}]")
    done = percore(tmp_path, "start", "x.yml", PYTHONPATH="lib")
    assert b"the script of app 'nosuch' does not exist" in done.stderr


def test_what_is_no_regular_file_is_not_followed(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    reading, writing = os.pipe()
    for place in (str(tmp_path / "pipe"), f"/proc/self/fd/{reading}"):
        assert Follower(place).problem == "it is no regular file"
    os.close(reading)
    os.close(writing)
