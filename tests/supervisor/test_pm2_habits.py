"""What people who come from PM2 have and type, with real programs."""

from __future__ import annotations

import json
import time
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from tests.supervisor.conftest import Supervisor
from tests.waiting import wait_for

WWW = """#!/usr/bin/env node
require('http').createServer((q, r) => r.end(JSON.stringify(process.env))).listen(process.env.PORT);
"""
READY = "setTimeout(() => process.send('ready'), 50); setInterval(() => {}, 1000);"


def executable(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)


def listed(supervisor: Supervisor) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(supervisor.run("jlist").stdout)
    return found


def write(supervisor: Supervisor, name: str, *apps: dict[str, Any]) -> str:
    (supervisor.folder / name).write_text(json.dumps({"apps": apps}))
    return name


def test_wrappers_of_node_share_a_port_and_have_a_channel(supervisor: Supervisor) -> None:
    executable(supervisor.folder / "bin/www", WWW)
    executable(supervisor.folder / "node_modules/.bin/tsx", '#!/bin/sh\nexec node "$@"\n')
    (supervisor.folder / "ready.js").write_text(READY)
    file = write(
        supervisor,
        "eco.json",
        {"name": "www", "script": "bin/www", "instances": 2, "env": {"PORT": supervisor.port}},
        {"script": "ready.js", "interpreter": "node_modules/.bin/tsx", "wait_ready": True, "listen_timeout": "20s"},
    )
    supervisor.run("start", file)
    supervisor.run("reload", "www")
    env = supervisor.get()
    assert (env["name"], env["exec_mode"], env["PWD"]) == ("www", "cluster_mode", str(supervisor.folder))
    assert env["pm_id"] in ("0", "1")
    assert {entry["pm2_env"]["status"] for entry in listed(supervisor)} == {"online"}


def test_npm_start_with_instances_is_a_cluster(supervisor: Supervisor) -> None:
    (supervisor.folder / "package.json").write_text('{"name": "p", "scripts": {"start": "node server.js"}}')
    with_port = {"env": {"PORT": supervisor.port}}
    supervisor.run(
        "start", write(supervisor, "e.json", {"script": "npm", "args": "start", "instances": 2, **with_port})
    )
    assert [entry["pm2_env"]["exec_mode"] for entry in listed(supervisor)] == ["cluster_mode"] * 2
    assert {supervisor.get()["slot"] for _ in range(20)} <= {"0", "1"}


def test_a_file_with_a_script_that_is_not_there_changes_nothing(supervisor: Supervisor) -> None:
    (supervisor.folder / "ready.js").write_text(READY)
    supervisor.run("start", write(supervisor, "e.json", {"name": "a", "script": "ready.js"}))
    [pid] = supervisor.pids("a")
    write(supervisor, "e.json", {"name": "a", "script": "ready.js"}, {"script": "nosuch.js"})
    for command in ("start", "restart", "reload"):
        refused = supervisor.run(command, "e.json", check=False)
        assert refused.returncode == 2
        assert f"the script of app 'nosuch' does not exist: {supervisor.folder}/nosuch.js" in refused.stderr
    assert supervisor.pids("a") == [pid]
    supervisor.run("restart", "./ready.js")
    assert supervisor.pids("a") != [pid]
    supervisor.run("delete", "ready.js")
    assert listed(supervisor) == []


def test_an_app_that_does_not_start_by_itself_runs_at_its_times_until_it_is_stopped(supervisor: Supervisor) -> None:
    (supervisor.folder / "job.js").write_text("require('fs').appendFileSync('runs', '1');")
    app = {"script": "job.js", "autostart": False, "autorestart": False, "cron_restart": "* * * * * *"}
    supervisor.run("start", write(supervisor, "e.json", app))
    runs = supervisor.folder / "runs"
    assert not runs.exists() or runs.read_text() == "1"
    wait_for(lambda: runs.exists() and len(runs.read_text()) >= 2, "two runs")
    supervisor.run("stop", "job")
    count = len(runs.read_text())
    time.sleep(1.2)  # in which a time has passed
    assert len(runs.read_text()) == count


def test_a_watched_link_that_leads_elsewhere_is_a_change_and_so_is_what_is_there(supervisor: Supervisor) -> None:
    for name in ("r1", "r2", "inner"):
        (supervisor.folder / name).mkdir()
    (supervisor.folder / "current").symlink_to("r1")
    (supervisor.folder / "r2" / "link").symlink_to("../inner")
    (supervisor.folder / "ready.js").write_text(READY)
    supervisor.run("start", write(supervisor, "e.json", {"name": "a", "script": "ready.js", "watch": "current"}))

    def restarts() -> int:
        return int(listed(supervisor)[0]["pm2_env"]["restart_time"])

    (supervisor.folder / "new").symlink_to("r2")
    (supervisor.folder / "new").replace(supervisor.folder / "current")
    wait_for(lambda: restarts() == 1, "a restart for the link")
    for place in ("r2/file", "inner/file"):
        supervisor.run("reset", "all")
        (supervisor.folder / place).write_text("news")
        wait_for(lambda: restarts() > 0, f"a restart for {place}")


def test_a_program_that_does_its_work_and_ends_was_started(supervisor: Supervisor) -> None:
    for _ in range(3):
        supervisor.run("start", "/bin/true", "--restart-delay", "60000")
        supervisor.run("delete", "true")
    refused = supervisor.run("start", "/bin/false", "--no-autorestart", check=False)
    assert "exited with code 1" in refused.stderr


def test_a_single_page_app_is_served_below_every_path(supervisor: Supervisor) -> None:
    site = supervisor.folder / "site"
    site.mkdir()
    (site / "index.html").write_text("home")
    (site / "main.js").write_text("main")
    supervisor.run("serve", "site", str(supervisor.port), "--spa")
    for path, text in (("users/john.doe", b"home"), ("deep/link/main.js", b"main"), ("", b"home")):
        with urllib.request.urlopen(f"http://127.0.0.1:{supervisor.port}/{path}") as answer:
            assert (answer.read(), answer.headers["Access-Control-Allow-Origin"]) == (text, "*")


def test_variables_of_the_shell_do_not_override_the_file_and_that_is_said(
    supervisor: Supervisor, monkeypatch: pytest.MonkeyPatch
) -> None:
    executable(supervisor.folder / "bin/www", WWW)
    env = {"PORT": supervisor.port, "LEVEL": "file"}
    supervisor.run(
        "start", write(supervisor, "e.json", {"name": "www", "script": "bin/www", "instances": 1, "env": env})
    )
    for command in ("restart", "reload", "start"):
        monkeypatch.setenv("LEVEL", command)
        monkeypatch.setenv("OTHER", command)
        said = supervisor.run(command, "www", "--update-env").stderr
        assert f"'www' keeps LEVEL, as {supervisor.folder}/e.json sets it" in said
        assert [supervisor.get()[name] for name in ("LEVEL", "OTHER")] == ["file", command]
    monkeypatch.setenv("LEVEL", "file")
    assert "keeps" not in supervisor.run("restart", "www", "--update-env").stderr


def test_what_greps_json_finds_it_as_node_writes_it(supervisor: Supervisor) -> None:
    (supervisor.folder / "ready.js").write_text("console.log('hello'); setInterval(() => {}, 1000);")
    supervisor.run("start", "ready.js", "--name", "é")
    text = supervisor.run("jlist").stdout
    assert '"name":"é"' in text
    assert '"status":"online"' in text
    log = supervisor.home / "logs" / "é-out.log"
    wait_for(lambda: log.exists() and log.read_text(), "what it says")
    assert '"type":"out"' in supervisor.run("log", "--json", "--nostream").stdout


def test_forks_that_compete_for_a_port_are_told_of_the_cluster(supervisor: Supervisor) -> None:
    (supervisor.folder / "app.py").write_text(
        "import http.server as h\n"
        f"h.HTTPServer(('127.0.0.1', {supervisor.port}), h.BaseHTTPRequestHandler).serve_forever()"
    )
    supervisor.run("start", "app.py", "-i", "2", check=False)
    hint = "another worker has its port -> exec_mode: cluster"
    wait_for(lambda: hint in supervisor.run("list").stdout, "the hint")
