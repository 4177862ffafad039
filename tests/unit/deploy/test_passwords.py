"""Nothing that percore starts on the control side is given what opens the vault, or makes it root elsewhere."""

from __future__ import annotations

import ast
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import percore
from percore.common.passwords import for_programs, without_passwords
from percore.deploy.alerts.run import Run, RunFacts
from percore.deploy.alerts.targets import AlertTarget
from percore.deploy.build.commands import Commands, build_environment
from percore.deploy.inventory.model import Inventory
from percore.deploy.inventory.script import read_script
from percore.deploy.plan.settings import HookCommand
from percore.deploy.report import Report
from percore.deploy.rollout.hooks import Hooks
from percore.deploy.vault import passwords
from percore.deploy.vault.edit import _run_editor
from percore.supervisor.commands.targets import shell_environment
from percore.supervisor.config.process_file import load_process_file

OURS = (
    "PERCORE_VAULT_PASSWORD", "PERCORE_VAULT_PASSWORD_PRODUCTION", "PERCORE_BECOME_PASSWORD", "ANSIBLE_VAULT_PASSWORD_FILE",
    "ANSIBLE_VAULT_IDENTITY_LIST", "ANSIBLE_BECOME_PASS", "ANSIBLE_BECOME_PASSWORD_FILE", "ANSIBLE_SSH_PASS", "ansible_password",
)  # fmt: skip
THEIRS = {
    "AWS_SECRET_ACCESS_KEY": "needed",
    "NPM_TOKEN": "needed",
    "PERCORE_HOME": "/h",
    "ANSIBLE_HOST_KEY_CHECKING": "1",
}
ROOT = Path(percore.__file__).parent


@pytest.fixture(autouse=True)
def told(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in OURS:
        monkeypatch.setenv(name, "the-operators-own")
    for name, value in THEIRS.items():
        monkeypatch.setenv(name, value)


def program(tmp_path: Path, said: str = "{}") -> tuple[Path, Path]:
    """A program that notes its environment and prints this; and where it notes."""
    noted = tmp_path / "noted"
    path = tmp_path / "program"
    path.write_text(f"#!/bin/sh\nenv > {noted}\necho '{said}'\n")
    path.chmod(0o755)
    return path, noted


def got_nothing_of_ours(noted: Path) -> None:
    text = noted.read_text()
    assert "the-operators-own" not in text
    assert all(f"{name}={value}\n" in text for name, value in THEIRS.items())


def test_builds_are_not_given_our_passwords(tmp_path: Path) -> None:
    path, noted = program(tmp_path)
    Commands(tmp_path, build_environment({}, tmp_path), lambda _: None).run([str(path)])
    got_nothing_of_ours(noted)


def test_hooks_are_not_given_our_passwords(tmp_path: Path) -> None:
    path, noted = program(tmp_path)
    run = Run("deploy", "staging", tmp_path, Report(quiet=True), [AlertTarget(command=str(path), on=("done",))])
    hooks = Hooks({"before_build": (HookCommand(str(path)),)}, run)
    hooks.run("before_build")
    got_nothing_of_ours(noted)
    assert "PERCORE_ENV=staging\n" in noted.read_text()
    noted.unlink()
    run.done(RunFacts(["web1"]))
    got_nothing_of_ours(noted)


def test_inventory_programs_are_not_given_our_passwords(tmp_path: Path) -> None:
    path, noted = program(tmp_path)
    read_script(path, Inventory(path, tmp_path))
    got_nothing_of_ours(noted)


def test_editors_and_vault_programs_are_not_given_our_passwords(tmp_path: Path) -> None:
    path, noted = program(tmp_path, "the-vault")
    _run_editor(tmp_path / "file", str(path))
    got_nothing_of_ours(noted)
    noted.unlink()
    assert passwords.read_password(path, "default") == b"the-vault"
    got_nothing_of_ours(noted)


@pytest.mark.skipif(shutil.which("node") is None, reason="Node.js is not installed")
def test_process_files_are_not_given_our_passwords(tmp_path: Path) -> None:
    (tmp_path / "ecosystem.config.js").write_text(
        "module.exports = {apps: [{name: 'a', script: '/bin/sleep', env: process.env}]}"
    )
    [app] = load_process_file(str(tmp_path / "ecosystem.config.js")).apps
    assert not set(OURS) & set(app.env)
    assert THEIRS.items() <= app.env.items()


def test_apps_that_are_started_by_hand_are_not_given_our_passwords() -> None:
    assert not set(OURS) & set(shell_environment())
    assert without_passwords({"PASS": "a", "PERCORE_HOME": "b", "VAULT": "c"}) == {
        "PASS": "a", "PERCORE_HOME": "b", "VAULT": "c",
    }  # fmt: skip


def test_a_program_of_another_python_is_not_given_our_passwords() -> None:
    said = subprocess.run(
        [sys.executable, "-c", "import json, os; print(json.dumps(dict(os.environ)))"],
        env=for_programs(MORE="1"), capture_output=True, text=True, check=True,
    )  # fmt: skip
    found = json.loads(said.stdout)
    assert found["MORE"] == "1"
    assert not set(OURS) & set(found)


def calls_in(path: Path) -> list[ast.Call]:
    """Those that start a program."""
    found = []
    for node in ast.walk(ast.parse(path.read_text())):
        if (
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Attribute)
            and isinstance(node.func.value, ast.Name)
        ):
            name = f"{node.func.value.id}.{node.func.attr}"
            if name.startswith(("subprocess.", "os.exec", "os.spawn", "os.posix_spawn", "os.system", "os.popen")):
                found.append(node)
    return found


def test_every_call_that_starts_a_program_on_the_control_side_names_its_environment() -> None:
    paths = [*(ROOT / "deploy").rglob("*.py"), ROOT / "supervisor" / "config" / "formats.py"]
    calls = [(path, call) for path in paths for call in calls_in(path)]
    assert len(calls) >= 10
    for path, call in calls:
        given = {keyword.arg: ast.unparse(keyword.value) for keyword in call.keywords}
        names = (given.get("env", ""), ast.unparse(ast.parse(path.read_text())))
        is_made = names[0].startswith("for_programs(") or (names[0] == "env" and "env = for_programs(" in names[1])
        is_made |= (
            path.name == "commands.py" and names[0] == "dict(self.env)"
        )  # `build_environment` makes it, see above
        assert is_made, f"{path.name}:{call.lineno} gives its program whatever is there"
