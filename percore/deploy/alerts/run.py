"""A run of a verb that changes hosts: its end is told to the targets of `alerts`, and is the end of its trace."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from percore.deploy.alerts.alert import Alert, of_failure
from percore.deploy.alerts.targets import AlertTarget
from percore.deploy.alerts.trace import Otel, export
from percore.deploy.report import Report
from percore.errors import PercoreError


@dataclass(frozen=True)
class RunFacts:
    """What is known of a run when it ends."""

    hosts: Sequence[str]
    release: str = ""
    commit: str = ""


@dataclass(frozen=True)
class Run:
    verb: str
    env: str
    project: Path
    report: Report
    targets: Sequence[AlertTarget] = ()
    otel: Otel | None = None
    started: int = field(default_factory=time.time_ns)

    def failed(self, error: PercoreError, known: RunFacts) -> None:
        self.alert(of_failure(error, self.verb, env=self.env, **vars(known)))
        self._trace(known, error)

    def done(self, known: RunFacts) -> None:
        subject = f"{self.verb} done on {'1 host' if len(known.hosts) == 1 else f'{len(known.hosts)} hosts'}"
        reason = f"release {known.release} serves" if known.release else "all is well"
        self.alert(Alert("done", self.env, subject, reason, **vars(known)))
        self._trace(known, None)

    def left_out(self, hosts: Sequence[str], advice: str) -> None:
        """The run goes on without these."""
        subject = f"{self.verb} goes on without {', '.join(hosts)}"
        self.alert(Alert("unreachable", self.env, subject, "no answer", hosts, next=advice))

    def alert(self, event: Alert) -> None:
        if self.targets:
            from percore.deploy.alerts.send import send  # takes longer to load than the rest of a run's end

            send(event, self.targets, self.project, self.report)

    def _trace(self, known: RunFacts, error: PercoreError | None) -> None:
        if self.otel is None:
            return
        attributes: dict[str, Any] = {
            "cicd.pipeline.name": self.verb, "deployment.environment.name": self.env, "deployment.id": known.release,
            "vcs.ref.head.revision": known.commit, "percore.hosts": list(known.hosts),
        }  # fmt: skip
        attributes = {name: value for name, value in attributes.items() if value}
        fault = export(self.otel, self.verb, attributes, self.started, self.report.phases, error)
        if fault:
            self.report.warn(f"the trace did not reach {self.otel.host}: {fault}")
