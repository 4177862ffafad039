"""Commands of the project's own, run on the control machine before and after the phases of a rollout."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from percore.common.passwords import for_programs
from percore.deploy.masking import REDACTOR
from percore.deploy.plan.settings import HookCommand
from percore.deploy.report import Report
from percore.deploy.rollout.host import Host
from percore.errors import PercoreError, PreflightError, RolloutError

SECONDS = 600.0

Commands = Mapping[str, Sequence[HookCommand]]


class Hooks:
    """Those of one verb; `values` become `PERCORE_...` variables of the commands."""

    def __init__(self, commands: Commands, directory: Path, report: Report, *, verb: str, **values: str) -> None:
        self._commands = {name: [each.run for each in of if verb in each.on] for name, of in commands.items()}
        self._directory = directory
        self._report = report
        self._values = {"verb": verb, "release": "", "commit": "", "commit_dirty": "", **values}

    def tell(self, **values: str) -> None:
        """Values that became known meanwhile."""
        self._values.update(values)

    def tell_commit(self, commit: Mapping[str, Any] | None) -> None:
        """What the release was built of, where that is known."""
        self.tell(commit=commit["sha"] if commit else "", commit_dirty="1" if commit and commit["is_dirty"] else "")

    def tell_hosts(self, hosts: Iterable[Host]) -> None:
        self.tell(hosts=_names_of(hosts))

    @contextlib.contextmanager
    def told_of_failure(self) -> Iterator[None]:
        """Runs the hook `failed` when what is done within fails."""
        try:
            yield
        except PercoreError as error:
            self.tell(error=str(error))
            self.run("failed")
            raise

    def run(self, name: str) -> None:
        """One after the other; the first that fails raises PreflightError, or RolloutError once hosts were switched.

        After the confirmation, and after a failure, nothing can be stopped any more: a hook that fails is a warning.
        """
        for command in self._commands.get(name, ()):
            self._report.step(f"hook {name}: {command}")
            fault = self._call(name, command)
            if fault and name in ("after_confirm", "failed"):
                self._report.warn(str(fault))
            elif fault:
                raise fault

    def _call(self, name: str, command: str) -> PercoreError | None:
        env = for_programs(**{f"PERCORE_{key.upper()}": REDACTOR.text(value) for key, value in self._values.items()})
        kind = RolloutError if name in ("after_activate", "before_confirm") else PreflightError
        try:
            done = subprocess.run(
                _shell(command),
                cwd=self._directory,
                env=env,
                stdin=subprocess.DEVNULL,
                timeout=SECONDS,
                check=False,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                errors="replace",
            )
        except subprocess.TimeoutExpired:
            return kind(f"hook {name} did not end within {SECONDS:g} s: {command}")
        lines = done.stdout.splitlines()[-20:]
        if done.returncode == 0:
            for line in lines:
                self._report.step(f"  {line}")
            return None
        return kind(
            f"hook {name} ended with exit code {done.returncode}: {command}",
            next=f"fix the hook, then {self._values['verb']} again",
            detail="\n".join(lines),
        )


def hooks_of(hosts: Sequence[Host], report: Report, verb: str) -> Hooks:
    """Those of the project that has these hosts."""
    scope = hosts[0].scope
    return Hooks(hosts[0].settings.hooks, scope.project, report, verb=verb, env=scope.env, hosts=_names_of(hosts))


def _names_of(hosts: Iterable[Host]) -> str:
    return " ".join(host.name for host in hosts)


def _shell(command: str) -> list[str]:
    """A command line is the shell's to read, whichever the control machine has."""
    return ["cmd", "/c", command] if os.name == "nt" else ["/bin/sh", "-c", command]
