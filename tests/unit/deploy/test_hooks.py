"""Hooks: which verb runs which, and what their commands are told."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import pytest

from percore.deploy.alerts.run import Run
from percore.deploy.plan.settings import HookCommand
from percore.deploy.report import Report
from percore.deploy.rollout.hooks import Hooks
from percore.errors import PreflightError, RolloutError, UsageError
from tests.unit.deploy.planned import settings_of
from tests.unit.deploy.test_release_command import plan_with


def hooks_of(written: dict[str, Any]) -> Any:
    return settings_of(plan_with(hooks=written)).hooks


def run(written: dict[str, Any], verb: str, name: str, directory: Path) -> str:
    """What the commands of the hook append to a file."""
    hooks = Hooks(hooks_of(written), Run(verb, "test", directory, Report(quiet=True)), hosts="web1 web2")
    hooks.tell(release="r1")
    hooks.tell_commit({"sha": "1a2b3c4d", "branch": "main", "is_dirty": True})
    hooks.run(name)
    told = directory / "told"
    return told.read_text() if told.exists() else ""


def test_a_command_without_verbs_is_for_deploys_alone(tmp_path: Path) -> None:
    written = {"before_activate": ["echo one >> told", {"run": "echo two >> told", "on": ["deploy", "rollback"]}]}
    assert run(written, "converge", "before_activate", tmp_path) == ""
    assert run(written, "rollback", "before_activate", tmp_path) == "two\n"
    assert run(written, "deploy", "before_activate", tmp_path) == "two\none\ntwo\n"


def test_a_command_knows_the_verb_the_release_the_commit_and_the_hosts(tmp_path: Path) -> None:
    names = ("VERB", "ENV", "RELEASE", "COMMIT", "COMMIT_DIRTY", "HOSTS")
    line = "echo " + " ".join(f"$PERCORE_{name}" for name in names) + " > told"
    written = {"after_confirm": {"run": line, "on": "rollback"}}
    assert run(written, "rollback", "after_confirm", tmp_path) == "rollback test r1 1a2b3c4d 1 web1 web2\n"


def test_what_a_command_leaves_in_the_background_is_not_waited_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    written = {"before_build": "sleep 60 & echo $! > told; echo said"}
    hooks = Hooks(hooks_of(written), Run("deploy", "test", tmp_path, Report()))
    hooks.run("before_build")
    left = int((tmp_path / "told").read_text())
    os.kill(left, signal.SIGKILL)  # ProcessLookupError if it had been waited for
    assert "said" in capsys.readouterr().out


def test_what_is_not_known_yet_is_empty(tmp_path: Path) -> None:
    hooks = Hooks(
        {"before_connect": (HookCommand('echo "<$PERCORE_RELEASE$PERCORE_COMMIT>" > told'),)},
        Run("deploy", "test", tmp_path, Report(quiet=True)),
    )
    hooks.run("before_connect")
    assert (tmp_path / "told").read_text() == "<>\n"


@pytest.mark.parametrize(
    ("written", "told"),
    [
        (
            {"before_build": {"run": "x", "on": "rollback"}},
            "hook 'before_build' cannot be run on rollback: only a deploy",
        ),
        ({"failed": {"run": "x", "on": "rolback"}}, "'on' of hook 'failed' should be deploy or rollback or converge"),
        ({"failed": {"run": "x", "when": "deploy"}}, "key 'hooks.failed.when' is not known"),
        ({"failed": {"on": "deploy"}}, "'run' of hook 'failed' should be a command"),
        ({"failed": ["x", ""]}, "hook 'failed' should be a command"),
        ({"before_activat": "x"}, "hook 'before_activat' is not known -> did you mean 'before_activate'?"),
    ],
)
def test_a_hook_that_makes_no_sense_is_refused(written: dict[str, Any], told: str) -> None:
    with pytest.raises(UsageError, match=told.replace("?", "[?]")):
        hooks_of(written)


def test_a_hook_that_fails_says_what_to_do_again(tmp_path: Path) -> None:
    both = {"run": "exit 3", "on": ["rollback"]}
    with pytest.raises(PreflightError, match="exit code 3: exit 3 -> fix the hook, then rollback again"):
        run({"before_activate": both}, "rollback", "before_activate", tmp_path)
    with pytest.raises(RolloutError):
        run({"after_activate": both}, "rollback", "after_activate", tmp_path)


def test_the_hook_of_a_failure_is_run_by_the_verbs_it_names(tmp_path: Path) -> None:
    written = {"failed": {"run": "echo $PERCORE_VERB: $PERCORE_ERROR >> told", "on": ["rollback"]}}
    for verb in ("deploy", "rollback"):
        hooks = Hooks(hooks_of(written), Run(verb, "test", tmp_path, Report(quiet=True)))
        with pytest.raises(PreflightError), hooks.told_of_end():
            raise PreflightError("no room")
    assert (tmp_path / "told").read_text() == "rollback: no room\n"
