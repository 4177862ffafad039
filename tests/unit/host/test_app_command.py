"""A command as an app of a release: where it runs, with what environment, and who ends it. The commands are real."""

from __future__ import annotations

import io
import json
import os
import pwd
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from percore.common import pidfd
from percore.common.procfs import start_time_of
from percore.errors import PercoreError, UsageError
from percore.host.agent import Agent
from percore.host.release.app_command import make_app_command
from percore.host.supervisor.supervisor import Supervisor
from tests.unit.host.test_messages import RELEASE
from tests.waiting import wait_for


class Place:
    """The releases of an app, one of them staged."""

    def __init__(self, directory: Path, user: str | None = None) -> None:
        self.deploy_to = directory / "app"
        self.release = self.deploy_to / "releases" / RELEASE
        self.release.mkdir(parents=True)
        self.supervisor = Supervisor([str(directory / "percore")], str(directory / "home"), user, str(directory))
        self.target = {"deploy_to": str(self.deploy_to), "command": [str(directory / "percore")],
                       "home": str(directory / "home"), "user": user, "package": str(directory)}  # fmt: skip
        self.record({"name": "api", "cwd": str(self.release), "env": {"MOOD": "sunny"}, "port": 5000})
        (self.deploy_to / "releases.json").write_text(json.dumps({RELEASE: {"mark": "staged"}}))

    def record(self, *apps: dict[str, Any]) -> None:
        (self.release / ".percore.json").write_text(json.dumps({"version": 1, "apps": list(apps)}))

    def said(self, line: str, app: str = "") -> str:
        command = make_app_command(self.supervisor, RELEASE, str(self.release), app, [line])
        child = command.start(stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        return child.communicate(timeout=30)[0].decode().strip()

    def events(self, line: str) -> list[dict[str, Any]]:
        """Of the operation, to its result."""
        out = io.BytesIO()
        source = open(os.devnull, "rb")  # noqa: SIM115 - the connection is lost from the beginning
        with source:
            message = {"op": "release_command", "target": self.target, "release": RELEASE, "command": line}
            Agent(source, out).answer(json.dumps(message).encode())
        return [json.loads(found) for found in out.getvalue().splitlines()]


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def test_it_runs_in_the_apps_directory_with_its_variables(place: Place) -> None:
    shown = place.said("echo $MOOD $PORT $PERCORE_APP $PERCORE_RELEASE; pwd")
    assert shown.split() == ["sunny", "5000", "api", RELEASE, str(place.release)]


def test_it_finds_the_commands_that_the_apps_dependencies_bring(place: Place) -> None:
    for directory in ("node_modules/.bin", "python_packages/bin"):
        (place.release / directory).mkdir(parents=True)
        program = place.release / directory / f"tool-{directory[:4]}"
        program.write_text("#!/bin/sh\necho found\n")
        program.chmod(0o755)
    packages = str(place.release / "python_packages")
    place.record({"name": "api", "cwd": str(place.release), "env": {"PYTHONPATH": packages}})
    assert place.said("tool-node && tool-pyth").split() == ["found", "found"]


def test_the_app_is_the_first_one_or_the_one_that_is_named(place: Place) -> None:
    place.record(*({"name": name, "cwd": str(place.release)} for name in ("api", "worker")))
    assert place.said("echo $PERCORE_APP") == "api"
    assert place.said("echo $PERCORE_APP", "worker") == "worker"
    with pytest.raises(UsageError, match="no app 'workr' in the release -> did you mean 'worker'"):
        place.said("true", "workr")


def test_a_directory_outside_the_release_is_not_where_it_runs(place: Place, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    for cwd in (tmp_path / "elsewhere", place.release / "missing"):
        place.record({"name": "api", "cwd": str(cwd)})
        assert place.said("pwd") == str(place.release)


def test_a_record_that_makes_no_sense_is_told_without_a_traceback(place: Place) -> None:
    for content in ("{", '{"apps": [{"name": 1}]}', '{"apps": [{"name": "a", "cwd": "/", "env": {"A": 1}}]}'):
        (place.release / ".percore.json").write_text(content)
        with pytest.raises(PercoreError, match=r"makes no sense .* -> deploy again"):
            place.said("true")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root takes another user's rights")
def test_a_record_that_the_apps_user_changed_gives_nobody_more_rights(tmp_path: Path) -> None:
    place = Place(tmp_path, user="nobody")
    tmp_path.chmod(0o755)
    place.record({"name": "api", "cwd": str(place.release), "user": "root", "group": "0"})
    shown = place.said("id -u; id -G; umask")
    gid = pwd.getpwnam("nobody").pw_gid
    assert shown.split() == [str(pwd.getpwnam("nobody").pw_uid), str(gid), "0022"]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root takes another user's rights")
def test_roots_supervisor_gives_an_app_its_own_user(tmp_path: Path) -> None:
    place = Place(tmp_path, user="root")
    tmp_path.chmod(0o755)
    place.record({"name": "api", "cwd": str(place.release), "user": "nobody"})
    assert place.said("id -un; echo $USER").split() == ["nobody", "nobody"]


def test_the_output_comes_line_by_line_and_the_code_at_the_end(place: Place) -> None:
    *lines, result = place.events("echo one; echo two >&2; exit 3")
    assert [line["text"] for line in lines] == ["one", "two"]
    assert (result["ok"], result["code"]) == (True, 3)
    told = json.loads((place.deploy_to / "history.jsonl").read_text())
    assert (told["what"], told["release"]) == ("release command", RELEASE)
    assert told["result"].startswith("exit code 3 after")


def test_a_lost_connection_does_not_end_it(place: Place) -> None:
    """The events of `place` read from a source that is at its end from the beginning."""
    assert place.events("sleep 0.5; echo whole")[0]["text"] == "whole"


@pytest.fixture
def agent(place: Place) -> Iterator[subprocess.Popen[bytes]]:
    code = "import sys; from percore.host.agent import main; main()"
    child = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        yield child
    finally:
        child.kill()
        child.communicate()


def test_an_operator_who_ends_the_run_ends_the_command(place: Place, agent: subprocess.Popen[bytes]) -> None:
    assert agent.stdin
    assert agent.stdout
    message = {
        "op": "release_command",
        "target": place.target,
        "release": RELEASE,
        "command": "echo $$; exec sleep 600",
    }
    agent.stdin.write(json.dumps(message).encode() + b"\n")
    agent.stdin.flush()
    events = (json.loads(line) for line in agent.stdout)
    pid = int(next(event["text"] for event in events if event["event"] == "line"))
    born = start_time_of(pid)
    try:
        agent.stdin.write(b'{"op": "bye"}\n')
        agent.stdin.flush()
        wait_for(lambda: start_time_of(pid) != born, "the end of the command")
        result = next(event for event in events if event["event"] == "result")
        assert result["code"] == 128 + 15
    finally:
        if start_time_of(pid) == born:
            pidfd.kill(pid, lambda: start_time_of(pid) == born)
