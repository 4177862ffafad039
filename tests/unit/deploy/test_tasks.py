"""The tasks that ask no host, as an operator runs them: output, one line per error, exit codes."""

from __future__ import annotations

import inspect
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from invoke import Context

import tasks
from percore.deploy.command_line import to_type
from percore.host.tags import Selection
from percore.tasks.decorators import make_scope, operator_task

PROJECT = Path(__file__).resolve().parents[3]


def parameters(body: Callable[..., Any]) -> list[str]:
    return list(inspect.signature(body).parameters)


def run(*words: str, text: str = "", **env: str) -> tuple[int, str, str]:
    done = subprocess.run(
        [sys.executable, "-m", "invoke", *words], input=text, capture_output=True, text=True, cwd=PROJECT,
        env={**os.environ, **env}, check=False,
    )  # fmt: skip
    return done.returncode, done.stdout, done.stderr


def test_the_inventory_is_shown_and_a_limit_without_hosts_is_one_line() -> None:
    assert run("inventory", "--env", "local")[:2] == (0, "@all:\n  |--@ungrouped:\n  |  |--localhost\n")
    code, shown, _ = run("inventory", "--env", "local", "--host", "localhost")
    assert (code, json.loads(shown)["ansible_connection"]) == (0, "local")
    code, shown, told = run("status", "--env", "local", "--limit", "localhots")
    assert (code, shown) == (2, "")
    assert told == (
        "percore: inventories/local.yml: no host or group is named 'localhots' -> did you mean 'localhost'?\n"
    )


def test_explain_names_every_layer_and_the_winner() -> None:
    code, shown, _ = run("explain", "--env", "local", "--host", "localhost", "--var", "health_path")
    first, meaning, second, third = [line.split() for line in shown.splitlines()]
    assert (code, first) == (0, ["health_path:", '"/health"'])
    assert meaning[:4] == ["requested", "from", "every", "worker"]
    assert second[0].startswith("roles/app/role.yml:")
    assert third[0] == ">"
    assert third[1].startswith("inventories/local.yml:")
    code, _, told = run("explain", "--env", "local", "--host", "localhost", "--var", "health_pth")
    assert (code, told.rpartition(" -> ")[2]) == (2, "did you mean 'health_path'?\n")


def test_a_secret_is_sealed_from_standard_input_and_viewed(tmp_path: Path) -> None:
    code, shown, _ = run("secrets.encrypt-string", "--name", "token", text="hunter22\n", PERCORE_VAULT_PASSWORD="pw")
    assert code == 0
    path = tmp_path / "vars.yml"
    path.write_text(shown)
    assert run("secrets.view", str(path), PERCORE_VAULT_PASSWORD="pw")[:2] == (0, 'token: !vault "hunter22"\n')
    code, shown, told = run("secrets.view", str(path), PERCORE_VAULT_PASSWORD="wrong")
    assert (code, shown) == (2, "")
    assert "vars.yml:1: no password opens this vault text" in told


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("deplyo", "there is no task 'deplyo' -> did you mean 'deploy'?"),
        ("secrets.encript", "there is no task 'secrets.encript' -> did you mean 'secrets.encrypt'?"),
        ("lab.upp", "there is no task 'lab.upp' -> did you mean 'lab.up'?"),
        ("zzzzzz", f"there is no task 'zzzzzz' -> {to_type('--list')}"),
        ("status local", "'status' takes no word 'local' -> --env local"),
        ("status --env local elsewhere", f"there is no task 'elsewhere' -> {to_type('--list')}"),
        ("status --limt web1", "'--limt' is no option of 'status' -> did you mean '--limit'?"),
        ("status --qqqqqqq", f"'--qqqqqqq' is no option of 'status' -> {to_type('status --help')}"),
    ],
)
def test_a_mistyped_word_is_one_line_with_the_nearest(words: str, told: str) -> None:
    assert run(*words.split()) == (2, "", f"percore: {told}\n")


@pytest.fixture
def completing(tmp_path: Path) -> Path:
    """A project whose ./run is invoke's."""
    (tmp_path / "inventories" / "group_vars").mkdir(parents=True)
    for name in ("production.yml", "staging.ini"):
        (tmp_path / "inventories" / name).write_text("")
    (tmp_path / "tasks.py").write_text(
        "from percore.tasks import make_namespace\nnamespace = make_namespace(__file__)\n"
    )
    (tmp_path / "run").write_text(f'#!/bin/sh\nPYTHONPATH={PROJECT} exec {sys.executable} -m invoke "$@"\n')
    (tmp_path / "run").chmod(0o755)
    return tmp_path


ASK = {
    "bash": 'COMP_WORDS=({words}); COMP_CWORD={last}; _percore_tasks; printf "%s\\n" "${{COMPREPLY[@]}}"',
    "zsh": "words=({words}); CURRENT={place}; _percore_tasks",
    "fish": "complete -C '{words}'",
}
BEFORE = {"bash": "", "zsh": "compdef() { }\ncompadd() { shift; print -l -- $@ }\n", "fish": ""}


@pytest.mark.parametrize("shell", ASK)
def test_a_shell_completes_tasks_options_and_environments(completing: Path, shell: str) -> None:
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed")
    code, script, _ = run("completion", "--shell", shell)
    assert code == 0

    def complete(*words: str) -> list[str]:
        typed = " ".join(["./run", *(word or "''" for word in words)])
        ask = ASK[shell].format(
            words=typed if shell != "fish" else typed.replace("''", ""), last=len(words), place=len(words) + 1
        )
        done = subprocess.run(
            [shell, "-c", f"{BEFORE[shell]}{script}\n{ask}"], capture_output=True, text=True, cwd=completing, check=True,
        )  # fmt: skip
        return done.stdout.split()

    assert "deploy" in complete("depl")
    assert "--limit" in complete("status", "--li")
    assert complete("status", "--env", "") == ["production", "staging"]


def test_completion_for_another_shell_is_refused() -> None:
    assert run("completion", "--shell", "zhs")[::2] == (
        2, "percore: there is no completion for 'zhs' -> did you mean 'zsh'?\n",
    )  # fmt: skip


WITHOUT_TOOLS = """
import importlib, pkgutil, sys
for name in ("pytest", "_pytest", "xdist", "hypothesis", "ansible", "mypy", "importlinter", "vermin", "pyte"):
    sys.modules[name] = None
import tasks, percore
for package in ("deploy", "host", "lab", "supervisor", "tasks"):
    for module in pkgutil.walk_packages([f"percore/{package}"], f"percore.{package}."):
        if not module.name.endswith("__main__") and "bindshim" not in module.name:
            importlib.import_module(module.name)
"""


def test_nothing_that_deploys_needs_the_developers_tools() -> None:
    subprocess.run([sys.executable, "-c", WITHOUT_TOOLS], cwd=PROJECT, check=True)


def test_check_outside_the_environment_of_run_names_the_tools_that_are_missing(tmp_path: Path) -> None:
    shutil.copy(PROJECT / "tasks.py", tmp_path)
    words = (
        "import sys; sys.modules['pytest'] = None; from invoke.main import program; program.run(['invoke', 'check'])"
    )
    done = subprocess.run(
        [sys.executable, "-c", words], cwd=tmp_path, capture_output=True, text=True, check=False,
        env={**os.environ, "PYTHONPATH": str(PROJECT)},
    )  # fmt: skip
    assert done.returncode == 3
    assert done.stderr == ("percore: the developers' tools are missing here -> pip install -e '.[deploy,dev]'\n")


@pytest.mark.parametrize("task", [one for one in tasks.namespace.tasks.values() if "forks" in parameters(one.body)])
def test_every_task_that_talks_to_hosts_has_the_options_of_a_scope(task: Any) -> None:
    names = parameters(task.body)
    assert names[:2] == ["context", "env"]
    assert names[-3:] == ["limit", "forks", "verbose"]
    assert not {name.replace("_", "-") for name in names[1:]} - set(task.help)


def test_the_options_of_a_run_make_its_scope() -> None:
    scope = make_scope(PROJECT, "lab", "web*", 4, yes=True, tags="web, app,", skip_tags="slow")
    assert (scope.project, scope.env, scope.limit, scope.forks, scope.yes) == (PROJECT, "lab", "web*", 4, True)
    assert scope.selection == Selection(["web", "app"], ["slow"])


def test_setup_before_deploy_on_one_line_is_about_the_same_environment() -> None:
    for words in (
        ("setup", "deploy", "--env", "nowhere"),
        ("setup", "--env", "nowhere"),
        ("setup", "--env", "nowhere", "deploy"),
    ):
        code, shown, told = run(*words)
        assert (code, shown) == (2, ""), words
        assert "'nowhere'" in told


@pytest.mark.parametrize(("name", "told"), [("logs", False), ("status", False), ("deploy", True), ("converge", True)])
def test_only_what_switches_hosts_speaks_of_a_switch_when_it_is_interrupted(
    name: str, told: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    def body(_: Any) -> None:
        raise KeyboardInterrupt

    body.__name__ = name
    with pytest.raises(SystemExit, match="130"):
        operator_task(body).body(Context())
    said = "".join(capsys.readouterr())
    assert "percore: interrupted" in said
    assert ("rolled back" in said) == told
