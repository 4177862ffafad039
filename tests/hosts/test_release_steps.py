"""The steps of a release on real hosts: once for the fleet, as the app's own user, over SSH."""

from __future__ import annotations

import json
import os
import subprocess
import sys

from tests.hosts.conftest import Project, set_variables
from tests.terminal import Terminal


def test_a_release_command_runs_once_for_the_fleet_as_the_apps_user_before_any_host_switches(serving: Project) -> None:
    before = serving.status()[0]["release"]
    set_variables(serving, release_command="echo migrated as $(id -un) on $(hostname) while $(readlink /srv/*/current)")
    with serving.touch_app("a migration"):
        output = serving.deploy()
        assert [line for line in output.splitlines() if "| migrated" in line] == [
            f"node1 | migrated as percore on node1 while releases/{before}"
        ]
        set_variables(serving, release_command="echo no such table; exit 3")
        output = serving.deploy(expected=3)
    assert "node1: the release command ended with exit code 3: echo no such table; exit 3" in output
    assert "nothing was switched: what ran before still runs" in output
    assert {host["release"] for host in serving.status()} == {serving.status()[0]["release"]}
    history = serving.invoke("history", "--env", serving.env).stdout
    assert "release command" in history


def test_a_command_is_run_once_on_the_host_that_is_named_with_its_own_code(serving: Project) -> None:
    line = "id -un; echo $PERCORE_RELEASE $PORT; cat; exit 7"
    words = [sys.executable, "-m", "invoke", "run", "--env", serving.env, "--limit", "node2", "--", line]
    done = subprocess.run(
        words, cwd=serving.folder, input="typed\n", capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 7, done.stderr
    release = serving.status()[1]["release"]
    assert done.stdout.splitlines() == ["percore", f"{release} 5000", "typed"]
    assert f"node2: release {release}, app boltlink-api" in done.stderr


def test_a_command_on_a_terminal_gets_one_over_ssh(serving: Project) -> None:
    line = "trap 'echo caught; exit 5' INT; tty; stty size; read -r line; echo got $line; read -r line"
    words = [sys.executable, "-m", "invoke", "run", "--env", serving.env, "--", line]
    with Terminal(words, env=dict(os.environ), cwd=str(serving.folder), columns=90, lines=25) as terminal:
        terminal.wait_for("25 90")
        terminal.type("keys\n")
        terminal.wait_for("got keys")
        terminal.type("\x03")
        terminal.wait_for("caught")
        assert terminal.wait_for_end() == 5


def test_a_job_of_the_fleet_is_on_one_host_and_all_hosts_are_asked(serving: Project) -> None:
    path = serving.folder / "examples" / "boltlink" / "ecosystem.config.js"
    source = path.read_text()
    once = "{name: 'backup', script: '/bin/true', cron: '0 4 * * *', timezone: 'UTC', where: 'one'}"
    each = "{name: 'tidy', script: '/bin/true', cron: '0 5 * * *'}"
    path.write_text(f"{source}\nmodule.exports.jobs = [{once}, {each}];\n")
    try:
        serving.deploy()
        done = subprocess.run(
            [sys.executable, "-m", "invoke", "jobs", "--env", serving.env, "--json"],
            cwd=serving.folder, capture_output=True, text=True, check=True, timeout=60,
        )  # fmt: skip
        found = [(job["host"], job["name"]) for job in json.loads(done.stdout)]
        assert found == [("node1", "backup"), ("node1", "tidy"), ("node2", "tidy"), ("node3", "tidy")]
    finally:
        path.write_text(source)
        serving.deploy()
