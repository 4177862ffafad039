"""Steps of a release on this machine, with the real supervisor: the release command, and apps that are meant to end."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

import pytest
import yaml

from percore.deploy import operations
from percore.deploy.job_report import show_jobs
from percore.deploy.report import Report
from percore.deploy.rollout.diff import ChangesPending
from percore.deploy.rollout.verbs import known_release, preview
from percore.errors import PreflightError, RolloutError
from tests.deploy.project import Project
from tests.terminal import Terminal
from tests.waiting import wait_for


def set_variables(project: Project, **variables: object) -> None:
    path = project.folder / "inventories" / "local.yml"
    content = yaml.safe_load(path.read_text())
    content["all"]["vars"].update(variables)
    path.write_text(yaml.safe_dump(content))


def test_the_release_command_runs_in_the_new_release_while_the_old_one_serves(
    serving: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    ran = serving.folder / "ran"
    serving.write("two")
    line = f"node -p 'process.env.PORT'; pwd; echo $PERCORE_RELEASE >> {ran}; curl -s localhost:$PORT"
    set_variables(serving, release_command=line)
    with pytest.raises(ChangesPending):
        preview.preview(serving.scope, Report(), diff=False)
    assert f"localhost  would run the release command, once: {line}" in capsys.readouterr().out
    assert not ran.exists()
    serving.deploy()
    text = capsys.readouterr().out
    assert f"localhost | {serving.port}" in text
    assert f"localhost | {serving.folder}/.percore/releases/{serving.current}" in text
    assert '"text":"one"' in text
    assert ran.read_text().split() == [serving.current]
    serving.deploy()
    assert ran.read_text().split() == [serving.current]
    known_release.rollback(serving.scope, Report())
    assert len(ran.read_text().split()) == 1


def test_a_release_command_that_fails_switches_nothing_and_runs_again(
    serving: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    release, pids, ready = serving.current, serving.pids(), serving.folder / "ready"
    serving.write("two")
    set_variables(serving, release_command=f"echo no such table; test -e {ready}")
    with pytest.raises(PreflightError, match="the release command ended with exit code 1: echo no such table"):
        serving.deploy()
    assert "localhost | no such table" in capsys.readouterr().out
    assert (serving.current, serving.pids()) == (release, pids)
    ready.touch()
    serving.deploy()
    assert serving.ask()["text"] == "two"
    results = [json.loads(line) for line in (serving.folder / ".percore" / "history.jsonl").read_text().splitlines()]
    assert [entry["result"][:11] for entry in results if entry["what"] == "release command"] == [
        "exit code 1",
        "exit code 0",
    ]


def test_a_rollback_says_what_an_irreversible_release_command_left(
    serving: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    first = serving.current
    serving.write("two")
    set_variables(serving, release_command={"run": "echo dropped", "irreversible": True})
    serving.deploy()
    second = serving.current
    known_release.rollback(serving.scope, Report())
    told = capsys.readouterr().err
    assert f"the release command of {second} is irreversible: what it changed stays, and may not fit {first}" in told
    known_release.rollback(serving.scope, Report(), release=second)
    assert "irreversible" not in capsys.readouterr().err


def set_apps(project: Project, *more: dict[str, Any]) -> None:
    path = project.app / "ecosystem.json"
    apps = json.loads(path.read_text())["apps"][:1]
    path.write_text(json.dumps({"apps": [*apps, *more]}))


def write_job(project: Project, source: str) -> None:
    (project.app / "job.js").write_text(source)


JOB = {"name": "job", "script": "./job.js", "autorestart": False}


@pytest.mark.parametrize("needs", [[], ["job"]], ids=["alone", "needed"])
@pytest.mark.parametrize("times", [{}, {"cron_restart": "0 4 * * *"}], ids=["once", "by time"])
def test_an_app_that_is_meant_to_end_is_healthy_when_it_ended_well(
    project: Project, needs: list[str], times: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    ran = project.folder / "ran"
    write_job(project, f"require('fs').appendFileSync({json.dumps(str(ran))}, process.env.PERCORE_RELEASE + '\\n')")
    tick = {"name": "tick", "script": "./tick.js", "depends_on": needs}
    set_apps(project, {**JOB, **times}, tick)
    for text in ("one", "two"):
        project.write(text)
        project.deploy()
        assert project.ask()["text"] == text
        assert ran.read_text().split()[-1] == project.current
    assert "job finished" in capsys.readouterr().out
    project.deploy()
    assert "nothing to change" in capsys.readouterr().out
    operations.drift(project.scope, Report(), as_json=False)
    assert len(ran.read_text().split()) == 2


def test_an_app_that_is_meant_to_end_and_fails_is_shown_with_its_last_lines(serving: Project) -> None:
    release, pids = serving.current, serving.pids()
    serving.write("two")
    write_job(serving, "console.log('no such table'); process.exit(3);")
    set_apps(serving, JOB)
    with pytest.raises(RolloutError, match=r"job.*code 3") as caught:
        serving.deploy()
    assert "no such table" in caught.value.detail
    assert serving.current == release
    assert pids & serving.pids()


def test_hooks_of_deploys_are_not_run_by_a_rollback_and_each_knows_its_verb(serving: Project) -> None:
    told = serving.folder / "told"
    line = f"echo $PERCORE_VERB $PERCORE_RELEASE $PERCORE_HOSTS >> {told}"
    set_variables(
        serving, hooks={"before_activate": line, "after_confirm": {"run": line, "on": ["deploy", "rollback"]}}
    )
    first = serving.current
    serving.write("two")
    serving.deploy()
    second = serving.current
    known_release.rollback(serving.scope, Report())
    assert told.read_text().splitlines() == [
        f"deploy {second} localhost",
        f"deploy {second} localhost",
        f"rollback {first} localhost",
    ]


def run_words(project: Project, *words: str, app: str = "") -> list[str]:
    code = (
        "import sys; from pathlib import Path; from percore.deploy.report import Report; "
        "from percore.deploy.run_command import run_command; from percore.deploy.rollout.scope import Scope; "
        "sys.exit(run_command(Scope('local', Path(sys.argv[1])), Report(), sys.argv[3:], app=sys.argv[2]))"
    )
    return [sys.executable, "-c", code, str(project.folder), app, *words]


def run(project: Project, *words: str, stdin: str = "", app: str = "") -> subprocess.CompletedProcess[str]:
    command = run_words(project, *words, app=app)
    return subprocess.run(command, input=stdin, capture_output=True, text=True, check=False, timeout=60)


def test_a_command_is_run_once_in_the_current_release_with_its_input_and_its_code(serving: Project) -> None:
    done = run(serving, "pwd; echo $PERCORE_APP $PORT; cat; exit 7", stdin="hello\n")
    assert done.returncode == 7
    release = f"{serving.folder}/.percore/releases/{serving.current}"
    assert done.stdout.splitlines() == [release, f"web {serving.port}", "hello"]
    assert done.stderr.strip() == f"localhost: release {serving.current}, app web"
    assert run(serving, "echo $PERCORE_APP", app="tick").stdout == "tick\n"


def test_a_command_on_a_terminal_gets_one_of_its_size_and_each_key(serving: Project) -> None:
    line = (
        "trap 'echo caught; exit 5' INT; stty size; read -r line; echo got $line; "
        "until stty size | grep 26.100; do sleep 0.05; done; read -r line"
    )
    words, env = run_words(serving, line), dict(os.environ)
    with Terminal(words, env=env, cwd=str(serving.folder), columns=90, lines=25) as terminal:
        terminal.wait_for("25 90")
        terminal.type("keys\n")
        terminal.wait_for("got keys")
        terminal.resize(100, 26)
        terminal.wait_for("26 100")
        terminal.type("\x03")
        terminal.wait_for("caught")
        assert terminal.wait_for_end() == 5


def test_a_deploy_cuts_no_run_of_a_job_and_tells_how_it_ended(
    serving: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    go = serving.folder / "go"
    line = f"while ! test -e {go}; do sleep 0.05; done; echo ended in $PERCORE_RELEASE; exit 3"
    path = serving.app / "ecosystem.json"
    content = json.loads(path.read_text())
    job = {"name": "backup", "script": "/bin/sh", "args": ["-c", line], "cron": "0 0 1 1 *", "where": "one"}
    path.write_text(json.dumps({**content, "jobs": [job]}))
    serving.deploy()
    first, home = serving.current, serving.folder / ".percore" / "home"
    launcher = [str(serving.folder / ".percore" / "bin" / "percore"), "jobs", "backup", "--run"]
    subprocess.run(launcher, env={**os.environ, "PERCORE_HOME": str(home)}, check=True, capture_output=True)
    serving.write("two")
    serving.deploy()
    assert "backup job" in capsys.readouterr().out
    serving.deploy()
    assert "nothing to change" in capsys.readouterr().out
    operations.drift(serving.scope, Report(), as_json=False)
    go.touch()

    def shown() -> str:
        show_jobs(serving.scope, Report(), names=[], as_json=False)
        return capsys.readouterr().out

    wait_for(lambda: "failed: exited with code 3" in shown(), "the end of the run")
    assert f"localhost | backup | ended in {first}" in shown()
    show_jobs(serving.scope, Report(quiet=True), names=["backup"], as_json=True)
    (told,) = json.loads(capsys.readouterr().out)
    assert (told["host"], told["last"]["exit_code"], told["last"]["release"]) == ("localhost", 3, first)
