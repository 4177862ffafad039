"""What a rollout tells: the project's own commands before and after its phases, and alerts at its end."""

from __future__ import annotations

import contextlib
import subprocess
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from percore.common.passwords import for_programs
from percore.deploy.alerts.run import Run, RunFacts
from percore.deploy.alerts.shell import shell_command
from percore.deploy.masking import REDACTOR
from percore.deploy.plan.settings import HookCommand
from percore.deploy.report import Report
from percore.deploy.rollout.diff import Declined
from percore.deploy.rollout.host import Host
from percore.errors import PercoreError, PreflightError, RolloutError

SECONDS = 600.0

Commands = Mapping[str, Sequence[HookCommand]]


class Hooks:
    """Those of the run's verb; `values` become `PERCORE_...` variables of the commands."""

    def __init__(self, commands: Commands, run: Run, **values: str) -> None:
        self._commands = {name: [each.run for each in of if run.verb in each.on] for name, of in commands.items()}
        self._run = run
        self._directory = run.project
        self._report = run.report
        self._has_confirmed = False
        known = {"hosts": "", "release": "", "commit": "", "commit_dirty": ""}
        self._values = {"verb": run.verb, "env": run.env, **known, **values}

    def tell(self, **values: str) -> None:
        """Values that became known meanwhile."""
        self._values.update(values)

    def tell_commit(self, commit: Mapping[str, Any] | None) -> None:
        """What the release was built of, where that is known."""
        self.tell(commit=commit["sha"] if commit else "", commit_dirty="1" if commit and commit["is_dirty"] else "")

    def tell_hosts(self, hosts: Iterable[Host]) -> None:
        self.tell(hosts=_names_of(hosts))

    def tell_reached(self, reached: Sequence[Host], hosts: Sequence[Host]) -> None:
        """The run goes on with these; the others do not answer."""
        self.tell_hosts(reached)
        missing = [host.name for host in hosts if host not in reached]
        if missing:
            self._run.left_out(missing, hosts[0].scope.command("converge", f"--limit {','.join(missing)}"))

    @contextlib.contextmanager
    def told_of_end(self) -> Iterator[None]:
        """Runs the hook `failed` when what is done within fails, and tells either end. A run that changed nothing is not told."""
        try:
            yield
        except PercoreError as error:
            self.tell(error=str(error))
            self.run("failed")
            if not isinstance(error, Declined):
                self._run.failed(error, self._known())
            raise
        if self._has_confirmed:
            self._run.done(self._known())

    def _known(self) -> RunFacts:
        return RunFacts(self._values["hosts"].split(), self._values["release"], self._values["commit"])

    def run(self, name: str) -> None:
        """One after the other; the first that fails raises PreflightError, or RolloutError once hosts were switched.

        After the confirmation, and after a failure, nothing can be stopped any more: a hook that fails is a warning.
        """
        self._has_confirmed |= name == "after_confirm"
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
        with (
            tempfile.TemporaryFile() as output
        ):  # no pipe: what the command leaves in the background would hold it open
            try:
                done = subprocess.run(
                    shell_command(command),
                    cwd=self._directory,
                    env=env,
                    stdin=subprocess.DEVNULL,
                    timeout=SECONDS,
                    check=False,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                )
            except subprocess.TimeoutExpired:
                return kind(f"hook {name} did not end within {SECONDS:g} s: {command}")
            output.seek(0)
            lines = output.read().decode(errors="replace").splitlines()[-20:]
        if done.returncode == 0:
            for line in lines:
                self._report.step(f"  {line}")
            return None
        return kind(
            f"hook {name} ended with exit code {done.returncode}: {command}",
            next=f"fix the hook, then {self._values['verb']} again",
            detail="\n".join(lines),
        )


def run_of(hosts: Sequence[Host], report: Report, verb: str, *, is_told: bool = True) -> Run:
    """Of this verb; told to whom the project names, unless it only shows what it would do."""
    scope, basics = hosts[0].scope, hosts[0].basics
    listeners = (basics.alerts, basics.otel) if is_told else ()
    return Run(verb, scope.env, scope.project, report, *listeners)


def hooks_of(hosts: Sequence[Host], report: Report, verb: str) -> Hooks:
    """Those of the project that has these hosts."""
    return Hooks(hosts[0].settings.hooks, run_of(hosts, report, verb), hosts=_names_of(hosts))


def _names_of(hosts: Iterable[Host]) -> str:
    return " ".join(host.name for host in hosts)
